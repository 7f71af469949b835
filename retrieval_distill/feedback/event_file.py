"""The file of a feedback log: numbered, checksummed rows in SQLite, to which rows are only ever added.

    events(id, time, kind, search_id, body, checksum)

``body`` is JSON and ``checksum`` covers the row's other columns. Ids are consecutive, so a row that was changed, moved
or removed is found and named. With SQLite's write-ahead log, any number of threads and processes of one machine may
write at once, and a row is there completely or not at all, whenever a process is killed. (A power cut may lose the last
rows, but never damages earlier ones. A network file system does not keep these promises.)

Knows SQLite and rows; must not know what a row means.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from retrieval_distill.errors import UserError, first_line
from retrieval_distill.runtime import disk, files, lock

FORMAT = 1
"""Layout version that this code writes, and the newest that it reads."""

_APPLICATION = 0x72646664
"""SQLite's ``application_id`` of our files ("rdfd")."""

_BUSY_SECONDS = 30.0
"""Seconds to wait for another process that is writing."""

_SCHEMA = f"""
PRAGMA synchronous = OFF;  -- whoever makes the file waits for the disk once
PRAGMA application_id = {_APPLICATION};
PRAGMA user_version = {FORMAT};
CREATE TABLE events (
    id INTEGER PRIMARY KEY AUTOINCREMENT, time TEXT NOT NULL, kind TEXT NOT NULL, search_id TEXT NOT NULL,
    body TEXT NOT NULL, checksum TEXT NOT NULL
);
CREATE UNIQUE INDEX searches ON events (search_id) WHERE kind = 'search';
CREATE TRIGGER events_stay_as_they_are BEFORE UPDATE ON events BEGIN SELECT RAISE(ABORT, 'this log only grows'); END;
CREATE TRIGGER events_are_not_removed BEFORE DELETE ON events BEGIN SELECT RAISE(ABORT, 'this log only grows'); END;
PRAGMA journal_mode = WAL;
"""


COLUMNS = "id, time, kind, search_id, body, checksum"


class Event(NamedTuple):
    """A row of the log."""

    id: int
    time: str
    """In UTC, ISO 8601 with milliseconds."""
    kind: str
    """``"search"``, ``"click"``, ``"judgement"`` or ``"preference"``."""
    search_id: str
    """The search; of a preference, the one on the left."""
    body: dict[str, Any]
    checksum: str


@dataclass(frozen=True, eq=False)
class EventFile:
    """An open file of events. Threads and processes may share the file, threads also this object."""

    path: Path
    connection: sqlite3.Connection
    lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def open(cls, path: Path, create: bool) -> EventFile:
        """Open a file, or make it with its folder.

        Raises:
            UserError: There is no such file (and ``create`` is false), it is something else, it was written by a newer
                version of this package, or nothing can be written there.
        """
        if not path.exists():
            if not create:
                raise UserError(f"{path}: no such feedback log")
            with lock.exclusive(path, wait=True):
                if not path.exists():
                    _create(path)
        if path.is_dir():
            raise UserError(f"{path}: a feedback log is a file, but this is a folder")
        with _explain(path):
            connection = _connect(path)
            try:
                _check_format(path, connection)
            except BaseException:
                connection.close()
                raise
        return cls(path, connection)

    def close(self) -> None:
        """Close the file; what was added is in it already."""
        with self.lock:
            self.connection.close()

    def add(self, kind: str, search_id: str, body: dict[str, Any]) -> None:
        """Add a row.

        Raises:
            UserError: The body is not valid Unicode, or cannot be stored.
        """
        text = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
        try:
            text.encode()
        except UnicodeEncodeError:
            raise UserError("the text is not valid Unicode: it holds half of a surrogate pair") from None
        with self.lock, _explain(self.path):
            self.connection.execute("BEGIN IMMEDIATE")
            try:
                last = self.connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'events'").fetchone()
                now = datetime.now(UTC).isoformat(timespec="milliseconds")
                row = ((last[0] if last else 0) + 1, now, kind, search_id, text)
                self.connection.execute("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?)", (*row, _checksum(row)))
                self.connection.execute("COMMIT")
            except BaseException:
                if self.connection.in_transaction:
                    self.connection.execute("ROLLBACK")
                raise

    def search(self, search_id: str) -> Event:
        """The row of a search.

        Raises:
            UserError: There is none, or it is damaged.
        """
        with self.lock, _explain(self.path):
            row = self.connection.execute(
                f"SELECT {COLUMNS} FROM events WHERE kind = 'search' AND search_id = ?", (search_id,)
            ).fetchone()
        if row is None:
            raise UserError(f"there is no search {search_id!r} in this log")
        if (event := _event(row)) is None:
            raise UserError(f"{self.path}: row {row[0]}, this search, is damaged")
        return event

    def rows(self) -> Iterator[tuple[int, Event | str]]:
        """Every row by its id, in order, as they are at the first of them, or what is wrong with it."""
        for id, row in _numbered(self.path):
            if row is None:
                yield id, "is missing"
            else:
                yield id, _event(row) or "is damaged: it does not match its checksum"


