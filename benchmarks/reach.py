"""How far beyond a window the resampler's filter reaches, by rate (contract C2).

    python -m benchmarks.reach

At the model's own rate an embedding depends on its window alone. At another rate soxr's filter blends in a little of
what lies just outside. For each rate this changes everything after, then everything before, a random moment in
full-scale noise and finds the output sample farthest from that moment of which any bit changes.
"""

from __future__ import annotations

import argparse

import numpy as np

from l3edge import audio

RATES = (8_000, 11_025, 22_050, 32_000, 44_100, 48_000, 96_000)
TARGET = 16_000


def reach(rate: int, trials: int, seed: int = 0) -> float:
    """Seconds, the largest over so many random moments."""
    rng = np.random.default_rng(seed)
    farthest = 0.0
    for _ in range(trials):
        signal, other = rng.uniform(-1, 1, (2, 3 * rate)).astype(np.float32)
        moment = int(rng.integers(rate, 2 * rate))
        reference = audio.resample(signal, rate, TARGET)
        for changed in (slice(moment, None), slice(None, moment)):
            mixed = signal.copy()
            mixed[changed] = other[changed]
            differs = np.flatnonzero(audio.resample(mixed, rate, TARGET) != reference) / TARGET
            edge = moment / rate
            farthest = max(farthest, edge - differs[0] if changed.start is not None else differs[-1] - edge)
    return farthest


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reach", description=str(__doc__).split("\n")[0])
    parser.add_argument("--trials", type=int, default=40, help="random moments for each rate (default: %(default)s)")
    arguments = parser.parse_args()
    print("| input rate | reach beyond the window |\n|---|---|")
    for rate in RATES:
        print(f"| {rate} Hz | {1000 * reach(rate, arguments.trials):.0f} ms |", flush=True)


if __name__ == "__main__":
    main()
