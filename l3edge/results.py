"""Files that are complete or absent, and a recording of what is heard."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

from .backlog import Block
from .errors import Error
from .model_file import replacing

MOST_RECORDED = (1 << 32) - 4096  # bytes of samples: a WAV's sizes have 32 bits, and its header some hundred bytes
SILENCE = 1 << 14  # frames of a gap that are written at a time


@contextlib.contextmanager
def written(path: Path, text: bool = False) -> Iterator[IO[Any]]:
    """A file that appears under its name when it is complete, or not at all.

    What exists and is no regular file, such as /dev/null or a named pipe, is written to and never replaced.
    """
    path = path.resolve()  # a symbolic link stays one
    if path.exists() and not path.is_file():
        with path.open("w", encoding="utf-8", newline="\n") if text else path.open("wb") as special:
            yield special
        return
    if not path.parent.is_dir():
        raise Error(f"{path}: the folder {path.parent} does not exist")
    with replacing(path) as part, part.open("w", encoding="utf-8", newline="\n") if text else part.open("wb") as file:
        yield file


class RecordingError(Error):
    """The recording cannot go on; what was heard until then is in it."""


class Recorder:
    """Keeps what is heard as a float32 WAV, with silence where samples were lost, so that time stays right."""

    def __init__(self, path: Path, sample_rate: int, channels: int) -> None:
        try:
            import soundfile
        except (ImportError, OSError) as error:
            raise Error(f"recording needs the package soundfile ({error}); install it") from error
        self._path, self._channels, self._error = path, channels, soundfile.SoundFileError
        self._room = MOST_RECORDED // (4 * channels)  # frames
        with self._named():
            self._file = soundfile.SoundFile(str(path), "w", sample_rate, channels, subtype="FLOAT", format="WAV")

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except self._error as error:
            raise RecordingError(f"{self._path}: cannot be recorded to ({error})") from error

    def write(self, block: Block) -> None:
        """Append a block, or raise RecordingError and keep what there is."""
        self._room -= block.lost + len(block.samples)
        if self._room < 0:
            raise RecordingError(
                f"{self._path}: the recording is full, as a WAV file holds at most 4 GiB; what was heard before is kept"
            )
        with self._named():
            for begin in range(0, block.lost, SILENCE):
                self._file.write(np.zeros((min(SILENCE, block.lost - begin), self._channels), np.float32))
            self._file.write(block.samples)

    def close(self) -> None:
        """Complete the file."""
        with self._named():
            self._file.close()
