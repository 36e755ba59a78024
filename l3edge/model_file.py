"""A model file that says everything about itself, and is believed only where it can be checked.

A `.tflite` flatbuffer with a zip archive appended, which interpreters ignore and `zipfile` reads. Two members:

    l3edge.json           one JSON object, below
    l3edge.json.sha256    its SHA-256, as `sha256sum` writes it

    format        int, version of this layout
    name          str, for people, such as "edge-m-1"
    spec          the numbers of `l3edge.spec.Spec`
    recipe        str, how it was quantised, such as "int8_qat"
    target        "cpu", or "edgetpu": the network alone, log-mel in
    flatbuffer    {"bytes", "sha256"} of what comes before the archive
    signatures    each tensor that goes in or out: {name: {"inputs", "outputs"}}, see `l3edge.tensors`
    numbers       what a program needs that streams without this package, derived from the spec, see `numbers`
    labels        list of str, where the values of an embedding have names
    tags          names of the scores that signature `tags` gives to an embedding, where there are such: `l3edge.tags`
    head          labels of the scores that signature `head` gives, where there are such: `l3edge.heads`
    parity        what export measured when it checked the file
    provenance    where the weights come from: run, commit, data, licences

A file is untrusted: its size, digests, format, spec and tensors are checked, all before an interpreter sees it, and an
interpreter gets the very bytes that were checked. The digests find damage; who wants to know that a file is the one
that somebody published compares `ModelFile.sha256`. The file name is for people and never parsed.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from . import flatbuffer as tflite
from .errors import ModelFileError
from .spec import Spec
from .tags import labels_in, names_in
from .tensors import Signatures, check_tensors, signatures

FORMAT = 2
OLDEST = 2  # format 1 had no digests, and no release
MEMBER = "l3edge.json"
DIGEST = "l3edge.json.sha256"
MOST_METADATA = 1 << 20  # bytes; a real one has some ten thousand
MOST_BYTES = 1 << 30  # of a file
TARGETS = ("cpu", "edgetpu")

# From format n to n + 1, one function a row, applied in turn to what an older l3edge wrote.
UPGRADES: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {}

REQUIRED: dict[str, type] = {
    "name": str,
    "spec": dict,
    "recipe": str,
    "target": str,
    "flatbuffer": dict,
    "signatures": dict,
    "numbers": dict,
    "parity": dict,
    "provenance": dict,
}


class ModelFile(NamedTuple):
    """A model file that was read and checked."""

    path: Path
    metadata: dict[str, Any]
    spec: Spec
    flatbuffer: bytes  # for an interpreter
    sha256: str  # of the whole file, hexadecimal: the model's identity
    graph: tflite.Model

    @property
    def name(self) -> str:
        """The model's name for people."""
        return str(self.metadata["name"])

    @property
    def target(self) -> str:
        """What it was exported for: "cpu" or "edgetpu"."""
        return str(self.metadata["target"])

    @property
    def signatures(self) -> Signatures:
        """The tensors that go in and out, in the order of their subgraph."""
        made: Signatures = self.metadata["signatures"]
        return made

    @property
    def labels(self) -> list[str]:
        """Names of an embedding's values; empty where they have none."""
        return list(self.metadata.get("labels", []))

    @property
    def tags(self) -> dict[str, Any]:
        """What the file says of its tags, see `l3edge.tags`; empty where it has none."""
        return dict(self.metadata.get("tags") or {})

    @property
    def tag_names(self) -> list[str]:
        """Names of its tags, in the order of their scores; empty where it has none."""
        return list(self.tags.get("names", []))

    @property
    def head(self) -> dict[str, Any]:
        """What the file says of its head, see `l3edge.heads`; empty where it has none."""
        return dict(self.metadata.get("head") or {})

    @property
    def head_labels(self) -> list[str]:
        """Labels of its head, in the order of their scores; empty where it has none."""
        return list(self.head.get("labels", []))


