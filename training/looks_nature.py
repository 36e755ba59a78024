"""What animals and people look like.

One `drawing.Look` per kind: it draws its proportions from `rng` once and returns a function that draws the
thing at a time, moved by the sound. Lengths are in the thing's own unit, see `drawing.Pen`.
"""

import numpy as np

from training.drawing import Ink, Motion, Paint, Pen


def _eyes(pen: Pen, ink: Ink, y: float, gap: float, closed: bool) -> None:
    for side in (-1, 1):
        if closed:
            pen.arc(side * gap, y - 0.02, 0.12, 0.3, np.pi - 0.3, ink.line, 0.06)
        else:
            pen.disc(side * gap, y, 0.12, (245, 245, 245), 0.09, ink.line)
            pen.disc(side * gap, y, 0.055, ink.line)


def bird(rng: np.random.Generator, ink: Ink, m: Motion) -> Paint:
    """A bird on a branch; the beak opens as it sings, the wing and tail twitch."""
    plump, tail, head = rng.uniform(0.36, 0.48), rng.uniform(0.4, 0.6), rng.uniform(0.24, 0.3)

    def paint(pen: Pen, t: float) -> None:
        sing = m.level(t)
        pen.line([(-1.2, 0.75), (1.2, 0.6)], ink.line, 0.12)
        pen.line([(0.5, 0.68), (0.9, 0.35)], ink.line, 0.07)
        for x in (-0.1, 0.1):
            pen.line([(x, 0.4), (x, 0.7)], ink.accent, 0.05)
        body = pen.moved(0, -0.04 * sing, -0.08 * sing)
        body.poly([(-0.35, 0.05), (-0.5 - tail, 0.4), (-0.4 - tail, 0.6), (-0.25, 0.3)], ink.dark, ink.line)
        body.disc(-0.05, 0.12, plump + 0.12, ink.main, plump, ink.line)
        body.disc(0.42, -0.35, head, ink.main, line=ink.line)
        body.poly([(0.6, -0.5), (1.08, -0.42 - 0.22 * sing), (0.66, -0.36)], ink.accent, ink.line, 0.03)
        body.poly([(0.66, -0.36), (1.02, -0.34 + 0.2 * sing), (0.6, -0.24)], ink.accent, ink.line, 0.03)
        body.disc(0.48, -0.42, 0.06, ink.line)
        body.poly([(0.15, 0.0), (-0.15, -0.15), (-0.65, 0.25 - 0.3 * sing), (-0.1, 0.35)], ink.light, ink.line)

    return paint


def cricket(rng: np.random.Generator, ink: Ink, m: Motion) -> Paint:
    """A long insect with folded hind legs and feelers, its wings trembling, among blades of grass."""
    long, knee, blades = rng.uniform(0.6, 0.75), rng.uniform(0.55, 0.75), rng.uniform(-1.2, 1.2, (9, 2))

    def paint(pen: Pen, t: float) -> None:
        for x, lean in blades:
            pen.line([(x, 1.1), (x + 0.1 * lean, 0.6), (x + 0.3 * lean, 0.25)], ink.accent, 0.05)
        pen.disc(0, 0.2, long, ink.main, 0.2, ink.line)
        pen.disc(long, 0.12, 0.2, ink.main, 0.2, ink.line)
        pen.disc(long + 0.06, 0.06, 0.055, ink.line)
        for lean in (0.0, 0.35):
            pen.line([(long + 0.1, -0.05), (long + 0.15 + lean, -0.5), (long - 0.15 + lean, -0.9)], ink.line, 0.035)
        for x in (0.1, 0.4):
            pen.line([(x, 0.3), (x + 0.1, 0.5), (x + 0.02, 0.8)], ink.line, 0.05)
        for x in (-0.1, -0.3):
            pen.line([(x, 0.25), (x - 0.25, 0.2 - knee), (x - 0.6, 0.8)], ink.dark, 0.1)
        flap = 0.18 * m.level(t) * (1.2 + np.sin(71 * t))
        for angle in (0.05 - flap, 0.15 + 0.3 * flap):
            pen.moved(0.3, 0.05, angle).disc(-0.5, 0, 0.55, ink.light, 0.12, ink.line)

    return paint


def frog(rng: np.random.Generator, ink: Ink, m: Motion) -> Paint:
    """A squat frog from the front: two high eyes, a wide mouth, a throat that swells with each croak."""
    wide, eye, spots = rng.uniform(0.65, 0.8), rng.uniform(0.18, 0.25), rng.uniform(-0.5, 0.5, (5, 2))

    def paint(pen: Pen, t: float) -> None:
        for side in (-1, 1):
            pen.disc(side * 0.75, 0.62, 0.35, ink.dark, 0.3, ink.line)
            pen.disc(side * 0.55, 0.92, 0.3, ink.dark, 0.09, ink.line)
        pen.disc(0, 0.45, wide * 0.85, ink.main, 0.5, ink.line)
        pen.disc(0, 0.0, wide, ink.main, 0.42, ink.line)
        for x, y in spots:
            pen.disc(x, 0.35 * y - 0.15, 0.06, ink.dark)
        for side in (-1, 1):
            pen.disc(side * 0.45, -0.38, eye, ink.light, line=ink.line)
            pen.disc(side * 0.45, -0.38, eye * 0.55, ink.line, eye * 0.3)
        swell = m.level(t)
        pen.disc(0, 0.38, 0.3 + 0.3 * swell, ink.light, 0.14 + 0.32 * swell, ink.line)
        pen.line([(-0.6 * wide / 0.7, 0.05), (-0.3, 0.17), (0.3, 0.17), (0.6 * wide / 0.7, 0.05)], ink.line, 0.06)

    return paint


