"""The two commands that embed: `l3edge stream` and `l3edge embed`.

Both push blocks through a `Stream`, so that a file of any length takes the memory of one block, and of its results.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import __version__, audio, results, sources
from .backlog import Block
from .display import Progress, Terminal
from .errors import BehindError, Error, MicrophoneError, OptionError
from .events import Detector
from .heads import UNKNOWN
from .health import Board, Endpoint
from .keeping_up import LIMIT
from .model import Model, load
from .notify import Notifier
from .session import Session, warnings_above
from .sources import Interrupt, Source

# Of an audio file: samples per channel; values over full scale, kept; values that were NaN or infinite, now zero.
COUNTS = np.dtype([("samples", np.int64), ("clipped", np.int64), ("non_finite", np.int64)])


def load_model(args: argparse.Namespace, seen: bool = False) -> Model:
    """The model that the options ask for, with its head; with --tags or where its tags will be seen ready to tag.

    OptionError where tags are asked of a model that has none.
    """
    with native_log_held():
        model = load(args.model, args.engine, args.threads, args.delegate, dict(args.delegate_option))
        if model.tag_names and (args.tags or seen):
            model.tag_scores(np.zeros(model.spec.embedding_size, np.float32))
    if args.head:
        model = model.with_head(args.head)
    if args.tags:
        model.tag_scores(np.zeros((0, model.spec.embedding_size), np.float32))  # an error where it has none
    return model


@contextlib.contextmanager
def native_log_held() -> Iterator[None]:
    """Keep what C++ libraries write to stderr, and show it only on failure: LiteRT greets at every load."""
    sys.stderr.flush()
    with tempfile.TemporaryFile() as log:
        saved = os.dup(2)
        os.dup2(log.fileno(), 2)
        try:
            yield
        except BaseException:
            log.seek(0)
            os.write(saved, log.read())
            raise
        finally:
            os.dup2(saved, 2)
            os.close(saved)


def stream(args: argparse.Namespace, interrupt: Interrupt) -> int | argparse.Namespace:
    """`l3edge stream`: embeddings as sound comes. Returns the exit status, or the options of the next stream."""
    seen = Terminal(sys.stderr).moves
    model = load_model(args, seen)  # before the microphone opens: nothing may pile up meanwhile
    failure: MicrophoneError | BehindError | results.RecordingError | None = None
    following: argparse.Namespace | None = None
    notifier = Notifier()

    def reread() -> bool:
        nonlocal following
        if args.input == "-":
            warnings.warn("the configuration is not read again: standard input cannot begin anew", stacklevel=1)
            return False
        try:
            following = args.reread()
        except (Error, OSError) as error:
            warnings.warn(f"the configuration is not read again: {describe(error)}", stacklevel=1)
        return following is not None

    def idle() -> None:
        """While a microphone that is not there yet is waited for."""
        notifier.alive()
        if interrupt.hung_up():
            raise KeyboardInterrupt

    interrupt.reload = reread
    with contextlib.ExitStack() as stack:
        board = Board(args.hop)
        if args.health.port is not None:
            endpoint = stack.enter_context(Endpoint(args.health.host, args.health.port, board))
            print(f"l3edge: health at {endpoint.url}/metrics", file=sys.stderr)
        if args.wait:  # however long that takes: the service is there
            notifier.tell("READY=1")
        try:
            with interrupt.opening(), warnings_above(None):
                source = stack.enter_context(_source(args, idle))
        except KeyboardInterrupt:
            return 128 + interrupt.signal if interrupt.signal or following is None else following
        session = Session(args, model, source, board, stack)
        notifier.tell("READY=1")
        try:
            # A microphone's blocks that wait when Ctrl-C comes were heard before it, and are embedded.
            stop = source.microphone.stop if source.microphone else None
            for block in interrupt.until(_shaped(source, args), stop):
                session.hear(block)
                notifier.alive()
        except (MicrophoneError, BehindError, results.RecordingError) as error:
            failure = error  # what was heard cannot be heard again: keep it, then fail
        if following is None:
            notifier.tell("STOPPING=1")
        session.finish()
    print(session.summary(), file=sys.stderr)
    if failure:
        raise failure
    if interrupt.signal:
        return 128 + interrupt.signal
    return following if following is not None else 0


def _source(args: argparse.Namespace, idle: Callable[[], None]) -> contextlib.AbstractContextManager[Source]:
    if args.input is None:
        return sources.microphone(
            args.device, args.rate, args.channels, reconnect=args.reconnect, wait=args.wait, share=args.share, idle=idle
        )
    if args.input == "-":
        live = args.when_behind in ("skip", "fail")
        return sources.standard_input(args.rate, args.channels or 1, args.dtype or "int16", live)
    return sources.file(args.input)


def _shaped(source: Source, args: argparse.Namespace) -> Iterator[Block]:
    """The source's blocks, as long and as fast as the options say."""
    if args.realtime:
        source.blocks = sources.paced(source.blocks, source.sample_rate)
    source.keep_up(args.when_behind or ("skip" if source.microphone else "catch-up"), args.behind or LIMIT)
    if args.duration is not None:
        return sources.limited(source.blocks, round(args.duration * source.sample_rate))
    return source.blocks


