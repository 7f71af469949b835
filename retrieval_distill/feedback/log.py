"""The log of searches, clicks, judgements and preferences: one SQLite file to which rows are only ever added.

    events(id, time, kind, search_id, body, checksum)

``body`` is JSON and ``checksum`` covers the row's other columns. Ids are consecutive, so a row that was changed, moved
or removed is found and named. With SQLite's write-ahead log, any number of threads and processes of one machine may
write at once, and a row is there completely or not at all, whenever a process is killed. (A power cut may lose the last
rows, but never damages earlier ones. A network file system does not keep these promises.)

The log holds nothing about people beyond their words and a session id chosen by the caller.

Knows rows and what they mean; must not know documents' texts, models or HTTP.
"""

from __future__ import annotations

import hashlib
import json
import logging
import secrets
import sqlite3
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self, get_args

from retrieval_distill.errors import UserError, first_line
from retrieval_distill.runtime import disk, files, lock

logger = logging.getLogger("retrieval_distill")

FORMAT = 1
"""Layout version that this code writes, and the newest that it reads."""

GRADES = range(-1, 4)
"""Grades of explicit judgements: -1 is a thumb down, 0 not relevant, 3 the best."""

Preferred = Literal["left", "right", "tie"]
"""What people say of two results side by side."""

NAMED = 10
"""Damaged rows that a warning names."""

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


@dataclass
class Search:
    """A search, what it showed and what came back."""

    id: str
    time: str
    query: str
    system: str
    shown: tuple[str, ...]
    """Document ids from the top."""
    offset: int = 0
    """Number of results on earlier pages, before the first that was shown."""
    session: str | None = None
    against: str | None = None
    """The second system, if results of two were interleaved."""
    teams: tuple[str, ...] | None = None
    """Whose each shown document is (``"first"``, ``"second"`` or ``"neither"``), if results were interleaved."""
    swapped: int | None = None
    """The rank whose document changed places with that of rank 1; ``None``: none was."""
    clicks: set[str] = field(default_factory=set)
    judgements: dict[str, int] = field(default_factory=dict)
    """Document id -> grade; of several the last."""

    def rank(self, doc_id: str) -> int:
        """The rank, from 1, at which a shown document stood."""
        return self.offset + self.shown.index(doc_id) + 1


@dataclass(frozen=True)
class Preference:
    """Which of two searches, shown side by side without their systems' names, was preferred."""

    left: Search
    right: Search
    preferred: Preferred


@dataclass
class Feedback:
    """What a log holds, put together by search."""

    searches: dict[str, Search] = field(default_factory=dict)
    preferences: list[Preference] = field(default_factory=list)
    damaged: list[int] = field(default_factory=list)
    """Ids of rows that cannot be read or are missing."""
    orphans: int = 0
    """Number of rows about a search whose own row is damaged."""
    rows: int = 0
    """Number of rows that were read, those left out included."""
    fingerprint: str = ""
    """SHA-256 of all that was read: the same exactly if the rows are."""


@dataclass(frozen=True)
class LogSummary:
    """Counts of what a log holds."""

    rows: int
    searches: int
    queries: int
    """Distinct texts, whatever their case and spaces."""
    sessions: int
    clicked_searches: int
    clicks: int
    judgements: dict[int, int]
    """Number by grade."""
    preferences: int
    interleaved: int
    """Number of searches that interleaved two systems."""
    swapped: int
    """Number of searches with a document that changed places with the first."""
    systems: dict[str, int]
    """Number of searches by system."""
    clicks_by_rank: dict[int, int]
    shown_by_rank: dict[int, int]
    first: str | None
    """Time of the first search; ``None``: there is none."""
    last: str | None
    damaged: tuple[int, ...]
    """Ids of rows that cannot be read or are missing."""


