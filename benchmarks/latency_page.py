"""The page of `python -m benchmarks.latency --html`: tables and pictures in one file that needs no other."""

from __future__ import annotations

import io
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from l3edge.model_file import replacing

from . import machine

STACKED = ("hand over", "resample", "front end")  # and what others take beyond them
STYLE = """
:root { color-scheme: light }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums }
th, td { padding: .2rem .8rem; text-align: right; border-bottom: 1px solid #ddd }
th:first-child, td:first-child { text-align: left }
svg { max-width: 100%; height: auto } .machine { color: #555 }
"""


def page(document: Mapping[str, Any]) -> str:
    """HTML of a document that has a section "latency"."""
    section = document["sections"]["latency"]
    models = section["figures"]["models"]
    body = [
        "<h1>What one hop costs</h1>",
        f"<p class='machine'>{escape(machine.headline(document['machine']))}, {escape(document['date'])}, "
        f"commit {escape(document['commit'])}</p>",
        _svg(_stages(models)),
        _svg(_curves(models, section["figures"]["quantiles"])),
        "<h2>Ratios</h2>",
        _table(
            ["", "ratio", "95 % interval"],
            [
                [name, f"{found['value']:.3g}", f"{found['low']:.3g} to {found['high']:.3g}"]
                for name, found in section["ratios"].items()
            ],
        ),
    ]
    for name, found in models.items():
        rows = [
            [stage, *(f"{values[key]:.1f}" for key in ("p50", "p90", "p99", "max", "cold"))]
            for stage, values in found["fast"]["stages"].items()
        ]
        body += [
            f"<h2>{escape(name)}</h2>",
            f"<p>{escape(found['engine'])}, threads: {found['threads']}, {found['fast']['hops']} hops as fast as "
            "possible; "
            + escape(
                "; ".join(f"{what} {microseconds:.1f} µs" for what, microseconds in found["fast"]["beyond"].items())
            )
            + "</p>",
            _table(["one hop, µs", "p50", "p90", "p99", "max", "cold"], rows),
        ]
        if paced := found.get("paced"):
            body.append(
                f"<p>In real time, 48 kHz to result: p50 {paced['p50']:.0f}, p90 {paced['p90']:.0f}, p99 "
                f"{paced['p99']:.0f}, max {paced['max']:.0f} µs; {paced['misses']} of {paced['hops']} hops missed "
                f"their deadline; {paced['processor seconds an hour']:.1f} s of processor an hour of sound.</p>"
            )
        parts = ", ".join(f"{part} {milliseconds:.1f} ms" for part, milliseconds in found["beginning"].items())
        body.append(f"<p>Beginning: {escape(parts)}.</p>")
    body.append(f"<p><code>{escape(section['command'])}</code></p>")
    head = f"<!doctype html><html lang='en'><meta charset='utf-8'><title>l3edge: latency</title><style>{STYLE}</style>"
    return "\n".join([head, *body, "</html>\n"])


def draw(section: Mapping[str, Any], folder: Path) -> None:
    """The pictures of a section, latency-stages.png and latency-curves.png."""
    models, quantiles = section["figures"]["models"], section["figures"]["quantiles"]
    for name, figure in {"stages": _stages(models), "curves": _curves(models, quantiles)}.items():
        FigureCanvasAgg(figure)
        with replacing(folder / f"latency-{name}.png") as part:
            figure.savefig(part, format="png", dpi=130)


def _table(head: list[str], rows: list[list[str]]) -> str:
    top = "".join(f"<th>{escape(word)}</th>" for word in head)
    lines = ["<tr>" + "".join(f"<td>{escape(word)}</td>" for word in row) + "</tr>" for row in rows]
    return f"<table><tr>{top}</tr>{''.join(lines)}</table>"


def _svg(figure: Figure) -> str:
    FigureCanvasSVG(figure)
    written = io.StringIO()
    figure.savefig(written, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    return written.getvalue().partition("<svg")[1] + written.getvalue().partition("<svg")[2]


def _stages(models: Mapping[str, Any]) -> Figure:
    """A bar for each model: what its hop is made of."""
    figure = Figure(figsize=(9, 0.9 + 0.55 * len(models)), layout="constrained")
    axes = figure.subplots()
    names = list(models)
    left = [0.0] * len(names)
    beyond = dict.fromkeys(what for found in models.values() for what in found["fast"]["beyond"])
    for number, stage in enumerate((*STACKED, *beyond)):
        widths = []
        for found in models.values():
            fast = found["fast"]
            widths.append(fast["stages"][stage]["p50"] if stage in fast["stages"] else fast["beyond"].get(stage, 0.0))
        axes.barh(names, widths, left=left, color=f"C{number}", label=stage)
        left = [a + b for a, b in zip(left, widths, strict=True)]
    axes.invert_yaxis()
    axes.set(xlabel="µs of one hop, medians, as fast as possible", xlim=(0, None))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    return figure


def _curves(models: Mapping[str, Any], quantiles: list[float]) -> Figure:
    """How many hops take longer than so long."""
    figure = Figure(figsize=(9, 4), layout="constrained")
    axes = figure.subplots()
    longer = [100 - quantile for quantile in quantiles]
    for number, (name, found) in enumerate(models.items()):
        axes.plot(found["fast"]["curve"][:-1], longer[:-1], "--", color=f"C{number}", linewidth=1)
        if paced := found.get("paced"):
            axes.plot(paced["curve"][:-1], longer[:-1], "-", color=f"C{number}", label=name)
    axes.plot([], [], "--", color="0.4", label="push as fast as possible")
    axes.set(xscale="log", yscale="log", xlabel="µs", ylabel="% of hops that take longer")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8, title="in real time, 48 kHz to result", title_fontsize=8)
    return figure
