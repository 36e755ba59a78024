"""AudioSet (Gemmeke et al. 2017): its segment lists, its ontology, a folder of clips, and OpenL3's subsets of it.

Segment lists are the CSVs as published, of 10 s parts of YouTube videos (research.google.com/audioset/download.html):

    # Segments csv created Sun Mar  5 10:54:31 2017
    # num_ytids=22160, num_segs=22160, num_unique_labels=527, num_positive_labels=52882
    # YTID, start_seconds, end_seconds, positive_labels
    --4gqARaEJE, 0.000, 10.000, "/m/068hy,/m/07q6cd_,/m/0bt9lr,/m/0jbk"

Nobody may publish the clips, so everybody's are named differently. A clip's file says by its name what it holds:

    YTID.mp4                       the whole video, of which the part is taken (or, if told so, the part alone)
    YTID_30.mp4  YTID_30.000.mp4  YTID_000030.mp4  YTID_30000.mp4                    the part that starts at 30 s
    YTID_30_40.mp4  YTID_30.000_40.000.mp4  YTID_30000_40000.mp4                     the same

each with any of manifest.EXTENSIONS and maybe a Y in front, anywhere below the folder.
"""

from __future__ import annotations

import csv
import difflib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple, TextIO

from .cli import TrainingError
from .tables import Row, RowError, check_part, checked, seconds

# The two subsets of Cramer et al. 2019 (OpenL3), as the filters committed with its training code: marl/l3embedding on
# GitHub, resources/audioset_filters/ of commit 0431e37. "music" is audioset_filter_ots.csv: the 110 classes of
# instruments, singing and tools that "Objects that Sound" (Arandjelović & Zisserman 2018) calls AudioSet-Instruments; a
# clip is in it that bears one of these labels, descendants not followed. "environmental" is audioset_filter_urban.csv:
# 20 classes of people and city, with their descendants. That it is this file is inferred: it is the only other filter,
# and jobs/generate_samples_array_urban_train.sbatch writes its samples to AudioSetSamples_environmental. There is no
# third filter: "matched" content is the one of the two that a downstream task is of (environmental, for ESC-50).
_MUSIC = """
Accordion|Acoustic guitar|Alto saxophone|Bagpipes|Banjo|Bass (instrument role)|Bass drum|Bass guitar|Bassoon|Bell|
Bicycle bell|Bowed string instrument|Brass instrument|Bugle|Cello|Change ringing (campanology)|Chant|Child singing|
Chime|Choir|Church bell|Clarinet|Clavinet|Cornet|Cowbell|Crash cymbal|Cymbal|Dental drill, dentist's drill|Didgeridoo|
Double bass|Drill|Drum|Drum kit|Drum machine|Drum roll|Electric guitar|Electric piano|Electronic organ|Female singing|
Filing (rasp)|Flute|French horn|Glockenspiel|Gong|Guitar|Hammer|Hammond organ|Harmonica|Harp|Harpsichord|Hi-hat|
Jackhammer|Jingle bell|Keyboard (musical)|Male singing|Mallet percussion|Mandolin|Mantra|Maraca|Marimba, xylophone|
Mellotron|Musical ensemble|Musical instrument|Oboe|Orchestra|Organ|Percussion|Piano|Pizzicato|Plucked string instrument|
Power tool|Rapping|Rattle (instrument)|Rhodes piano|Rimshot|Sampler|Sanding|Sawing|Saxophone|
Scratching (performance technique)|Shofar|Singing|Singing bowl|Sitar|Snare drum|Soprano saxophone|
Steel guitar, slide guitar|Steelpan|String section|Strum|Synthesizer|Synthetic singing|Tabla|Tambourine|
Tapping (guitar technique)|Theremin|Timpani|Tools|Trombone|Trumpet|Tubular bells|Tuning fork|Ukulele|Vibraphone|
Violin, fiddle|Wind chime|Wind instrument, woodwind instrument|Wood block|Yodeling|Zither
"""
_ENVIRONMENTAL = """
Male speech, man speaking|Female speech, woman speaking|Child speech, kid speaking|Conversation|Babbling|Battle cry|
Laughter|Crying, sobbing|Finger snapping|Clapping|Human group actions|Vehicle|Engine|Siren|Gunshot, gunfire|Splinter|
Chop|Pump (liquid)|Basketball bounce|Bark
"""


def _names(table: str) -> tuple[str, ...]:
    return tuple(table.strip().replace("\n", "").split("|"))


# Name -> labels, and whether their descendants count. That training code never looks at the descendants: it compares
# the filter's class with itself (data/avc/subsets.py, `label_node = ontology.get_node_by_name(string)`), so if the
# published models were trained with the code as committed, their environmental subset bears one of the 20 labels
# itself. Here they count, as the filter file asks ("include_children: true").
SUBSETS: dict[str, tuple[tuple[str, ...], bool]] = {
    "music": (_names(_MUSIC), False),
    "environmental": (_names(_ENVIRONMENTAL), True),
}


