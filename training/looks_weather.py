"""What weather, water and fire look like; they fill the picture where they can.

See `looks_nature` for the animals and people, and `drawing.Look` for what each function is.
"""

import numpy as np

from training.drawing import Ink, Motion, Paint, Pen


def rain(rng: np.random.Generator, ink: Ink, m: Motion) -> Paint:
    """Clouds, slanting streaks all over the picture, rings where drops meet the water."""
    streaks = rng.uniform(0, 1, (int(rng.integers(50, 100)), 3))
    slant, speed, long = rng.uniform(-0.35, 0.35), rng.uniform(1.5, 3), rng.uniform(0.2, 0.4)
    puffs = rng.uniform(-1, 1, (7, 2))
    rings = rng.uniform(0, 1, (9, 3))

    def paint(pen: Pen, t: float) -> None:
        for x, phase, depth in streaks:
            y = -1.4 + 2.8 * ((phase + speed * (0.6 + 0.4 * depth) * t / 2.8) % 1)
            left = 3.2 * x - 1.6 + slant * y
            pen.line(
                [(left, y), (left + slant * long, y + long)],
                ink.light if depth > 0.5 else ink.main,
                0.025 + 0.025 * depth,
            )
        for x, y, phase in rings:
            grow = (phase + 2.2 * t) % 1
            pen.ring(2.4 * x - 1.2, 0.7 + 0.5 * y, 0.05 + 0.22 * grow, ink.accent, 0.035, 0.02 + 0.07 * grow)
        for x, y in puffs:
            pen.disc(x, -0.95 + 0.12 * y, 0.4, ink.dark, 0.22)

    return paint


def wind(rng: np.random.Generator, ink: Ink, m: Motion) -> Paint:
    """A tree bent over by the gusts, its leaves streaming away on long curling lines of air."""
    leaves, curls = rng.uniform(0, 1, (16, 3)), rng.uniform(-1, 1, (4, 2))
    crown = rng.uniform(-0.35, 0.35, (9, 2))

    def paint(pen: Pen, t: float) -> None:
        gust = m.level(t)
        for x, y in curls:
            start = (x + 1 + 0.7 * t) % 3 - 1.6
            pen.line([(start, y), (start + 0.35, y - 0.05), (start + 0.7, y)], ink.light, 0.05)
            pen.arc(start + 0.7, y - 0.13, 0.13, 1.6, -2.6, ink.light, 0.05)
        u = np.linspace(0, 1, 8)
        bend = 0.25 + 0.5 * gust + 0.05 * np.sin(9 * t)
        trunk = np.stack([-0.5 + bend * u**2, 1.1 - 1.3 * u], axis=1)
        pen.line(trunk, ink.line, 0.14)
        top = pen.moved(*trunk[-1], 0.5 * bend)
        for x, y in crown:
            top.disc(1.2 * x + 0.3 * gust, 0.9 * y - 0.2, 0.26, ink.main, 0.2)
            top.line(
                [(1.2 * x + 0.3 * gust, 0.9 * y - 0.2), (1.2 * x + 0.45 + 0.4 * gust, 0.9 * y - 0.22)],
                ink.dark,
                0.05,
            )
        for x, y, phase in leaves:
            along = (phase + (0.5 + 0.3 * x) * t) % 1
            leaf = pen.moved(-0.3 + 1.7 * along, -0.5 + 1.2 * y + 0.12 * np.sin(9 * along + 6 * y), 7 * along + 6 * x)
            leaf.poly([(-0.11, 0), (0, -0.05), (0.11, 0), (0, 0.05)], ink.accent)

    return paint


