"""Files by local path, or by URL (gs://, s3://, hdfs://), which Apache Beam's FileSystems open.

Local paths never go through Beam: its FileSystems take [ and * in a path for a pattern.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO, cast

from .cli import TrainingError
from .manifest import is_url


def _filesystems() -> Any:
    from apache_beam.io.filesystems import FileSystems

    return FileSystems


def check(url: str) -> None:
    """Raises TrainingError where Beam has no file system for a URL."""
    try:
        _filesystems().get_filesystem(url)
    except ValueError as error:
        raise TrainingError(f"{url}: {error}") from error


def join(directory: str, *names: str) -> str:
    return "/".join((directory.rstrip("/"), *names)) if is_url(directory) else str(Path(directory, *names))


def open_(path: str) -> BinaryIO:
    """To read; seekable. Raises OSError or Beam's BeamIOError."""
    if not is_url(path):
        return Path(path).open("rb")
    from apache_beam.io.filesystem import CompressionTypes

    return cast(BinaryIO, _filesystems().open(path, compression_type=CompressionTypes.UNCOMPRESSED))


def read(path: str) -> bytes:
    with open_(path) as file:
        return file.read()


def fetch(path: str, target: Path) -> None:
    """Copy to a local file."""
    with open_(path) as source, target.open("wb") as file:
        shutil.copyfileobj(source, file, 1 << 20)


def exists(path: str) -> bool:
    return bool(_filesystems().exists(path)) if is_url(path) else Path(path).exists()


def files(directory: str) -> dict[str, int]:
    """Name -> bytes of the files directly in a directory, which need not exist."""
    if is_url(directory):
        try:
            (found,) = _filesystems().match([join(directory, "*")])
        except OSError:
            if exists(directory):
                raise
            return {}
        return {entry.path.rsplit("/", 1)[1]: entry.size_in_bytes for entry in found.metadata_list}
    try:
        with os.scandir(directory) as entries:
            return {entry.name: entry.stat().st_size for entry in entries if entry.is_file()}
    except FileNotFoundError:
        return {}


def make_directory(directory: str) -> None:
    if not is_url(directory):
        Path(directory).mkdir(parents=True, exist_ok=True)
    elif not exists(directory):  # object stores have no folders, and may say so
        try:
            _filesystems().mkdirs(directory)
        except OSError as error:
            if not exists(directory):
                raise TrainingError(f"{directory} cannot be made: {error}") from error


def write(path: str, content: bytes) -> None:
    """A file as a whole or not at all."""
    part = _part(path)
    if is_url(path):
        with _create(part) as file:
            file.write(content)
    else:
        Path(part).write_bytes(content)
    _move(part, path)


def publish(source: Path, path: str) -> None:
    """Bring a local file to its place: there as a whole or not at all."""
    if not is_url(path):
        source.replace(path)
        return
    part = _part(path)
    with source.open("rb") as file, _create(part) as target:
        shutil.copyfileobj(file, target, 1 << 20)
    _move(part, path)


def _create(path: str) -> BinaryIO:
    from apache_beam.io.filesystem import CompressionTypes

    return cast(BinaryIO, _filesystems().create(path, compression_type=CompressionTypes.UNCOMPRESSED))


def _part(path: str) -> str:
    directory, name = path.rsplit("/", 1)
    return f"{directory}/.{name}.{secrets.token_hex(8)}.part"


def _move(part: str, path: str) -> None:
    if not is_url(path):
        Path(part).replace(path)
        return
    remove([path])  # HDFS does not rename onto a file
    _filesystems().rename([part], [path])


def remove(paths: Iterable[str]) -> None:
    """Those that exist."""
    for path in paths:
        if not is_url(path):
            Path(path).unlink(missing_ok=True)
        elif exists(path):
            _filesystems().delete([path])
