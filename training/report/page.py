"""The page: its head, its contents, and its sections put into page.html."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from string import Template
from typing import Any

from . import excitation, origin, results
from .findings import Findings
from .markup import facts, note, share, text

TEMPLATE = Path(__file__).with_name("page.html")

SECTIONS: tuple[tuple[str, str, Callable[[Findings], str]], ...] = (
    ("curves", "Learning curves", results.curves),
    ("accuracy", "Correspondence", results.accuracy),
    ("maps", "Embeddings: maps and clusters", results.maps),
    ("units", "What units hear and see", excitation.units),
    ("data", "The data", origin.data),
    ("network", "The network", origin.network),
)


CORRESPONDENCE = (
    "<p>The network was trained on one question: do this picture and this second of sound belong together? Positive "
    "pairs are a frame and the second around it; negatives are a frame and a second of two different videos. The "
    "question needs no label. Half the judged pairs are negative, so chance is 50 %.</p>"
)
LABELS = (
    "<p>The network is a supervised control: its two towers were trained as classifiers, each by itself, on the labels "
    "of the videos. A picture and a second of sound are said to belong together where both seem to be of the same "
    "class. Half the judged pairs are negative, so chance is 50 %.</p>"
)


def _results(metrics: dict[str, Any], split: str) -> list[tuple[str, str]]:
    """(accuracy, what it is over) of a split, as far as it has any."""
    result = metrics.get(split) or {}
    found = []
    if result.get("accuracy") is not None:
        found.append((share(result["accuracy"]), f"{split} pairs judged right, of {result['pairs']:,}"))
    for side, value in (result.get("class_accuracy") or {}).items():
        found.append((share(value), f"{split} clips put into a class of theirs by {side}, of {len(metrics['labels'])}"))
    return found


def _head(findings: Findings) -> str:
    run = findings.run
    arguments, metrics = run.arguments, run.metrics
    big = [entry for split in ("test", "validation") for entry in _results(metrics, split)]
    big.append((f"{arguments['data']['videos']:,}", "videos in its data, all splits"))
    big.append((f"{metrics.get('clips', 0):,}", f"training clips, in {metrics.get('steps', 0):,} steps"))
    cards = "".join(f"<div><b>{value}</b><span>{text(told)}</span></div>" for value, told in big)
    finished = datetime.fromtimestamp((findings.folder / "metrics.json").stat().st_mtime, timezone.utc)
    versions = ", ".join(f"{name} {version}" for name, version in arguments["versions"].items())
    rows = [
        ("run", text(findings.name)),
        ("preset", text(run.spec.name)),
        ("finished", f"{finished:%Y-%m-%d %H:%M} UTC"),
        ("commit", text(arguments["commit"] or "unknown") + (" (with changes)" if arguments["modified"] else "")),
        ("data", f"{text(arguments['data']['path'])}<br>sha256 {text(arguments['data']['sha256'])}"),
        ("machine", text(arguments["machine"])),
        ("versions", text(versions)),
    ]
    parts = [
        f'<div class="numbers">{cards}</div>',
        LABELS if findings.supervised else CORRESPONDENCE,
    ]
    if not findings.same_data:
        parts.append(
            note(
                f"<b>Other data than in training.</b> This page was made with {text(findings.data.directory)} (sha256 "
                f"{text(findings.data.digest[:16])}…), the run with data of another digest. Unless the videos were "
                "split in the same way, clips that are called held out here may have been trained on. The figures "
                "above are the run's own."
            )
        )
    parts += [facts(rows), "<p>Made by</p>", origin.command(findings)]
    return "".join(parts)


def page(findings: Findings) -> str:
    """The whole page."""
    contents = "".join(f'<li><a href="#{name}">{title}</a></li>' for name, title, _ in SECTIONS)
    sections = "".join(
        f'<section id="{name}"><h2>{title}</h2>{make(findings)}</section>' for name, title, make in SECTIONS
    )
    preset = text(findings.run.spec.name)
    if findings.run.clips is not None:
        preset += f" after {findings.run.clips:,} clips"
    return Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
        title=f"{preset}: what it learned {'from labels' if findings.supervised else 'by audio-visual correspondence'}",
        heading=f"{preset}: what it learned from {'labels' if findings.supervised else 'looking and listening'}",
        contents=contents,
        head=_head(findings),
        sections=sections,
    )
