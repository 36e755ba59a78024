"""Tables, vectors and strings of an untrusted flatbuffer, by absolute position: https://flatbuffers.dev/internals/.

Every offset is checked before it is followed, and the work is bounded by the length of the data and `MOST_TABLES`:
a few bytes that point at each other cannot keep the reader busy. Whatever is wrong raises ModelFileError.
"""

from __future__ import annotations

import struct
from typing import Any, TypeVar

from .errors import ModelFileError

MOST_TABLES = 1 << 15  # tensors, operators, buffers, ... of a file; the largest models have some ten thousand

_NUMBERS = {code: struct.Struct("<" + code) for code in "bHiIqQf?"}

Number = TypeVar("Number", int, float, bool)


class Reader:
    """Tables, vectors and strings of a flatbuffer by absolute position, each checked before it is read.

    Parts of a flatbuffer may be shared, which lets a small file describe a huge one: what is read may add up to four
    times the file's length, and to MOST_TABLES tables.
    """

    def __init__(self, data: bytes) -> None:
        self.view = memoryview(data)
        self._end = len(data)
        self._bytes_left = 4 * len(data)
        self._tables_left = MOST_TABLES
        # Of each vtable that was met, what it says: the tables of a kind share one, and each is asked many times.
        self._vtables: dict[int, tuple[int, ...]] = {}
        self._fields: dict[int, tuple[int, ...]] = {}  # the same, of each table that was checked

    def check(self, start: int, size: int, what: str) -> None:
        if start + size > self._end:
            raise ModelFileError(
                f"{what} at byte {start} is {size} bytes long, the data ends at {self._end}: truncated or damaged"
            )

    def _take(self, size: int) -> None:
        """Count what is read."""
        self._bytes_left -= size
        if self._bytes_left < 0:
            raise ModelFileError("vectors that add up to more than the data: damaged")

    def number(self, start: int, code: str) -> int:
        kind = _NUMBERS[code]
        if start + kind.size > self._end:  # asked here too: a call for each number would take as long as all else
            self.check(start, kind.size, "a number")
        made: int = kind.unpack_from(self.view, start)[0]
        return made

    def table(self, start: int) -> int:
        """Check a table and its vtable; `start` again."""
        self._tables_left -= 1
        if self._tables_left < 0:
            raise ModelFileError(f"more than {MOST_TABLES} tables: damaged")
        vtable = start - self.number(start, "i")
        if vtable < 0:
            raise ModelFileError(f"table at byte {start} has its vtable before the data: damaged")
        said = self._vtables.get(vtable)
        if said is None:
            said = self._vtables[vtable] = self._vtable(vtable, start)
        self.check(start, said[1], "a table")
        self._fields[start] = said
        return start

    def _vtable(self, vtable: int, table: int) -> tuple[int, ...]:
        """Its own size, the table's, and where in the table the field of each slot is, 0 where it is absent."""
        size = self.number(vtable, "H")
        if size < 4 or self.number(vtable + 2, "H") < 4:
            raise ModelFileError(f"table at byte {table} has no size: damaged")
        self.check(vtable, size, "a vtable")
        self._take(size)
        return struct.unpack_from(f"<{size // 2}H", self.view, vtable)

    def field(self, table: int, slot: int, size: int) -> int:
        """Position of a field of a checked table, 0 where it is absent."""
        said = self._fields[table]
        if slot + 2 >= len(said):
            return 0
        offset = said[slot + 2]
        if offset and (offset < 4 or offset + size > said[1]):
            raise ModelFileError(f"table at byte {table} has field {slot} outside itself: damaged")
        return table + offset if offset else 0

    def scalar(self, table: int, slot: int, code: str, default: Number) -> Number:
        kind = _NUMBERS[code]
        start = self.field(table, slot, kind.size)  # inside its table, and so inside the data
        return type(default)(kind.unpack_from(self.view, start)[0]) if start else default

    def offset(self, table: int, slot: int) -> int:
        """Where an offset field leads, 0 where it is absent."""
        start = self.field(table, slot, 4)
        return start + int(_NUMBERS["I"].unpack_from(self.view, start)[0]) if start else 0

    def vector(self, table: int, slot: int, itemsize: int) -> tuple[int, int]:
        """Start and count of a vector's items; (0, 0) where it is absent."""
        start = self.offset(table, slot)
        if not start:
            return 0, 0
        count = self.number(start, "I")
        if start + 4 + count * itemsize > self._end:
            self.check(start + 4, count * itemsize, f"a vector of {count}")
        return start + 4, count

    def numbers(self, table: int, slot: int, code: str) -> tuple[Any, ...]:
        """A vector's numbers; empty where it is absent."""
        size = _NUMBERS[code].size
        start, count = self.vector(table, slot, size)
        self._take(count * size)
        return struct.unpack_from(f"<{count}{code}", self.view, start) if count else ()

    def tables(self, table: int, slot: int) -> list[int]:
        start, count = self.vector(table, slot, 4)
        if count > self._tables_left:
            raise ModelFileError(f"more than {MOST_TABLES} tables: damaged")
        return [self.table(at + self.number(at, "I")) for at in range(start, start + 4 * count, 4)]

    def indices(self, table: int, slot: int, count: int, lowest: int = 0) -> tuple[int, ...]:
        values = self.numbers(table, slot, "i")
        if values and not lowest <= min(values) <= max(values) < count:
            raise ModelFileError(f"tensor indices {min(values)} to {max(values)}, there are {count} tensors")
        return values

    def string(self, table: int, slot: int) -> str:
        start, count = self.vector(table, slot, 1)
        self._take(count)
        text = bytes(self.view[start : start + count])
        try:
            return text.decode()
        except UnicodeDecodeError as error:
            raise ModelFileError(f"a name is not UTF-8 ({text[:40]!r})") from error