def read(path: str | os.PathLike[str]) -> ModelFile:
    """Read and check a model file; ModelFileError says what is wrong with it."""
    path = Path(path)
    try:
        return _checked(path, _bytes(path))
    except ModelFileError as error:
        raise ModelFileError(f"{path}: {error}") from error


def _bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            # Not MOST_BYTES: a read takes all its room beforehand, and a small board has none for that.
            data = file.read(min(os.fstat(file.fileno()).st_size, MOST_BYTES) + 1)
    except OSError as error:
        raise ModelFileError(f"cannot be read ({error.strerror})") from error
    if data[4:8] != tflite.IDENTIFIER:
        raise ModelFileError("not a TFLite model (a .tflite flatbuffer has TFL3 in bytes 4 to 8)")
    if len(data) > MOST_BYTES:
        raise ModelFileError(f"larger than {MOST_BYTES} bytes")
    return data


def _checked(path: Path, data: bytes) -> ModelFile:
    metadata = _metadata(data)
    spec = Spec.from_json(metadata["spec"])
    flatbuffer, sha256 = _flatbuffer(metadata["flatbuffer"], data)
    graph = tflite.parse(flatbuffer)
    found = signatures(graph, metadata["signatures"])
    if found != metadata["signatures"]:
        wrong = [
            name for name in {*found, *metadata["signatures"]} if found.get(name) != metadata["signatures"].get(name)
        ]
        raise ModelFileError(
            f"its tensors contradict its {MEMBER}: signature(s) {str(sorted(wrong))[1:200].rstrip(']')}"
        )
    scores = {"tags": len(names_in(metadata.get("tags"))), "head": len(labels_in(metadata.get("head")))}
    if metadata["target"] != "cpu" and (having := [key for key, count in scores.items() if count]):
        raise ModelFileError(f"{having[0]} in a file for the {metadata['target']}, which holds the step alone")
    check_tensors(found, spec, metadata["target"], scores)
    labels = metadata.get("labels", [])
    if len(labels) not in (0, spec.embedding_size):
        raise ModelFileError(f"{len(labels)} labels for the {spec.embedding_size} values of an embedding")
    if metadata["numbers"] != numbers(spec):
        raise ModelFileError(f"numbers in {MEMBER} are {str(metadata['numbers'])[:200]}, its spec says {numbers(spec)}")
    return ModelFile(path, metadata, spec, flatbuffer, sha256, graph)


def _metadata(data: bytes) -> dict[str, Any]:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            text = _member(archive, MEMBER)
            digest = _member(archive, DIGEST) if DIGEST in archive.namelist() else None
    except (zipfile.BadZipFile, KeyError) as error:
        raise ModelFileError(
            f"no {MEMBER} inside that can be read, so not an l3edge model, or a truncated or damaged one; "
            "`python -m export` writes it into every model it makes"
        ) from error
    except (OSError, EOFError, NotImplementedError, OverflowError, RuntimeError, ValueError, zlib.error) as error:
        raise ModelFileError(f"the archive that holds {MEMBER} is damaged ({error})") from error
    if digest is not None and digest != _digest_line(text):
        raise ModelFileError(f"{MEMBER} inside is not what {DIGEST} says: the file is damaged; copy it again")
    try:
        metadata = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ModelFileError(f"{MEMBER} inside is not JSON ({error})") from error
    if not isinstance(metadata, dict):
        raise ModelFileError(f"{MEMBER} inside is not a JSON object")
    metadata = _upgraded(metadata)
    if digest is None:
        raise ModelFileError(f"no {DIGEST} inside; export the model again")
    for key, kind in REQUIRED.items():
        if not isinstance(metadata.get(key), kind):
            raise ModelFileError(f"{MEMBER} needs {key!r} as {kind.__name__}; export the model again")
    if metadata["target"] not in TARGETS:
        raise ModelFileError(f"target {metadata['target'][:80]!r} is unknown, expected one of {TARGETS}")
    labels = metadata.get("labels", [])
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise ModelFileError("labels must be a list of strings")
    return metadata


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    if archive.getinfo(name).compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ModelFileError(f"{name} inside is neither stored nor deflated: damaged, or made by another program")
    with archive.open(name) as member:
        text = member.read(MOST_METADATA + 1)  # a bomb is not inflated beyond this
    if len(text) > MOST_METADATA:
        raise ModelFileError(f"{name} inside is larger than {MOST_METADATA} bytes")
    return text