class FeedbackLog:
    """An open log; also a context manager. Threads and processes may share the file, threads also this object.

    Example:
        >>> import tempfile
        >>> with FeedbackLog.open(f"{tempfile.mkdtemp()}/feedback.db") as log:
        ...     search = log.record_search(query="Sort a list", system="student", shown=["list.sort", "sorted"])
        ...     log.record_click(search_id=search, doc_id="sorted")
        ...     log.summary().clicks_by_rank
        {2: 1}
    """

    def __init__(self, path: str | Path, connection: sqlite3.Connection) -> None:
        """Used by :meth:`open`."""
        self.path = Path(path)
        self._connection = connection
        self._lock = threading.Lock()

    @classmethod
    def open(cls, path: str | Path, *, create: bool = True) -> FeedbackLog:
        """Open a log.

        Args:
            path: The file.
            create: Whether to make it, with its folder, if it does not exist.

        Raises:
            UserError: There is no such file (and ``create`` is false), it is something else, it was written by a newer
                version of this package, or nothing can be written there.
        """
        path = Path(path)
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
        """Close the file; what was recorded is in it already."""
        with self._lock:
            self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def record_search(
        self,
        *,
        query: str,
        system: str,
        shown: Sequence[str],
        session: str | None = None,
        offset: int = 0,
        against: str | None = None,
        teams: Sequence[str] | None = None,
        swapped: int | None = None,
    ) -> str:
        """Add a search and what it showed.

        Args:
            query: The words.
            system: Name of the system; of two whose results are interleaved, the first.
            shown: Document ids from the top, after any swap; may be empty.
            session: An id that says which searches were one person's; nothing else about them is wanted.
            offset: Number of results on earlier pages.
            against: Name of the second system, if results were interleaved.
            teams: For each shown document the team that ``interleaving.team_draft`` gave it; needs ``against``.
            swapped: The rank on the first page (2 or more) whose document changed places with that of rank 1, at random
                (see ``propensities.swap_first``).

        Returns:
            The search's id: random, usable in a URL.

        Raises:
            UserError: The query is blank, a document is shown twice, or options contradict each other.
        """
        shown = list(shown)
        if not query.strip():
            raise UserError("a search without words cannot be recorded")
        if len(set(shown)) < len(shown):
            raise UserError("a document is shown twice; each may be shown once")
        if (teams is None) != (against is None) or (teams is not None and len(teams) != len(shown)):
            raise UserError("an interleaved search needs 'against' and a team for each shown document")
        if offset < 0 or (swapped is not None and (offset or not 2 <= swapped <= len(shown))):
            raise UserError(f"rank {swapped} cannot have been swapped with rank 1: {len(shown)} shown after {offset}")
        search_id = secrets.token_urlsafe(12)
        body = {"query": query, "system": system, "shown": shown, "offset": offset, "session": session}
        optional = {"against": against, "teams": None if teams is None else list(teams), "swapped": swapped}
        self._add("search", search_id, body | {key: value for key, value in optional.items() if value is not None})
        return search_id

    def record_click(self, *, search_id: str, doc_id: str) -> None:
        """Add a click.

        Raises:
            UserError: There is no such search, or it did not show this document.
        """
        self._check_shown(search_id, doc_id)
        self._add("click", search_id, {"doc_id": doc_id})

    def record_judgement(self, *, search_id: str, doc_id: str, grade: int) -> None:
        """Add an explicit judgement; a later one of the same document replaces it.

        Args:
            search_id: The search.
            doc_id: A document that it showed.
            grade: From -1 (thumb down) to 3; 0 and -1 are not relevant.

        Raises:
            UserError: There is no such search, it did not show this document, or there is no such grade.
        """
        if isinstance(grade, bool) or grade not in GRADES:
            raise UserError(f"grade {grade!r} is not one of {', '.join(map(str, GRADES))}")
        self._check_shown(search_id, doc_id)
        self._add("judgement", search_id, {"doc_id": doc_id, "grade": int(grade)})

    def record_preference(self, *, left: str, right: str, preferred: Preferred) -> None:
        """Add which of two searches, shown side by side without names, is better.

        Args:
            left: Id of the search shown on the left.
            right: Id of that on the right.
            preferred: The better one.

        Raises:
            UserError: There is no such search, both are the same, or ``preferred`` is none of its values.
        """
        if preferred not in get_args(Preferred):
            raise UserError(f"preferred {preferred!r} is not one of {', '.join(get_args(Preferred))}")
        if left == right:
            raise UserError("a search cannot be preferred to itself")
        self._shown(left), self._shown(right)
        self._add("preference", left, {"right": right, "preferred": preferred})

    def events(self, on_bad: Literal["refuse", "skip"] = "refuse") -> Iterator[Event | int]:
        """The rows in their order, as they are at the first of them.

        Args:
            on_bad: What to do about a row that is damaged or missing: ``"skip"`` gives its id in its place.

        Raises:
            UserError: A row is damaged or missing, and ``on_bad`` is ``"refuse"``.
        """
        for id, row in _numbered(self.path):
            event = None if row is None else _whole(row)
            if event is None and on_bad == "refuse":
                state = "is missing" if row is None else "is damaged: it does not match its checksum"
                raise UserError(f"{self.path}: row {id} {state}; to leave such rows out: on_bad skip")
            yield id if event is None else event

    def read(self, on_bad: Literal["refuse", "skip"] = "refuse", rows: int | None = None) -> Feedback:
        """What the log holds, by search.

        Args:
            on_bad: What to do about a row that is damaged or missing; those left out are named in a warning.
            rows: Number of rows, from the first; ``None``: all that there are now.

        Raises:
            UserError: A row is damaged or missing, and ``on_bad`` is ``"refuse"``.
        """
        found, digest = Feedback(), hashlib.sha256()
        for event in islice(self.events(on_bad), rows):
            found.rows += 1
            digest.update(f"{event if isinstance(event, int) else event.checksum}\n".encode())
            if isinstance(event, int):
                found.damaged.append(event)
            elif event.kind == "search":
                lists: dict[str, Any] = {key: tuple(event.body[key]) for key in ("shown", "teams") if key in event.body}
                found.searches[event.search_id] = Search(event.search_id, event.time, **(event.body | lists))
            elif not _join(found, event):
                found.orphans += 1
        if found.damaged:
            named, rest = ", ".join(map(str, found.damaged[:NAMED])), len(found.damaged) - NAMED
            more = f" and {rest} more" if rest > 0 else ""
            lost = f", and {found.orphans} rows about their searches" if found.orphans else ""
            logger.warning("%s: left out damaged or missing rows %s%s%s", self.path, named, more, lost)
        found.fingerprint = digest.hexdigest()
        return found

    def summary(self, on_bad: Literal["refuse", "skip"] = "skip") -> LogSummary:
        """Counts of what the log holds.

        Raises:
            UserError: A row is damaged or missing, and ``on_bad`` is ``"refuse"``.
        """
        return summarise(self.read(on_bad))

    def _add(self, kind: str, search_id: str, body: dict[str, Any]) -> None:
        text = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
        try:
            text.encode()
        except UnicodeEncodeError:
            raise UserError("the text is not valid Unicode: it holds half of a surrogate pair") from None
        with self._lock, _explain(self.path):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                last = self._connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'events'").fetchone()
                now = datetime.now(UTC).isoformat(timespec="milliseconds")
                row = ((last[0] if last else 0) + 1, now, kind, search_id, text)
                self._connection.execute("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?)", (*row, _checksum(row)))
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def _shown(self, search_id: str) -> list[str]:
        with self._lock, _explain(self.path):
            row = self._connection.execute(
                "SELECT id, time, kind, search_id, body, checksum FROM events WHERE kind = 'search' AND search_id = ?",
                (search_id,),
            ).fetchone()
        if row is None:
            raise UserError(f"there is no search {search_id!r} in this log")
        if (search := _whole(row)) is None:
            raise UserError(f"{self.path}: row {row[0]}, this search, is damaged")
        return list(search.body["shown"])

    def _check_shown(self, search_id: str, doc_id: str) -> None:
        if doc_id not in self._shown(search_id):
            raise UserError(f"search {search_id!r} did not show document {doc_id!r}")


