"""Video files in a folder, and what an index.csv beside them says of them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from .cli import TrainingError
from .tables import read_rows

# fmt: off
EXTENSIONS = frozenset({
    ".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4",
    ".mpeg", ".mpg", ".mts", ".ogv", ".ts", ".vob", ".webm", ".wmv",
})
# fmt: on


def video_files(folder: Path) -> Iterator[tuple[str, Path]]:
    """Name relative to the folder, and absolute path, of all files below it with one of EXTENSIONS, not hidden.

    Links to folders are not followed. A folder below it that cannot be read is an error, not an empty one.
    """
    folder = folder.absolute()
    for directory, _, names in os.walk(folder, onerror=_raise):
        for name in sorted(names):
            path = Path(directory, name)
            if path.suffix.lower() in EXTENSIONS and not name.startswith(".") and path.is_file():
                yield path.relative_to(folder).as_posix(), path


def _raise(error: OSError) -> NoReturn:
    raise error


class Kinds:
    """The kinds of videos, from the columns `file` and `kind` of an index.csv beside them; optional.

    It is read as a manifest is (`tables`), but what is wrong with one is said on stderr, and no error: nobody may have
    meant it for us.
    """

    def __init__(self) -> None:
        self._tables: dict[Path, dict[str, tuple[str, ...]]] = {}

    def labels(self, video: Path) -> tuple[str, ...]:
        """Maybe none."""
        folder = video.parent
        if folder not in self._tables:
            self._tables[folder] = _read_index(folder / "index.csv")
        return self._tables[folder].get(video.name, ())


def _read_index(index: Path) -> dict[str, tuple[str, ...]]:
    try:
        return {row.path: row.labels for row in read_rows(index)} if index.is_file() else {}
    except TrainingError as error:
        print(f"warning: {error}; no kinds known from there", file=sys.stderr)
        return {}
