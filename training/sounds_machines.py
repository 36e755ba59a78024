"""What motors, alarms and small mechanisms sound like.

One function per kind, `(Synth) -> dry audio [n]` at any scale. Every parameter is drawn anew per take, so
that a kind is a family of sounds; none is silent for a second.
"""

import numpy as np

from training.synth import Audio, Synth


def _combustion(s: Synth, firing: Audio, cylinders: int, sharp: float, centres: list[float]) -> Audio:
    """`firing` [n] explosions a second, each cylinder of its own strength; `sharp`: how short they are."""
    phase = np.arange(4096) * cylinders / 4096
    cycle = np.exp(-sharp * (phase % 1)) * s.rng.uniform(0.5, 1, cylinders)[phase.astype(int)]
    bangs = s.table(firing / cylinders, cycle)
    bangs = (bangs - bangs.mean()) * (1 + s.pick(0.2, 1.0) * s.noise())
    return 0.3 * bangs + s.resonate(bangs, centres, [0.5 * c for c in centres])


def engine(s: Synth) -> Audio:
    """A motor idling: slow uneven low firing, and the clatter of valves."""
    firing = s.pick(14, 38) * (1 + 0.03 * s.wander(4))
    body = _combustion(
        s,
        firing,
        int(s.rng.integers(2, 7)),
        s.pick(3, 7),
        [s.pick(50, 90), s.pick(110, 240), s.pick(300, 600)],
    )
    clatter = s.scatter([s.modes([s.pick(1500, 4000)], [4e-3], [1])], 2 * float(firing.mean()), 0.4)
    return s.band(body, 30, s.pick(800, 2500)) + s.pick(0.02, 0.2) * clatter


def motorbike(s: Synth) -> Audio:
    """A motor being revved: the pitch swings by an octave and more."""
    firing = s.pick(50, 110) * 2 ** (0.9 * s.wander(s.pick(1, 2.5)))
    roar = _combustion(
        s,
        firing,
        int(s.rng.integers(1, 3)),
        s.pick(2, 5),
        [s.pick(120, 250), s.pick(350, 700), s.pick(900, 2000)],
    )
    return roar * (0.6 + 0.4 * (firing / firing.max()))


def helicopter(s: Synth) -> Audio:
    """Blades: heavy thuds of low noise ten to twenty times a second, over a turbine's whine."""
    blades = s.table(s.pick(9, 21) * (1 + 0.02 * s.wander(2)), np.exp(-s.pick(3, 7) * np.arange(4096) / 4096))
    whine = s.tone(s.pick(900, 3500) * (1 + 0.01 * s.wander(2)), [1, 0.3])
    wash = s.band(s.noise(), 40, s.pick(250, 1200))
    return blades * wash / wash.std() + 0.15 * s.noise() * blades + s.pick(0.01, 0.12) * whine


def chainsaw(s: Synth) -> Audio:
    """A two-stroke screaming at full throttle and labouring in the wood, harsh up to many kilohertz."""
    labour = s.wander(s.pick(1.5, 4))
    firing = s.pick(130, 280) * (1 + 0.25 * labour)
    buzz = _combustion(s, firing, 2, s.pick(5, 12), [s.pick(500, 900), s.pick(1500, 2600), s.pick(3500, 6000)])
    return buzz / buzz.std() + 0.3 * s.band(s.noise(), 2000, 9000) * (1 + 0.5 * labour)


def siren(s: Synth) -> Audio:
    """An emergency vehicle: wail, yelp or two tones."""
    per_second, low, span = s.pick(1.6, 4), s.pick(350, 900), s.pick(0.35, 1.2)
    s.strikes += list(np.arange(0, s.seconds, 1 / per_second))
    phase = np.arange(s.n) / s.rate * per_second
    shapes = (0.5 - 0.5 * np.cos(2 * np.pi * phase), 1 - 2 * np.abs(phase % 1 - 0.5), (phase % 1 < 0.5) * 1.0)
    pitch = low * 2 ** (span * shapes[s.rng.integers(3)])
    return s.tone(pitch, 1 / np.arange(1, 16) ** s.rng.uniform(0.7, 2))


def beeper(s: Synth) -> Audio:
    """An electronic alarm: short identical beeps of one pitch."""
    pitch, length = s.pick(900, 3800), s.pick(0.06, 0.16)
    beep = s.tone(np.full(s.samples(length), pitch), [1, 0, s.rng.uniform(0, 0.4), 0, s.rng.uniform(0, 0.3)])
    return s.repeat(lambda: beep * s.hump(length, 0.05), (2.2, 6), 0.0, variants=1)


def telephone(s: Synth) -> Audio:
    """An old telephone: a clapper between two small bells, ringing in bursts."""
    base, ring, flutter = s.pick(900, 2200), s.pick(0.04, 0.12), s.pick(18, 30)
    ratios = np.array([1, 1.51, 2.4, 3.3, 4.6])
    cups = [s.modes(base * tuning * ratios, ring, [1, 0.6, 0.5, 0.3, 0.2]) for tuning in (1, s.rng.uniform(1.1, 1.35))]
    total, burst = np.zeros(s.n), s.rng.uniform(0.3, 0.4)
    for start in s.times((1.6, 2.1), 0.02):
        for k in range(int(burst * flutter)):
            s.place(total, cups[k % 2], start + k / flutter)
    return total


def kettle(s: Synth) -> Audio:
    """Steam through a whistle: an unsteady high tone in hiss, water rumbling below."""
    pitch = s.pick(1400, 3200) * (1 + 0.03 * s.wander(6) + 0.04 * s.wander(0.7))
    whistle = s.tone(pitch, [1, 0.3, 0.1]) * (0.8 + 0.2 * s.wander(12))
    boil = s.scatter([s.modes([s.pick(150, 500)], [0.01], [1]) for _ in range(4)], 60, 0.5)
    hiss = s.band(s.noise(), 2500, 12000)
    return whistle + s.pick(0.05, 0.4) * hiss / hiss.std() + s.pick(0.2, 0.8) * boil


def clock(s: Synth) -> Audio:
    """Tick, tock: two tiny clicks by turns, in strict time."""
    base, ring = s.pick(1200, 4500), s.pick(2e-3, 9e-3)

    def tick() -> Audio:
        return s.modes(base * np.array([1, 1.7, 2.9, 0.35]) * s.pick(0.8, 1.25), ring, [1, 0.7, 0.5, 0.4])

    return s.repeat(tick, (1.8, 4.5), 0.0, variants=2)


def typing(s: Synth) -> Audio:
    """A keyboard: fast irregular clacks, noisy, with a little plastic body."""

    def key() -> Audio:
        length, body = (
            s.pick(0.03, 0.07),
            s.modes([s.pick(300, 700), s.pick(1500, 3500)], [6e-3, 4e-3], [1, 0.6]),
        )
        clack = s.band(s.noise(length), 1200, 9000) * s.decay(length, 1e-3, length / 5)
        s.place(clack, body / np.abs(body).max(), 0.0, 2.0)
        return clack

    return s.repeat(key, (5, 11), 0.45, variants=8)
