"""What people see while sound is being embedded: text lines, a live view, a progress bar.

Plain ANSI on the terminal that stderr is; without colour where NO_COLOR is set (no-color.org), in ASCII where the
encoding has no block characters, and never wider than the terminal.
"""

from __future__ import annotations

import math
import os
import re
import stat
import time
from collections import deque
from collections.abc import Sequence
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from .tags import TEXT_TAGS, in_words, strongest

FLOOR, CEILING = -99.9, 99.9  # dBFS shown: for digital silence, and for what is no sound
BLOCKS, ASCII_BLOCKS = "▁▂▃▄▅▆▇█", "_.-:=+*#"
SHADES, ASCII_SHADES = " ░▒▓█", " .:*#"
HEAT = (16, 17, 18, 54, 90, 126, 162, 161, 197, 202, 208, 214, 220, 227, 230)  # xterm-256, black to white through red
HEAT_ROWS = 4  # text rows, of two bands each in colour
REDRAW_SECONDS = 1 / 15
LEAST_SEEN = 0.2  # score of a tag that is shown live, the mean of the last second


def dbfs(power: float) -> float:
    """Level in dB of a mean square, relative to a full scale of 1."""
    return min(CEILING, max(FLOOR, 10 * math.log10(power))) if power > 0 else FLOOR


def clock(seconds: float) -> str:
    """As 1:02:03.4, or 2:03.4."""
    tenths = int(seconds * 10)
    hours, minutes, rest = tenths // 36000, tenths // 600 % 60, tenths % 600 / 10
    return f"{hours}:{minutes:02}:{rest:04.1f}" if hours else f"{minutes}:{rest:04.1f}"


def fitting(text: str, width: int) -> str:
    """As many items of a text, parted by ", " or " | ", as fit; a first one that alone is too long is cut."""
    parts = re.split(r"(, | \| )", text)
    while len(parts) > 1 and sum(map(len, parts)) > width:
        del parts[-2:]
    return "".join(parts)[:width]


