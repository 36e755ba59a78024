"""What is done to the clips of a corpus does what its parameters say."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

pytest.importorskip("av", reason="PyAV is not in the device environment")
pytest.importorskip("scipy", reason="SciPy is not in the device environment")

from training import codecs, degrade

RATE = 16_000


def tone(hz: float, seconds: float = 2.0, peak: float = 0.5) -> degrade.Sound:
    return (peak * np.sin(2 * np.pi * hz * np.arange(round(seconds * RATE)) / RATE)).astype(np.float32)


def done(sound: degrade.Sound, name: str, /, **parameters: Any) -> degrade.Sound:
    result = degrade.apply(sound, RATE, [(name, parameters)], np.random.default_rng(0))
    assert result.shape == sound.shape
    assert result.dtype == np.float32
    return result


def gain(hz: float, name: str, /, **parameters: Any) -> float:
    """dB, of a tone, its beginning and end left out."""
    before = tone(hz)
    after = done(before, name, **parameters)
    middle = slice(RATE // 2, -RATE // 2)
    return float(10 * np.log10(np.mean(after[middle] ** 2) / np.mean(before[middle] ** 2)))


def test_half_stays_clean_and_levels_span_40_db() -> None:
    rng = np.random.default_rng(1)
    drawn = [degrade.draw(rng) for _ in range(3000)]
    names = Counter(name for steps in drawn for name, _ in steps)
    assert set(names) == {
        "room", "equaliser", "noise", "band", "resample", "clipping", "codec", "level", "silence",
    }  # fmt: skip
    clean = np.mean([[name for name, _ in steps] == ["level"] for steps in drawn])
    assert 0.46 < clean < 0.53
    levels = [steps[-1][1]["db"] for steps in drawn if steps[-1][0] == "level"]
    assert np.allclose(np.quantile(levels, [0, 0.25, 0.5, 0.75, 1]), [-40, -30, -20, -10, 0], atol=1.5)


def test_telephone_band() -> None:
    assert gain(1000, "band", low=300, high=3400) == pytest.approx(0, abs=0.5)
    assert gain(100, "band", low=300, high=3400) < -20
    assert gain(6000, "band", low=300, high=3400) < -15
    assert gain(6000, "band", low=300, high=None) == pytest.approx(0, abs=0.5)
    assert gain(100, "band", low=None, high=2000) == pytest.approx(0, abs=0.5)


def test_equaliser() -> None:
    assert gain(4000, "equaliser", tilt=3.0, peaks=[]) == pytest.approx(6, abs=0.3)
    assert gain(250, "equaliser", tilt=3.0, peaks=[]) == pytest.approx(-6, abs=0.3)
    peaks = [[2000, -12.0, 0.5]]
    assert gain(2000, "equaliser", tilt=0.0, peaks=peaks) == pytest.approx(-12, abs=0.3)
    assert gain(500, "equaliser", tilt=0.0, peaks=peaks) == pytest.approx(0, abs=0.3)


def test_sample_rate_of_8_khz_leaves_nothing_above_4() -> None:
    assert gain(5000, "resample", through=8000) < -60
    assert gain(2000, "resample", through=8000) == pytest.approx(0, abs=0.2)


@pytest.mark.parametrize("colour", ["white", "pink", "brown", "hum"])
def test_noise_is_at_its_distance(colour: str) -> None:
    sound = tone(1000)
    noise = done(sound, "noise", colour=colour, snr_db=12.0) - sound
    assert 10 * np.log10(np.mean(sound**2) / np.mean(noise**2)) == pytest.approx(12, abs=0.2)


def test_noise_has_its_colour() -> None:
    def slope(colour: str) -> float:  # dB an octave, between 100 Hz to 800 Hz and 800 Hz to 6400 Hz
        sound = tone(1000, 5, 1e-9)
        power = np.abs(np.fft.rfft(done(sound, "noise", colour=colour, snr_db=-60.0))) ** 2
        hz = np.fft.rfftfreq(len(sound), 1 / RATE)
        low, high = (np.mean(power[(hz > edge) & (hz < 8 * edge)]) for edge in (100, 800))
        return float(10 * np.log10(high / low) / 3)

    assert slope("white") == pytest.approx(0, abs=0.3)
    assert slope("pink") == pytest.approx(-3, abs=0.3)
    assert slope("brown") == pytest.approx(-6, abs=0.5)


@pytest.mark.parametrize("rt60", [0.2, 0.5, 1.0])
def test_room_dies_away_in_its_time(rt60: float) -> None:
    """Schroeder's backward integral falls by 60 dB in `rt60`, so from -5 to -25 dB in a third of it."""
    click = np.zeros(2 * RATE, np.float32)
    click[0] = 1
    response = done(click, "room", rt60=rt60, wet_db=0.0)
    tail = response[round(0.04 * RATE) : round(rt60 * RATE)].astype(np.float64)  # after the early reflections
    left = 10 * np.log10(np.cumsum(tail[::-1] ** 2)[::-1] / np.sum(tail**2))
    fall = np.argmax(left < -25) - np.argmax(left < -5)
    assert 3 * fall / RATE == pytest.approx(rt60, rel=0.25)
    wet = np.sum(response[1:] ** 2) / response[0] ** 2
    assert 10 * np.log10(wet) == pytest.approx(0, abs=0.5)


