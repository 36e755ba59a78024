"""Will it run on my board? What tests/arm/run.sh counted, by the clock of a board: docs/boards.md.

    python -m benchmarks.boards [--write]

Instructions are counted. How many of them a core completes in a cycle is assumed, as a range, and so every share of a
core here is an estimate; `python -m benchmarks.latency` measures it on the board itself.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any, NamedTuple

import l3edge

from .accuracy_page import DOCS, markers, replace_between, table
from .record import RESULTS

PAGE = DOCS / "boards.md"
MARKERS = markers("python -m benchmarks.boards --write")
ARCHITECTURES = {"arm64": "64-bit", "armhf": "32-bit"}
STREAMS = 4
HOPS = 10  # a second
BUSY = 0.7  # of a core: what is left for the system, its sound and everything else


class Core(NamedTuple):
    """A kind of core, and how many instructions a cycle it is assumed to complete: the least and the most."""

    name: str
    least: float
    most: float


class Board(NamedTuple):
    """A board: its core, how many, at how many GHz."""

    name: str
    core: str
    cores: int
    gigahertz: float


class Share(NamedTuple):
    """Of one core, at the most and the least instructions a cycle."""

    low: float
    high: float

    def __str__(self) -> str:
        return f"{_percent(self.low)}–{_percent(self.high)} %"


# In order, two at most a cycle, and 128-bit arithmetic at half that; three, out of order; four, out of order.
CORES = {
    "cortex-a53": Core("Cortex-A53", 0.5, 1.2),
    "cortex-a72": Core("Cortex-A72", 0.8, 2.0),
    "cortex-a76": Core("Cortex-A76", 1.2, 3.0),
}
BOARDS = (
    Board("Raspberry Pi Zero 2 W", "cortex-a53", 4, 1.0),
    Board("Raspberry Pi 3B+", "cortex-a53", 4, 1.4),
    Board("Raspberry Pi 4B", "cortex-a72", 4, 1.5),
    Board("Raspberry Pi 5", "cortex-a76", 4, 2.4),
)
# Milliseconds of MobileNet v1 in int8 on all four cores, by core (XNNPACK's README, 8 February 2022).
PUBLISHED = {"cortex-a53": 46, "cortex-a72": 24}
MOBILENET = 569e6  # multiply-accumulates


def _percent(share: float) -> str:
    return f"{100 * share:.0f}" if share >= 0.1 else f"{100 * share:.1f}"


def hop(counted: dict[str, int]) -> int:
    """Instructions of a hop with all of the SDK's work, from a microphone at 48 kHz where there is a resampler."""
    return counted["push"] + counted.get("resample", 0)


def share(board: Board, instructions: float, streams: int = 1) -> Share:
    """Of one core of a board, for as many streams."""
    core = CORES[board.core]
    low, high = (streams * HOPS * instructions / (board.gigahertz * 1e9 * rate) for rate in (core.most, core.least))
    return Share(low, high)


def processes(four: Share, cores: int) -> int | None:
    """The fewest, each on its own core, that keep up at the worst; a stream cannot be divided. None where none do."""
    one = four.high / STREAMS
    return next((count for count in range(1, cores + 1) if math.ceil(STREAMS / count) * one <= BUSY), None)


def verdict(count: int | None) -> str:
    """Whether a board has enough of its cores, at the worst."""
    if count is None:
        return "not with this model"
    return "**yes**, on one of its cores" if count == 1 else f"**yes**, in {count} processes at the worst"


def answers(document: dict[str, Any], model: str) -> str:
    """One model on each board."""
    rows = []
    for board in _boards(document):
        instructions = hop(document["cores"][board.core]["instructions"][model])
        four = share(board, instructions, STREAMS)
        count = processes(four, board.cores)
        resident = document[f"resident MB with {STREAMS} streams"][model]
        rows.append(
            (
                board.name,
                f"{board.cores} × {CORES[board.core].name}, {board.gigahertz:g} GHz",
                str(share(board, instructions)),
                str(four),
                f"{resident * count:.0f} MB" if count else "–",
                verdict(count),
            )
        )
    return table(
        ("board", "cores", "one microphone", "four, of one core", "memory for four", "four microphones?"), rows, left=2
    )


def of_models(document: dict[str, Any]) -> str:
    """Four streams of each model on each board."""
    boards = _boards(document)
    rows = []
    for model in next(iter(document["cores"].values()))["instructions"]:
        counted = [hop(document["cores"][board.core]["instructions"][model]) for board in boards]
        shares = [str(share(board, one, STREAMS)) for board, one in zip(boards, counted, strict=True)]
        rows.append((f"`{model}`", *shares))
    return table(("model", *(board.name for board in boards)), rows)


