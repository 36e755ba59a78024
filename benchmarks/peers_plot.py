"""The picture of `benchmarks.peers`."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from l3edge.model_file import replacing

from .peer_models import OURS, WINDOW
from .timing import shown

_INK = "0.25"
_COLOURS = {OURS: "C0", WINDOW: "#a5c8e1"}  # of all others: grey


def draw(section: Mapping[str, Any], folder: Path) -> None:
    """peers.png: what a second of sound costs, a bar for each row that could be measured, the cheapest on top."""
    picture = io.BytesIO()
    bars(section).savefig(picture, format="png", dpi=130)
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / "peers.png") as part:
        part.write_bytes(picture.getvalue())


def bars(section: Mapping[str, Any]) -> Figure:
    """Milliseconds of one core for each second of sound, on a scale of powers of ten.

    Bars: back to back; dots: in real time.
    """
    figures = section["figures"]
    rows = sorted((row for row in figures["rows"] if "missing" not in row), key=lambda row: row["ms_a_second"])
    figure = Figure(figsize=(8, 1.2 + 0.3 * len(rows)), layout="constrained")
    axes = figure.subplots()
    costs = [row["ms_a_second"] for row in rows]
    axes.barh(range(len(rows)), costs, color=[_COLOURS.get(row["kind"], "0.6") for row in rows], height=0.7)
    real = [row["real_time"]["ms_a_second"] for row in rows]
    axes.plot(real, range(len(rows)), "o", color=_INK, markersize=4)
    for place, row in enumerate(rows):
        measured = (row, row["real_time"])
        milliseconds = " / ".join(shown(each["ms_a_second"]) for each in measured)
        times = " / ".join(shown(each["times_default"]["value"]) + "x" for each in measured)
        axes.annotate(
            f"{milliseconds} ms, {times}",
            (max(costs[place], real[place]), place),
            xytext=(7, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
            color=_INK,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
        )
    axes.set_yticks(range(len(rows)), [row["title"] for row in rows], fontsize=9)
    axes.invert_yaxis()
    if max(costs) > 100:
        axes.axvline(1000, color=_INK, linestyle="--", linewidth=1)
        axes.annotate("one core", (1000, -0.6), xytext=(3, 0), textcoords="offset points", fontsize=8, color=_INK)
    axes.set(
        xscale="log",
        xlim=(min(costs) / 2, max(costs + real) * 25),
        xlabel="CPU ms for a second of sound, and times the default:\nback to back (bar) / in real time (dot)",
    )
    figure.suptitle(f"An embedding every 0.1 s unless said otherwise; {figures['engine']}, one thread", fontsize=11)
    axes.xaxis.set_major_formatter("{x:,g}")
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    return figure
