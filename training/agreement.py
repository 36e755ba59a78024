"""Which tags can be trusted: how a student's scores agree with its teacher's, on clips that it never heard.

A window has a tag where the teacher's score is at least `PRESENT`. Average precision says how well the student's scores
rank the windows that have it before those that have not; precision and recall are those at the same score.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .mixing import MIXED

if TYPE_CHECKING:
    from .lessons import Lessons

PRESENT = 0.5  # the teacher's score from which on a window has a tag
FEWEST_WINDOWS, FEWEST_GROUPS = 20, 4  # that have it: fewer say nothing
GOOD = 0.8  # average precision of a tag that can be trusted


class Agreement(NamedTuple):
    """Of one tag, on windows of clips that were never heard."""

    windows: int  # that have it
    groups: int  # recordings that these come from
    average_precision: float
    precision: float
    recall: float

    @property
    def good(self) -> bool:
        """Whether the tag can be trusted."""
        enough = self.windows >= FEWEST_WINDOWS and self.groups >= FEWEST_GROUPS
        return enough and self.average_precision >= GOOD


def measure(truth: NDArray[np.float32], scores: NDArray[np.float32], group: NDArray[np.int64]) -> dict[int, Agreement]:
    """By class, of the classes that any window has: teacher's and student's scores [n, classes], and group [n]."""
    from sklearn.metrics import average_precision_score

    found = {}
    for number in np.flatnonzero((truth >= PRESENT).any(axis=0)):
        present, said = truth[:, number] >= PRESENT, scores[:, number]
        positive = said >= PRESENT
        hits = float((positive & present).sum())
        found[int(number)] = Agreement(
            int(present.sum()),
            len(np.unique(group[present])),
            float(average_precision_score(present, said)),
            hits / max(1, int(positive.sum())),
            hits / max(1, int(present.sum())),
        )
    return found


class Unheard(NamedTuple):
    """Clips that a student never heard, and its scores for their windows."""

    lessons: Lessons
    clips: NDArray[np.int64]
    scores: NDArray[np.float32]  # [clips, k, classes]


def of_unheard(unheard: Sequence[Unheard]) -> dict[int, Agreement]:
    """On the windows of all of these but clips that are labelled as mixed: such a clip has sound of other recordings
    than the one it is grouped by, which are not counted, and which a rotation may have heard elsewhere.
    """
    truth, scores, groups = [], [], []
    for lessons, clips, said in unheard:
        alone = np.array([MIXED not in lessons.records[i]["labels"] for i in clips], bool)
        clips, said = clips[alone], said[alone]
        inside = lessons.inside[clips]
        truth.append(lessons.outputs["scores"][clips][inside].astype(np.float32))
        scores.append(said[inside])
        names = np.array([lessons.records[i]["group"] for i in clips])
        groups.append(np.repeat(names, inside.sum(axis=1)))
    group = np.unique(np.concatenate(groups), return_inverse=True)[1]
    return measure(np.concatenate(truth), np.concatenate(scores), group)


def selected(found: dict[int, Agreement], names: tuple[str, ...]) -> list[str]:
    """The names of the tags that can be trusted, best first."""
    good = [(each.average_precision, names[number]) for number, each in found.items() if each.good]
    return [name for _, name in sorted(good, key=lambda each: (-each[0], each[1]))]


def document(source: str, names: tuple[str, ...], found: dict[int, Agreement]) -> dict[str, Any]:
    """tags.json of a run: all classes in the order of the scores, what was measured, and which can be trusted."""
    return {
        "source": source,
        "names": list(names),
        "agreement": {names[number]: each._asdict() for number, each in found.items()},
        "selected": selected(found, names),
    }
