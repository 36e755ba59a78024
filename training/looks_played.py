"""What things look like that are struck, plucked, bowed and blown.

One `drawing.Look` per kind: it draws its proportions from `rng` once and returns a function that draws the
thing at a time, moved by the sound. Lengths are in the thing's own unit, see `drawing.Pen`.
"""

from itertools import pairwise

import numpy as np

from training.drawing import Ink, Motion, Paint, Pen

_TAU = 2 * np.pi


def _burst(pen: Pen, x: float, y: float, strength: float, ink: Ink) -> None:
    """Rays around the point of a blow, while it is fresh."""
    if strength > 0.25:
        for angle in np.arange(0, _TAU, _TAU / 9):
            ray = np.array([np.cos(angle), np.sin(angle)])
            pen.line([(x, y) + 0.16 * ray, (x, y) + (0.16 + 0.3 * strength) * ray], ink.accent, 0.045)


def knock(rng: np.random.Generator, ink: Ink, m: Motion) -> Paint:
    """A panelled door, and a fist that comes from the side."""
    half, rows, x, y = (
        rng.uniform(0.5, 0.65),
        rng.integers(2, 4),
        rng.uniform(-0.1, 0.15),
        rng.uniform(-0.4, 0.2),
    )
    edges = np.linspace(-0.92, 0.92, rows + 1)

    def paint(pen: Pen, t: float) -> None:
        pen.box(-half, -1, half, 1, ink.main, ink.line)
        for top, bottom in pairwise(edges):
            for left in (-0.85 * half, 0.1 * half):
                pen.box(left, top + 0.07, left + 0.75 * half, bottom - 0.07, ink.dark, ink.light)
        pen.disc(-0.85 * half, 0.1, 0.09, ink.accent, line=ink.line)
        _burst(pen, x, y, m.hit(t), ink)
        fist = pen.moved(x + 0.1 + 0.4 * m.lift(t), y, 0.5 * m.lift(t))
        fist.box(0.2, -0.13, 1.1, 0.13, ink.accent, ink.line)
        fist.disc(0.15, 0, 0.24, ink.accent, 0.22, ink.line)
        for dy in (-0.1, 0.0, 0.1):
            fist.line([(-0.06, dy), (0.12, dy)], ink.line, 0.03)

    return paint


def anvil(rng: np.random.Generator, ink: Ink, m: Motion) -> Paint:
    """An anvil with its horn, under a swinging hammer."""
    waist, foot, horn = rng.uniform(0.16, 0.3), rng.uniform(0.5, 0.7), rng.uniform(0.85, 1.05)
    body = [
        (-horn, 0.02),
        (-0.45, -0.05),
        (0.75, -0.05),
        (0.75, 0.2),
        (waist, 0.38),
        (waist, 0.6),
        (foot, 0.85),
    ]
    body += [(foot, 1), (-foot, 1), (-foot, 0.85), (-waist, 0.6), (-waist, 0.38), (-0.45, 0.28)]

    def paint(pen: Pen, t: float) -> None:
        pen.poly(body, ink.main, ink.line)
        pen.line([(-0.45, 0.0), (0.72, 0.0)], ink.light, 0.08)
        hammer = pen.moved(1.1, -0.25, 0.95 * m.lift(t))
        hammer.line([(0, 0), (-1.0, 0)], ink.accent, 0.1)
        hammer.box(-1.2, -0.28, -0.88, 0.2, ink.dark, ink.line)
        _burst(pen, 0.05, -0.1, m.hit(t), ink)

    return paint


def glass(rng: np.random.Generator, ink: Ink, m: Motion) -> Paint:
    """A stemmed glass with something in it, touched by a spoon."""
    rim, depth, fill = rng.uniform(0.35, 0.5), rng.uniform(0.75, 1.05), rng.uniform(0.2, 0.7)
    x = np.linspace(-1, 1, 17)
    bowl = np.stack([rim * np.sign(x) * np.abs(x) ** 0.55, -0.95 + depth * (1 - np.abs(x) ** 2.5)], axis=1)
    wine = bowl[bowl[:, 1] > -0.95 + depth * (1 - fill)]

    def paint(pen: Pen, t: float) -> None:
        shaken = pen.moved(-0.15 + 0.03 * m.hit(t) * np.sin(60 * t), 0, 0.05 * m.hit(t))
        shaken.line([(0, depth - 0.95), (0, 0.85)], ink.main, 0.09)
        shaken.disc(0, 0.88, 0.42, ink.main, 0.09, ink.line)
        shaken.poly(bowl, ink.light, ink.line, 0.06)
        shaken.poly(wine, ink.accent)
        shaken.ring(0, -0.95, rim, ink.line, 0.04, 0.07)
        spoon = pen.moved(0.95, 0.2, 0.5 - 0.6 * m.lift(t))
        spoon.line([(0, 0.5), (-0.3, -0.55)], ink.line, 0.08)
        spoon.disc(-0.36, -0.72, 0.13, ink.dark, 0.2, ink.line)
        _burst(pen, rim - 0.1, -0.6, m.hit(t), ink)

    return paint


