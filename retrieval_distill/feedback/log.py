"""The log of searches, clicks, judgements and preferences.

It holds nothing about people beyond their words and a session id chosen by the caller. Knows what rows mean; must not
know how they are stored, documents' texts, models or HTTP.
"""

from __future__ import annotations

import hashlib
import logging
import secrets
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Literal, Self, get_args

from retrieval_distill.errors import UserError
from retrieval_distill.feedback.event_file import Event, EventFile
from retrieval_distill.formatting import counted

logger = logging.getLogger("retrieval_distill")

GRADES = range(-1, 4)
"""Grades of explicit judgements: -1 is a thumb down, 0 not relevant, 3 the best."""

Preferred = Literal["left", "right", "tie"]
"""What people say of two results side by side."""

NAMED = 10
"""Damaged rows that a warning names."""


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

    def __init__(self, file: EventFile) -> None:
        """Used by :meth:`open`."""
        self.path, self._file = file.path, file

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
        return cls(EventFile.open(Path(path), create))

    def close(self) -> None:
        """Close the file; what was recorded is in it already."""
        self._file.close()

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
        self._file.add("search", search_id, body | {key: value for key, value in optional.items() if value is not None})
        return search_id

    def record_click(self, *, search_id: str, doc_id: str) -> None:
        """Add a click.

        Raises:
            UserError: There is no such search, or it did not show this document.
        """
        self._check_shown(search_id, doc_id)
        self._file.add("click", search_id, {"doc_id": doc_id})

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
        self._file.add("judgement", search_id, {"doc_id": doc_id, "grade": int(grade)})

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
        self._file.search(left), self._file.search(right)
        self._file.add("preference", left, {"right": right, "preferred": preferred})

    def events(self, on_bad: Literal["refuse", "skip"] = "refuse") -> Iterator[Event | int]:
        """The rows in their order, as they are at the first of them.

        Args:
            on_bad: What to do about a row that is damaged or missing: ``"skip"`` gives its id in its place.

        Raises:
            UserError: A row is damaged or missing, and ``on_bad`` is ``"refuse"``.
        """
        for id, row in self._file.rows():
            if isinstance(row, str) and on_bad == "refuse":
                raise UserError(f"{self.path}: row {id} {row}; to leave such rows out: on_bad skip")
            yield id if isinstance(row, str) else row

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
            lost = f", and {counted(found.orphans, 'row')} about their searches" if found.orphans else ""
            logger.warning("%s: left out damaged or missing rows %s%s%s", self.path, named, more, lost)
        found.fingerprint = digest.hexdigest()
        return found

    def summary(self, on_bad: Literal["refuse", "skip"] = "skip") -> LogSummary:
        """Counts of what the log holds.

        Raises:
            UserError: A row is damaged or missing, and ``on_bad`` is ``"refuse"``.
        """
        return summarise(self.read(on_bad))

    def _check_shown(self, search_id: str, doc_id: str) -> None:
        if doc_id not in self._file.search(search_id).body["shown"]:
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