def test_clipping_cuts_what_is_over() -> None:
    clipped = done(tone(440), "clipping", over_db=12.0)
    assert np.abs(clipped).max() == pytest.approx(0.5 * 10 ** (-12 / 20), rel=1e-3)
    assert np.mean(np.abs(clipped) > 0.999 * np.abs(clipped).max()) > 0.5


@pytest.mark.parametrize("db", [-40.0, -13.0, 0.0])
def test_level_is_of_the_peak(db: float) -> None:
    assert 20 * np.log10(np.abs(done(tone(440), "level", db=db)).max()) == pytest.approx(db, abs=0.01)


def test_silence() -> None:
    assert not done(tone(440), "silence", db=None).any()
    hiss = done(tone(440), "silence", db=-70.0)
    assert 20 * np.log10(np.std(hiss)) == pytest.approx(-70, abs=0.3)


def test_silence_in_stays_silence() -> None:
    silence = np.zeros(RATE, np.float32)
    rng = np.random.default_rng(3)
    for _ in range(40):
        steps = degrade.draw(rng)
        if steps[0][0] != "silence" and "codec" not in dict(steps):
            assert not degrade.apply(silence, RATE, steps, rng).any()


def test_codecs_keep_time_length_and_pitch() -> None:
    found = {codec.name for codec in codecs.available()}
    assert {"mp3", "aac", "mulaw", "g722", "adpcm"} <= found  # in every wheel of PyAV
    sound = tone(1000)
    sound[:RATE] = 0  # the tone begins in the middle
    for codec in codecs.available():
        for at in codec.rates:
            for bit_rate in codec.bit_rates:
                heard = done(sound, "codec", name=codec.name, at=at, bit_rate=bit_rate)
                spectrum = np.abs(np.fft.rfft(heard[-RATE // 2 :]))
                assert abs(int(spectrum.argmax()) * 2 - 1000) <= 10, codec
                begins = np.argmax(np.abs(heard) > 0.1) / RATE
                assert begins == pytest.approx(1, abs=0.15), codec
                assert np.array_equal(heard, done(sound, "codec", name=codec.name, at=at, bit_rate=bit_rate)), codec


def test_level_of_a_sound_with_pauses_is_that_of_its_sound() -> None:
    sound = tone(440)
    sound[:RATE] = 0
    assert degrade.level(sound, RATE) == pytest.approx(0.5 / np.sqrt(2), rel=0.02)
    assert degrade.level(np.zeros(100, np.float32), RATE) == 0