def drum(rng: np.random.Generator, ink: Ink, m: Motion) -> Paint:
    """A laced drum seen from above, two sticks by turns."""
    half, deep, laces = rng.uniform(0.65, 0.85), rng.uniform(0.5, 0.9), int(rng.integers(4, 8))
    zigzag = [(half * (2 * k / (2 * laces) - 1), 0.05 if k % 2 else deep) for k in range(2 * laces + 1)]

    def paint(pen: Pen, t: float) -> None:
        pen.disc(0, deep, half, ink.main, 0.28, ink.line)
        pen.box(-half, -0.1, half, deep, ink.main)
        pen.line(zigzag, ink.light, 0.06)
        pen.disc(0, -0.1, half, ink.accent, 0.3, ink.line)
        pen.disc(0, -0.1, half * 0.87, ink.light, 0.24)
        if m.hit(t) > 0.2:
            pen.ring(0, -0.1, half * (0.9 - 0.6 * m.hit(t)), ink.line, 0.05, 0.26 * (0.9 - 0.6 * m.hit(t)))
        for side in (-1, 1):
            lift = m.lift(t) if m.count(t) % 2 == (side > 0) else 1.0
            stick = pen.moved(side * 0.95, -0.75 - 0.1 * lift, side * -0.45 * lift)
            stick.line([(0, 0), (-side * 0.75, 0.6)], ink.line, 0.09)
            stick.disc(-side * 0.75, 0.6, 0.09, ink.line)

    return paint


def guitar(rng: np.random.Generator, ink: Ink, m: Motion) -> Paint:
    """A guitar: a body of two rounds, a hole, a long neck, and strings that tremble."""
    low, high, neck = rng.uniform(0.55, 0.68), rng.uniform(0.4, 0.5), rng.uniform(0.95, 1.15)
    strings = np.linspace(-0.09, 0.09, int(rng.integers(3, 6)))

    def paint(pen: Pen, t: float) -> None:
        body = pen.moved(0, 0.1, 0.6)
        body.disc(0, 0.55, low + 0.03, ink.line)
        body.disc(0, -0.1, high + 0.03, ink.line)
        body.disc(0, 0.55, low, ink.main)
        body.disc(0, -0.1, high, ink.main)
        body.disc(0, 0.2, 0.2, ink.line)
        body.box(-0.13, -0.35 - neck, 0.13, 0.0, ink.dark, ink.line)
        body.box(-0.19, -0.6 - neck, 0.19, -0.3 - neck, ink.accent, ink.line)
        body.box(-0.25, 0.72, 0.25, 0.8, ink.line)
        y = np.linspace(-0.35 - neck, 0.75, 9)
        for k, x in enumerate(strings):
            swing = 0.12 * m.hit(t, 0.25) * (m.count(t) % len(strings) == k) * np.sin(np.linspace(0, np.pi, 9))
            body.line(np.stack([x + swing * np.cos(50 * t), y], axis=1), ink.light, 0.03)

    return paint


def bell(rng: np.random.Generator, ink: Ink, m: Motion) -> Paint:
    """A bell on its yoke, swinging, the clapper below."""
    shoulder, lip, flare = rng.uniform(0.3, 0.42), rng.uniform(0.65, 0.85), rng.uniform(2, 4)
    y = np.linspace(0, 1, 12)
    half = shoulder * np.minimum(1, (y + 0.02) * 8) ** 0.5 + (lip - shoulder) * y**flare
    profile = np.concatenate([np.stack([-half, 1.35 * y - 0.65], 1), np.stack([half, 1.35 * y - 0.65], 1)[::-1]])

    def paint(pen: Pen, t: float) -> None:
        angle = 0.35 * np.cos(np.pi * (m.count(t) + m.phase(t)))
        swing = pen.moved(0, -0.75, angle).moved(0, 0.75)
        swing.disc(-0.9 * angle, 0.78, 0.16, ink.accent, line=ink.line)
        swing.poly(profile, ink.main, ink.line, 0.06)
        swing.line([(-0.9 * lip, 0.5), (0.9 * lip, 0.5)], ink.dark, 0.09)
        swing.line([(-shoulder * 0.5, -0.35), (-shoulder * 0.75, 0.3)], ink.light, 0.09)
        pen.box(-0.6, -0.95, 0.6, -0.76, ink.accent, ink.line)

    return paint


