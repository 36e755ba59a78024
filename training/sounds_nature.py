"""What animals, people, the weather, water and fire sound like.

One function per kind, `(Synth) -> dry audio [n]` at any scale. Every parameter is drawn anew per take, so
that a kind is a family of sounds; none is silent for a second.
"""

import numpy as np

from training.synth import Audio, Synth

# Formants (Hz) of a, e, i, o, u, of a grown man; other mouths scale them.
_VOWELS = ((730, 1090, 2440), (530, 1840, 2480), (270, 2290, 3010), (570, 840, 2410), (300, 870, 2240))


def bird(s: Synth) -> Audio:
    """Song: short whistles that sweep, by two to five figures repeated."""

    def chirp() -> Audio:
        length = s.pick(0.05, 0.2)
        x = np.linspace(0, 1, s.samples(length))
        sweep = s.rng.uniform(-0.7, 0.7) * x + s.rng.uniform(0, 0.25) * np.sin(2 * np.pi * s.pick(1, 8) * x)
        return s.tone(s.pick(2200, 5500) * 2**sweep, [1, s.pick(0.01, 0.2)]) * s.hump(length)

    return s.repeat(chirp, (3, 9), 0.3, variants=int(s.rng.integers(2, 6)))


def cricket(s: Synth) -> Audio:
    """Stridulation: trains of a few pulses of one high pitch."""
    pitch, pulse_rate, pulses, sharp = (
        s.pick(3300, 6500),
        s.pick(25, 65),
        int(s.rng.integers(3, 8)),
        s.pick(1, 3),
    )
    length = pulses / pulse_rate
    gate = np.abs(np.sin(np.pi * pulse_rate * np.arange(s.samples(length)) / s.rate)) ** sharp
    return s.repeat(lambda: s.tone(np.full(len(gate), pitch), [1, 0.08]) * gate, (2, 4.5), 0.06, variants=1)


def frog(s: Synth) -> Audio:
    """A croak: slow clicks of the throat through two low resonances."""
    clicks, length, centre = s.pick(28, 80), s.pick(0.15, 0.35), s.pick(450, 1100)

    def croak() -> Audio:
        pitch = clicks * np.linspace(s.rng.uniform(0.8, 1), s.rng.uniform(1, 1.4), s.samples(length))
        throat = s.tone(pitch, np.ones(60)) + 0.02 * s.noise(len(pitch) / s.rate)
        return s.resonate(throat, [centre, 2.4 * centre], [150, 250]) * s.hump(length)

    return s.repeat(croak, (1.7, 2.8), 0.15)


def dog(s: Synth) -> Audio:
    """Barks: a rough falling tone through an opening mouth, a tenth to a quarter of a second."""
    voice, mouth = s.pick(180, 600), s.pick(0.8, 1.5)

    def bark() -> Audio:
        length = s.pick(0.11, 0.24)
        x = np.linspace(0, 1, s.samples(length))
        rough = s.tone(voice * (1 + 0.5 * np.sin(np.pi * x**0.6) - 0.3 * x), np.arange(1, 40) ** -0.7)
        rough = rough * (1 + 0.5 * s.wander(90, length)) + 0.25 * s.noise(length)
        return s.resonate(rough, [650 * mouth, 1300 * mouth, 2700 * mouth], [250, 350, 500]) * s.hump(length, 0.25)

    return s.repeat(bark, (1.7, 3.2), 0.2)


def _speech(s: Synth, voice: float, mouth: float) -> Audio:
    """Syllables at `voice` Hz: a vowel, its formants scaled by `mouth`, some with a consonant's hiss."""

    def syllable() -> Audio:
        length = s.pick(0.12, 0.28)
        x = np.linspace(0, 1, s.samples(length))
        pitch = voice * s.pick(0.82, 1.22) * (1 + s.rng.uniform(-0.2, 0.15) * x)
        folds = s.tone(pitch, np.arange(1, 50) ** -1.1) + 0.02 * s.noise(length)
        centres = [mouth * f for f in _VOWELS[s.rng.integers(5)]]
        vowel = s.resonate(folds, centres, [90, 120, 180]) * s.hump(length)
        if s.rng.uniform() < 0.5:
            hiss = s.band(s.noise(0.07), s.pick(1500, 4500), 9000) * s.hump(0.07)
            s.place(vowel, hiss / np.abs(hiss).max(), 0.0, 0.3 * float(np.abs(vowel).max()))
        return vowel

    return s.repeat(syllable, (3, 5.5), 0.2, variants=8)


def man(s: Synth) -> Audio:
    """A man speaking vowels and hisses."""
    return _speech(s, s.pick(80, 150), s.rng.uniform(0.92, 1.05))


def woman(s: Synth) -> Audio:
    """A woman speaking vowels and hisses."""
    return _speech(s, s.pick(175, 280), s.rng.uniform(1.12, 1.25))