def dog(rng: np.random.Generator, ink: Ink, m: Motion) -> Paint:
    """A dog's head from the side: hanging ear, long snout, jaws that open at each bark."""
    snout, ear, collar = rng.uniform(0.65, 0.85), rng.uniform(0.5, 0.75), rng.uniform(0.15, 0.2)

    def paint(pen: Pen, t: float) -> None:
        bark = m.level(t)
        pen.poly([(-0.6, 0.1), (0.15, 0.3), (0.25, 1.2), (-0.95, 1.2)], ink.main, ink.line)
        pen.poly([(-0.72, 0.6), (0.2, 0.62), (0.22, 0.62 + collar), (-0.78, 0.6 + collar)], ink.accent)
        head = pen.moved(-0.1, -0.1, -0.3 * bark)
        jaw = head.moved(0.15, 0.2, 0.55 * bark)
        jaw.poly([(-0.1, -0.05), (snout - 0.05, -0.02), (snout - 0.1, 0.16), (0.0, 0.25)], ink.dark, ink.line)
        head.disc(-0.1, -0.1, 0.52, ink.main, 0.48, ink.line)
        head.poly([(0.1, -0.35), (0.3 + snout, -0.12), (0.3 + snout, 0.12), (0.15, 0.25)], ink.main, ink.line)
        head.disc(0.28 + snout, -0.08, 0.12, ink.line)
        head.disc(0.15, -0.28, 0.08, ink.line)
        head.poly(
            [(-0.4, -0.45), (-0.1, -0.4), (-0.2, ear - 0.25), (-0.45, ear - 0.1), (-0.6, ear - 0.4)],
            ink.dark,
            ink.line,
        )

    return paint


def man(rng: np.random.Generator, ink: Ink, m: Motion) -> Paint:
    """A square face with beard, short hair and broad shoulders; the mouth follows the syllables."""
    jaw, hair, beard = rng.uniform(0.45, 0.55), rng.uniform(0.15, 0.3), rng.uniform(0.2, 0.4)
    face = np.array(
        [
            (-0.52, -0.7),
            (0.52, -0.7),
            (0.55, 0.1),
            (jaw, 0.45),
            (0.25, 0.62),
            (-0.25, 0.62),
            (-jaw, 0.45),
            (-0.55, 0.1),
        ]
    )
    whiskers = np.array(
        [
            (-0.56, beard - 0.25),
            (-0.3, 0.12),
            (0.3, 0.12),
            (0.56, beard - 0.25),
            (jaw + 0.02, 0.5),
            (0.25, 0.75),
            (-0.25, 0.75),
            (-jaw - 0.02, 0.5),
        ]
    )

    def paint(pen: Pen, t: float) -> None:
        pen.poly(
            [(-1.2, 1.25), (-1.1, 0.85), (-0.4, 0.65), (0.4, 0.65), (1.1, 0.85), (1.2, 1.25)],
            ink.accent,
            ink.line,
        )
        head = pen.moved(0, 0.02 * m.level(t), 0.07 * np.sin(2.3 * t))
        head.box(-0.28, 0.4, 0.28, 0.8, ink.dark)
        for side in (-1, 1):
            head.disc(side * 0.58, -0.12, 0.1, ink.main, 0.16, ink.line)
        head.poly(face, ink.main, ink.line)
        head.poly(whiskers, ink.line)
        head.poly(
            [
                (-0.58, -0.35),
                (-0.58, -0.85),
                (0.0, -1.0),
                (0.58, -0.85),
                (0.58, -0.35),
                (0.48, -0.7 + hair),
                (-0.48, -0.7 + hair),
            ],
            ink.line,
        )
        _eyes(head, ink, -0.22, 0.24, False)
        for side in (-1, 1):
            head.line([(side * 0.1, -0.36), (side * 0.38, -0.38)], ink.line, 0.07)
        head.line([(0, -0.2), (0.07, 0.05), (-0.05, 0.06)], ink.dark, 0.05)
        head.disc(0, 0.32, 0.2, ink.light, 0.05 + 0.17 * m.level(t))
        head.disc(0, 0.32, 0.15, ink.line, 0.01 + 0.14 * m.level(t))

    return paint


