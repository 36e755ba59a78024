"""Mutants of a model file, each loaded and judged. Run as a process of its own, which a crash would end:

    python -m tests.mutations FILE COUNT SEED

prints one JSON object, {kind: {outcome: count}}, and what broke the promise, on stderr, with status 1. The outcomes:

refused     an l3edge.Error before an interpreter saw the file
same bits   loaded, and a second of sound has exactly the embedding it always had
right shape loaded, where metadata were changed and all digests made right: the original flatbuffer under another label
whole       read, where the flatbuffer was changed and all digests made right: never shown to an interpreter
"""

from __future__ import annotations

import collections
import copy
import faulthandler
import hashlib
import io
import json
import struct
import sys
import tempfile
import traceback
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

import l3edge
from export.contract import sounds
from l3edge import engine, model_file

EDGES = (0, 1, 2, 3, 8, 9, 12, 14, 20, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
VALUES: tuple[Any, ...] = (
    *(
        None,
        True,
        False,
        "",
        [],
        {},
        -1,
        0,
        1,
        2,
        3,
        7,
        255,
        10**6,
        2**31,
        2**63,
        10**30,
        10**400,
        0.5,
        -0.0,
        1e-300,
        1e300,
    ),
    *(float("nan"), float("inf"), "x" * 5000, "\x00\ud800\x1b[2J", "cpu", "edgetpu", "int8", "same", [[[[]]]], [1, 2]),
)


class Original:
    """A valid file, in its parts."""

    def __init__(self, path: Path) -> None:
        self.data = path.read_bytes()
        self.file = model_file.read(path)
        self.flatbuffer, self.metadata = self.file.flatbuffer, self.file.metadata
        self.text = zipfile.ZipFile(path).read(model_file.MEMBER)

    def place(self, rng: Random) -> int:
        """Anywhere; as often in the archive, which is but a small part of the file."""
        begin = rng.choice([0, len(self.flatbuffer)])
        return rng.randrange(begin, len(self.data))


Mutation = Callable[[Random, Original], bytes]


def flip_bits(rng: Random, original: Original) -> bytes:
    data = bytearray(original.data)
    for _ in range(rng.choice([1, 1, 1, 2, 8])):
        data[original.place(rng)] ^= 1 << rng.randrange(8)
    return bytes(data)


def change_bytes(rng: Random, original: Original) -> bytes:
    data = bytearray(original.data)
    for _ in range(rng.choice([1, 1, 2, 8, 100])):
        data[original.place(rng)] = rng.randrange(256)
    return bytes(data)


def change_words(rng: Random, original: Original) -> bytes:
    data = bytearray(original.data)
    place, size = original.place(rng), rng.choice([2, 4])
    data[place : place + size] = (rng.choice(EDGES) % (1 << 8 * size)).to_bytes(size, "little")
    return bytes(data)


def truncate(rng: Random, original: Original) -> bytes:
    return original.data[: original.place(rng)]


def insert(rng: Random, original: Original) -> bytes:
    place = rng.choice([original.place(rng), len(original.data)])
    return original.data[:place] + rng.randbytes(rng.choice([1, 2, 22, 1000])) + original.data[place:]


def delete(rng: Random, original: Original) -> bytes:
    place = original.place(rng)
    return original.data[:place] + original.data[place + rng.choice([1, 2, 22, 1000]) :]


def duplicate(rng: Random, original: Original) -> bytes:
    begin, place = original.place(rng), original.place(rng)
    block = original.data[begin : begin + rng.choice([1, 4, 64, 4096, len(original.data)])]
    return original.data[:place] + block + original.data[place:]


def swap(rng: Random, original: Original) -> bytes:
    data, size = bytearray(original.data), rng.choice([1, 4, 64, 1024])
    a, b = original.place(rng), original.place(rng)
    first, second = data[a : a + size], data[b : b + size]
    data[a : a + len(second)], data[b : b + len(first)] = second, first
    return bytes(data)


def clear(rng: Random, original: Original) -> bytes:
    data, place = bytearray(original.data), original.place(rng)
    cut = data[place : place + rng.choice([1, 4, 64, 4096])]
    data[place : place + len(cut)] = bytes([rng.choice([0, 0, 255])]) * len(cut)
    return bytes(data)


def edit_directory(rng: Random, original: Original) -> bytes:
    """Fields of the zip's own records, set to what makes a reader follow them astray."""
    data = bytearray(original.data)
    for _ in range(rng.choice([1, 1, 2, 3])):
        record = rng.choice(
            [(b"PK\1\2", "<4xHHHHHHIIIHHHHHII"), (b"PK\3\4", "<4xHHHHHIIIHH"), (b"PK\5\6", "<4xHHHHIIH")]
        )
        begins = [i for i in range(len(original.flatbuffer), len(data)) if data.startswith(record[0], i)]
        if begins:
            place = rng.choice(begins)
            fields = struct.unpack_from(record[1], data, place)
            sizes = [struct.calcsize(code) for code in record[1].removeprefix("<4x")]
            number = rng.randrange(len(fields))
            value = rng.choice([*EDGES, fields[number] + 1, fields[number] - 1]) % (1 << 8 * sizes[number])
            at = place + 4 + sum(sizes[:number])
            data[at : at + sizes[number]] = value.to_bytes(sizes[number], "little")
    return bytes(data)


def add_zip64(rng: Random, original: Original) -> bytes:
    """The records of an archive beyond 4 GB, with numbers of 64 bits."""

    def large() -> int:
        return rng.choice([0, 1, len(original.data), 2**31, 2**32, 2**63 - 1, 2**63, 2**64 - 1])

    end = original.data.rindex(b"PK\5\6")
    record = struct.pack("<4sQHHIIQQQQ", b"PK\6\6", 44, 45, 45, 0, 0, 2, 2, large(), large())
    locator = struct.pack("<4sIQI", b"PK\6\7", 0, rng.choice([end, large()]), 1)
    last = struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    if rng.random() < 0.5:
        return original.data[:end] + record + locator + last
    # or one member's sizes and place, in its extra field
    data = bytearray(original.data)
    place = data.index(b"PK\1\2", len(original.flatbuffer))
    name, extra = struct.unpack_from("<HH", data, place + 28)
    added = struct.pack("<HHQQQ", 1, 24, large(), large(), large())
    struct.pack_into("<H", data, place + 30, extra + len(added))
    struct.pack_into("<II", data, place + 20, 0xFFFFFFFF, 0xFFFFFFFF)
    struct.pack_into("<I", data, place + 42, 0xFFFFFFFF)
    data[place + 46 + name : place + 46 + name] = added
    end += len(added)
    struct.pack_into("<I", data, end + 12, struct.unpack_from("<I", data, end + 12)[0] + len(added))
    return bytes(data)


def add_archive(rng: Random, original: Original) -> bytes:
    """More members under the same names, or another archive behind the first."""
    content = io.BytesIO(original.data if rng.random() < 0.5 else original.data + original.data[-200:])
    with zipfile.ZipFile(content, "a", rng.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])) as archive:
        for name in rng.sample([model_file.MEMBER, model_file.DIGEST, "other"], rng.randint(1, 3)):
            text = rng.choice([original.text, b"{}", b"", rng.randbytes(50)])
            with archive.open(zipfile.ZipInfo(name), "w") as member:
                member.write(text)
    return content.getvalue()


