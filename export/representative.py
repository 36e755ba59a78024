"""Representative audio: what ranges are calibrated on, what fine-tuning hears, what the finished file is checked on."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from l3edge import audio, frontend
from l3edge.spec import Spec
from training import shards
from training.input import read, spread

from . import ExportError

Features = NDArray[np.float32]  # [n, frames_used, bins, 1], the input of a network
Signal = NDArray[np.float32]  # [n], mono, full scale 1.0, at the model's rate

GAIN = 30.0  # dB: representative audio is heard at random levels from this far below its own up to its own
PARITY_CLIPS = 24
PARITY_MACS = 2e12  # a minute or so, where a window is 10 GMAC
HOURS = 2.0  # of a split that are heard, at most: half a gigabyte at 16 kHz
LONGEST = 10  # seconds of a recording that are used
SUFFIXES = (".wav", ".flac", ".ogg", ".mp3", ".aiff", ".aif")


def clips(data: Path, split: str, first: int | None = None, exclude: Collection[str] = ()) -> list[Signal]:
    """The audio of a split of shards, at the rate of the data: of its `first` records, or of HOURS evenly spread.

    exclude: of these, not those that have one of these labels: what a run was not to hear, its export does not either.
    """
    source = shards.open_data(data)
    files = source.split(split)
    count = sum(shard.records for shard in files)
    if first is None:
        all_records = sum(part["records"] for part in source.statistics["splits"].values())
        numbers = spread(count, math.ceil(HOURS * all_records / source.statistics["hours"]))
    else:
        numbers = np.arange(min(first, count))
    unwanted = {label.encode() for label in exclude}
    records = (shards.parse(record) for record in read(files, numbers))
    return [record["audio"].numpy() for record in records if not unwanted & set(record["labels"].numpy())]


def recordings(paths: Sequence[Path], sample_rate: int) -> list[Signal]:
    """Audio files, and all audio files in folders and theirs, in the order of their names; the first 10 s of each.

    Raises ExportError where a folder holds none, l3edge.AudioError where a file cannot be read.
    """
    signals = []
    for path in paths:
        files = [path]
        if path.is_dir():
            files = sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES)
            if not files:
                raise ExportError(f"{path} holds no audio; files are known by their suffix: {', '.join(SUFFIXES)}")
        signals += [recording(file, sample_rate) for file in files]
    return signals


def recording(path: Path, sample_rate: int) -> Signal:
    """The first 10 s of an audio file, mono, at this rate."""
    with audio.open_file(path) as file:
        samples = next(file.blocks(LONGEST * file.sample_rate), np.zeros((0, 1), np.float32))
        return audio.resample(audio.to_mono(samples).samples, file.sample_rate, sample_rate)


def balanced(*groups: Sequence[Signal]) -> list[Signal]:
    """The signals of all groups, each group as likely to be drawn from as another that is not empty."""
    most = max(len(group) for group in groups)
    return [group[i % len(group)] for group in groups if group for i in range(most)]


def representative(
    spec: Spec, signals: Sequence[Signal], batch: int, seed: int, affine: tuple[float, float] = (1.0, 0.0)
) -> Iterator[Features]:
    """Endless batches of the network's input for random windows at random levels, float32 [batch, frames, bins, 1].

    Each window is of a signal drawn at random, so a long recording counts no more than a short one.
    """
    rng = np.random.default_rng(seed)
    usable = [signal for signal in signals if len(signal) >= spec.window]
    if not usable:
        raise ExportError(f"no audio of at least {spec.window} samples at {spec.sample_rate} Hz to calibrate on")
    while True:
        chosen = []
        for _ in range(batch):
            signal = usable[rng.integers(len(usable))]
            begin = int(rng.integers(len(signal) - spec.window + 1))
            chosen.append(signal[begin : begin + spec.window] * 10 ** (rng.uniform(-GAIN, 0) / 20))
        yield features(spec, np.stack(chosen), affine)


def features(spec: Spec, windows: NDArray[Any], affine: tuple[float, float] = (1.0, 0.0)) -> Features:
    """[n, window] -> the network's input, float32 [n, frames_used, bins, 1]."""
    made: Features = frontend.features(windows.astype(np.float32), spec.front_end)
    if affine != (1.0, 0.0):
        made = made * np.float32(affine[0]) + np.float32(affine[1])
    return made[:, : spec.frames_used, :, None]


def parity_audio(
    spec: Spec, data: Path, paths: Sequence[Path], exclude: Collection[str] = ()
) -> tuple[list[Signal], dict[str, Any]]:
    """What the finished file is checked on: held-out audio of the run, and recordings that the user names.

    Returns the signals of at least a window, and what to say of them in the file.
    """
    held_out = clips(data, "test", PARITY_CLIPS, exclude)
    usable = [clip for clip in [*held_out, *recordings(paths, spec.sample_rate)] if len(clip) >= spec.window]
    if not usable:
        raise ExportError("no held-out audio of a window's length to check the export on; name some with --audio")
    return affordable(spec, usable), {"held_out_clips": len(held_out), "recordings": [path.name for path in paths]}


def affordable(spec: Spec, signals: Sequence[Signal]) -> list[Signal]:
    """As many of the signals, spread over all, and as much of each as can be checked in a minute or so."""
    windows = max(2, int(PARITY_MACS / spec.macs_per_window))
    count = min(len(signals), windows)
    chosen = [signals[i * len(signals) // count] for i in range(count)]
    return [signal[: spec.window + (windows // count - 1) * spec.hop] for signal in chosen]
