"""Where the sound of a corpus comes from: recordings found on this machine, and sounds that are rendered for it.

A recording is an `Item`: its name begins with its source, its labels are the source and what is known of it, and its
group is whatever must not be in two splits. ESC-10's have their fold among the labels, and so has any file that is
named as ESC-50 names its clips.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import datasets, rendered
from .cli import TrainingError
from .datasets import ESC10
from .manifest import Item
from .synthesize import kind_of, synthesize_audio

BUILT_IN = {"esc10": 0.4, "synthesiser": 0.15, "espeak": 0.1, "fsdd": 0.05, "librosa": 0.1, "fluidsynth": 0.2}
OWN = 0.2  # share of each SOURCE of the user's
DATA = ESC10.parent  # where published sets are looked for
_NON_COMMERCIAL = re.compile(r"non[- ]?commercial|by[- ]nc", re.IGNORECASE)
FOLDS = (1, 2, 3)  # of ESC-10; nothing in this project was tried or chosen on 4 and 5

_MOST = {"synthesiser": 1000, "espeak": 400, "fluidsynth": 300}  # that are rendered; clips differ by what is done
_TAKE = 5.0  # s of a synthesised sound
_BLOCK = 5  # takes of a speaker's digits that are one recording
_PAUSE = (0.05, 0.6)  # s between digits
_ESC50 = re.compile(r"([1-5])-(\d+)-[A-Z](-\d+)?\.\w+")
_SUFFIXES = (".wav", ".flac", ".ogg", ".oga", ".mp3", ".aif", ".aiff", ".au", ".caf", ".m4a", ".aac", ".opus", ".wma")
_LICENCES = {
    "esc10": "Freesound clips of ESC-10 (Piczak 2015), CC BY 3.0; authors in its ATTRIBUTION.csv",
    "librosa": "librosa's example recordings: public domain, CC BY 3.0 and 4.0; one .txt beside each",
    "fsdd": "Free Spoken Digit Dataset (Jackson et al.), CC BY-SA 4.0",
    "synthesiser": "made by this project's own code",
    "espeak": "spoken by espeak-ng (GPL 3, which its output is not under), words chosen by this project",
    "fluidsynth": "notes by this project, played by fluidsynth with FluidR3_GM.sf2 (Frank Wen, MIT licence)",
}


class Source(NamedTuple):
    """One kind of sound, and what there is of it."""

    name: str
    items: list[Item]  # without a split
    licence: str
    missing: str  # why there is nothing, and how to get it; else empty


def find(data: Path, own: Sequence[Path], shares: dict[str, float], clips: int, seed: int) -> list[Source]:
    """All sources with a share, in order. Raises TrainingError for a SOURCE that is none."""
    finders = {"esc10": _esc10, "librosa": _librosa, "fsdd": _fsdd}
    total, sources = sum(shares.values()), []
    for name in BUILT_IN:
        if not shares[name]:
            continue
        if name in finders:
            items = finders[name](data / name)
            missing = "" if items else f"nothing in {data / name}: set L3EDGE_DATA, or --data, to what holds {name}"
        else:
            program = {"espeak": rendered.SPEAKER, "fluidsynth": rendered.PLAYER}.get(name)
            missing = rendered.missing(program) if program else ""
            wanted = min(_MOST[name], max(8, round(clips * shares[name] / total)))
            items = [] if missing else [_rendered(name, seed, number) for number in range(wanted)]
        sources.append(Source(name, items, _LICENCES[name], missing))
    for path in own:
        name = own_name(path)
        if shares[name]:
            sources.append(Source(name, _own(path, name), "the user's own", ""))
    return sources


def own_name(path: Path) -> str:
    """What --share calls a SOURCE of the user's."""
    return path.resolve().stem if path.is_file() else path.resolve().name


def check_names(own: Sequence[Path]) -> None:
    """Raises TrainingError unless each SOURCE is there and has a name of its own."""
    for path in own:
        if not path.exists():
            raise TrainingError(f"{path}: no such file or folder; SOURCE is an audio file, or a folder of such")
    names = Counter([*BUILT_IN, *map(own_name, own)])
    for path in own:
        if names[own_name(path)] > 1:
            raise TrainingError(
                f"{path}: another source is called {own_name(path)} too; give it under another name (built in are "
                f"{', '.join(BUILT_IN)})"
            )


def fold_of(labels: Sequence[str]) -> str:
    """ "fold-1", "fold-2" or "fold-3" of a recording's labels; empty where it is of none."""
    return next((label for label in labels if label.startswith("fold-")), "")