def _digest_line(text: bytes) -> bytes:
    return f"{hashlib.sha256(text).hexdigest()}  {MEMBER}\n".encode()


def _upgraded(metadata: dict[str, Any]) -> dict[str, Any]:
    version = metadata.get("format")
    if type(version) is not int or version < 1:
        raise ModelFileError(f"{MEMBER} has no format version")
    if version > FORMAT:
        raise ModelFileError(f"written in model format {version}, this l3edge reads up to {FORMAT}; upgrade l3edge")
    if version < OLDEST:
        raise ModelFileError(f"written in model format {version}, from before the first release; export it again")
    for older in range(version, FORMAT):
        metadata = UPGRADES[older](metadata)
    return metadata


def _flatbuffer(facts: dict[str, Any], data: bytes) -> tuple[bytes, str]:
    """What comes before the archive, and the digest of all."""
    size, sha256 = facts.get("bytes"), facts.get("sha256")
    if type(size) is not int or not 0 < size < len(data):
        raise ModelFileError(f"flatbuffer.bytes is {str(size)[:80]}, the file has {len(data)} bytes")
    flatbuffer = data[:size]
    digest = hashlib.sha256(flatbuffer)
    if digest.hexdigest() != sha256:
        raise ModelFileError(f"the flatbuffer is not the one that {MEMBER} names: the file is damaged; copy it again")
    digest.update(data[size:])  # the file begins with it: on a small core, each pass over a model takes its time
    return flatbuffer, digest.hexdigest()


def numbers(spec: Spec) -> dict[str, int]:
    """Hz; samples: window, hop, and of a window those that are seen; columns that a window's maximum is over; and where
    a step begins to read, in samples from the beginning of its hop (not of models that compute windows one by one).
    """
    made = {
        "sample_rate": spec.sample_rate,
        "window": spec.window,
        "hop": spec.hop,
        "samples_seen": spec.samples_seen,
        "embedding_size": spec.embedding_size,
    }
    return {**made, "columns": spec.results, "step_start": spec.step_start} if spec.streaming else made


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A new file beside `path`, empty, to be filled: it takes that name when the block ends, or is removed on error."""
    import secrets  # with whoever writes: it takes as long as a third of a model's load

    part = path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")
    part.touch(0o644, exist_ok=False)  # less the umask; mkstemp's 0600 would surprise whoever copies it to a device
    try:
        yield part
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def store_names(folder: Path) -> None:
    """Have the names stored that files of a folder have now, for a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write(path: str | os.PathLike[str], flatbuffer: bytes, metadata: dict[str, Any]) -> None:
    """Write a model file: complete under its name, or not at all. It is checked as `read` would.

    `metadata` is everything but `format`, `flatbuffer` and `numbers`; `signatures` too is read from the flatbuffer
    unless that has none. The archive's time stamps are fixed: same input, same bytes.
    """
    path = Path(path)
    graph = tflite.parse(flatbuffer)
    document = {
        "target": "cpu",
        **metadata,
        "format": FORMAT,
        "flatbuffer": {"bytes": len(flatbuffer), "sha256": hashlib.sha256(flatbuffer).hexdigest()},
        "signatures": signatures(graph, metadata.get("signatures")),
        "numbers": numbers(Spec.from_json(metadata.get("spec"))),
    }
    text = (json.dumps(document, indent=1, sort_keys=True) + "\n").encode()
    archived = io.BytesIO()
    archived.write(flatbuffer)
    with zipfile.ZipFile(archived, "a", zipfile.ZIP_DEFLATED) as archive:
        for name, content in ((MEMBER, text), (DIGEST, _digest_line(text))):
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    _checked(path, archived.getvalue())
    with replacing(path) as part:
        part.write_bytes(archived.getvalue())
