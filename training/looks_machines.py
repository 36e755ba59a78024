"""What motors, alarms and small mechanisms look like.

One `drawing.Look` per kind: it draws its proportions from `rng` once and returns a function that draws the
thing at a time, moved by the sound. Lengths are in the thing's own unit, see `drawing.Pen`.
"""

import numpy as np

from training.drawing import Ink, Motion, Paint, Pen

_TAU = 2 * np.pi


def engine(rng: np.random.Generator, ink: Ink, m: Motion) -> Paint:
    """A finned block that shakes, pistons going up and down on it, a flywheel at its side."""
    pistons, fins, turns = int(rng.integers(2, 5)), int(rng.integers(4, 7)), rng.uniform(2, 5)
    centres = np.linspace(-0.65, 0.35, pistons)

    def paint(pen: Pen, t: float) -> None:
        block = pen.moved(0.025 * np.sin(61 * t), 0.025 * np.sin(53 * t + 1))
        for k, x in enumerate(centres):
            y = -0.5 + 0.22 * np.sin(_TAU * (turns * t + k / pistons))
            block.box(x - 0.05, y, x + 0.05, 0, ink.line)
            block.box(x - 0.38 / pistons, y - 0.2, x + 0.38 / pistons, y + 0.08, ink.light, ink.line)
        block.box(-0.95, -0.15, 0.6, 0.9, ink.main, ink.line)
        for y in np.linspace(0.0, 0.75, fins):
            block.line([(-0.88, y), (0.52, y)], ink.dark, 0.07)
        block.disc(0.7, 0.45, 0.4, ink.accent, line=ink.line)
        for spoke in np.arange(3) * _TAU / 3 + _TAU * turns * t:
            block.line([(0.7, 0.45), (0.7 + 0.36 * np.cos(spoke), 0.45 + 0.36 * np.sin(spoke))], ink.line, 0.08)

    return paint


def motorbike(rng: np.random.Generator, ink: Ink, m: Motion) -> Paint:
    """Two spoked wheels, frame, tank and handlebar; smoke from the exhaust as it is revved."""
    wheel, base, speed = rng.uniform(0.36, 0.45), rng.uniform(0.6, 0.72), rng.uniform(4, 9)

    def paint(pen: Pen, t: float) -> None:
        for k in range(4):
            age = (1.8 * t + k / 4) % 1
            pen.ring(
                -base - 0.2 - 0.5 * age,
                0.55 - 0.35 * age,
                (0.06 + 0.16 * age) * (0.3 + m.level(t)),
                ink.light,
                0.04,
            )
        bike = pen.moved(0, 0.02 * np.sin(47 * t), -0.1 * m.level(t))
        for side in (-base, base):
            bike.ring(side, 0.5, wheel, ink.line, 0.13)
            for spoke in np.arange(4) * np.pi / 4 + speed * t:
                dx, dy = wheel * np.cos(spoke), wheel * np.sin(spoke)
                bike.line([(side - dx, 0.5 - dy), (side + dx, 0.5 + dy)], ink.light, 0.03)
        bike.line([(-base, 0.5), (-0.1, 0.45), (0.25, -0.1), (base, 0.5)], ink.accent, 0.1)
        bike.line([(base, 0.5), (0.38, -0.4), (0.18, -0.52)], ink.line, 0.09)
        bike.disc(-0.05, 0.35, 0.25, ink.dark, line=ink.line)
        bike.poly([(-0.2, -0.22), (0.12, -0.32), (0.4, -0.15), (0.25, 0.08), (-0.2, 0.05)], ink.main, ink.line)
        bike.poly([(-0.95, -0.2), (-0.2, -0.15), (-0.2, 0.05), (-0.75, 0.02)], ink.line)
        bike.line([(-0.1, 0.55), (-base - 0.15, 0.6)], ink.light, 0.1)

    return paint


