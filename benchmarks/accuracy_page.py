"""The tables of `benchmarks.accuracy`, as Markdown, and their place in docs/models.md."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from training import artifacts
from training.cli import TrainingError

from .conditions import PUBLISHED

DOCS = Path(__file__).parents[1] / "docs"


class Markers(NamedTuple):
    """The two lines between which a command writes."""

    begin: str
    end: str


def markers(command: str) -> Markers:
    """Those of a command."""
    return Markers(*(f"<!-- made by {command}: {which} -->" for which in ("begin", "end")))


MARKERS = markers("python -m benchmarks.accuracy --write")

# What a built-in model is for, by its name without the version.
FOR = {
    "edge-s": "the smallest boards, batteries, many streams at once",
    "edge-m": "the default: most of the accuracy at a fraction of a core",
    "edge-l": "where a core is to spare: a point of windows more than the default",
    "avc-s": "nothing but video taught it: to compare the two roads, and where no other data may have a part",
}


def tables(document: dict[str, Any]) -> str:
    """Accuracy and cost; what int8 changes, and robustness, where they were measured."""
    rows = document["rows"]
    parts = [_accuracy(rows)]
    if any("float32" in row for row in rows):
        parts.append(_int8([row for row in rows if "float32" in row]))
    if any(row["robustness"] for row in rows):
        parts.append(_robustness([row for row in rows if row["robustness"]]))
    return "\n\n".join(parts)


def _accuracy(rows: Sequence[dict[str, Any]]) -> str:
    header = ("model", "test clips", "clip accuracy, % (95 %)", "window accuracy, %", "clips by fold, %", "mean ± sd")
    header += ("MMAC/s", "kB", "values", "embeddings/s")
    return table(
        header,
        [
            (
                f"`{row['model']}`",
                row["hearing"],
                interval(row["clip_accuracy"]),
                interval(row["window_accuracy"]),
                " ".join(f"{100 * value:.1f}" for value in row["clips_by_fold"].values()),
                f"{100 * row['fold_mean']:.1f} ± {100 * row['fold_sd']:.1f}",
                f"{row['macs_per_second'] / 1e6:.0f}" if row["macs_per_second"] else "-",
                f"{row['bytes'] / 1000:.0f}" if row["bytes"] else "-",
                str(row["embedding_size"]),
                f"{row['embeddings_per_second']:.0f}" if row["embeddings_per_second"] else "-",
            )
            for row in rows
        ],
        left=2,
    )


def _choice(rows: Sequence[dict[str, Any]]) -> str:
    header = ("model", "clip accuracy, %", "test clips", "MMAC a hop", "kB", "values", "for")
    newest = {row["model"].rpartition("-")[0]: row["model"] for row in rows}  # the oldest come first
    first = {row["model"]: row for row in reversed(rows)}  # of clean and heard the clean one, which comes first
    lines = [
        (
            f"`{name}`",
            f"{100 * row['clip_accuracy']['value']:.1f}",
            row["hearing"],
            f"{row['macs_per_hop'] / 1e6:.1f}",
            f"{row['bytes'] / 1000:.0f}",
            str(row["embedding_size"]),
            FOR.get(name.rpartition("-")[0], ""),
        )
        for name, row in sorted(first.items(), key=lambda each: each[1]["macs_per_hop"])
        if name in newest.values()
    ]
    return table(header, lines)


def _int8(rows: Sequence[dict[str, Any]]) -> str:
    header = ("model", "windows in float32, %", "int8 minus float32, points: windows (95 %)", "clips (95 %)")
    made = table(
        header,
        [
            (
                f"`{row['model']}`",
                interval(row["float32"]["window_accuracy"]),
                *(difference(row["int8_minus_float32"][share]) for share in ("window_accuracy", "clip_accuracy")),
            )
            for row in rows
        ],
    )
    earlier = [
        f"`{row['model']}`: the same files, compared on {when['date']}, commit {when['commit'][:12]}."
        for row in rows
        if (when := row.get("compared"))
    ]
    return "\n\n".join([made, *earlier])


def _robustness(rows: Sequence[dict[str, Any]]) -> str:
    conditions = list(rows[0]["robustness"])
    return table(
        ("clip accuracy, % (windows, %)", *(f"`{row['model']}`" for row in rows)),
        [(condition, *(_pair(row["robustness"][condition]) for row in rows)) for condition in conditions],
    )


def _pair(shares: dict[str, dict[str, float]]) -> str:
    clips, windows = (100 * shares[name]["value"] for name in ("clip_accuracy", "window_accuracy"))
    return f"{clips:.1f} ({windows:.1f})"


def _in_percent(estimate: dict[str, float]) -> tuple[float, float, float]:
    value, low, high = (100 * estimate[key] for key in ("value", "low", "high"))
    return value, low, high


def interval(estimate: dict[str, float]) -> str:
    """A share in per cent with its interval."""
    return "{:.1f} ({:.1f} to {:.1f})".format(*_in_percent(estimate))


def difference(estimate: dict[str, float]) -> str:
    """A difference of shares in points, with its interval."""
    return "{:+.2f} ({:+.2f} to {:+.2f})".format(*_in_percent(estimate))


def table(header: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """A Markdown table, its first columns flush left and the others right."""
    rule = "|" + "---|" * left + "---:|" * (len(header) - left)
    return "\n".join([f"| {' | '.join(header)} |", rule, *(f"| {' | '.join(row)} |" for row in rows)])


def compared_before(row: dict[str, Any], page: dict[str, Any]) -> dict[str, Any]:
    """What a page says of int8 and float32 for the very files of a row whose runs are not here any more."""
    same = ("model", "hearing", "sha256", "engine", "clips", "windows", "window_accuracy", "clip_accuracy")
    compared = ("float32", "int8_minus_float32", "compared")
    for old in page["rows"]:
        if "float32" in old and all(old[key] == row[key] for key in same):
            when = {"date": page["date"], "commit": page["commit"]}
            return {"compared": when, **{key: old[key] for key in compared if key in old}}
    return {}


def generated(document: dict[str, Any]) -> str:
    """What stands between the markers of the page."""
    rows = document["rows"]
    parts = ["### Which one", _choice([row for row in rows if not row["peer"]]), "### Accuracy and cost"]
    parts.append(_accuracy(rows))
    parts.append("![Accuracy against cost](accuracy-cost.png)")
    if compared := [row for row in rows if "float32" in row]:
        parts += ["### What int8 changes", "On the clean rotations, the same windows and clips:", _int8(compared)]
    if robust := [row for row in rows if row["robustness"]]:
        listed = "\n".join(f"- {name}: {text}." for name, text in document["conditions"].items() if name != PUBLISHED)
        parts += ["### Robustness", _robustness(robust), listed]
    parts += ["### What is taken for what", "![Confusion matrices](confusion.png)", _told(document)]
    return "\n\n".join(parts)


def _told(document: dict[str, Any]) -> str:
    machine = document["machine"]
    engines = ", ".join(sorted({row["engine"] for row in document["rows"]}))
    return (
        f"{document['clips']} clips of {document['recordings']} recordings, {len(document['classes'])} classes, folds "
        f"{', '.join(map(str, document['folds']))}. Measured on {document['date']}, commit "
        f"{(document['commit'] or 'unknown')[:12]}, {machine['cpu']}, load {machine['load']}; {engines}. All figures: "
        "[accuracy.json](accuracy.json)."
    )


def replace_between(path: Path, between: Markers, text: str) -> None:
    """Replace what stands between the markers of a page. Raises TrainingError where they are not."""
    page = path.read_text(encoding="utf-8") if path.is_file() else ""
    before, begin, rest = page.partition(between.begin)
    _, end, after = rest.partition(between.end)
    if not begin or not end:
        raise TrainingError(
            f"{path} has not the two lines {between.begin} and {between.end}: put them where the tables belong"
        )
    artifacts.write(path, f"{before}{begin}\n\n{text}\n\n{end}{after}")


def write(document: dict[str, Any], folder: Path) -> None:
    """Replace what stands between the markers of models.md in a folder. Raises TrainingError where they are not."""
    replace_between(folder / "models.md", MARKERS, generated(document))