def marimba(rng: np.random.Generator, ink: Ink, m: Motion) -> Paint:
    """A row of bars from long to short; the one that is struck lights up under the mallet."""
    bars = int(rng.integers(5, 9))
    order, shrink = rng.permutation(bars), rng.uniform(0.4, 0.65)
    centres = np.linspace(-0.9, 0.9, bars)
    lengths = np.linspace(0.8, 0.8 * shrink, bars)

    def paint(pen: Pen, t: float) -> None:
        struck = order[m.count(t) % bars]
        for side in (-0.55, 0.55):
            pen.line([(-1.05, side * 1.0 + 0.15), (1.05, side * shrink + 0.15)], ink.line, 0.09)
        for k, (x, length) in enumerate(zip(centres, lengths, strict=True)):
            half = 0.75 / bars
            fill = ink.accent if k == struck and m.hit(t) > 0.2 else ink.main
            pen.box(x - half, 0.15 - length, x + half, 0.15 + length, fill, ink.line)
            for y in (-0.62, 0.62):
                pen.disc(x, 0.15 + y * length, 0.045, ink.line)
        mallet = pen.moved(centres[struck], 0.1 - 0.45 * m.lift(t))
        mallet.line([(0, 0), (0.4, 0.95)], ink.line, 0.06)
        mallet.disc(0, 0, 0.15, ink.light, line=ink.line)

    return paint


def violin(rng: np.random.Generator, ink: Ink, m: Motion) -> Paint:
    """A waisted body with two f-holes, and a long bow that is drawn across it, to and fro with the notes."""
    bout, waist = rng.uniform(0.42, 0.52), rng.uniform(0.22, 0.3)
    y = np.array([-0.42, -0.36, -0.22, -0.05, 0.12, 0.3, 0.5, 0.75, 0.9, 0.95])
    half = np.array([0.1, 0.75 * bout, 0.85 * bout, 0.75 * bout, waist, waist, 0.95 * bout, bout, 0.7 * bout, 0.2])
    outline = np.concatenate([np.stack([-half, y], 1), np.stack([half, y], 1)[::-1]])

    def paint(pen: Pen, t: float) -> None:
        body = pen.moved(0, 0, -0.25)
        body.poly(outline, ink.main, ink.line, 0.06)
        body.box(-0.08, -1.05, 0.08, 0.35, ink.line)
        body.disc(0, -1.08, 0.13, ink.dark, line=ink.line)
        for side in (-1, 1):
            body.line(
                [(side * 0.2, 0.08), (side * 0.14, 0.2), (side * 0.22, 0.36), (side * 0.16, 0.48)],
                ink.line,
                0.045,
            )
        body.box(-0.14, 0.42, 0.14, 0.48, ink.light)
        way = np.cos(np.pi * (m.count(t) + m.phase(t)))
        bow = pen.moved(0.05 + 0.4 * way, 0.25, 0.2 + 0.06 * np.sin(3 * t))
        bow.line([(-1.1, 0), (-0.9, -0.12), (0, -0.15), (0.9, -0.1), (1.1, 0)], ink.accent, 0.06)
        bow.line([(-1.1, 0), (1.1, 0)], ink.light, 0.05)
        bow.box(0.85, -0.1, 1.0, 0.03, ink.line)

    return paint


def flute(rng: np.random.Generator, ink: Ink, m: Motion) -> Paint:
    """A slanting tube with a row of keys that open and close, and puffs of breath at the mouthpiece."""
    thick, slant, keys = rng.uniform(0.11, 0.17), rng.uniform(-0.6, -0.2), int(rng.integers(5, 9))
    fingering = rng.uniform(size=(16, keys)) < 0.5

    def paint(pen: Pen, t: float) -> None:
        tube = pen.moved(0, 0, slant + 0.04 * np.sin(2 * t))
        tube.box(-1.25, -thick, 1.25, thick, ink.main, ink.line)
        tube.line([(-1.2, -0.5 * thick), (1.2, -0.5 * thick)], ink.light, 0.04)
        for x in (-0.62, 0.92):
            tube.box(x - 0.05, -1.3 * thick, x + 0.05, 1.3 * thick, ink.dark, ink.line)
        tube.disc(-0.95, -thick, 0.16, ink.dark, 0.1, ink.line)
        for x, down in zip(np.linspace(-0.42, 0.75, keys), fingering[m.count(t) % 16], strict=True):
            tube.disc(x, -0.02 if down else -1.6 * thick, 0.075, ink.line if down else ink.light, line=ink.line)
        for k in range(3):
            reach = (1.5 * t + k / 3) % 1
            tube.arc(-0.95, -thick, 0.2 + 0.45 * reach, -2.2, -0.9, ink.accent, 0.05 * (1 - reach) + 0.01)

    return paint