def helicopter(rng: np.random.Generator, ink: Ink, m: Motion) -> Paint:
    """Cabin, tail boom and skids in the air; the rotor's blades foreshorten as they turn."""
    cabin, tail, spin = rng.uniform(0.38, 0.5), rng.uniform(0.9, 1.1), rng.uniform(9, 15)

    def paint(pen: Pen, t: float) -> None:
        craft = pen.moved(0.05 * np.sin(1.3 * t), 0.06 * np.sin(2.1 * t), 0.06 * np.sin(1.7 * t))
        craft.poly([(-0.2, 0.0), (-tail, -0.12), (-tail, -0.02), (-0.2, 0.3)], ink.main, ink.line)
        craft.poly([(-tail - 0.1, -0.4), (-tail + 0.08, -0.1), (-tail, 0.0)], ink.accent, ink.line)
        craft.disc(0.1, 0.2, cabin + 0.08, ink.main, cabin * 0.85, ink.line)
        craft.poly([(0.2, -0.08), (0.45, 0.0), (0.55, 0.22), (0.2, 0.22)], ink.light, ink.line)
        for x in (-0.15, 0.35):
            craft.line([(x, 0.5), (x, 0.75)], ink.line, 0.05)
        craft.line([(-0.5, 0.75), (0.65, 0.75), (0.75, 0.66)], ink.line, 0.07)
        craft.line([(0.1, -0.2), (0.1, -0.5)], ink.line, 0.09)
        for blade in (0, np.pi / 2):
            reach, rise = 1.15 * np.cos(spin * t + blade), 0.1 * np.sin(spin * t + blade)
            craft.line([(0.1 - reach, -0.5 - rise), (0.1 + reach, -0.5 + rise)], ink.accent, 0.08)
        dx, dy = 0.22 * np.cos(2 * spin * t), 0.22 * np.sin(2 * spin * t)
        craft.line([(-tail - dx, -0.2 - dy), (-tail + dx, -0.2 + dy)], ink.line, 0.06)

    return paint


def chainsaw(rng: np.random.Generator, ink: Ink, m: Motion) -> Paint:
    """A motor with a loop handle, and a long bar around which teeth run, cutting a log."""
    bar, teeth, speed = rng.uniform(0.16, 0.22), int(rng.integers(11, 17)), rng.uniform(1.5, 3)

    def paint(pen: Pen, t: float) -> None:
        pen.disc(0.6, 0.62, 0.4, ink.accent, line=ink.line)
        for r in (0.28, 0.15):
            pen.ring(0.6, 0.62, r, ink.line, 0.03)
        saw = pen.moved(0.02 * np.sin(67 * t), 0.05 * m.level(t) + 0.02 * np.sin(59 * t), 0.06 * np.sin(2 * t))
        for k in range(teeth):
            u = (k / teeth + speed * t / 4) % 1
            x, y, up = (-0.1 + 2.4 * u, -bar, -1) if u < 0.5 else (2.3 - 2.4 * u, bar, 1)
            saw.poly([(x - 0.06, y), (x + 0.06, y), (x + 0.06 * -up, y + 0.13 * up)], ink.line)
        saw.box(-0.2, -bar, 1.1, bar, ink.light, ink.line)
        saw.disc(1.1, 0, bar, ink.light, line=ink.line)
        saw.arc(-0.35, -0.3, 0.35, -np.pi, 0, ink.line, 0.1)
        saw.box(-0.8, -0.4, -0.05, 0.42, ink.main, ink.line)
        saw.line([(-0.8, -0.25), (-1.15, -0.1), (-1.1, 0.35), (-0.8, 0.35)], ink.line, 0.1)
        for y in (-0.2, 0.0, 0.2):
            saw.line([(-0.65, y), (-0.3, y)], ink.dark, 0.07)

    return paint