def normalised(query: str) -> str:
    """The text by which searches for the same words are recognised: lower case, single spaces."""
    return " ".join(query.casefold().split())


def summarise(found: Feedback) -> LogSummary:
    """Counts of what was read from a log."""
    searches = list(found.searches.values())
    clicks = Counter(search.rank(doc_id) for search in searches for doc_id in search.clicks)
    shown = Counter(search.offset + at for search in searches for at in range(1, len(search.shown) + 1))
    return LogSummary(
        rows=found.rows,
        searches=len(searches),
        queries=len({normalised(search.query) for search in searches}),
        sessions=len({search.session for search in searches if search.session is not None}),
        clicked_searches=sum(1 for search in searches if search.clicks),
        clicks=clicks.total(),
        judgements=dict(sorted(Counter(grade for s in searches for grade in s.judgements.values()).items())),
        preferences=len(found.preferences),
        interleaved=sum(1 for search in searches if search.teams is not None),
        swapped=sum(1 for search in searches if search.swapped is not None),
        systems=dict(Counter(search.system for search in searches).most_common()),
        clicks_by_rank=dict(sorted(clicks.items())),
        shown_by_rank=dict(sorted(shown.items())),
        first=searches[0].time if searches else None,
        last=searches[-1].time if searches else None,
        damaged=tuple(found.damaged),
    )


def _join(found: Feedback, event: Event) -> bool:
    """Put a click, judgement or preference to its search; ``False`` if that is not readable."""
    search = found.searches.get(event.search_id)
    if event.kind == "preference":
        right = found.searches.get(event.body["right"])
        if search is None or right is None:
            return False
        found.preferences.append(Preference(search, right, event.body["preferred"]))
    elif search is None:
        return False
    elif event.kind == "click":
        search.clicks.add(event.body["doc_id"])
    elif event.kind == "judgement":
        search.judgements[event.body["doc_id"]] = event.body["grade"]
    return True


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


def _whole(row: Sequence[Any]) -> Event | None:
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
    columns, done = "SELECT id, time, kind, search_id, body, checksum FROM events", 0
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