def groups(embedding: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """Means of `count` runs of neighbouring values: an embedding small enough to look at."""
    edges = np.linspace(0, len(embedding), min(count, len(embedding)) + 1).astype(int)
    means = (np.add.reduceat(embedding, edges[:-1]) / np.diff(edges)).astype(np.float32)
    return np.nan_to_num(means, nan=0.0, posinf=0.0, neginf=0.0)  # a float model makes such of what is no sound


def levels(values: Sequence[float] | NDArray[Any], low: float, high: float, count: int) -> list[int]:
    """Each value's place among `count` equal steps from low to high."""
    scale = count / (high - low) if high > low else 0.0
    return [min(count - 1, max(0, int((value - low) * scale))) for value in values]


class Meter:
    """Running figures of a stream: level, change, and what computing costs.

    Attributes:
        hops: embeddings so far
        compute: seconds that computing them took
        level, peak: of the last block heard, in dBFS: root mean square and largest value
        hop_level: root mean square, in dBFS, of what was heard between the last embedding and the one before
        change: cosine distance of the last embedding from the one a window earlier, which shares no sample with it
    """

    def __init__(self, hops_per_window: int) -> None:
        self.hops = 0
        self.compute = 0.0
        self.level = self.peak = self.hop_level = FLOOR
        self.change: float | None = None
        self._recent: deque[float] = deque(maxlen=4096)  # seconds of computing, per hop
        self._past: deque[NDArray[np.float32]] = deque(maxlen=max(1, hops_per_window))
        self._power, self._samples = 0.0, 0

    def heard(self, samples: NDArray[np.float32]) -> None:
        """Take the level of a block [n, channels]."""
        if samples.size:
            x = np.nan_to_num(samples.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
            power = float(np.sum(x * x))
            self.level, self.peak = dbfs(power / x.size), dbfs(float(np.max(x * x)))
            self._power, self._samples = self._power + power, self._samples + x.size

    def computed(self, seconds: float, hops: int) -> None:
        """Take the time that a push or flush took, and the hops it gave."""
        self.compute += seconds
        if hops:
            self.hops += hops
            self._recent.append(seconds / hops)

    def result(self, embedding: NDArray[np.float32]) -> None:
        """Take an embedding."""
        if len(self._past) == self._past.maxlen:
            norms = float(np.linalg.norm(embedding) * np.linalg.norm(self._past[0]))
            self.change = max(0.0, 1 - float(embedding @ self._past[0]) / norms) if norms else 0.0
        self._past.append(embedding)
        if self._samples:
            self.hop_level = dbfs(self._power / self._samples)
        self._power, self._samples = 0.0, 0

    def percentile(self, percent: float) -> float:
        """Milliseconds of computing per hop, of the last few thousand."""
        return float(np.percentile(self._recent, percent)) * 1e3 if self._recent else 0.0


class Terminal:
    """A terminal, or a stream that is none: what it can show."""

    def __init__(self, stream: IO[Any]) -> None:
        self.stream = stream
        self.moves = stream.isatty() and os.environ.get("TERM") != "dumb"
        self.colour = self.moves and not os.environ.get("NO_COLOR")
        self.unicode = _can_show(stream, BLOCKS + SHADES)

    @property
    def piped(self) -> bool:
        """Whether a program reads what is written here."""
        try:
            return stat.S_ISFIFO(os.fstat(self.stream.fileno()).st_mode)
        except (OSError, ValueError):
            return False

    @property
    def width(self) -> int:
        """Columns that may be written without wrapping."""
        try:
            return max(20, min(110, os.get_terminal_size(self.stream.fileno()).columns - 1))
        except (OSError, ValueError):
            return 79

    def sparkline(self, values: Sequence[float] | NDArray[Any], low: float, high: float) -> str:
        """One character a value."""
        ramp = BLOCKS if self.unicode else ASCII_BLOCKS
        return "".join(ramp[level] for level in levels(values, low, high, len(ramp)))

    def bar(self, share: float, width: int) -> str:
        """A bar of which `share`, 0 to 1, is filled."""
        filled = round(min(1.0, max(0.0, share)) * width)
        full, empty = ("█", "·") if self.unicode else ("#", ".")
        return full * filled + empty * (width - filled)

    def shown(self, text: str) -> str:
        """Text with a question mark for each character that the encoding does not have."""
        encoding = getattr(self.stream, "encoding", None) or "ascii"
        return text.encode(encoding, "replace").decode(encoding)

    def paint(self, text: str, colour: int | str) -> str:
        """Text in a colour, where there are colours: a SGR code, such as "2" for dim."""
        return f"\x1b[{colour}m{text}\x1b[0m" if self.colour else text

    def heat(self, columns: Sequence[NDArray[np.float32]]) -> list[str]:
        """Rows of text, time from left to right; each band has the contrast of what is visible of it."""
        if not columns:
            return [""] * HEAT_ROWS
        bands = np.array(columns).T  # [band, time]
        low, span = bands.min(axis=1, keepdims=True), np.ptp(bands, axis=1, keepdims=True)
        shares = (bands - low) / np.where(span > 0, span, 1)
        if not self.colour:
            ramp = SHADES if self.unicode else ASCII_SHADES
            pairs = shares.reshape(HEAT_ROWS, 2, -1).mean(axis=1)
            return ["".join(ramp[level] for level in levels(row, 0, 1, len(ramp))) for row in pairs]
        rows = []
        for upper, lower in shares.reshape(HEAT_ROWS, 2, -1):
            colours = zip(levels(upper, 0, 1, len(HEAT)), levels(lower, 0, 1, len(HEAT)), strict=True)
            half = "▀" if self.unicode else "="
            rows.append("".join(f"\x1b[38;5;{HEAT[u]};48;5;{HEAT[v]}m{half}" for u, v in colours) + "\x1b[0m")
        return rows


def _can_show(stream: IO[Any], text: str) -> bool:
    try:
        text.encode(getattr(stream, "encoding", None) or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


class Frame:
    """Lines at the bottom of a terminal that are drawn over and over."""

    def __init__(self, terminal: Terminal) -> None:
        self.terminal = terminal
        self._height = 0
        self._drawn = -math.inf  # time.monotonic() of the last drawing

    @property
    def due(self) -> bool:
        """Whether the last drawing is old enough for a new one."""
        return time.monotonic() - self._drawn >= REDRAW_SECONDS

    def draw(self, lines: Sequence[str]) -> None:
        """Replace what was drawn before."""
        text = "".join(f"\x1b[K{line}\n" for line in lines)
        hide = "" if self._height else "\x1b[?25l"
        self._write(f"{hide}{self._up()}{text}\x1b[J")
        self._height, self._drawn = len(lines), time.monotonic()

    def _up(self) -> str:
        return f"\r\x1b[{self._height}A" if self._height else ""

    def clear(self) -> None:
        """Take away what was drawn; other text may be written then."""
        if self._height:
            self._write(f"{self._up()}\x1b[J\x1b[?25h")
            self._height, self._drawn = 0, -math.inf

    def leave(self) -> None:
        """Keep what was drawn and go on below it."""
        if self._height:
            self._write("\x1b[?25h")
            self._height = 0

    def _write(self, text: str) -> None:
        self.terminal.stream.write(text)
        self.terminal.stream.flush()


class LiveView(Frame):
    """Level, change, embedding and figures of a stream, its tags and label if it has any, redrawn in place."""

    def __init__(
        self,
        terminal: Terminal,
        title: str,
        seconds: float | None,
        tags: Sequence[str] = (),
        hop: float = 0.1,
        labelled: bool = False,
    ) -> None:
        super().__init__(terminal)
        self._title, self._seconds = title, seconds  # seconds: length of the signal if it is known
        self._tags, self._labelled = tags, labelled
        self._labels: deque[str] = deque(maxlen=max(1, round(1 / hop)))
        # Scores as they come would flicker; a mean of one second can be read.
        self._scores: deque[NDArray[np.float32]] = deque(maxlen=max(1, round(1 / hop)))
        self._embeddings: deque[NDArray[np.float32]] = deque(maxlen=110)
        self._changes: deque[float] = deque(maxlen=110)
        self._begun = time.monotonic()

    def add(
        self,
        embedding: NDArray[np.float32],
        change: float | None,
        scores: NDArray[np.float32] | None = None,
        label: str | None = None,
    ) -> None:
        """Take an embedding, its change, the scores of its tags, and the label of a head."""
        if label is not None:
            self._labels.append(label)
        if scores is not None:
            self._scores.append(scores)
        self._embeddings.append(np.resize(groups(embedding, 2 * HEAT_ROWS), 2 * HEAT_ROWS))
        self._changes.append(change or 0.0)

    def show(self, meter: Meter, position: float, problems: str) -> None:
        """Draw; `position` in seconds of signal, `problems` counts what was lost or altered."""
        t, width = self.terminal, self.terminal.width
        room = width - 9
        loud = f" {meter.level:5.1f} dBFS"
        level = t.bar(1 + meter.level / 60, room - len(loud))
        colour = "31" if meter.peak >= 0 else "33" if meter.peak > -3 else "32"
        novelty = "     -" if meter.change is None else f" {meter.change:5.3f}"
        changes = list(self._changes)[-(room - len(novelty)) :]
        ceiling = max(0.05, *changes) if changes else 1.0
        change = t.sparkline(changes, 0, ceiling).ljust(room - len(novelty))
        elapsed = time.monotonic() - self._begun
        cost = f"compute {meter.percentile(50):.2f} ms a hop, p99 {meter.percentile(99):.2f}"
        where = clock(position)
        if self._seconds:
            where += f" of {clock(self._seconds)}, {position / elapsed if elapsed else 0:.0f}x real time"
        heat = t.heat(list(self._embeddings)[-room:])
        labels = ["embed", "", "", ""]
        tags = [f"{'tags':8} {t.paint(t.shown(self._heard(width - 9)), '1')}".rstrip()] if self._tags else []
        label = [f"{'label':8} {t.paint(t.shown(self._label())[:room], '1')}".rstrip()] if self._labelled else []
        self.draw(
            [
                t.paint(fitting(self._title, width), "1"),
                f"{'level':8} {t.paint(level, colour)}{loud}",
                f"{'change':8} {t.paint(change, '36')}{novelty}",
                *label,
                *tags,
                *(f"{label:8} {row}" for label, row in zip(labels, heat, strict=True)),
                fitting(f"{where} | {meter.hops} hops | {cost}", width),
                t.paint(fitting(problems, width), "33" if any(digit in problems for digit in "123456789") else "2"),
            ]
        )

    def _label(self) -> str:
        """The most frequent label of the last second, the latest of equals."""
        latest = list(dict.fromkeys(reversed(self._labels)))
        return max(latest, key=self._labels.count, default="")

    def _heard(self, room: int) -> str:
        """The strongest tags of the last second, in so many characters."""
        if not self._scores:
            return ""
        means = np.mean(self._scores, axis=0)
        return in_words(strongest(self._tags, means, least=LEAST_SEEN, most=TEXT_TAGS), room)


class Progress(Frame):
    """A bar for a row of files."""

    def __init__(self, terminal: Terminal, files: int) -> None:
        super().__init__(terminal)
        self._files = files

    def show(self, number: int, name: str, share: float | None, speed: float) -> None:
        """Draw: file `number` (from 1) is embedded to `share`, at `speed` times real time."""
        width = self.terminal.width
        right = f" {speed:5.0f}x real time" if share is None else f" {share:4.0%} {speed:5.0f}x real time"
        left = f"[{number}/{self._files}] {name} "
        room = max(0, width - len(right) - len(left))
        bar = self.terminal.bar(share or 0.0, min(30, room)) if room >= 5 else ""
        self.draw([(left[: width - len(right)] + self.terminal.paint(bar, "32") + right)])