def siren(rng: np.random.Generator, ink: Ink, m: Motion) -> Paint:
    """A beacon: a dome on a plinth, beams of light going round."""
    wide, tall, spin = rng.uniform(0.38, 0.52), rng.uniform(0.6, 0.85), rng.uniform(3, 7)
    angle = np.linspace(np.pi, _TAU, 14)
    dome = np.stack([wide * np.cos(angle), 0.45 + tall * np.sin(angle)], axis=1)

    def paint(pen: Pen, t: float) -> None:
        for beam in (spin * t, spin * t + np.pi):
            ends = [(1.3 * np.cos(a), 0.1 + 1.2 * np.sin(a)) for a in (beam - 0.28, beam + 0.28)]
            pen.poly([(0, 0.1), *ends], ink.accent)
        pen.poly(dome, ink.main, ink.line, 0.06)
        gleam = wide * 0.6 * np.cos(spin * t)
        pen.disc(gleam, 0.15, 0.14, ink.light, 0.22)
        pen.box(-wide * 1.25, 0.45, wide * 1.25, 0.65, ink.dark, ink.line)
        pen.box(-wide * 1.6, 0.65, wide * 1.6, 0.9, ink.line)

    return paint


def beeper(rng: np.random.Generator, ink: Ink, m: Motion) -> Paint:
    """A digital alarm clock: four seven-segment digits that flash with the beeps."""
    tall, digits = rng.uniform(0.45, 0.6), rng.integers(1, 128, 4)
    bars = [((-1, -2), (1, -2)), ((1, -2), (1, 0)), ((1, 0), (1, 2)), ((-1, 2), (1, 2)), ((-1, 0), (-1, 2))]
    bars += [((-1, -2), (-1, 0)), ((-1, 0), (1, 0))]

    def paint(pen: Pen, t: float) -> None:
        on = m.hit(t) > 0.35
        pen.box(-1.05, -tall, 1.05, tall, ink.main, ink.line)
        pen.box(-0.92, -tall + 0.12, 0.92, tall - 0.12, ink.accent if on else ink.line)
        for k, digit in enumerate(digits):
            glyph = pen.moved((-0.68, -0.28, 0.28, 0.68)[k], 0, 0, (tall - 0.2) / 2.2)
            for bit, bar in enumerate(bars):
                if digit >> bit & 1:
                    glyph.line([(0.75 * x, y) for x, y in bar], ink.line if on else ink.light, 0.45)
        for y in (-0.14, 0.14):
            pen.disc(0, y, 0.06, ink.line if on else ink.light)
        pen.box(-0.35, -tall - 0.16, 0.35, -tall, ink.dark, ink.line)
        for side in (-0.8, 0.8):
            pen.box(side - 0.1, tall, side + 0.1, tall + 0.13, ink.line)

    return paint


def telephone(rng: np.random.Generator, ink: Ink, m: Motion) -> Paint:
    """A dial telephone; the receiver dances on its cradle while it rings."""
    top, foot, holes = rng.uniform(0.4, 0.55), rng.uniform(0.8, 0.98), int(rng.integers(7, 11))

    def paint(pen: Pen, t: float) -> None:
        pen.poly([(-top, -0.35), (top, -0.35), (foot, 0.85), (-foot, 0.85)], ink.main, ink.line, 0.06)
        pen.disc(0, 0.3, 0.42, ink.light, line=ink.line)
        for angle in np.linspace(0.9, 5.9, holes):
            pen.disc(0.29 * np.cos(angle), 0.3 + 0.29 * np.sin(angle), 0.065, ink.line)
        pen.disc(0, 0.3, 0.13, ink.accent)
        for side in (-0.3, 0.3):
            pen.box(side - 0.07, -0.5, side + 0.07, -0.33, ink.line)
        shake = m.level(t)
        receiver = pen.moved(0, -0.6 - 0.1 * shake * abs(np.sin(31 * t)), 0.14 * shake * np.sin(37 * t))
        receiver.arc(0, 0.5, 0.75, -2.45, -0.7, ink.dark, 0.2)
        for side in (-0.68, 0.68):
            receiver.disc(side, 0.12, 0.24, ink.dark, 0.2, ink.line)

    return paint