def woman(rng: np.random.Generator, ink: Ink, m: Motion) -> Paint:
    """An oval face in long hair, with earrings; the mouth follows the syllables."""
    length, volume, parting = rng.uniform(0.6, 1.1), rng.uniform(0.7, 0.85), rng.uniform(-0.2, 0.2)
    hair = [
        (-0.35, -0.95),
        (0.35, -0.95),
        (volume, -0.5),
        (volume + 0.1, length),
        (-volume - 0.1, length),
        (-volume, -0.5),
    ]

    def paint(pen: Pen, t: float) -> None:
        head = pen.moved(0, 0.02 * m.level(t), 0.09 * np.sin(2 * t))
        head.poly(hair, ink.line)
        head.disc(0, -0.5, volume, ink.line, 0.5)
        for x in np.linspace(-0.85, 0.85, 8) * volume:
            head.line([(0.6 * x, -0.7), (x, 0), (1.1 * x, length - 0.05)], ink.accent, 0.035)
        head.box(-0.17, 0.4, 0.17, 0.85, ink.dark)
        pen.disc(0, 1.15, 0.7, ink.accent, 0.38, ink.line)
        head.disc(0, -0.02, 0.46, ink.main, 0.6)
        head.poly(
            [
                (parting, -0.7),
                (0.5, -0.55),
                (0.5, -0.15),
                (0.3, -0.42),
                (parting, -0.52),
                (-0.3, -0.42),
                (-0.5, -0.15),
                (-0.5, -0.55),
            ],
            ink.line,
        )
        _eyes(head, ink, -0.1, 0.2, False)
        for side in (-1, 1):
            head.disc(side * 0.5, 0.25, 0.07, ink.light, line=ink.line)
        head.line([(0, -0.02), (0.05, 0.14)], ink.dark, 0.045)
        head.disc(0, 0.32, 0.2, ink.accent, 0.07 + 0.14 * m.level(t), ink.line)
        head.disc(0, 0.32, 0.12, ink.line, 0.01 + 0.13 * m.level(t))

    return paint


def baby(rng: np.random.Generator, ink: Ink, m: Motion) -> Paint:
    """A round bald head with one curl, eyes shut, mouth wide open, tears flying."""
    round_, curl, gap = rng.uniform(0.78, 0.9), rng.uniform(0.12, 0.2), rng.uniform(0.28, 0.36)

    def paint(pen: Pen, t: float) -> None:
        cry = m.level(t)
        head = pen.moved(0, 0, 0.1 * np.sin(6 * t) * (0.3 + cry))
        for side in (-1, 1):
            head.disc(side * round_, 0.0, 0.16, ink.main, 0.2, ink.line)
        head.disc(0, 0, round_, ink.main, 0.85, ink.line)
        head.arc(0.02, -0.85, curl, -2.5, 2.0, ink.line, 0.06)
        for side in (-1, 1):
            head.disc(side * 0.55, 0.15, 0.15, ink.light, 0.11)
        _eyes(head, ink, -0.12, gap, True)
        head.disc(0, 0.42, 0.28, ink.line, 0.1 + 0.22 * cry)
        head.disc(0, 0.45 + 0.1 * cry, 0.15, ink.accent, 0.03 + 0.08 * cry)
        for side in (-1, 1):
            for k in range(3):
                age = (1.7 * t + k / 3) % 1
                head.disc(side * (gap + 0.12 + 0.75 * age), -0.05 + 0.9 * age**2 - 0.3 * age, 0.07, ink.accent, 0.1)

    return paint


def footsteps(rng: np.random.Generator, ink: Ink, m: Motion) -> Paint:
    """Two walking legs in shoes, the ground's marks passing beneath them."""
    thick, shoe, pace = rng.uniform(0.16, 0.24), rng.uniform(0.26, 0.36), rng.uniform(0.4, 0.6)

    def paint(pen: Pen, t: float) -> None:
        pen.line([(-1.4, 0.98), (1.4, 0.98)], ink.line, 0.06)
        strides = m.count(t) + m.phase(t)
        for k in range(6):
            x = 1.3 - (pace * strides + k * 0.45) % 2.7
            pen.line([(x, 1.05), (x - 0.12, 1.2)], ink.line, 0.06)
        swing = np.cos(np.pi * strides)
        for side, fill in ((-1, ink.dark), (1, ink.main)):
            hip = side * swing * 0.55
            lift = 0.3 * m.lift(t) * ((m.count(t) % 2) == (side > 0))
            kneex, kneey = 0.62 * np.sin(hip) + lift * 0.5, -0.9 + 0.85 * np.cos(hip)
            anklex, ankley = 1.45 * np.sin(hip), 0.82 - lift
            pen.line([(0, -1.1), (kneex, kneey), (anklex, ankley)], ink.line, 2 * thick + 0.08)
            pen.line([(0, -1.1), (kneex, kneey), (anklex, ankley)], fill, 2 * thick)
            foot = pen.moved(anklex, ankley, -1.2 * lift)
            foot.poly(
                [(-0.18, -0.12), (0.12, -0.12), (shoe + 0.15, 0.06), (shoe + 0.15, 0.16), (-0.2, 0.16)],
                ink.accent,
                ink.line,
            )

    return paint