def surf(rng: np.random.Generator, ink: Ink, m: Motion) -> Paint:
    """Rows of waves across the whole picture, foam on their crests, higher when they break."""
    rows, crests, speed = int(rng.integers(4, 6)), rng.uniform(1.5, 3), rng.uniform(0.8, 1.8)
    shift, flecks = rng.uniform(0, 6, 6), rng.uniform(0, 1, (30, 2))
    x = np.linspace(-1.8, 1.8, 33)

    def paint(pen: Pen, t: float) -> None:
        swell = m.level(t)
        for row in range(rows):
            near = (row + 1) / rows
            phase = crests * x * (1.6 - 0.7 * near) + shift[row] + speed * t * (1 if row % 2 else 1.4)
            height = (0.07 + 0.16 * swell) * near * (1 - np.abs(np.sin(phase))) * 2
            y = -0.45 + 1.2 * (row / rows) - height
            fill = (ink.dark, ink.main)[row % 2]
            pen.poly(np.concatenate([np.stack([x, y], 1), [(1.8, 1.9), (-1.8, 1.9)]]), fill)
            pen.line(np.stack([x, y], 1), ink.light, 0.03 + 0.09 * near * swell)
        for u, v in flecks:
            along = (u + 0.1 * t) % 1
            pen.disc(-1.5 + 3 * along, 0.55 + 0.7 * v, 0.03 + 0.05 * swell * v, ink.light, 0.02)

    return paint


def bubbles(rng: np.random.Generator, ink: Ink, m: Motion) -> Paint:
    """A tank of water with rings of every size rising through it, wobbling, a highlight on each."""
    rising, top = rng.uniform(0, 1, (int(rng.integers(14, 26)), 3)), rng.uniform(-0.95, -0.7)
    x = np.linspace(-1, 1, 13)

    def paint(pen: Pen, t: float) -> None:
        surface = np.stack([x, top + 0.04 * np.sin(7 * x + 8 * t)], 1)
        pen.poly(np.concatenate([surface, [(1, 1), (-1, 1)]]), ink.main)
        pen.line([(-1, -1.1), (-1, 1), (1, 1), (1, -1.1)], ink.line, 0.08)
        for u, phase, big in rising:
            height = (phase + (0.35 + 0.5 * big) * t) % 1
            r = (0.04 + 0.13 * big) * (0.6 + 0.4 * height)
            cx, cy = 0.8 * (2 * u - 1) + 0.06 * np.sin(9 * height + 6 * u), 0.95 - (1.75) * height
            if cy - r > top:
                pen.ring(cx, cy, r, ink.light, 0.045)
                pen.disc(cx - 0.35 * r, cy - 0.35 * r, 0.28 * r, ink.light)
        if m.hit(t, 0.05) > 0.3:
            pen.ring(0.6 * np.sin(5.0 * m.count(t)), top, 0.2, ink.accent, 0.06, 0.07)

    return paint


def fire(rng: np.random.Generator, ink: Ink, m: Motion) -> Paint:
    """Pointed tongues that flicker over crossed logs, sparks rising with the crackles."""
    tongues = int(rng.integers(4, 8))
    phase, tall, sparks = (
        rng.uniform(0, 6, tongues),
        rng.uniform(0.8, 1.5, tongues),
        rng.uniform(0, 1, (10, 2)),
    )
    spots = np.linspace(-0.55, 0.55, tongues)

    def paint(pen: Pen, t: float) -> None:
        for fill, size in ((ink.main, 1.0), (ink.light, 0.68), (ink.accent, 0.36)):
            for x, p, h in zip(spots, phase, tall, strict=True):
                flicker = 0.8 + 0.2 * np.sin(11 * t + p) + 0.15 * m.level(t)
                tip = 0.7 - 1.15 * h * flicker * size * (1 - 0.5 * abs(x))
                lean, half = 0.15 * np.sin(7 * t + 2 * p) * size, 0.3 * size
                waist = 0.15 * tip + 0.3
                left, right = (x + 0.3 * lean - 0.75 * half, waist), (x + 0.3 * lean + 0.75 * half, waist)
                base = [(x + half, 0.5), (x, 0.78), (x - half, 0.5)]
                pen.poly([left, (x + lean, tip), right, *base], fill)
        for turn in (-0.25, 0.25):
            log = pen.moved(0, 0.78, turn)
            log.box(-0.95, -0.12, 0.95, 0.12, ink.dark, ink.line)
            log.disc(0.95, 0, 0.08, ink.light, 0.12, ink.line)
        for u, v in sparks:
            age = (u + (0.7 + 0.5 * v) * t) % 1
            pen.disc(
                1.2 * (v - 0.5) + 0.1 * np.sin(12 * age),
                0.2 - 1.4 * age,
                0.045 * (0.4 + m.level(t)),
                ink.accent,
            )

    return paint
