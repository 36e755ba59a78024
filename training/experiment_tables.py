"""An experiment's result as Markdown and as a figure, from the document that `training.experiments` makes of it."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from . import artifacts

_COLOURS = ("#0b5394", "#b45f06", "#38761d", "#741b47", "#0c343d")
_GREY = "#777777"


def percent(value: dict[str, Any] | None) -> str:
    """ "72.2 % ± 1.3" over seeds, or "72.2 % (68.0 to 76.1)" of a single one, or a dash."""
    if value is None:
        return "–"
    text = f"{value['mean'] * 100:.1f} %"
    if value.get("sd") is not None:
        return f"{text} ± {value['sd'] * 100:.1f}"
    if value.get("low") is not None:
        return f"{text} ({value['low'] * 100:.1f} to {value['high'] * 100:.1f})"
    return text


def markdown(document: dict[str, Any]) -> str:
    """Title, what it is, the table, and its notes."""
    columns = document["columns"]
    lines = [f"# {document['title']}", "", document["text"], ""]
    lines.append("| " + " | ".join([document["rows_are"], *(column["title"] for column in columns)]) + " |")
    lines.append("|---|" + "---:|" * len(columns))
    for row in document["rows"]:
        cells = []
        for column in columns:
            value = row["values"].get(column["key"])
            matched = column["key"] in row.get("matched", ())
            cells.append(("**" + percent(value) + "**" if matched else percent(value)) if value else "–")
        lines.append(f"| {row['label']} | {' | '.join(cells)} |")
    lines += ["", *(f"- {note}" for note in document["notes"])]
    if document["published"]:
        lines += ["", "Published, of full-size training on other data:", ""]
        lines += [f"- {p['text']} ({p['source']})" for p in document["published"]]
    return "\n".join(lines) + "\n"


def _bar(value: dict[str, Any]) -> tuple[list[list[float]], bool] | None:
    """Lengths left and right of an error bar."""
    if value.get("sd") is not None:
        return [[value["sd"]], [value["sd"]]], True
    if value.get("low") is not None:
        return [[max(0.0, value["mean"] - value["low"])], [max(0.0, value["high"] - value["mean"])]], False
    return None


def _point(axes: Axes, y: float, value: dict[str, Any], colour: str, *, hollow: bool = False, text: str = "") -> None:
    bar = _bar(value)
    if bar:
        axes.errorbar(value["mean"], y, xerr=bar[0], color=colour, capsize=3, linewidth=1.2, zorder=2)
    if len(value["seeds"]) > 1:
        axes.plot(list(value["seeds"].values()), [y] * len(value["seeds"]), "|", color=colour, markersize=9, zorder=2)
    axes.plot(
        value["mean"], y, "o", color=colour, markersize=8, markerfacecolor="white" if hollow else colour, zorder=3
    )
    axes.annotate(
        f"{text}{value['mean'] * 100:.1f} %",
        (value["mean"], y),
        xytext=(0, 8),
        textcoords="offset points",
        ha="center",
        fontsize=9,
        color=colour,
    )


def _panel(axes: Axes, document: dict[str, Any], column: dict[str, Any]) -> None:
    """A row of marks for each of the table's; names of rows are left to the first panel."""
    rows = document["rows"]
    for number, row in enumerate(rows):
        value = row["values"].get(column["key"])
        colour = _COLOURS[number % len(_COLOURS)]
        if value:
            matched = column["key"] in row.get("matched", ())
            _point(axes, -number, value, colour, text="matched: " if matched else "")
        baseline = row["values"].get(column.get("baseline"))
        if baseline:
            _point(axes, -number - 0.35, baseline, _GREY, hollow=True, text="random weights: ")
        for published in document["published"]:
            if (published.get("row"), published.get("column")) == (row["name"], column["key"]):
                axes.plot(published["value"], -number - 0.35, "D", color=_GREY, markersize=5)
                axes.annotate(
                    f"published, full size: {published['value'] * 100:g} %",
                    (published["value"], -number - 0.35),
                    xytext=(0, -13),
                    textcoords="offset points",
                    ha="center",
                    fontsize=8,
                    color=_GREY,
                )
    axes.axvline(column["chance"], color="black", linestyle=":", linewidth=1)
    axes.annotate("chance", (column["chance"], 0.62), ha="left", fontsize=8, xytext=(3, 0), textcoords="offset points")
    low = max(0.0, column["chance"] - 0.08)
    axes.set_xlim(low, 1.1)  # room for what is written at 100 %
    axes.set_xticks([tick for tick in axes.get_xticks() if low <= tick < 1.01])
    axes.set_ylim(-len(rows) + 0.3, 0.8)
    axes.set_yticks([-number for number in range(len(rows))], [row["label"] for row in rows])
    axes.tick_params(axis="y", length=0, labelleft=column is document["columns"][0])
    axes.xaxis.set_major_formatter(lambda x, _: f"{x * 100:.0f} %")
    axes.set_title(column["title"], fontsize=10)
    axes.grid(axis="x", alpha=0.3)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)


def _curve(axes: Axes, document: dict[str, Any], column: dict[str, Any]) -> None:
    """Accuracy against training clips: the mean over seeds, and each seed thin."""
    rows = [row for row in document["rows"] if row["values"].get(column["key"])]
    clips = [row["clips"] for row in rows]
    values = [row["values"][column["key"]] for row in rows]
    colour = _COLOURS[0]
    seeds = sorted({seed for value in values for seed in value["seeds"]})
    for seed in seeds if len(seeds) > 1 else ():
        own = [(x, value["seeds"][seed]) for x, value in zip(clips, values, strict=True) if seed in value["seeds"]]
        axes.plot(*zip(*own, strict=True), color=colour, linewidth=0.8, alpha=0.4)
    for x, value in zip(clips, values, strict=True):
        bar = _bar(value)
        if bar:
            axes.errorbar(x, value["mean"], yerr=bar[0], color=colour, capsize=3, linewidth=1)
    axes.plot(clips, [value["mean"] for value in values], "o-", color=colour)
    for x, value in zip(clips, values, strict=True):
        axes.annotate(
            f"{value['mean'] * 100:.1f} %", (x, value["mean"]), xytext=(5, 6), textcoords="offset points", fontsize=9
        )
    axes.axhline(column["chance"], color="black", linestyle=":", linewidth=1)
    axes.annotate("chance", (max(clips), column["chance"]), xytext=(0, 3), textcoords="offset points", fontsize=8)
    axes.set(xlabel="training clips", title=column["title"])
    axes.set_xlim(-0.04 * max(clips), max(clips) * 1.12)
    axes.margins(y=0.15)
    axes.yaxis.set_major_formatter(lambda y, _: f"{y * 100:.0f} %")
    axes.grid(alpha=0.3)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def draw(document: dict[str, Any], path: Path) -> None:
    """The figure, a panel for each column that is one, as PNG."""
    columns = [column for column in document["columns"] if column.get("chance") is not None]
    curve = document["rows"] and "clips" in document["rows"][0]
    height = 3.8 if curve else 1.4 + 0.85 * len(document["rows"])
    figure = Figure(figsize=(1.2 + 4.4 * len(columns), height), layout="constrained")
    for axes, column in zip(figure.subplots(1, len(columns), squeeze=False)[0], columns, strict=True):
        (_curve if curve else _panel)(axes, document, column)
    figure.suptitle(document["title"], fontsize=11)
    figure.supxlabel(document["bars"], fontsize=8, color=_GREY)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=130)
    artifacts.write(path, picture.getvalue())