class Ontology:
    """ontology.json: classes, each with an id ("mid"), a display name and children; a class may have two parents."""

    def __init__(self, path: Path) -> None:
        """Raises TrainingError where it is not one."""
        try:
            nodes = json.loads(path.read_text(encoding="utf-8"))
            self._names = {str(node["id"]): str(node["name"]) for node in nodes}
            self._children = {str(node["id"]): [str(child) for child in node["child_ids"]] for node in nodes}
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise TrainingError(
                f"{path} is not AudioSet's ontology.json, a list of objects with id, name and child_ids "
                f"({type(error).__name__}: {error}); it is at https://github.com/audioset/ontology"
            ) from None
        self._ids = {name: mid for mid, name in self._names.items()}

    def display_name(self, label: str) -> str:
        """Of a mid; anything else stays."""
        return self._names.get(label, label)

    def __contains__(self, label: str) -> bool:
        return label in self._names or label in self._ids

    @property
    def names(self) -> Iterable[str]:
        """All display names."""
        return self._ids.keys()

    def subtree(self, label: str) -> set[str]:
        """Display names of a class, given by display name or mid, and all its descendants."""
        found: set[str] = set()
        waiting = [self._ids.get(label, label)]
        while waiting:
            mid = waiting.pop()
            if mid not in found:
                found.add(mid)
                waiting.extend(self._children.get(mid, ()))
        return {self.display_name(mid) for mid in found}


def wanted(select: Iterable[str], present: Iterable[str], ontology: Ontology | None) -> set[str]:
    """The labels that --select means, of which an item must bear one. `present`: those that items bear.

    With an ontology: the names of SUBSETS, or a class and its descendants. Without one, or for a label that it does
    not know: the label itself. Raises TrainingError with the nearest names for one that nobody knows.
    """
    known = set(present)
    result: set[str] = set()
    for label in select:
        if ontology and label in SUBSETS:
            members, descend = SUBSETS[label]
            result.update(*(ontology.subtree(member) if descend else {member} for member in members))
        elif ontology and label in ontology:
            result.update(ontology.subtree(label))
        elif label in known:
            result.add(label)
        else:
            names = sorted({*known, *(ontology.names if ontology else ()), *(SUBSETS if ontology else ())})
            near = difflib.get_close_matches(label, names, 5, 0.5) or sorted(known)[:5]
            hint = f"did you mean {' or '.join(map(repr, near))}?" if near else "the items have no labels"
            if not ontology:
                hint += " (A class with its descendants, or a named selection, needs --ontology.)"
            raise TrainingError(f"--select {label}: no such label; {hint}")
    return result


def read_segments(path: Path) -> Iterator[Row]:
    """The rows of a segment list: the path is the YTID, the labels are mids. Raises TrainingError."""
    return checked(path, _fields, _segment)


def _fields(file: TextIO, path: Path) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(file, skipinitialspace=True)
    titled = False
    for fields in reader:
        if fields and fields[0].startswith("#"):
            titled = titled or fields[0].lstrip("# ").upper() == "YTID"
        elif fields and not titled:
            raise TrainingError(f"{path} begins with comments, but has no `# YTID, start_seconds, ...` as AudioSet's")
        elif fields:
            yield reader.line_num, fields


def _segment(line: int, fields: list[str]) -> Row:
    if len(fields) != 4:
        raise RowError(f"{len(fields)} fields; expected YTID, start_seconds, end_seconds, positive_labels")
    ytid, start, end = fields[0].strip(), seconds(fields[1].strip(), "start"), seconds(fields[2].strip(), "end")
    if not ytid or start is None or end is None:
        raise RowError("the YTID, the start or the end is empty")
    check_part(start, end)
    labels = tuple(dict.fromkeys(label.strip() for label in fields[3].split(",") if label.strip()))
    return Row(line, ytid, start, end, labels, group=ytid)


def _written(time: float) -> tuple[str, ...]:
    """A time as it is written in clips' names: 30, 30.000, 000030, 30000."""
    exact = f"{time:.3f}"
    short = exact.rstrip("0").rstrip(".")
    return short, exact, short.zfill(6), f"{time * 1000:.0f}"


class Clip(NamedTuple):
    """A file that holds a listed part."""

    name: str  # relative to the folder
    path: Path
    cut: bool  # it holds nothing else


class Clips:
    """The video files of a folder, by YTID and part."""

    def __init__(self, files: Iterable[tuple[str, Path]]) -> None:
        """`files`: name relative to the folder, and path, of each."""
        self._by_stem: dict[str, list[tuple[str, Path]]] = {}
        for name, path in files:
            self._by_stem.setdefault(path.stem, []).append((name, path))

    def find(self, row: Row) -> Clip | None:
        """The file of a listed part, the one cut to it before the whole; None if it is missing.

        Raises TrainingError if two files are the same clip.
        """
        starts, ends = _written(row.start or 0.0), _written(row.end or 0.0)
        parts = [f"_{start}{end}" for start, end in zip(starts, ends, strict=True) for end in (f"_{end}", "")]
        for part in (*parts, ""):
            for stem in (f"{row.path}{part}", f"Y{row.path}{part}"):
                if found := self._by_stem.get(stem):
                    if len(found) > 1:
                        raise TrainingError(f"two files are one clip: {found[0][0]} and {found[1][0]}; remove one")
                    return Clip(*found[0], bool(part))
        return None
