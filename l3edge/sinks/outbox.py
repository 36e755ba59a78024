"""Messages that wait to be sent, on disk (SQLite) or in memory: bounded, and what is beyond the bound is counted.

On disk they survive the end of the process, however it ends; a power cut may take the last seconds of them. One thread
puts, another takes; the latter also has what was put stored, as that may take long on a card.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from .. import lock
from ..errors import Error, OptionError
from .trouble import Trouble

APPLICATION = 0x6C33_6F62  # SQLite's application_id, by which we know our own
RETRY_SECONDS = 1.0
STORE_SECONDS = 5.0
WAL_PAGES = 10_000  # where nobody stores: then putting does
TABLES = {
    "messages": "CREATE TABLE messages (id INTEGER PRIMARY KEY, topic TEXT NOT NULL, payload BLOB NOT NULL)",
    "counts": "CREATE TABLE counts (dropped INTEGER NOT NULL)",
}
SCHEMA = f"""
BEGIN;
{";".join(TABLES.values())};
INSERT INTO counts VALUES (0);
PRAGMA application_id = {APPLICATION};
COMMIT;
"""

MAGIC = b"SQLite format 3\0"  # sqlite.org/fileformat2.html
T = TypeVar("T")


class Message(NamedTuple):
    """One that waits."""

    id: int  # grows
    topic: str
    payload: bytes


class Outbox:
    """A bounded queue of messages. A disk that is full or gone is no error: it is counted and told.

    Attributes:
        waiting: messages
        size: bytes of their payloads together
        dropped: messages beyond the bound, the oldest, since the database was made
        sent: messages that were done
        failed: messages that could not be put

    Args:
        path: of the database, made where there is none; None for memory
        most: messages that may wait
        most_bytes: of their payloads

    Raises Error where another process has it, OptionError where the path is another kind of file or in no folder. A
    database that is corrupt is set aside, as PATH.corrupt.
    """

    def __init__(self, path: Path | None, most: int, most_bytes: int) -> None:
        self.waiting = self.size = self.dropped = self.sent = self.failed = 0
        self._trouble, self._aside = Trouble(f"queue {path}"), Trouble(f"queue {path}")
        self._path, self._most, self._most_bytes = path, most, most_bytes
        self._mutex = threading.Lock()
        self._database: sqlite3.Connection | None = None
        self._lock = -1
        self._inode = 0
        self._next = 1  # id
        self._retry = self._store = 0.0  # when, of the monotonic clock
        self._closed = False
        if path is not None:
            if not path.parent.is_dir():
                raise OptionError(f"queue {path}: the folder {path.parent} does not exist")
            if path.exists() and not path.is_file():
                raise OptionError(f"queue {path} is no file; give the path of one, which need not exist")
            if not _may_be_ours(path):
                raise OptionError(f"queue {path} is a file of something else; give the path of a new one")
        with self._mutex:
            try:
                self._open()
            except (OSError, sqlite3.Error) as error:
                self._fail(error)
            except Error:
                self._leave()
                raise

    def put(self, topic: str, payload: bytes) -> None:
        """Take a message, and drop the oldest where there is no more room."""
        if not self._do(lambda database: self._put(database, topic, payload), False):
            self.failed += 1

    def oldest(self, count: int) -> list[Message]:
        """Of those that wait, in the order they came."""
        select = "SELECT id, CAST(topic AS TEXT), CAST(payload AS BLOB) FROM messages ORDER BY id LIMIT ?"
        return self._do(lambda database: [Message(*row) for row in database.execute(select, (count,))], [])

    def done(self, ids: Sequence[int]) -> bool:
        """Forget messages that were sent; whether that could be done, else try again."""
        return self._do(lambda database: self._done(database, ids), False)

    def store(self) -> None:
        """Have everything stored, now and then; for the thread that takes, as it may wait for the disk."""
        now = time.monotonic()
        if self._path and self._database and now >= self._store:
            self._store = now + STORE_SECONDS
            address = f"{self._path.absolute().as_uri()}?mode=rw"  # which makes no file where ours was removed
            with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(address, uri=True)) as database:
                database.execute("PRAGMA wal_checkpoint(PASSIVE)")

    def tell(self) -> None:
        """Warn of what is wrong with the disk, for the session's thread."""
        self._trouble.tell()
        self._aside.tell()

    def close(self) -> None:
        """What waits on disk stays there for next time. Nothing is put or taken any more."""
        with self._mutex:
            self._closed = True
            self._leave()

    def _do(self, work: Callable[[sqlite3.Connection], T], otherwise: T) -> T:
        """What `work` makes of the database, in one transaction; or `otherwise`, where there is none at present."""
        with self._mutex:
            if self._closed or (self._database is None and time.monotonic() < self._retry):
                return otherwise
            before = self.waiting, self.size, self.dropped, self.sent
            try:
                if self._database is None or self._removed():
                    self._leave()
                    self._open()
                database = self._database
                assert database
                with database:
                    database.execute("BEGIN")
                    result = work(database)
            except (OSError, sqlite3.Error, Error) as error:
                self.waiting, self.size, self.dropped, self.sent = before
                self._fail(error)
                return otherwise
            self._trouble.clear()
            return result

    def _put(self, database: sqlite3.Connection, topic: str, payload: bytes) -> bool:
        database.execute("INSERT INTO messages VALUES (?, ?, ?)", (self._next, topic, payload))
        self._next += 1
        self.waiting += 1
        self.size += len(payload)
        self._bound(database)
        return True

    def _bound(self, database: sqlite3.Connection) -> None:
        dropped = self.dropped
        while self.waiting > self._most or self.size > self._most_bytes:
            oldest, size = database.execute("SELECT id, length(payload) FROM messages ORDER BY id LIMIT 1").fetchone()
            database.execute("DELETE FROM messages WHERE id = ?", (oldest,))
            self.waiting -= 1
            self.size -= size
            self.dropped += 1
        if self.dropped != dropped:
            database.execute("UPDATE counts SET dropped = ?", (self.dropped,))

    def _done(self, database: sqlite3.Connection, ids: Sequence[int]) -> bool:
        for one in ids:
            found = database.execute("SELECT length(payload) FROM messages WHERE id = ?", (one,)).fetchone()
            if found:  # else it was dropped meanwhile
                database.execute("DELETE FROM messages WHERE id = ?", (one,))
                self.waiting -= 1
                self.size -= found[0]
                self.sent += 1
        return True

    def _removed(self) -> bool:
        """Whether another file, or none, is where ours was."""
        return self._path is not None and (not self._path.exists() or self._path.stat().st_ino != self._inode)

    def _open(self) -> None:
        if self._path is None:
            self._database = self._connected(":memory:")
            return
        self._lock = lock.hold(self._path.with_name(self._path.name + ".lock"), os.O_RDWR | os.O_CREAT)
        try:
            self._database = self._connected(str(self._path))
        except sqlite3.DatabaseError as error:
            if type(error) is not sqlite3.DatabaseError:  # such as OperationalError: of the disk, not of the file
                raise
            self._set_aside(self._path)
            self._database = self._connected(str(self._path))
        self._inode = self._path.stat().st_ino

    def _connected(self, name: str) -> sqlite3.Connection:
        """The database, made where there is none, and counted. sqlite3.DatabaseError where it is corrupt."""
        database = sqlite3.connect(name, timeout=RETRY_SECONDS, isolation_level=None, check_same_thread=False)
        try:
            database.text_factory = lambda text: text.decode("utf-8", "replace")
            empty = not database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
            application = database.execute("PRAGMA application_id").fetchone()[0]
            if application != APPLICATION and (application or not empty):  # before anything of it is changed
                raise OptionError(f"queue {name} is a database of something else; give the path of a new one")
            for pragma in ("journal_mode = WAL", "synchronous = NORMAL", f"wal_autocheckpoint = {WAL_PAGES}"):
                database.execute(f"PRAGMA {pragma}")
            if empty:
                database.executescript(SCHEMA)
            if database.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
                raise sqlite3.DatabaseError("corrupt")
            self._count(database)
            with database:
                database.execute("BEGIN")
                self._bound(database)
        except BaseException:
            database.close()
            raise
        return database

    def _count(self, database: sqlite3.Connection) -> None:
        if dict(database.execute("SELECT name, sql FROM sqlite_master")) != TABLES:
            raise sqlite3.DatabaseError("other tables")
        totals = "SELECT count(*), coalesce(sum(length(payload)), 0), coalesce(max(id), 0) FROM messages"
        self.waiting, self.size, newest = database.execute(totals).fetchone()
        self._next = max(self._next, newest + 1)
        dropped = database.execute("SELECT dropped FROM counts").fetchone()
        if dropped is None or type(dropped[0]) is not int:
            raise sqlite3.DatabaseError("no count")
        self.dropped = dropped[0]

    def _set_aside(self, path: Path) -> None:
        aside = path.with_name(path.name + ".corrupt")
        path.replace(aside)
        for suffix in ("-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        self._aside.set(f"was corrupt; it is now {aside}, and a new one was begun")

    def _fail(self, error: Exception) -> None:
        self._leave()
        self._retry = time.monotonic() + RETRY_SECONDS
        self._trouble.set(f"cannot be used ({error}); messages are counted, and it is tried every second")

    def _leave(self) -> None:
        if self._database:
            with contextlib.suppress(sqlite3.Error):
                self._database.close()
        self._database = None
        if self._lock >= 0:
            os.close(self._lock)
        self._lock = -1


def _may_be_ours(path: Path) -> bool:
    """Whether a file, if there is one, is empty, a database, or one whose beginning a power cut left as zeros."""
    try:
        with path.open("rb") as file:
            return file.read(len(MAGIC)) in (b"", MAGIC, bytes(len(MAGIC)))
    except OSError:  # of the disk, which is tried again
        return True
