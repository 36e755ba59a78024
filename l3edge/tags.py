"""Tags: the names that some models give to what they hear, each with a score from 0 to 1.

A file names them in its `l3edge.json`, under `tags`, in the order of the scores that its signature `tags` gives:

    names       list of str, for people, such as AudioSet's "Dog"; unique
    source      str, whose tags they are, and who taught them
    agreement   a table for each name, what was measured of it, such as {"average_precision": 0.93, "windows": 120}
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .arrays import NDArray
from .errors import ModelFileError, OptionError

MOST_TAGS = 1024
LONGEST_NAME = 80  # characters
MOST_FIGURES = 16  # of a tag
LARGEST_FIGURE = 1e15  # beyond which none has a meaning
LEAST_SCORE = 0.1  # of a tag that is written to lines
TEXT_TAGS = 3  # in a line of text, and in the live view

Tag = tuple[str, float]  # name, score


def names_in(tags: object) -> list[str]:
    """The names in what an untrusted file says of its tags, None where it has none; ModelFileError if that is wrong."""
    return named(tags, "tags", "names", "agreement")


def labels_in(head: object) -> list[str]:
    """The labels in what an untrusted file says of its head, none where it is None; ModelFileError if that is wrong."""
    labels = named(head, "head", "labels", "figures")
    if isinstance(head, dict) and not are_figures(head.get("overall")):
        raise ModelFileError("head.overall must be a table of numbers")
    return labels


def named(said: object, what: str, names_key: str, figures_key: str) -> list[str]:
    """The names of scores in an untrusted object that has names, a source, and a table of figures for each name.

    None has no names; ModelFileError, which calls the object `what`, where it is another.
    """
    if said is None:
        return []
    if not isinstance(said, dict):
        raise ModelFileError(f"{what} must be a JSON object")
    names: Any = said.get(names_key)
    figures = said.get(figures_key)
    if not are_names(names):
        raise ModelFileError(
            f"{what}.{names_key} must be 1 to {MOST_TAGS} strings, each of 1 to {LONGEST_NAME} printable characters"
        )
    if len(set(names)) < len(names):
        raise ModelFileError(f"{what}.{names_key} has a name twice")
    if not isinstance(said.get("source"), str):
        raise ModelFileError(f"{what}.source must be a string")
    if not isinstance(figures, list) or len(figures) != len(names) or not all(map(are_figures, figures)):
        raise ModelFileError(
            f"{what}.{figures_key} must be a table of numbers for each of its {len(names)} {names_key}"
        )
    return list(names)


def are_names(names: object) -> bool:
    """Whether that is a list of 1 to MOST_TAGS strings that can be shown, none of them long."""
    return isinstance(names, list) and 1 <= len(names) <= MOST_TAGS and all(map(_is_name, names))


def _is_name(name: object) -> bool:
    return isinstance(name, str) and 0 < len(name) <= LONGEST_NAME and name.isprintable() and name == name.strip()


def are_figures(figures: object) -> bool:
    """Whether that is a table of a few numbers with names that can be shown."""
    return (
        isinstance(figures, dict)
        and len(figures) <= MOST_FIGURES
        and all(map(_is_name, figures))
        and all(
            type(value) in (int, float) and -LARGEST_FIGURE <= value <= LARGEST_FIGURE for value in figures.values()
        )
    )


def checked_embeddings(embeddings: Any, size: int) -> NDArray[np.float32]:
    """What is to be named, float32 [size] or [k, size]; OptionError for anything else."""
    try:
        values = np.asarray(embeddings, np.float32)
    except (TypeError, ValueError) as error:
        raise OptionError(f"embeddings must be numbers, float32 [{size}] or [k, {size}]: {error}") from error
    if values.ndim not in (1, 2) or values.shape[-1] != size:
        raise OptionError(f"embeddings must have the shape [{size}] or [k, {size}], got {list(values.shape)}")
    return values


def strongest(
    names: Sequence[str], scores: NDArray[Any], *, least: float = 0.0, most: int | None = None
) -> list[tuple[str, np.float32]]:
    """(name, score) of the tags with at least a score, the highest first, of equals the first named; `most` of them."""
    order = np.argsort(-scores, kind="stable")[:most]
    return [(names[i], scores[i]) for i in order if scores[i] >= least]


def in_words(tags: Sequence[tuple[str, Any]], room: int | None = None) -> str:
    """As "0.93 Dog  0.41 Speech"; as many as fit into `room` characters, of a first one that does not its beginning."""
    parts = [f"{score:.2f} {name}" for name, score in tags]
    while room is not None and len(parts) > 1 and len("  ".join(parts)) > room:
        parts.pop()
    return "  ".join(parts)[:room]