def baby(s: Synth) -> Audio:
    """Crying: long open vowels that rise and fall around 450 Hz, with breath between."""
    voice, mouth = s.pick(350, 560), s.rng.uniform(1.3, 1.6)

    def cry() -> Audio:
        length = s.pick(0.42, 0.6)
        x = np.linspace(0, 1, s.samples(length))
        pitch = (
            voice * (0.8 + 0.35 * np.sin(np.pi * x**0.7)) * (1 + 0.02 * np.sin(2 * np.pi * s.pick(5, 9) * x * length))
        )
        folds = s.tone(pitch, np.arange(1, 30) ** -0.6) * (1 + 0.25 * s.wander(60, length)) + 0.05 * s.noise(length)
        return s.resonate(folds, [900 * mouth, 1400 * mouth, 2900 * mouth], [200, 250, 400]) * s.hump(length, 0.2)

    return s.repeat(cry, (1.6, 1.9), 0.05)


def footsteps(s: Synth) -> Audio:
    """Heel, then sole: a thump and a scrape of grit, left and right by turns."""
    thump, grit, floor = s.pick(70, 200), s.pick(0.1, 1.0), s.pick(1500, 7000)

    def step() -> Audio:
        clip = np.zeros(s.samples(0.25))
        heel = s.modes(thump * np.array([1, 2.2, 3.7]) * s.pick(0.9, 1.1), [0.03, 0.02, 0.01], [1, 0.6, 0.4], 2e-3)
        scrape = s.band(s.noise(0.14), 400, floor) * s.hump(0.14, 0.5) * (1 + s.wander(60, 0.14))
        s.place(clip, heel / np.abs(heel).max(), 0.0)
        s.place(clip, scrape / np.abs(scrape).max(), s.rng.uniform(0.03, 0.08), grit)
        return clip

    return s.repeat(step, (1.7, 3.2), 0.04, variants=4)


def rain(s: Synth) -> Audio:
    """A steady bright hiss made of drops, the nearest ones heard singly."""
    hiss = s.band(s.noise(), s.pick(300, 1500), s.pick(6000, 16000))
    drops = [s.modes([s.pick(1500, 7000)], [s.pick(1e-3, 5e-3)], [1]) for _ in range(6)]
    return hiss / hiss.std() * (1 + 0.1 * s.wander(2)) + s.pick(0.5, 3) * s.scatter(drops, s.pick(60, 300), 0.7)


def wind(s: Synth) -> Audio:
    """Gusts: low noise that swells, and a hollow whistle that follows it."""
    gust = 0.6 + 0.4 * s.wander(s.pick(0.8, 2))
    low = s.band(s.noise(), 40, s.pick(200, 500)) * gust
    centre = s.pick(350, 1000)
    howl = sum(s.band(s.noise(), f * centre, 1.15 * f * centre) * np.clip(s.wander(1.5), 0, 1) for f in (0.8, 1, 1.3))
    return low / low.std() + s.pick(0.3, 1.2) * howl * gust / (howl.std() + 1e-9)


def surf(s: Synth) -> Audio:
    """Waves: dull noise that swells, breaks bright and runs out, each a second or two."""
    period, shift = s.rng.uniform(1.3, 2.6), s.rng.uniform()
    phase = np.arange(s.n) / s.rate / period + shift
    s.strikes += list((np.arange(1, int(phase[-1]) + 1) - shift + 0.35) * period)
    swell = np.interp(phase % 1, [0, 0.35, 0.45, 1], [0.15, 0.9, 1, 0.15])
    deep, foam = s.band(s.noise(), 40, s.pick(300, 900)), s.band(s.noise(), 800, s.pick(4000, 9000))
    return deep / deep.std() * (0.4 + 0.6 * swell) + s.pick(0.4, 1.2) * foam / foam.std() * swell**2


def bubbles(s: Synth) -> Audio:
    """Water bubbling: short tones that rise as each bubble nears the surface."""

    def bubble() -> Audio:
        ring, pitch = s.pick(0.012, 0.05), s.pick(350, 1800)
        t = np.arange(s.samples(5 * ring)) / s.rate
        return s.tone(pitch * (1 + s.pick(1, 8) * t), [1]) * s.decay(5 * ring, 2e-3, ring)

    return s.repeat(bubble, (8, 24), 0.5, variants=12) + s.pick(0.01, 0.1) * s.band(s.noise(), 200, 1500)


def fire(s: Synth) -> Audio:
    """A wood fire: sharp crackles of every strength over a low soft roar."""

    def crack() -> Audio:
        length = s.pick(2e-3, 0.02)
        return s.band(s.noise(length), s.pick(600, 2500), s.pick(4000, 12000)) * s.decay(length, 2e-4, length / 4)

    roar = s.band(s.noise(), 30, s.pick(150, 500)) * (1 + 0.4 * s.wander(3))
    crackle = s.scatter([crack() for _ in range(10)], s.pick(12, 60), 0.9)
    return crackle / np.abs(crackle).max() + s.pick(0.01, 0.06) * roar / roar.std()
