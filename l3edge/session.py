"""One run of `l3edge stream`: blocks of sound in; records to its sinks, recording, display and summary out."""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from . import results
from .backlog import Block
from .clock import WallClock
from .display import Frame, LiveView, Meter, Terminal
from .errors import AudioWarning
from .events import Detector
from .health import Board
from .model import Model
from .records import About, Gap, Hop, Record
from .reporting import Reporting
from .sinks import Sink, close_all, open_sink
from .sinks.lines import lines
from .sources import Source
from .stream import Result


class Session:
    """One run of `l3edge stream`: blocks in; results, recording, display and summary out."""

    def __init__(
        self, args: argparse.Namespace, model: Model, source: Source, board: Board, stack: contextlib.ExitStack
    ) -> None:
        self._source, self._model = source, model
        self._clock = WallClock()
        self._heard: float | None = None  # monotonic clock, when the end of what was pushed last was there
        self._anchor: tuple[float, float] | None = None  # monotonic clock and time in the stream of a sample heard
        self._stream = model.stream(source.sample_rate, args.hop, args.center)
        self._meter = Meter(round(model.spec.window / model.spec.sample_rate / args.hop))
        self._view = _view(args, model, source, self._stream.delay)
        if self._view:
            stack.callback(self._view.leave)
        stack.enter_context(warnings_above(self._view))
        self._recorder = None
        if args.record:
            self._recorder = results.Recorder(args.record, source.sample_rate, source.channels)
            stack.callback(self._recorder.close)
        self._written = bool(args.tags)  # rather than only seen
        self._tagged = self._written or bool(self._view and model.tag_names)
        about = self._about(args.hop)
        self._sinks: dict[str, Sink] = {}
        stack.callback(close_all, self._sinks)
        for number, (kind, options) in enumerate(args.sink, 1):
            sink = open_sink(kind, options, about)
            self._sinks[kind if kind not in self._sinks else f"{kind}-{number}"] = sink
        if args.format or args.output or not (args.sink or (self._view and sys.stdout.isatty())):
            live = args.input in (None, "-") or args.realtime
            told = stack.enter_context(lines(args.format or "text", about, args.output, live))
            self._sinks[args.format or "text"] = told
        self._gaps = 0
        self._detector = Detector(model.head.labels) if model.head else None
        self._reporting = Reporting(args.health.interval, board, self._sinks, self.figures)

    def _about(self, hop: float) -> About:
        model, source = self._model, self._source
        return About(
            model=model.name,
            model_sha256=model.identity,
            embedding_size=model.spec.embedding_size,
            window=model.spec.window / model.spec.sample_rate,
            hop=hop,
            source=source.name,
            sample_rate=source.sample_rate,
            tags=tuple(model.tag_names) if self._written else (),
            labels=model.head.labels if model.head else (),
            started=self._started,
        )

    def hear(self, block: Block) -> None:
        """Take a block."""
        if self._recorder:
            self._recorder.write(block)
        if block.lost:
            begin, self._heard = self._position, None
            self._take(lambda: self._stream.skip(block.lost))
            self._write(Gap(begin, block.lost / self._stream.sample_rate, block.lost))
            self._gaps += 1
            self._meter.gap()
            self._end_events()
        self._heard = block.heard
        self._meter.heard(block.samples)
        self._take(lambda: self._stream.push(block.samples))
        if block.heard is not None:
            self._anchor = block.heard, self._position
        if self._view and self._view.due:
            self._show(self._view)
        self._reporting.tell()

    def finish(self) -> None:
        """The signal has ended."""
        self._heard = None  # zeros complete the last windows, which nobody has waited for
        self._take(self._stream.flush)
        self._end_events()
        if self._view:
            self._show(self._view)

    def _take(self, compute: Callable[[], Result]) -> None:
        begun = time.perf_counter()
        embeddings, times = compute()
        scores: Iterable[NDArray[np.float32] | None] = [None] * len(times)
        if self._tagged:
            scores = self._model.tag_scores(embeddings)
        self._meter.computed(time.perf_counter() - begun, len(times))
        for embedding, seconds, tags in zip(embeddings, map(float, times), scores, strict=True):
            self._time(seconds)
            self._meter.result(embedding)
            labels, label = self._label(embedding)
            if self._view:
                self._view.add(embedding, self._meter.change, tags, label)
            tags = tags if self._written else None
            self._write(Hop(seconds, embedding, self._meter.hop_level, self._meter.change, tags, labels, label))
            if self._detector and labels is not None and label is not None:
                for event in self._detector.hop(seconds, labels, label):
                    self._write(event)

    def _time(self, seconds: float) -> None:
        """How long the embedding at that time was waited for."""
        if self._heard is not None:
            end = seconds + self._model.spec.window / self._model.spec.sample_rate / 2
            # The window's last sample was there before the block's last one by what lies between them.
            self._reporting.late(time.monotonic() - (self._heard - (self._position - end)))

    def _label(self, embedding: NDArray[np.float32]) -> tuple[NDArray[np.float32] | None, str | None]:
        """The scores of the head's labels, and what it decides; None without a head."""
        return self._model.head.judge(embedding) if self._model.head else (None, None)

    def _end_events(self) -> None:
        """What went on ends here, as far as is known."""
        for event in self._detector.gap() if self._detector else ():
            self._write(event)

    def _started(self) -> float | None:
        """Unix time of time zero, by the wall clock as it is set now: it may have been wrong when sound began, as on a
        board without a clock of its own. None where sound has none, as in a file.
        """
        if not self._source.microphone:
            return None
        if not self._anchor:
            return self._source.microphone.started
        heard, position = self._anchor
        return time.time() - (time.monotonic() - heard) - position

    def _write(self, record: Record) -> None:
        for sink in self._sinks.values():
            sink.write(record)

    @property
    def _position(self) -> float:
        """Seconds of signal so far, what was lost included."""
        return (self._stream.counts.samples + self._stream.counts.lost) / self._stream.sample_rate

    def _show(self, view: LiveView) -> None:
        view.show(self._meter, self._position, self._problems())

    def _problems(self) -> str:
        """What was lost or altered."""
        counts, mic = self._stream.counts, self._source.microphone
        text = f"lost {self._source.lost()}, clipped {counts.clipped}, non-finite {counts.non_finite}"
        dropped = self._source.keeping_up.dropped if self._source.keeping_up else 0
        rarely = {"dropped to keep up": dropped}
        if mic:
            rarely |= {"overflows": mic.overflows, "stalls": mic.stalls, "stuck": mic.stuck}
        return ", ".join([text, *(f"{what} {count}" for what, count in rarely.items() if count)])

    def figures(self) -> dict[str, float]:
        """All there is to know, by the names of `figures.FIGURES`."""
        counts, meter, mic = self._stream.counts, self._meter, self._source.microphone
        made = {
            "hops": meter.hops,
            "seconds": self._position,
            "compute_seconds": meter.compute,
            "lost_samples": counts.lost,
            "lost_seconds": counts.lost / self._stream.sample_rate,
            "gaps": self._gaps,
            "clipped": counts.clipped,
            "non_finite": counts.non_finite,
            "level_dbfs": meter.level,
        }
        if self._source.keeping_up:
            made["dropped_samples"] = self._source.keeping_up.dropped
            made["behind_seconds"] = self._source.keeping_up.behind
        if mic:
            made["overflows"] = mic.overflows
            made["stalls"] = mic.stalls
            made["stuck_samples"] = mic.stuck
            made["reconnects"] = mic.reconnects
            made["connected"] = int(mic.connected)
            made["started_timestamp_seconds"] = mic.started
            if mic.drift.ppm is not None:
                made["drift_ppm"] = mic.drift.ppm
        made["clock_step_seconds"] = self._clock.moved
        return made

    def summary(self) -> str:
        """One line of what happened."""
        meter = self._meter
        speed = self._position / meter.compute if meter.compute else 0.0
        return (
            f"l3edge: {meter.hops} hops, {self._position:.2f} s of audio; compute {meter.percentile(50):.2f} ms a hop "
            f"(p99 {meter.percentile(99):.2f}), {speed:.0f}x real time; {self._reporting.summary()}"
            f"{self._problems()}"
        )


