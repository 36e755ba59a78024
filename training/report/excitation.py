"""Section on what excites units: the clips in which they reach their largest values, with heat maps over them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from l3edge.frontend import LogMel

from .. import correspondence
from ..backend import tf
from . import embedded
from .findings import Findings
from .markup import note, text


def card(findings: Findings, row: int, large: str, small: Sequence[str]) -> str:
    """A clip: a large picture, small ones beside it, its sound, its labels and its name. Pictures are data URIs."""
    clips = findings.clips
    beside = "".join(f'<img src="{uri}" alt="">' for uri in small)
    uri = embedded.sound(clips.audio[row], findings.run.spec.sample_rate)
    labels, name = text(", ".join(clips.labels[row]) or "no label"), text(clips.names[row])
    return (
        f'<div class="card"><div class="picture"><img src="{large}" alt="{labels}"><div>{beside}</div></div>'
        f'<audio controls preload="none" src="{uri}"></audio>'
        f'<p><b title="{labels}">{labels}</b> <span title="{name}">{name}</span></p></div>'
    )


def heard(findings: Findings, rows: NDArray[np.int64]) -> list[NDArray[np.floating[Any]]]:
    """Spectrograms of some clips as pixels, all on one scale."""
    front = findings.run.spec.front_end
    features = correspondence.features(tf.constant(findings.clips.audio[rows]), findings.run.spec).numpy()[..., 0]
    if isinstance(front, LogMel):  # up to what a full-scale tone has in its bin
        low, high = float(np.log(front.offset)), float(np.log(front.frame_length / 4))
    else:
        low, high = -front.RANGE, 0.0
    return [embedded.spectrogram(one, low, high) for one in features]


def _examples(findings: Findings, side: str, unit: int, rows: NDArray[np.int64]) -> str:
    """The clips that excite a unit most, each with its heat map."""
    tower, clips = findings.sides[side].tower, findings.clips
    heat = tower.maps(clips, rows, unit)
    low, high = min(0.0, float(heat.min())), float(heat.max())
    cards = []
    for row, cells, sound in zip(rows, heat, heard(findings, rows), strict=True):
        frame = embedded.frame(clips.images[row])
        pixels = sound if side == "audio" else frame
        size = (pixels.shape[1], pixels.shape[0]) if side == "audio" else (pixels.shape[0], pixels.shape[1])
        spread = embedded.spread((cells - low) / max(1e-9, high - low), tower.centres(*cells.shape), size)
        hot = embedded.heated(pixels, spread.T[::-1] if side == "audio" else spread)
        small = [embedded.picture(sound[::2, ::2]), embedded.picture(frame[::2, ::2])]
        cards.append(card(findings, int(row), embedded.picture(hot), small))
    return f'<div class="cards">{"".join(cards)}</div>'


def units(findings: Findings) -> str:
    """The clips that excite chosen units most."""
    spec = findings.run.spec
    parts = [
        "<p>A unit is a channel of a tower's last convolution (conv4_2 in the paper). Shown are the held-out clips in "
        "which it reaches its largest values, each of another video. "
        + (
            "The units are chosen: for each tower the one that tells a label best from all others, then the one that "
            "does so for another label, and so on. They show what the best units do, not what the average unit does. "
            if any(unit.label is not None for found in findings.sides.values() for unit in found.units)
            else "The data tell no labels apart, so the units are those with the largest variance. "
        )
        + "<b>AUC</b>: the probability that a clip with the label excites the unit more than a clip without it; 0.5 is "
        "chance.</p>"
    ]
    for side, found in findings.sides.items():
        verb = "hear" if side == "audio" else "see"
        parts.append(f'<h3 id="{side}-units">What {side} units {verb}</h3>')
        trained, random = found.areas
        if trained == trained:
            parts.append(
                f"<p>Over all {found.tower.units} {side} units, the median of a unit's AUC for the label it tells best "
                f"is {trained:.3f}; with random weights it is {random:.3f}.</p>"
            )
        if side == "audio":
            where = (
                f"Spectrograms: time runs to the right ({spec.window / spec.sample_rate:g} s), frequency from "
                f"{spec.front_end.low:,.0f} Hz at the bottom to {spec.front_end.high:,.0f} Hz at the top; the lighter, "
                "the louder. Red to yellow: where the unit is active, on one scale for all clips of a unit. "
            )
            if spec.streaming:
                where += (
                    f"Each cell of the map looks at {spec.receptive_field} of the {spec.frames_used} frames, so the "
                    "heat tells the pitch well and the moment hardly. "
                )
            where += "Small: the spectrogram alone, and the frame that belongs to the sound."
        else:
            where = (
                "Red to yellow: where the unit is active, on one scale for all clips of a unit. Small: the sound that "
                "belongs to the frame, which the unit does not hear, and the frame alone."
            )
        parts.append(f"<p>{where}</p>")
        for unit in found.units:
            told = ""
            if unit.label is not None:
                name = findings.labels[unit.label]
                told = f": {text(name)}, AUC {unit.area:.3f}"
            shown = (
                _examples(findings, side, unit.number, unit.rows)
                if len(unit.rows)
                else note("This unit has the same value in all held-out clips: it is dead.")
            )
            parts.append(f'<section class="unit"><h4>{side} unit {unit.number}{told}</h4>{shown}</section>')
    return "".join(parts)
