"""The audio files of a folder, and what people see while they are gone through."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from .display import Progress, Terminal
from .errors import AudioError
from .session import warnings_above

SUFFIXES = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".au", ".caf", ".w64")


def audio_files(folder: Path) -> Iterator[Path]:
    """Those under a folder at any depth, sorted; hidden ones and links to folders left out. AudioError if there is none
    such folder.
    """
    if not folder.is_dir():
        raise AudioError(f"{folder}: {'not a folder' if folder.exists() else 'no such folder'}")
    return (path for path in visible_files(folder) if path.name.lower().endswith(SUFFIXES))


def visible_files(folder: Path) -> Iterator[Path]:
    """All files under a folder at any depth, sorted; hidden ones and links to folders left out."""
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(parent, name) for name in sorted(files) if not name.startswith("."))


def printable(name: str) -> str:
    """A file's name in one line of text, with a question mark for what cannot be shown."""
    return "".join(each if each.isprintable() else "?" for each in os.fsencode(name).decode("utf-8", "replace"))


@contextlib.contextmanager
def bar(files: int) -> Iterator[Progress | None]:
    """A bar, where stderr is a terminal; warnings go above it."""
    terminal = Terminal(sys.stderr)
    progress = Progress(terminal, files) if terminal.moves else None
    with warnings_above(progress):
        try:
            yield progress
        finally:
            if progress:
                progress.clear()
