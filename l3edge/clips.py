"""Clips that are learned from: which there are, what their windows sound like, and which of these are worth it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import audio
from .display import dbfs
from .errors import AudioError, OptionError
from .folders import audio_files, printable, visible_files
from .heads import BACKGROUND
from .learning import Windows
from .model import Model
from .tags import are_names

SILENCE = -90.0  # dBFS, root mean square of a window: below it there is nothing but the last bit of 16
MOST_SECONDS = 600.0  # of a clip that are learned from
MOST_WINDOWS = 2500  # that are learned from: neighbours share nine tenths of their sound, and more teach no more
OF_A_CLIP = (10, 50)  # of these at least, and at most


class Clip(NamedTuple):
    """A clip that was heard."""

    label: str
    path: Path
    embeddings: NDArray[np.float32]  # [n, d]
    levels: NDArray[np.float64]  # [n], dBFS of each window


def labelled(folder: Path) -> list[tuple[str, Path]]:
    """The audio files of each label, in the order of labels and paths; OptionError where a label cannot be one."""
    found = [(path.relative_to(folder).parts, path) for path in audio_files(folder)]
    made = sorted((parts[0], path) for parts, path in found if len(parts) > 1)
    labels = {label for label, _ in made}
    for each in sorted(folder.iterdir()):
        if each.is_dir() and each.name not in labels and not each.name.startswith("."):
            print(f"l3edge: warning: {printable(each.name)}: {_without_audio(each)}", file=sys.stderr)
    if not made:
        raise AudioError(f"{folder}: no sub-folder has an audio file; there must be one for each label, with its clips")
    if not are_names(sorted(labels)):
        raise OptionError(f"{folder}: names of sub-folders are the labels, and must be short and printable")
    return made


def _without_audio(folder: Path) -> str:
    """Why a folder has no clips."""
    if folder.is_symlink():
        return "a link to a folder, which is not followed; make it a folder of links to files"
    others = [path.name for path in visible_files(folder)]
    if not others:
        return "an empty folder, which is no label"
    count = "1 other file" if len(others) == 1 else f"{len(others)} other files"
    example = f"{'' if len(others) == 1 else 'such as '}{printable(others[0])}"
    return f"no audio file that can be read ({count}, {example}); WAV, FLAC, OGG, MP3 and AIFF are read"


def embedded(model: Model, path: Path, hop: float) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Embeddings [n, d] of the beginning of a file, and the levels [n] of their windows in dBFS."""
    with audio.open_file(path) as file:
        stream = model.stream(file.sample_rate, hop)
        parts, energy, left = [], [0.0], round(MOST_SECONDS * file.sample_rate)
        edges = [0.0]  # s, up to where the energy was summed
        for block in file.blocks(max(1, file.sample_rate // 10)):
            parts.append(stream.push(block[:left]))
            left -= len(block)
            energy.append(energy[-1] + float(np.mean(np.square(np.nan_to_num(block), dtype=np.float64))) * len(block))
            edges.append(stream.counts.samples / file.sample_rate)
            if left <= 0:
                break
        parts.append(stream.flush())
    embeddings, times = np.concatenate([e for e, _ in parts]), np.concatenate([t for _, t in parts])
    if not len(times):
        raise AudioError(f"{path}: no sound in it")
    half = model.spec.window / model.spec.sample_rate / 2
    power = (np.interp(times + half, edges, energy) - np.interp(times - half, edges, energy)) / file.sample_rate
    return embeddings, np.array([dbfs(each / (2 * half)) for each in power])


def gathered(clips: Sequence[Clip], labels: Sequence[str]) -> Windows:
    """Windows to learn from: none of digital silence, unless a label has nothing else; of long clips not all."""
    audible = {clip.label for clip in clips if clip.levels.max() > SILENCE}
    most = int(np.clip(MOST_WINDOWS // len(clips), *OF_A_CLIP))
    values, label, own = [], [], []
    for number, clip in enumerate(clips):
        wanted = np.flatnonzero(clip.levels > SILENCE) if clip.label in audible else np.arange(len(clip.levels))
        if clip.label in BACKGROUND and not len(wanted):
            wanted = np.arange(len(clip.levels))  # nothing is what is not to be labelled
        if not len(wanted):
            print(f"l3edge: warning: {clip.path}: digital silence, left out", file=sys.stderr)
        chosen = wanted[np.unique(np.linspace(0, len(wanted) - 1, min(most, len(wanted))).astype(int))]
        values.append(clip.embeddings[chosen])
        label.append(np.full(len(chosen), labels.index(clip.label)))
        own.append(np.full(len(chosen), number))
    return Windows(np.concatenate(values), np.concatenate(label), np.concatenate(own))