def kettle(rng: np.random.Generator, ink: Ink, m: Motion) -> Paint:
    """A round kettle with handle and spout, steam blowing out of it."""
    wide, tall, handle = rng.uniform(0.5, 0.62), rng.uniform(0.45, 0.55), rng.uniform(0.42, 0.52)

    def paint(pen: Pen, t: float) -> None:
        for k in range(6):
            age = (1.4 * t + k / 6) % 1
            pen.disc(0.95 + 0.25 * age, -0.2 - 0.85 * age, 0.07 + 0.2 * age * (0.5 + m.level(t)), ink.accent)
        pot = pen.moved(-0.1, 0.03 * np.sin(43 * t) * m.level(t))
        pot.arc(0, -0.05, handle + 0.15, -np.pi, 0, ink.line, 0.1)
        pot.poly([(0.3, 0.2), (0.9, -0.25), (1.08, -0.15), (0.5, 0.6)], ink.main, ink.line)
        pot.disc(0, 0.4, wide, ink.main, tall, ink.line)
        pot.disc(-0.2, 0.2, 0.16, ink.light, 0.1)
        pot.disc(0, -0.05, 0.3, ink.dark, 0.09, ink.line)
        pot.disc(0, -0.16, 0.09, ink.accent, line=ink.line)
        pot.box(-0.5, 0.86, 0.5, 0.96, ink.line)

    return paint


def clock(rng: np.random.Generator, ink: Ink, m: Motion) -> Paint:
    """A round face with marks, two hands, and a third that jumps at each tick."""
    marks, hour, minute = int(rng.choice([4, 12])), rng.uniform(0, _TAU), rng.uniform(0, _TAU)
    rim, first = rng.uniform(0.08, 0.16), rng.integers(60)

    def paint(pen: Pen, t: float) -> None:
        pen.disc(0, 0, 1.0, ink.line)
        pen.disc(0, 0, 0.97, ink.accent)
        pen.disc(0, 0, 0.97 - rim, ink.light, line=ink.line)
        for angle in np.arange(marks) * _TAU / marks:
            dx, dy = np.cos(angle), np.sin(angle)
            pen.line([(0.68 * dx, 0.68 * dy), (0.8 * dx, 0.8 * dy)], ink.line, 0.07)
        for angle, length, width in ((hour, 0.42, 0.1), (minute, 0.66, 0.07)):
            pen.line([(0, 0), (length * np.cos(angle), length * np.sin(angle))], ink.line, width)
        tick = (first + m.count(t) - 0.4 * m.hit(t, 0.05)) * _TAU / 24
        pen.line(
            [(-0.2 * np.cos(tick), -0.2 * np.sin(tick)), (0.8 * np.cos(tick), 0.8 * np.sin(tick))],
            ink.dark,
            0.045,
        )
        pen.disc(0, 0, 0.08, ink.dark)

    return paint


def typing(rng: np.random.Generator, ink: Ink, m: Motion) -> Paint:
    """A keyboard in perspective; the key that is pressed sinks and shows."""
    rows, columns, narrow = int(rng.integers(3, 6)), int(rng.integers(7, 11)), rng.uniform(0.72, 0.95)
    pressed = rng.integers(0, rows * columns, 64)

    def paint(pen: Pen, t: float) -> None:
        pen.poly([(-1.1 * narrow, -0.55), (1.1 * narrow, -0.55), (1.15, 0.6), (-1.15, 0.6)], ink.main, ink.line)
        down = pressed[m.count(t) % 64] if m.hit(t, 0.1) > 0.2 else -1
        for row in range(rows):
            top, bottom = (-0.45 + 0.98 * (row + edge) / rows for edge in (0.08, 0.85))
            grow = narrow + (1 - narrow) * row / rows
            for column in range(columns):
                left, right = (grow * (-1.02 + 2.04 * (column + edge) / columns) for edge in (0.1, 0.9))
                key = row * columns + column == down
                sink = 0.05 if key else 0.0
                pen.box(left, top + sink, right, bottom + sink, ink.accent if key else ink.light)

    return paint
