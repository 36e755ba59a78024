"""The pictures of `benchmarks.layers`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from l3edge.model_file import replacing

from .layer_rows import CONVOLVING, PARTS, REST
from .layers_page import shown_and_small

_INK = "0.25"
_COLOURS = dict(zip(PARTS, ("C1", "C0", "0.6"), strict=True))


def draw(section: Mapping[str, Any], folder: Path) -> list[Path]:
    """layers-MODEL.png of each model, which are returned."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, found in section["figures"]["models"].items():
        paths.append(folder / f"layers-{name}.png")
        with replacing(paths[-1]) as part:
            picture(name, found).savefig(part, format="png", dpi=130)
    return paths


def picture(name: str, found: Mapping[str, Any]) -> Figure:
    """Microseconds of each operator, and beside them what share of the ceiling those that multiply reach."""
    shown, small = shown_and_small(found["rows"])
    titles = [row["title"] for row in shown] + [f"{len(small)} others"]
    times = [row["microseconds"] for row in shown]
    figure = Figure(figsize=(9, 1.6 + 0.26 * len(titles)), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3, 1))
    places = range(len(titles))
    left.barh(
        places,
        [time["value"] for time in times] + [sum(row["microseconds"]["value"] for row in small)],
        color=[_COLOURS[row["part"]] for row in shown] + [_COLOURS[REST]],
    )
    left.errorbar(
        [time["value"] for time in times],
        places[:-1],
        xerr=[[time["value"] - time["low"] for time in times], [time["high"] - time["value"] for time in times]],
        fmt="none",
        ecolor=_INK,
        elinewidth=1,
        capsize=2,
    )
    left.set_yticks(places, titles, fontsize=8)
    left.invert_yaxis()
    hop = found["microseconds"]["value"]
    left.set(xlabel="µs of a hop, bars are 95 %", title=f"{name} on {found['engine']}, one thread: {hop:.0f} µs")
    for part, colour in _COLOURS.items():
        left.bar(0, 0, color=colour, label=f"{part}, {100 * found['parts'][part]['share']['value']:.0f} %")
    left.legend(loc="lower right", fontsize=8)
    reached = [(place, row["of_the_ceiling"]) for place, row in enumerate(shown) if row["of_the_ceiling"]]
    right.barh([place for place, _ in reached], [100 * value for _, value in reached], color=_COLOURS[CONVOLVING])
    right.axvline(100, color=_INK, linestyle="--", linewidth=1)
    ceilings = "\n".join(f"{dtype}: {rate['value']:.0f} GMAC/s" for dtype, rate in found["ceiling_gmacs"].items())
    right.set(xlabel=f"% of the ceiling\n{ceilings}", xlim=(0, 110))
    left.margins(y=0.01)
    for axes in (left, right):
        axes.grid(axis="x", alpha=0.3)
        axes.set_axisbelow(True)
    return figure
