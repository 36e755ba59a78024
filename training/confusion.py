"""Which class was taken for which, as a table and as a picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from l3edge.model_file import replacing

_MOST_NUMBERED = 20  # classes; the numbers in the cells of more would not be legible


def table(result: dict[str, Any]) -> str:
    """Recall and precision of each class of a probe's result, as Markdown; a clip is judged once for each seed."""
    rows = [
        f"| {label} | {figures['judged']} | {figures['recall']:.1%} | {figures['precision']:.1%} |"
        for label, figures in result["classes"].items()
    ]
    return "\n".join(
        [f"| {result['model']}: class | clips judged | recall | precision |", "|---|---:|---:|---:|", *rows]
    )


def draw(results: Sequence[dict[str, Any]], title: str, path: Path) -> None:
    """The confusion matrices of probes' results beside each other, as a PNG file.

    Rows are what clips are, columns what they were taken for; shades are shares of the row, numbers are per cent.
    """
    from matplotlib.figure import Figure

    labels = list(results[0]["classes"])
    side = max(3.0, 0.42 * min(len(labels), 60))
    columns = min(3, len(results))
    rows = math.ceil(len(results) / columns)
    figure = Figure(figsize=(columns * (side + 1.8), rows * (side + 2.0)), layout="constrained")
    every = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in every[len(results) :]:
        axes.set_axis_off()
    picture = None
    for axes, result in zip(every, results, strict=False):
        clips = np.array(result["confusion"], float)
        share = clips / np.maximum(clips.sum(axis=1, keepdims=True), 1)
        picture = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
        size = 8 if len(labels) <= _MOST_NUMBERED else 5
        axes.set_xticks(range(len(labels)), labels, rotation=90, fontsize=size)
        axes.set_yticks(range(len(labels)), labels, fontsize=size)
        axes.set(xlabel="taken for", ylabel="is")
        low, high = (result["clip_accuracy"][end] for end in ("low", "high"))
        axes.set_title(
            f"{result['model']}\n{result['clip_accuracy']['value']:.1%} of clips ({low:.1%} to {high:.1%})", fontsize=10
        )
        if len(labels) <= _MOST_NUMBERED:
            for i, j in np.argwhere(np.rint(100 * share) > 0):
                colour = "white" if share[i, j] > 0.6 else "black"
                axes.text(j, i, f"{100 * share[i, j]:.0f}", ha="center", va="center", fontsize=7, color=colour)
    figure.colorbar(picture, ax=every.tolist(), label="share of the class", shrink=0.6)
    figure.suptitle(title)
    with replacing(path) as part:
        figure.savefig(part, format="png", dpi=120)
