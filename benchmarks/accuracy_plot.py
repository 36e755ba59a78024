"""The pictures of `benchmarks.accuracy`."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from training import artifacts, confusion

from .accuracy_models import HEARD

_INK = "0.25"
_MARKERS = "sD^vP*X"


def draw(document: dict[str, Any], folder: Path) -> None:
    """accuracy-cost.png and confusion.png, of the rows whose test clips no model was trained on, where there are."""
    rows = [row for row in document["rows"] if row["hearing"] != HEARD] or document["rows"]
    picture = io.BytesIO()
    front(rows, f"{document['data']}, folds {', '.join(map(str, document['folds']))}").savefig(
        picture, format="png", dpi=130
    )
    artifacts.write(folder / "accuracy-cost.png", picture.getvalue())
    confusion.draw(rows, f"{document['data']}: clips, one-vs-all linear SVM", folder / "confusion.png")


def front(rows: Sequence[dict[str, Any]], data: str) -> Figure:
    """Clip accuracy against multiply-accumulates a second, ten embeddings a second; without a network, a line."""
    figure = Figure(figsize=(8, 4.8), layout="constrained")
    axes = figure.subplots()
    ours = sorted((row for row in rows if not row["peer"]), key=lambda row: row["macs_per_second"])
    peers = [row for row in rows if row["peer"] and row["macs_per_second"]]
    # Joined are those that no cheaper one equals: to choose another of ours is to pay more for less.
    best = [row for i, row in enumerate(ours) if all(_clips(other) < _clips(row) for other in ours[:i])]
    if best:
        axes.plot(*_points(best), "-", color="C0", linewidth=1.5, alpha=0.6)
    for row in ours:
        _point(axes, row, "o", "C0")
    for row, marker in zip(peers, _MARKERS, strict=False):
        _point(axes, row, marker, _INK)
    for row in rows:
        if not row["macs_per_second"]:
            value = 100 * _clips(row)
            axes.axhline(value, color=_INK, linestyle="--", linewidth=1)
            axes.annotate(
                f"{row['model']}, no network: {value:.1f} %",
                (0.01, value),
                xycoords=("axes fraction", "data"),
                xytext=(0, 3),
                textcoords="offset points",
                fontsize=8,
                color=_INK,
            )
    axes.set(
        xscale="log",
        xlabel="million multiply-accumulates for each second of sound, ten embeddings a second",
        ylabel="clip accuracy, %",
        title=f"{data}: linear SVM, bars are 95 %",
    )
    axes.margins(x=0.22, y=0.12)
    ticks = [tick for tick in (20, 50, 100, 200, 300, 500, 700, 1000, 2000, 5000) if _within(tick, axes.get_xlim())]
    axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    _label(figure, axes, [*ours, *peers])
    return figure


def _within(value: float, limits: tuple[float, float]) -> bool:
    return limits[0] <= value <= limits[1]


def _clips(row: dict[str, Any]) -> float:
    value: float = row["clip_accuracy"]["value"]
    return value


def _points(rows: Sequence[dict[str, Any]]) -> tuple[list[float], list[float]]:
    return [row["macs_per_second"] / 1e6 for row in rows], [100 * _clips(row) for row in rows]


def _point(axes: Axes, row: dict[str, Any], marker: str, colour: str) -> None:
    (x,), (y,) = _points([row])
    low, high = (100 * row["clip_accuracy"][end] for end in ("low", "high"))
    axes.errorbar(x, y, yerr=[[y - low], [high - y]], fmt=marker, color=colour, capsize=3, linewidth=1, markersize=7)


def _label(figure: Figure, axes: Axes, rows: Sequence[dict[str, Any]]) -> None:
    """Name and size beside each point, at the first of a few places where it covers no other label and no bar."""
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw_without_rendering()
    bars = []
    for row in rows:
        x = row["macs_per_second"] / 1e6
        ends = [axes.transData.transform((x, 100 * row["clip_accuracy"][end])) for end in ("low", "high")]
        bars.append((ends[0][0] - 6, ends[0][1] - 3, ends[1][0] + 6, ends[1][1] + 3))
    taken = list(bars)
    places = [(10, 4), (10, -22), (-10, 4), (-10, -22), (10, 22), (-10, 22), (10, -40), (-10, -40)]
    for row in rows:
        (x,), (y,) = _points([row])
        size = f", {row['bytes'] / 1e6:.1f} MB" if row["bytes"] else ""
        text = f"{row['model']}\n{y:.1f} %{size}"
        for place in places:
            label = axes.annotate(
                text,
                (x, y),
                xytext=place,
                textcoords="offset points",
                fontsize=8,
                ha="left" if place[0] > 0 else "right",
                color=_INK if row["peer"] else "C0",
            )
            box = label.get_window_extent(renderer).extents
            if not any(_overlap(box, other) for other in taken) or place == places[-1]:
                taken.append(tuple(box))
                break
            label.remove()


def _overlap(one: Sequence[float], other: Sequence[float]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
