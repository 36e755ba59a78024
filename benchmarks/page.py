"""docs/benchmarks.md, from a committed result.

    python -m benchmarks.page [RESULTS.json]

The newest of benchmarks/results/*/ unless one is named. `python -m benchmarks` does this after measuring.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from l3edge.model_file import replacing
from training import cli

from . import accuracy_page, latency, layers, layers_plot, machine, memory, peers, peers_plot, record, throughput
from . import latency_page as latency_plot

DOCS = record.ROOT / "docs"
PICTURES = DOCS / "benchmarks"

HEAD = """\
# Benchmarks

Made by `python -m benchmarks` (`make bench`), on {machine}, {date}, commit {commit}; written by
`python -m benchmarks.page` from [{path}](../{path}). One thread, unless told otherwise.

Ratios come first: each is of two things that took turns in the same run, with the 95 % interval of its median over the
rounds of that run; another run may differ by more. Milliseconds are of this machine, which is shared with others, on
that day. To see whether a change or another machine is better or worse, compare two results, which names what moved by
more than 15 %:

```sh
python -m benchmarks --out mine.json
python -m benchmarks.compare {path} mine.json
```

Whether it will run on your board, and with how many microphones: [boards.md](boards.md). Accuracy, robustness and the
choice of a model: [models.md](models.md).
"""


class Part(NamedTuple):
    """A section of the page."""

    title: str
    text: str
    tables: Callable[[Mapping[str, Any]], str]
    draw: Callable[[Mapping[str, Any], Path], object] | None = None
    pictures: str = ""  # pattern of the names of those that `draw` makes


PARTS = {
    "peers": Part(
        "Against others",
        "What ten embeddings a second cost, or what others offer instead, of the same sound on the same engine. The "
        "published networks have random weights, which change no time. [peers.py](../benchmarks/peers.py).",
        peers.tables,
        peers_plot.draw,
        "peers.png",
    ),
    "latency": Part(
        "Latency",
        "One hop of 0.1 s, by stage, as fast as possible in turns, and in real time, from the last sample at 48 kHz to "
        "the result. `python -m benchmarks.latency --html F` makes a page of it that needs no other file. What each "
        "stage is: [latency.py](../benchmarks/latency.py).",
        latency.tables,
        latency_plot.draw,
        "latency-*.png",
    ),
    "layers": Part(
        "How close to the machine",
        "Multiply-accumulates by the model file, time by graphs that end after each layer, and the fastest convolution "
        "that this engine was found to do on this machine. [layers.py](../benchmarks/layers.py).",
        layers.tables,
        layers_plot.draw,
        "layers-*.png",
    ),
    "memory": Part(
        "Memory, size and beginning",
        "Each in a fresh process. [memory.py](../benchmarks/memory.py).",
        memory.tables,
    ),
    "throughput": Part(
        "Throughput, and how costs grow",
        "[throughput.py](../benchmarks/throughput.py).",
        throughput.tables,
        throughput.draw,
        "growth.png",
    ),
    "accuracy": Part(
        "Accuracy",
        "ESC-10, folds 1 to 3, clips as they are. [accuracy.py](../benchmarks/accuracy.py); [models.md](models.md) has "
        "all conditions.",
        lambda section: accuracy_page.tables(section["figures"]),
    ),
}


def committed(document: Mapping[str, Any]) -> Path:
    """Where a whole result is kept."""
    return record.RESULTS / machine.name(document["machine"]) / f"{document['date']}.json"


def write(document: Mapping[str, Any], docs: Path = DOCS) -> list[Path]:
    """The page and its pictures; what was written."""
    pictures = docs / PICTURES.name
    pictures.mkdir(exist_ok=True)
    path = committed(document).relative_to(record.ROOT)
    head = HEAD.format(
        machine=machine.headline(document["machine"]).partition(": ")[2],
        path=path,
        **{key: document[key] for key in ("date", "commit")},
    )
    parts, drawn = [head], []
    for name, part in PARTS.items():
        section = document["sections"].get(name)
        parts.append(f"## {part.title}\n")
        if section is None:
            parts.append(f"Not measured in this run: `python -m benchmarks {name}`.\n")
            continue
        parts.append(f"`{section['command']}`. {part.text}\n")
        if part.draw:
            for old in pictures.glob(part.pictures):
                old.unlink()  # it may be of a model that was not measured this time
            part.draw(section, pictures)
            found = sorted(pictures.glob(part.pictures))
            drawn += found
            parts += [f"![{part.title}]({picture.relative_to(docs)})\n" for picture in found]
        parts.append(part.tables(section).strip() + "\n")
    page = docs / "benchmarks.md"
    with replacing(page) as part_file:
        part_file.write_text("\n".join(parts))
    return [page, *drawn]


def newest() -> Path:
    """The latest result that is here; Error where there is none."""
    found = sorted(record.RESULTS.glob("*/????-??-??.json"), key=lambda path: (path.name, str(path)))
    if not found:
        raise cli.TrainingError(f"no results in {record.RESULTS}: `python -m benchmarks` makes them")
    return found[-1]


def main() -> None:
    """The command."""
    made = argparse.ArgumentParser(prog="python -m benchmarks.page", description=str(__doc__).split("\n")[0])
    made.add_argument("results", nargs="?", type=Path, metavar="RESULTS.json", help="the newest unless named")
    arguments = made.parse_args()
    for path in write(record.read(arguments.results or newest())):
        print(f"wrote {path}")


if __name__ == "__main__":
    cli.run(main)
