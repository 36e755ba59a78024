"""A model file that says everything about itself.

A `.tflite` flatbuffer with a zip archive appended, which interpreters ignore and `zipfile` reads. Its member
`l3edge.json` is one JSON object:

    format        int, version of this layout
    name          str, for people, such as "edge-m-1"
    spec          the numbers of `l3edge.spec.Spec`
    recipe        str, how it was quantised: "float32", "int8_ptq", "int8_qat"
    parity        what export measured when it checked the file
    provenance    where the weights come from: run, commit, data, licence

The file name is for people and never parsed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import ModelFileError
from .spec import Spec

FORMAT = 1
MEMBER = "l3edge.json"
MOST_METADATA = 1 << 20  # bytes; a real one has a few thousand

# From format n to n + 1, one function a row, applied in turn to what an older l3edge wrote.
UPGRADES: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {}


@dataclass(frozen=True)
class ModelFile:
    """A model file whose metadata was read and checked; its tensors are checked when an engine opens it."""

    path: Path
    metadata: dict[str, Any]
    spec: Spec

    @property
    def name(self) -> str:
        """The model's name for people."""
        return str(self.metadata["name"])

    def sha256(self) -> str:
        """Digest of the whole file, hexadecimal: the model's identity."""
        return hashlib.sha256(self.path.read_bytes()).hexdigest()


def read(path: str | os.PathLike[str]) -> ModelFile:
    """Read and check a model file; ModelFileError says what is wrong with it."""
    path = Path(path)
    try:
        with path.open("rb") as file:
            magic = file.read(8)[4:]
    except OSError as error:
        raise ModelFileError(f"{path}: cannot be read ({error.strerror})") from error
    if magic != b"TFL3":
        raise ModelFileError(f"{path}: not a TFLite model (a .tflite flatbuffer has TFL3 in bytes 4 to 8)")
    metadata = _upgrade(_metadata(path), path)
    for key, kind in (("name", str), ("spec", dict), ("recipe", str), ("parity", dict), ("provenance", dict)):
        if not isinstance(metadata.get(key), kind):
            raise ModelFileError(f"{path}: {MEMBER} needs {key!r} as {kind.__name__}; export the model again")
    try:
        return ModelFile(path, metadata, Spec.from_json(metadata["spec"]))
    except ModelFileError as error:
        raise ModelFileError(f"{path}: {error}") from error


def _metadata(path: Path) -> dict[str, Any]:
    try:
        with zipfile.ZipFile(path) as archive, archive.open(MEMBER) as member:
            text = member.read(MOST_METADATA + 1)
    except (zipfile.BadZipFile, KeyError) as error:
        raise ModelFileError(
            f"{path}: no {MEMBER} inside, so not an l3edge model or a truncated one; "
            "`python -m export` writes it into every model it makes"
        ) from error
    except (OSError, EOFError, NotImplementedError, RuntimeError, ValueError, zlib.error) as error:
        raise ModelFileError(f"{path}: {MEMBER} inside is damaged ({error})") from error
    if len(text) > MOST_METADATA:
        raise ModelFileError(f"{path}: {MEMBER} inside is larger than {MOST_METADATA} bytes")
    try:
        metadata = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ModelFileError(f"{path}: {MEMBER} inside is not JSON ({error})") from error
    if not isinstance(metadata, dict):
        raise ModelFileError(f"{path}: {MEMBER} inside is not a JSON object")
    return metadata


def _upgrade(metadata: dict[str, Any], path: Path) -> dict[str, Any]:
    version = metadata.get("format")
    if type(version) is not int or version < 1:
        raise ModelFileError(f"{path}: {MEMBER} has no format version")
    if version > FORMAT:
        raise ModelFileError(
            f"{path}: written in model format {version}, this l3edge reads up to {FORMAT}; upgrade l3edge"
        )
    for older in range(version, FORMAT):
        metadata = UPGRADES[older](metadata)
    return metadata


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A new file beside `path`, empty, to be filled: it takes that name when the block ends, or is removed on error."""
    part = path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")
    part.touch(0o644, exist_ok=False)  # less the umask; mkstemp's 0600 would surprise whoever copies it to a device
    try:
        yield part
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def write(path: str | os.PathLike[str], flatbuffer: bytes, metadata: dict[str, Any]) -> None:
    """Write a model file: complete under its name, or not at all.

    `metadata` is everything but the format version. The archive's time stamps are fixed: same input, same bytes.
    """
    path = Path(path)
    text = json.dumps({"format": FORMAT, **metadata}, indent=1, sort_keys=True) + "\n"
    with replacing(path) as part:
        part.write_bytes(flatbuffer)
        with zipfile.ZipFile(part, "a", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(zipfile.ZipInfo(MEMBER), text, zipfile.ZIP_DEFLATED)