def _view(args: argparse.Namespace, model: Model, source: Source, delay: float) -> LiveView | None:
    """The live view, where stderr is a terminal that results do not go to.

    A pipe counts as one: what reads it mostly writes to the same terminal.
    """
    terminal = Terminal(sys.stderr)
    shared = args.format is not None if sys.stdout.isatty() else Terminal(sys.stdout).piped
    if not terminal.moves or (shared and args.output is None):
        return None
    channels = "1 channel" if source.channels == 1 else f"{source.channels} channels"
    sound = f"{source.name}, {source.sample_rate} Hz, {channels}, resampler delay {delay * 1e3:.0f} ms"
    title = f"{model.name} on {model.engine.name} | {sound} | Ctrl-C ends"
    known = [seconds for seconds in (source.seconds, args.duration) if seconds is not None]
    return LiveView(
        terminal, title, min(known, default=None), model.tag_names, args.hop, labelled=model.head is not None
    )


@contextlib.contextmanager
def warnings_above(frame: Frame | None) -> Iterator[None]:
    """One line on stderr for each warning, and not through the middle of what is drawn there.

    What a stream altered is not among them: its counts are reported when they are complete. Nor is what NumPy says of
    bytes that are no sound, as when int16 is read as float32.
    """

    def show(message: Warning | str, *_args: object, **_options: object) -> None:
        if frame:
            frame.clear()
        print(f"l3edge: warning: {message}", file=sys.stderr)

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("always", UserWarning)
        warnings.simplefilter("ignore", AudioWarning)
        warnings.showwarning = show
        yield
