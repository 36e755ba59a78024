"""Charts as inline SVG: text stays text, and colours are the page's, light or dark (classes in page.html).

All strings are escaped here. Lengths are in the units of the view box.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from typing import Any

import numpy as np
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

HUES = 8  # colours .c0 to .c7
MARKS: tuple[Callable[[float, float], str], ...] = (
    lambda x, y: f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.4"/>',
    lambda x, y: f'<rect x="{x - 3:.1f}" y="{y - 3:.1f}" width="6" height="6"/>',
    lambda x, y: f'<path d="M{x:.1f} {y - 4:.1f}l4 7h-8z"/>',
    lambda x, y: f'<path d="M{x:.1f} {y - 4.4:.1f}l4.4 4.4-4.4 4.4-4.4-4.4z"/>',
    lambda x, y: f'<path d="M{x - 1.3:.1f} {y - 4:.1f}h2.6v2.7h2.7v2.6h-2.7v2.7h-2.6v-2.7h-2.7v-2.6h2.7z"/>',
)
MOST_MARKS = HUES * len(MARKS)  # labels that can be told apart

TOGETHER = 0.06  # of a map's width: half of a label's clips so near their middle, and the label is written there


def _svg(width: float, height: float, parts: Sequence[str], title: str) -> str:
    box = f'viewBox="0 0 {width:g} {height:g}" style="--size:{width:g}px"'
    return f'<svg {box} role="img" aria-label="{escape(title)}"><title>{escape(title)}</title>{"".join(parts)}</svg>'


def _text(x: float, y: float, text: str, kind: str = "", rotate: float = 0.0) -> str:
    turn = f' transform="rotate({rotate:g} {x:.1f} {y:.1f})"' if rotate else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}"{turn}>{escape(text)}</text>'


def lines(
    title: str, x: Sequence[float], series: dict[str, Sequence[float | None]], level: tuple[float, str] | None = None
) -> str:
    """Line chart of named series over x; None is a gap. `level`: a dashed line and its name."""
    width, height, left, right, top, bottom = 360.0, 250.0, 48.0, 12.0, 30.0, 36.0
    shown = [value for values in series.values() for value in values if value is not None]
    shown += [level[0]] if level else []
    x_ticks = MaxNLocator(5, integer=True).tick_values(0, max(x))
    y_ticks = MaxNLocator(5).tick_values(min([0.0, *shown]) if min(shown) < 0.4 else min(shown), max(shown))
    across, (low, high) = max(x), (y_ticks[0], y_ticks[-1])

    def place(a: float, b: float) -> tuple[float, float]:
        return (
            left + a / across * (width - left - right),
            height - bottom - (b - low) / (high - low) * (height - top - bottom),
        )

    parts = [_text(left, 16, title, "name")]
    for tick in y_ticks:
        y = place(0, tick)[1]
        parts.append(f'<path class="grid" d="M{left:g} {y:.1f}H{width - right:g}"/>')
        parts.append(_text(left - 6, y + 4, f"{tick:.4g}", "end"))
    parts += [_text(place(t, low)[0], height - bottom + 16, f"{t:g}", "middle") for t in x_ticks if 0 <= t <= across]
    parts.append(_text((left + width - right) / 2, height - 4, "step", "middle"))
    if level:
        y = place(0, level[0])[1]
        parts.append(f'<path class="level" d="M{left:g} {y:.1f}H{width - right:g}"/>')
        parts.append(_text(width - right, y - 5, level[1], "end"))
    for number, (name, values) in enumerate(series.items()):
        hue = f"c{number}" if len(series) > 1 else "grey"
        points = [place(a, b) for a, b in zip(x, values, strict=True) if b is not None]
        joined = " ".join(f"{a:.1f},{b:.1f}" for a, b in points)
        dots = "".join(f'<circle cx="{a:.1f}" cy="{b:.1f}" r="2"/>' for a, b in points)
        parts.append(f'<g class="line {hue}"><title>{escape(name)}</title><polyline points="{joined}"/>{dots}</g>')
    return _svg(width, height, parts, title)


def mark(number: int, x: float = 6, y: float = 6) -> str:
    """The mark of label `number` of a map; grey beyond those that can be told apart."""
    kind = f"c{number % HUES}" if number < MOST_MARKS else "grey"
    return f'<g class="{kind}">{MARKS[number // HUES % len(MARKS)](x, y)}</g>'


def scatter(title: str, points: NDArray[Any], kinds: Sequence[int | None], names: Sequence[str]) -> str:
    """A map: points [n, 2], each of kind `kinds[i]`, an index of `names`, or of none."""
    size, edge = 420.0, 14.0
    scaled = (points - (points.max(0) + points.min(0)) / 2) / np.maximum(1e-9, np.ptp(points, 0))
    places = size / 2 + scaled * (size - 2 * edge)
    parts = []
    written = []
    for number in sorted({kind for kind in kinds if kind is not None}, reverse=True):
        own = places[[kind == number for kind in kinds]]
        at = own[np.argmin(np.linalg.norm(own[:, None] - own[None], axis=2).sum(1))]
        near = np.median(np.linalg.norm(own - at, axis=1))
        kind = f"c{number % HUES}" if number < MOST_MARKS else "grey"
        shape = MARKS[number // HUES % len(MARKS)]
        marks = "".join(shape(x, y) for x, y in own)
        parts.append(f'<g class="dots {kind}"><title>{escape(names[number])}</title>{marks}</g>')
        if len(own) >= 3 and near < TOGETHER * size:
            x = float(np.clip(at[0], 30, size - 30))
            written.append(_text(x, float(at[1]) - 6, names[number][:24], "middle spot"))
    bare = [MARKS[0](*place) for place, kind in zip(places, kinds, strict=True) if kind is None]
    parts.insert(0, f'<g class="dots grey"><title>no label</title>{"".join(bare)}</g>')
    return _svg(size, size, [*parts, *written], title)


def matrix(title: str, values: NDArray[Any], names: Sequence[str]) -> str:
    """Shares in [0, 1] as a grid of cells, rows and columns named; nan stays empty."""
    cell = 20.0
    margin = 16 + 7.0 * max(8, min(24, max(len(name) for name in names)))
    size = margin + cell * len(names)
    parts = []
    for i, name in enumerate(names):
        middle = margin + (i + 0.5) * cell
        parts.append(_text(margin - 6, middle + 4, name[:24], "end"))
        parts.append(_text(middle + 4, margin - 6, name[:24], "", -90))
    for (i, j), value in np.ndenumerate(values):
        if np.isnan(value):
            continue
        told = f"picture of {names[i]}, sound of {names[j]}: {value:.2f}"
        parts.append(
            f'<rect class="cell" x="{margin + j * cell:.1f}" y="{margin + i * cell:.1f}" width="{cell - 1:g}" '
            f'height="{cell - 1:g}" fill-opacity="{value:.3f}"><title>{escape(told)}</title></rect>'
        )
    parts.append(_text(margin - 6, margin - 22, "sound →", "end"))
    parts.append(_text(margin - 6, margin - 6, "picture ↓", "end"))
    frame = f'x="{margin - 1:.1f}" y="{margin - 1:.1f}" width="{cell * len(names) + 1:.1f}"'
    parts.append(f'<rect class="frame" {frame} height="{cell * len(names) + 1:.1f}"/>')
    return _svg(size + 2, size + 2, parts, title)