def decode(item: Item, rate: int) -> NDArray[np.float32]:
    """A recording's sound at `rate` Hz, mono, float32 [n]. Raises an Error of l3edge's where there is none."""
    source, number = item.name.split("/", 1)[0], item.path.rsplit("/", 1)[-1]
    if item.path.startswith(f"{source}://"):
        seed = int(item.path.split("/")[2])
        if source == "espeak":
            return rendered.speech(seed, int(number), rate)
        if source == "fluidsynth":
            return rendered.music(seed, int(number), rate)
        take = int(number)
        return synthesize_audio(kind_of(take, seed), np.random.default_rng([seed, take]), _TAKE, rate)
    if source == "fsdd":
        return _digits(item, rate)
    return _load(Path(item.path), rate)


def _load(path: Path, rate: int) -> NDArray[np.float32]:
    return datasets.load(datasets.Clip(path.name, path, "", 0, ""), rate)


def _rendered(name: str, seed: int, number: int) -> Item:
    if name == "synthesiser":
        label = kind_of(number, seed)
    else:
        label = rendered.language(seed, number) if name == "espeak" else rendered.style(number)
    return _item(f"{name}/{number:05d}", f"{name}://{seed}/{number}", (name, label))


def _item(name: str, path: str, labels: tuple[str, ...], group: str = "") -> Item:
    return Item(name, path, None, None, labels, group or name)


def _esc10(folder: Path) -> list[Item]:
    if not folder.is_dir():
        return []
    return [
        _item(
            f"esc10/{clip.name}",
            str(clip.path),
            ("esc10", f"fold-{clip.fold}", clip.label),
            f"esc10/{clip.group}",
        )
        for clip in datasets.read(folder, FOLDS)
    ]


def _librosa(folder: Path) -> list[Item]:
    # What may not be used commercially is left out, and what does not say: a model that learned from it could not be
    # given away freely.
    return [
        _item(f"librosa/{path.stem}", str(path), ("librosa",))
        for path in sorted(folder.glob("*.ogg"))
        if (text := _text_beside(path)) and not _NON_COMMERCIAL.search(text)
    ]


def _text_beside(path: Path) -> str:
    text = path.with_name(f"{path.stem.removesuffix('.hq')}.txt")
    return text.read_text(encoding="utf-8", errors="replace") if text.is_file() else ""


def _fsdd(folder: Path) -> list[Item]:
    """The digits that a speaker said in `_BLOCK` takes are one recording: no take is in two splits."""
    found = [re.fullmatch(r"\d_(\w+?)_(\d+)\.wav", path.name) for path in folder.glob("*.wav")]
    blocks = sorted({(match[1], int(match[2]) // _BLOCK) for match in found if match})
    return [_item(f"fsdd/{speaker}/{block:02d}", str(folder), ("fsdd", speaker)) for speaker, block in blocks]


def _digits(item: Item, rate: int) -> NDArray[np.float32]:
    """A block's digits in random order, strung together with pauses."""
    _, speaker, block = item.name.split("/")
    takes = range(int(block) * _BLOCK, (int(block) + 1) * _BLOCK)
    paths = sorted(path for take in takes for path in Path(item.path).glob(f"?_{speaker}_{take}.wav"))
    if not paths:
        raise TrainingError(f"{item.path}: no digits of {speaker} any more")
    rng = np.random.default_rng(int(block))
    parts: list[NDArray[Any]] = []
    for place in rng.permutation(len(paths)):
        parts += [_load(paths[place], rate), np.zeros(round(rng.uniform(*_PAUSE) * rate), np.float32)]
    return np.concatenate(parts)


def _own(path: Path, name: str) -> list[Item]:
    """An audio file, or all below a folder. Raises TrainingError where there is none, or one is held out."""
    if path.is_file():
        files = [(path.name, path)]
    else:
        found = (Path(folder, file) for folder, _, names in os.walk(path) for file in names)
        files = sorted((f.relative_to(path).as_posix(), f) for f in found if f.suffix.lower() in _SUFFIXES)
        if not files:
            raise TrainingError(f"{path} holds no audio; files are known by their suffix: {', '.join(_SUFFIXES)}")
    items = []
    for inner, file in files:
        esc50 = _ESC50.fullmatch(file.name)
        if esc50 and int(esc50[1]) not in FOLDS:
            raise TrainingError(f"{file} is of ESC-50's folds 4 and 5, which this project's development holds out")
        fold = (f"fold-{esc50[1]}",) if esc50 else ()
        folder = () if file.parent.resolve() == path.resolve() or path.is_file() else (file.parent.name,)
        group = f"esc10/{esc50[1]}-{esc50[2]}" if esc50 else ""
        items.append(_item(f"{name}/{inner}", str(file), (name, *fold, *folder), group))
    return items