def embed(args: argparse.Namespace) -> int:
    """`l3edge embed`: an .npz file for each audio file. Returns the exit status."""
    if args.output and args.output.exists() and not args.output.is_dir():
        raise OptionError(f"{args.output} is a file; --output wants a folder")
    targets = _targets(args.files, args.output)
    model = load_model(args)
    model.stream(model.spec.sample_rate, args.hop)  # a wrong hop is one mistake, not one of every file
    if args.output:
        args.output.mkdir(parents=True, exist_ok=True)
    failed = 0
    terminal = Terminal(sys.stderr)
    progress = Progress(terminal, len(targets)) if terminal.moves else None
    with contextlib.ExitStack() as stack:
        if progress:
            stack.callback(progress.clear)
        stack.enter_context(warnings_above(progress))
        for number, (path, target) in enumerate(targets.items(), 1):
            try:
                told = _embed_file(model, path, target, args, progress, number)
            except (Error, OSError) as error:
                failed += 1
                line, out = f"l3edge: error: {describe(error, path)}", sys.stderr
            else:
                line, out = f"{target}  {told}", sys.stdout
            if progress:
                progress.clear()
            print(line, file=out, flush=True)
    return 1 if failed else 0


def describe(error: Exception, path: Path | None = None) -> str:
    """One line for people, with the path of the file it is about."""
    text = str(error)
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    text = " ".join(text.split())
    return text if path is None or str(path) in text else f"{path}: {text}"


def _targets(files: list[Path], folder: Path | None) -> dict[Path, Path]:
    """Audio file to .npz file; OptionError where two would go to one."""
    targets: dict[Path, Path] = {}
    taken: dict[Path, Path] = {}
    for path in files:
        target = (folder or path.parent) / f"{path.stem}.npz"
        if target in taken:
            raise OptionError(
                f"{taken[target]} and {path} would both be written to {target}; embed them into different folders "
                "with --output, or rename one"
            )
        targets[path], taken[target] = target, path
    return targets


def _embed_file(
    model: Model, path: Path, target: Path, args: argparse.Namespace, progress: Progress | None, number: int
) -> str:
    """Embed one file into `target`; what there is to say of it."""
    begun = time.monotonic()
    with audio.open_file(path) as file:
        stream = model.stream(file.sample_rate, args.hop, args.center)
        parts = []
        # Of a file with longer steps, twice the longest at a time: so that one fits, wherever the last push ended.
        longest = model.network.hops[-1] * model.spec.hop / model.spec.sample_rate if model.network.hops else 0.0
        for block in file.blocks(math.ceil(max(1.0, 2 * longest) * file.sample_rate)):
            parts.append(stream.push(block))
            if progress and progress.due:
                done = stream.counts.samples
                speed = done / file.sample_rate / max(1e-6, time.monotonic() - begun)
                progress.show(number, path.name, done / file.frames if file.frames else None, speed)
        parts.append(stream.flush())
    embeddings, counts = np.concatenate([e for e, _ in parts]), stream.counts
    times = np.concatenate([t for _, t in parts])
    tagged: dict[str, Any] = {}
    if args.tags:
        # float32 [t, n], 0 to 1; names of the n
        tagged = {"tags": model.tag_scores(embeddings), "tag_names": np.array(model.tag_names)}
    if model.head:
        tagged |= _labelled(model, embeddings, times)
    with results.written(target) as out:
        np.savez(
            out,
            embeddings=embeddings,  # float32 [t, d]
            times=times,  # float64 [t], seconds, centres of the windows
            hop=np.float64(args.hop),  # seconds
            center=np.bool_(args.center),
            sample_rate=np.int64(file.sample_rate),  # Hz, of the audio file
            counts=np.array((counts.samples, counts.clipped, counts.non_finite), COUNTS),
            model=model.name,
            model_sha256=model.identity,
            spec=json.dumps(model.spec.to_json()),
            engine=f"{model.engine.name} {model.engine.version}",
            l3edge=__version__,
            **tagged,
        )
    altered = {"clipped": counts.clipped, "non-finite": counts.non_finite}
    problems = ", ".join(f"{what} {count}" for what, count in altered.items() if count)
    return f"{len(embeddings)} embeddings" + (f"; {problems}" if problems else "")


def _labelled(model: Model, embeddings: NDArray[np.float32], times: NDArray[np.float64]) -> dict[str, Any]:
    """What the model's head says of a file: arrays for its .npz."""
    assert model.head
    scores, decided = model.head.judge(embeddings)
    detector = Detector(model.head.labels)
    hops = zip(map(float, times), scores, decided, strict=True)
    events = [event for hop in hops for event in detector.hop(*hop)] + detector.flush()
    ended = [(event.label, event.onset, event.offset, event.score) for event in events if event.offset is not None]
    width = max(map(len, (*model.head.labels, UNKNOWN)))
    kind = [("label", f"<U{width}"), ("onset", np.float64), ("offset", np.float64), ("score", np.float32)]
    return {
        "labels": scores,  # float32 [t, m], 0 to 1
        "label_names": np.array(model.head.labels),  # of the m
        "label": np.array(decided, f"<U{width}"),  # [t], or "unknown"
        "events": np.array(ended, kind),  # seconds
    }