def counts(document: dict[str, Any]) -> str:
    """What was counted, in millions."""
    rows = []
    for core, found in document["cores"].items():
        for model, counted in found["instructions"].items():
            figures = [counted[stage] for stage in ("step", "push")] + [hop(counted), counted["window"]]
            rows.append((CORES[core].name, f"`{model}`", *(f"{figure / 1e6:.2f}" for figure in figures)))
    header = ("core", "model", "bare interpreter call", "through `Stream.push`", "from 48 kHz", "window recomputed")
    if not any("resample" in counted for counted in found["instructions"].values()):
        header, rows = (*header[:4], header[5]), [(*row[:4], row[5]) for row in rows]
    return table(header, rows, left=2)


def bits(document: dict[str, Any]) -> str:
    """What streaming and the kind of machine changed of the bits, on all cores together."""
    rows = []
    found = list(document["cores"].values())
    for model in found[0]["instructions"]:
        streamed = [one["machine"]["streamed against window"][model] for one in found]
        apart = [one["between machines"][model] for one in found]
        shares = [
            f"{sum(one['differing'] for one in ones):,} of {sum(one['values'] for one in ones):,}"
            for ones in (streamed, apart)
        ]
        rows.append((f"`{model}`", *shares, str(max(one["most_steps"] for one in apart))))
    header = ("model", "streamed: values that differ from the window graph's", "values that differ from x86-64's")
    return table((*header, "by int8 steps, at most"), rows)


def check(document: dict[str, Any]) -> str:
    """The assumed range against what somebody else measured on such a core: cycles for a multiply-accumulate."""
    model = l3edge.load()
    macs = model.spec.macs_per_hop or 0
    told = []
    for core, milliseconds in PUBLISHED.items():
        board = next(board for board in reversed(BOARDS) if board.core == core)
        instructions = document["cores"][core]["instructions"][model.name]["step"] / macs
        low, high = instructions / CORES[core].most, instructions / CORES[core].least
        published = milliseconds / 1e3 * board.cores * board.gigahertz * 1e9 / MOBILENET
        told.append(
            f"{CORES[core].name}, {low:.2f} to {high:.2f} cycles for a multiply-accumulate of `{model.name}`, and of "
            f"MobileNet v1 {published:.2f} ({milliseconds} ms on {board.cores} cores of a {board.name})"
        )
    return "; ".join(told)


def _boards(document: dict[str, Any]) -> list[Board]:
    return [board for board in BOARDS if board.core in document["cores"]]


def generated(documents: dict[str, dict[str, Any]]) -> str:
    """What stands between the markers of the page."""
    parts, default = [], l3edge.load().name
    for architecture, document in documents.items():
        first = next(iter(document["cores"].values()))
        machine, other = first["machine"], first["against"]
        rate = "48 kHz, resampled" if "resample" in first["instructions"][default] else "the model's rate"
        versions = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
        parts += [
            f"## {ARCHITECTURES[architecture]}: {machine['engine']}",
            f"Four streams of the default, `{default}`, ten embeddings a second each, from sound at {rate}. "
            "Shares are **estimates**, from the most to the least instructions a cycle that we assume:",
            answers(document, default),
            f"Of each model, four streams, of one core (1 microphone: a quarter):\n\n{of_models(document)}",
            f"### Counted, million instructions a hop\n\n{counts(document)}",
            f"### The same bits\n\nOn `examples/scene.flac`, {len(document['cores'])} kinds of core together, against "
            f"{other['engine']} on {other['kind']}:\n\n{bits(document)}",
        ]
        if architecture == "arm64":
            parts.append(f"### The range against a published figure\n\n{check(document)}.")
        parts.append(
            f"{document['date']}, commit {document['commit']}, {document['emulator']}; Python {machine['python']}, "
            f"{machine['libc']}, {versions}. The SDK's tests there: {document['tests'].strip('= ')}. All figures: "
            f"[{architecture}.json](../benchmarks/results/arm/{architecture}.json)."
        )
    return "\n\n".join(parts)


def read(folder: Path = RESULTS / "arm") -> dict[str, dict[str, Any]]:
    """What tests/arm/run.sh left, by architecture."""
    paths = [folder / f"{name}.json" for name in ARCHITECTURES]
    return {path.stem: json.loads(path.read_text()) for path in paths if path.is_file()}


def main() -> None:
    """Print, or write into the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.boards", description=str(__doc__).split("\n")[0])
    parser.add_argument("--write", action="store_true", help="write docs/boards.md between its markers")
    arguments = parser.parse_args()
    text = generated(read())
    if arguments.write:
        replace_between(PAGE, MARKERS, text)
    else:
        print(text)


if __name__ == "__main__":
    main()
