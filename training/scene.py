"""One recording of several synthesised sounds after each other, for demonstration and tests.

python -m training.scene --output examples/scene.flac
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import soundfile

from .cli import run
from .synthesize import synthesize_audio

RATE = 16_000
SECONDS = 1.5  # of each sound
FADE = 0.05
ORDER = ("dog", "bell", "rain", "engine", "bird", "woman", "clock", "guitar")


def scene(seed: int) -> np.ndarray:
    """Float32 [n] at 16 kHz: the sounds of ORDER, each faded in and out, at -6 dB peak, over a little noise."""
    rng = np.random.default_rng(seed)
    fade = np.minimum(1, np.arange(int(SECONDS * RATE)) / (FADE * RATE))
    parts = []
    for kind in ORDER:
        # The second half of a longer take: what rings or swells is under way by then.
        sound = synthesize_audio(kind, rng, 2 * SECONDS, RATE)[-len(fade) :]
        parts.append(0.5 * sound / np.abs(sound).max() * fade * fade[::-1])
    mixed = np.concatenate(parts)
    return (mixed + rng.normal(0, 1e-3, len(mixed))).astype(np.float32)


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(prog="python -m training.scene", description=str(__doc__).split("\n")[0])
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="FLAC or WAV file to write")
    parser.add_argument("--seed", type=int, default=1, help="of the takes (default: %(default)s)")
    arguments = parser.parse_args()
    soundfile.write(arguments.output, scene(arguments.seed), RATE, subtype="PCM_16")


if __name__ == "__main__":
    run(main)