def _connect(path: Path, mode: str = "rw") -> sqlite3.Connection:
    address = f"{path.absolute().as_uri()}?mode={mode}"
    connection = sqlite3.connect(
        address, uri=True, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
    )
    connection.text_factory = lambda data: data.decode(errors="replace")  # damaged text fails its checksum instead
    connection.execute("PRAGMA synchronous = NORMAL")
    return connection


def _create(path: Path) -> None:
    with _explain(path), files.atomic(path) as temporary:
        try:
            with closing(sqlite3.connect(temporary)) as connection:
                connection.executescript(_SCHEMA)
        finally:
            for suffix in ("-wal", "-shm"):
                Path(f"{temporary}{suffix}").unlink(missing_ok=True)


def _check_format(path: Path, connection: sqlite3.Connection) -> None:
    application, version = (connection.execute(f"PRAGMA {n}").fetchone()[0] for n in ("application_id", "user_version"))
    if application != _APPLICATION:
        raise UserError(f"{path}: this is an SQLite database, but not a feedback log; choose another file")
    if version > FORMAT:
        raise UserError(
            f"{path}: the feedback log has format {version}, this version reads up to {FORMAT}; "
            "update retrieval-distill, or choose another file"
        )


def _checksum(row: Sequence[Any]) -> str:
    return hashlib.sha256(json.dumps(list(row)).encode()).hexdigest()[:32]


def _event(row: Sequence[Any]) -> Event | None:
    """The event of a row as it was written; ``None`` if it is damaged."""
    *values, checksum = row
    try:
        if _checksum(values) == checksum:
            id, time, kind, search_id, body = values
            return Event(id, time, kind, search_id, json.loads(body), checksum)
    except (TypeError, ValueError):  # a damaged column may hold bytes
        pass
    return None


def _numbered(path: Path) -> Iterator[tuple[int, tuple[Any, ...] | None]]:
    """Every row by its id, in order; ``None`` in place of those that are missing or on a page that cannot be read."""
    with _explain(path), closing(_connect(path, "ro")) as connection:
        connection.execute("BEGIN")  # one state of the file for all reads
        last = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'events'").fetchone()
        expected, end = 1, last[0] if last else 0
        for row in _rows(connection, end):
            yield from ((id, None) for id in range(expected, row[0]))
            yield row[0], row
            expected = row[0] + 1
        yield from ((id, None) for id in range(expected, end + 1))


def _rows(connection: sqlite3.Connection, end: int) -> Iterator[tuple[Any, ...]]:
    """The rows that can be read; after the first page that cannot, they are looked up one by one."""
    columns, done = f"SELECT {COLUMNS} FROM events", 0
    try:
        for row in connection.execute(f"{columns} ORDER BY id"):
            yield row
            done = row[0]
    except sqlite3.DatabaseError:
        for id in range(done + 1, end + 1):
            try:
                yield from connection.execute(f"{columns} WHERE id = ?", (id,)).fetchall()
            except sqlite3.DatabaseError:
                continue


@contextmanager
def _explain(path: Path) -> Iterator[None]:
    """Raise SQLite's errors about the file as a :class:`UserError`."""
    try:
        with disk.explain_full_disk(path, "the last feedback could not be stored; everything before it is kept"):
            yield
    except sqlite3.DatabaseError as error:
        raise UserError(f"{path}: {_ADVICE.get(_kind(error), first_line(error))}") from error


_ADVICE = {
    "SQLITE_FULL": "the disk is full; the last feedback could not be stored, everything before it is kept",
    "SQLITE_BUSY": f"another process has been writing for {_BUSY_SECONDS:g} s; try again",
    "SQLITE_READONLY": "cannot be written; check its permissions and those of its folder",
    "SQLITE_CANTOPEN": "cannot be opened; check its permissions and those of its folder",
    "SQLITE_NOTADB": "this is not a feedback log (not an SQLite database)",
    "SQLITE_CORRUPT": "this feedback log is damaged (SQLite cannot read it); restore it from a copy",
}


def _kind(error: sqlite3.DatabaseError) -> str:
    """SQLite's name of a kind of error, without the extension that says more."""
    return "_".join(getattr(error, "sqlite_errorname", "").split("_")[:2])
