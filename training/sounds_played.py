"""What things sound like that are struck, plucked, bowed and blown.

One function per kind, `(Synth) -> dry audio [n]` at any scale. Every parameter is drawn anew per take, so
that a kind is a family of sounds; none is silent for a second.
"""

import numpy as np

from training.synth import Audio, Synth


def knock(s: Synth) -> Audio:
    """Knuckles on wood: a few dull, quickly damped modes."""
    base, damping = s.pick(110, 420), s.pick(0.015, 0.05)
    ratios = np.cumsum(np.r_[1, s.rng.uniform(0.6, 1.6, 5)])
    return s.repeat(lambda: s.modes(base * ratios, damping / ratios**0.5, s.rng.uniform(0.2, 1, 6), 1e-3), (2, 6), 0.2)


def anvil(s: Synth) -> Audio:
    """Hammer on iron: many inharmonic modes that ring."""
    base, ring = s.pick(450, 1500), s.pick(0.12, 0.6)
    ratios = np.sort(s.pick(1.0, 1.1) ** np.arange(14) * s.rng.uniform(1, 6, 14))

    def blow() -> Audio:
        return s.modes(base * ratios, ring / ratios**0.5, s.rng.uniform(0.1, 1, 14))

    return s.repeat(blow, (1.6, 3.5))


def glass(s: Synth) -> Audio:
    """A spoon on a glass: three or four high, pure, long modes."""
    base, ring = s.pick(1300, 4200), s.pick(0.08, 0.5)
    ratios = np.array([1, 2.32, 4.25, 6.63]) * s.rng.uniform(0.94, 1.06, 4)
    return s.repeat(
        lambda: s.modes(base * ratios, ring / ratios, [1, 0.6, 0.4, 0.2] * s.rng.uniform(0.3, 1, 4)),
        (1.7, 4.5),
    )


def drum(s: Synth) -> Audio:
    """A skin: low membrane modes, and for a snare the rattle of wires."""
    base, ring, wires = s.pick(60, 210), s.pick(0.06, 0.25), s.rng.uniform(0, 0.5) * s.rng.integers(2)
    ratios = np.array([1, 1.59, 2.14, 2.3, 2.65, 2.92])

    def blow() -> Audio:
        skin = s.modes(base * ratios, ring / ratios, [1, 0.7, 0.5, 0.3, 0.3, 0.2] * s.rng.uniform(0.5, 1, 6), 3e-3)
        skin /= np.abs(skin).max()
        rattle = s.band(s.noise(len(skin) / s.rate), 1500, 9000) * s.decay(len(skin) / s.rate, 2e-3, ring / 2)
        return skin + wires * rattle

    return s.repeat(blow, (2, 6), 0.05, variants=2)


def _melody(s: Synth, base: float) -> list[float]:
    """Four to seven notes of a pentatonic scale on `base` Hz."""
    steps = s.rng.choice([0, 2, 4, 7, 9, 12], int(s.rng.integers(4, 8)))
    return [base * 2 ** (step / 12) for step in steps]


def guitar(s: Synth) -> Audio:
    """Plucked strings: slightly stretched harmonics; where it is plucked decides which are missing."""
    notes, ring, where, stiff = (
        _melody(s, s.pick(82, 330)),
        s.pick(0.2, 0.7),
        s.rng.uniform(0.08, 0.4),
        s.pick(5e-5, 6e-4),
    )
    k = np.arange(1, 22)
    scale = iter(notes)

    def pluck() -> Audio:
        pitches = next(scale) * k * np.sqrt(1 + stiff * k**2)
        return s.modes(pitches, ring / k**0.8, np.sin(np.pi * k * where) / k**0.7)

    return s.repeat(pluck, (2, 5), 0.04, variants=len(notes))


def bell(s: Synth) -> Audio:
    """A church or table bell: hum, prime, minor third, fifth, octave and above, ringing long."""
    base, ring = s.pick(180, 950), s.pick(0.35, 1.2)
    ratios = np.array([0.5, 1, 1.2, 1.5, 2, 2.5, 2.67, 3, 4, 5.33, 6.7]) * s.rng.uniform(0.99, 1.01, 11)
    return s.repeat(lambda: s.modes(base * ratios, ring / ratios**0.7, s.rng.uniform(0.2, 1, 11)), (1.6, 2.6), 0.04)


def marimba(s: Synth) -> Audio:
    """Tuned wooden bars under soft mallets: fundamental, double octave, and little else."""
    notes, ring = iter(melody := _melody(s, s.pick(130, 700))), s.pick(0.06, 0.22)
    overtones = np.array([1, 3.93, 9.5])

    def blow() -> Audio:
        return s.modes(next(notes) * overtones, ring / overtones, [1, 0.35, 0.12], s.pick(5e-4, 2e-3))

    return s.repeat(blow, (3, 7), 0.05, variants=len(melody))


def _legato(s: Synth, notes: list[float], per_second: tuple[float, float], vibrato: float) -> tuple[Audio, Audio]:
    """Pitch [n] of a tied melody with vibrato, and its loudness [n], which dips at each new note."""
    starts = s.times(per_second, 0.15)
    pitch, loudness = np.full(s.n, notes[-1]), np.ones(s.n)
    dip = 1 - 0.8 * s.hump(0.08, 0.5)
    for k, time in enumerate(starts):
        pitch[round(time * s.rate) :] = notes[k % len(notes)]
        first = round(time * s.rate)
        loudness[first : first + len(dip)] *= dip[: len(loudness[first : first + len(dip)])]
    t = np.arange(s.n) / s.rate
    return pitch * (1 + vibrato * np.sin(2 * np.pi * s.pick(4.5, 7) * t)), loudness * (0.8 + 0.2 * s.wander(3))


def violin(s: Synth) -> Audio:
    """A bowed string: a sawtooth with vibrato through the resonances of a wooden box, and the bow's hiss."""
    pitch, loudness = _legato(s, _melody(s, s.pick(100, 600)), (1.6, 3.5), s.rng.uniform(0.002, 0.012))
    saw = s.tone(pitch, 1 / np.arange(1, 60)) + s.pick(0.01, 0.08) * s.noise()
    centres = np.array([290, 460, 900, 2300, 3600]) * s.rng.uniform(0.85, 1.15, 5)
    return (0.25 * saw + s.resonate(saw, centres, centres / 4)) * loudness


def flute(s: Synth) -> Audio:
    """A blown pipe: few harmonics and breath around the note."""
    notes = _melody(s, s.pick(260, 900))
    pitch, loudness = _legato(s, notes, (1.6, 5), s.rng.uniform(0.001, 0.006))
    harmonics = np.array([1, s.pick(0.1, 0.7), s.pick(0.05, 0.3), s.pick(0.01, 0.1), 0.02])
    breath = s.band(s.noise(), min(notes), 6 * max(notes))
    return (s.tone(pitch, harmonics) + s.pick(0.02, 0.2) * breath) * loudness