def archived(flatbuffer: bytes, text: bytes, digest: bytes) -> bytes:
    content = io.BytesIO()
    content.write(flatbuffer)
    with zipfile.ZipFile(content, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(model_file.MEMBER, text)
        archive.writestr(model_file.DIGEST, digest)
    return content.getvalue()


def right_digest(text: bytes) -> bytes:
    return f"{hashlib.sha256(text).hexdigest()}  {model_file.MEMBER}\n".encode()


def edited(rng: Random, original: Original) -> bytes:
    """The metadata with some of its values changed, removed, added or exchanged."""
    document = copy.deepcopy(original.metadata)
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
        parents: list[Any] = [document]
        for parent in parents:  # grows
            values = parent.values() if isinstance(parent, dict) else parent
            parents += [value for value in values if isinstance(value, (dict, list)) and value]
        parent = rng.choice(parents)
        key = rng.choice(list(parent) if isinstance(parent, dict) else range(len(parent)))
        change = rng.choice(["set", "set", "near", "near", "remove", "add", "exchange"])
        other = rng.choice(list(parent) if isinstance(parent, dict) else range(len(parent)))
        if change == "near" and isinstance(parent[key], (int, float)) and not isinstance(parent[key], bool):
            parent[key] = rng.choice([parent[key] + 1, parent[key] - 1, parent[key] * 2, -parent[key]])
        elif change == "remove":
            del parent[key]
        elif change == "add" and isinstance(parent, dict):
            parent[rng.choice(["labels", "surprise", "delegate"])] = rng.choice(VALUES)
        elif change == "exchange":
            parent[key], parent[other] = parent[other], parent[key]
        else:
            parent[key] = copy.deepcopy(rng.choice(VALUES))
        if not document:
            break
    return json.dumps(document, indent=1).encode("utf-8", "surrogatepass")


def edit_metadata(rng: Random, original: Original) -> bytes:
    return archived(original.flatbuffer, edited(rng, original), right_digest(original.text))


def edit_metadata_and_digest(rng: Random, original: Original) -> bytes:
    text = edited(rng, original)
    return archived(original.flatbuffer, text, right_digest(text))


def edit_flatbuffer_and_digests(rng: Random, original: Original) -> bytes:
    data = bytearray(original.flatbuffer)
    for _ in range(rng.choice([1, 1, 2, 8])):
        place = rng.choice([rng.randrange(len(data)), rng.randrange(min(len(data), 4096))])
        data[place] = rng.choice([rng.randrange(256), data[place] ^ 1 << rng.randrange(8)])
    changed = bytes(data[: rng.choice([len(data)] * 9 + [rng.randrange(8, len(data))])])
    facts = {"bytes": len(changed), "sha256": hashlib.sha256(changed).hexdigest()}
    text = json.dumps(original.metadata | {"flatbuffer": facts}).encode()
    return archived(changed, text, right_digest(text))


CARELESS: tuple[Mutation, ...] = (
    *(flip_bits, change_bytes, change_words, truncate, insert, delete, duplicate, swap, clear),
    *(edit_directory, add_zip64, add_archive, edit_metadata),
)
CONSISTENT: tuple[Mutation, ...] = (edit_metadata_and_digest, edit_flatbuffer_and_digests)


class BrokenError(Exception):
    """A promise that was not kept."""


class Judge:
    """Loads a mutant and says what became of it."""

    def __init__(self, original: Original, folder: Path) -> None:
        self.original, self.path = original, folder / "mutant.tflite"
        self.opened = 0
        opened = engine.Network._open

        def opening(network: engine.Network) -> Any:
            if network._file.flatbuffer != original.flatbuffer:
                raise BrokenError("an interpreter was about to see a changed flatbuffer")
            self.opened += 1
            return opened(network)

        engine.Network._open = opening
        self.want = self.embed(original.file)

    def embed(self, file: model_file.ModelFile) -> bytes:
        """The bits of a fixed second's embedding: as `l3edge.load` makes a model of a file that was read."""
        model, spec = l3edge.Model(file), file.spec
        embeddings, times = model.embed(
            sounds(1, spec.window, spec.sample_rate), spec.sample_rate, spec.hop / spec.sample_rate
        )
        if embeddings.shape != (1, spec.embedding_size) or embeddings.dtype != np.float32 or times.shape != (1,):
            raise BrokenError(f"shape {embeddings.shape} of {embeddings.dtype}, times {times.shape}")
        if not np.isfinite(embeddings).all():
            raise BrokenError("values that are not finite")
        return embeddings.tobytes()

    def __call__(self, mutation: Mutation, data: bytes) -> str:
        self.path.write_bytes(data)
        self.opened = 0
        try:
            file = model_file.read(self.path)
            if mutation is edit_flatbuffer_and_digests and file.flatbuffer != self.original.flatbuffer:
                return "whole"
            bits = self.embed(file)
        except l3edge.Error as error:
            if self.opened:
                raise BrokenError(f"refused only after an interpreter was made: {error}") from error
            return "refused"
        if bits == self.want:
            return "same bits"
        if mutation in CONSISTENT:
            return "right shape"
        raise BrokenError("other bits")


def main(path: Path, count: int, seed: int) -> int:
    faulthandler.enable()
    outcomes: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    status = 0
    warnings.filterwarnings("ignore", "Duplicate name")  # of zipfile, where two members are meant to have one name
    with tempfile.TemporaryDirectory() as folder:
        original = Original(path)
        judge = Judge(original, Path(folder))
        for number in range(count):
            rng = Random(f"{seed} {number}")
            mutation = rng.choice(CARELESS + CONSISTENT)
            data = mutation(rng, original)
            try:
                outcomes[mutation.__name__][judge(mutation, data)] += 1
            except Exception:
                status = 1
                outcomes[mutation.__name__]["BROKEN"] += 1
                print(f"mutant {number} of seed {seed}, {mutation.__name__}:", file=sys.stderr)
                traceback.print_exc()
    print(json.dumps(outcomes))
    return status


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
