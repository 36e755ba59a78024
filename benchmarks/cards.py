"""Write the figures of the built-in models' cards: python -m benchmarks.cards

Accuracy is read from docs/accuracy.json, as `python -m benchmarks.accuracy --write` leaves it; what the network is,
what export measured, and how well tags agree, from the model files themselves. Between the markers of each card that
has them nothing is written by hand.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import l3edge
from l3edge import model as models
from training import artifacts
from training.cli import HelpFormatter, TrainingError, run

from .accuracy_models import CLEAN
from .accuracy_page import DOCS, difference, interval, markers, replace_between, table

MARKERS = markers("python -m benchmarks.cards")


def identity(model: l3edge.Model) -> str:
    """What goes in, what comes out, and what it costs."""
    spec = model.spec
    seen = f"windows of {spec.window / spec.sample_rate:g} s, of which the first {spec.samples_seen:,} samples are seen"
    rows = [
        ("input", f"{spec.sample_rate / 1000:g} kHz mono; {seen}; hops of {spec.hop / spec.sample_rate:g} s"),
        ("output", f"{spec.embedding_size} values, int8 in the file, float32 from the SDK"),
        (
            "cost",
            f"{spec.macs_per_hop / 1e6:.1f} million multiply-accumulates a hop ({spec.macs_per_window / 1e6:.1f} for a "
            f"window recomputed); {spec.parameters:,} weights and biases",
        ),
        ("file", f"{model.path.stat().st_size:,} bytes, front end and all graphs included"),
    ]
    return table(("", ""), rows, left=2)


def accuracy(rows: Sequence[dict[str, Any]], document: dict[str, Any]) -> str:
    """Of the rotations, which never heard what they are judged on; and of the file itself, which may have."""
    lines = []
    for row in rows:
        by_fold = ", ".join(f"{100 * value:.1f}" for value in row["clips_by_fold"].values())
        whose = "its rotations" if row["hearing"] == CLEAN and len(rows) > 1 else "the file"
        deviation = f"{by_fold} % by fold, standard deviation {100 * row['fold_sd']:.1f}"
        lines.append((f"clips, {whose}, {row['hearing']}", f"{interval(row['clip_accuracy'])} %; {deviation}"))
        lines.append((f"windows, {whose}, {row['hearing']}", f"{interval(row['window_accuracy'])} %"))
        if "float32" in row:
            of_windows, of_clips = (
                difference(row["int8_minus_float32"][share]) for share in ("window_accuracy", "clip_accuracy")
            )
            lines.append(("int8 minus float32, points", f"windows {of_windows}, clips {of_clips}"))
    told = (
        f"ESC-10, folds {', '.join(map(str, document['folds']))}, by `python -m benchmarks.accuracy` on "
        f"{document['date']} ({document['machine']['cpu']}, {rows[0]['engine']}), 95 % intervals:"
    )
    return f"{told}\n\n{table(('', ''), lines, left=2)}"


def robustness(row: dict[str, Any], document: dict[str, Any]) -> str:
    """Clip accuracy under each condition."""
    lines = [
        (name, document["conditions"][name], f"{100 * shares['clip_accuracy']['value']:.1f}")
        for name, shares in row["robustness"].items()
    ]
    return table(("test clips", "what was done to them", "clips, %"), lines, left=2)


def export(model: l3edge.Model) -> str:
    """What `python -m export` measured before it wrote the file."""
    parity = model.metadata["parity"]
    values, differing = parity["step_values"], parity["step_values_differing"]
    rows = [
        (
            f"int8 against float32, {parity['windows']:,} windows: cosine",
            f"mean {parity['cosine_mean']:.5f}, minimum {parity['cosine_min']:.5f}",
        ),
        (f"largest error of a value (largest value {parity['max_value']:.2f})", f"{parity['max_error']:.3f}"),
        (f"step graph against window graph, {values:,} values", f"{differing or 'none'} differ"),
    ]
    return table(("", ""), rows, left=2)


def tags(model: l3edge.Model) -> str:
    """The tags with what was measured of each."""
    said = model.metadata["tags"]
    rows = [
        (
            name,
            str(each["windows"]),
            str(each["groups"]),
            *(f"{each[key]:.2f}" for key in ("average_precision", "precision", "recall")),
        )
        for name, each in zip(said["names"], said["agreement"], strict=True)
    ]
    return table(("tag", "windows", "recordings", "average precision", "precision", "recall"), rows)


def card(model: l3edge.Model, document: dict[str, Any]) -> str:
    """What stands between the markers of a model's card."""
    rows = [row for row in document["rows"] if row["model"] == model.name]
    if not rows:
        raise TrainingError(f"docs/accuracy.json has no {model.name}: python -m benchmarks.accuracy --write")
    parts = [identity(model), "## Measured", accuracy(rows, document), export(model)]
    if rows[0]["robustness"]:
        parts += ["### Through bad microphones, and from afar", robustness(rows[0], document)]
    if model.tag_names:
        parts += ["### Tags", tags(model)]
    return "\n\n".join(parts)


def main(argv: Sequence[str] | None = None) -> int:
    """Write the cards."""
    made = argparse.ArgumentParser(
        prog="python -m benchmarks.cards",
        formatter_class=HelpFormatter,
        description="Write the figures of the built-in models' cards, l3edge/models/NAME.md, from docs/accuracy.json "
        "and from the model files. Cards without markers are left alone.",
    )
    made.add_argument("--folder", type=Path, default=models.FOLDER, metavar="DIR", help="where the cards are")
    arguments = made.parse_args(argv)
    document = artifacts.read_json(DOCS / "accuracy.json")
    for name in l3edge.models():
        path = arguments.folder / f"{name}.md"
        if path.is_file() and MARKERS.begin in path.read_text(encoding="utf-8"):
            replace_between(path, MARKERS, card(l3edge.load(name), document))
            print(path)
    return 0


if __name__ == "__main__":
    run(main)
