"""Clips of three sounds, as one would record them, and a recording in which two of them come up: SOUNDS PLAY.wav."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import soundfile

RATE = 48_000


def beep(random: np.random.Generator, seconds: float) -> np.ndarray:
    t = np.arange(round(RATE * seconds)) / RATE
    tone = np.sin(2 * np.pi * random.uniform(950, 1050) * t) * (t % 0.5 < 0.3)
    return 0.2 * tone + background(random, seconds)


def knock(random: np.random.Generator, seconds: float) -> np.ndarray:
    t = np.arange(round(RATE * seconds)) / RATE
    u = t % 0.4
    thump = np.exp(-40 * u) * np.sin(2 * np.pi * random.uniform(90, 130) * u) + 0.3 * np.exp(-120 * u) * random.normal(
        size=len(t)
    )
    return 0.4 * thump + background(random, seconds)


def background(random: np.random.Generator, seconds: float) -> np.ndarray:
    return random.uniform(0.0005, 0.002) * random.normal(size=round(RATE * seconds))


def main(folder: Path, play: Path) -> None:
    """Write eight clips of each sound, and a recording of 20 s."""
    random = np.random.default_rng(1)
    kinds = {"beep": beep, "knock": knock, "background": background}
    for label, sound in kinds.items():
        (folder / label).mkdir(parents=True, exist_ok=True)
        for number in range(8):
            soundfile.write(folder / label / f"{number}.wav", sound(random, 5.0), RATE)
    parts = [sound(random, 5.0) for sound in (background, beep, background, knock)]
    soundfile.write(play, np.concatenate(parts), RATE)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
