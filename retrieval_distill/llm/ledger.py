"""Answers that are paid for, kept as they arrive: whatever is killed, no request that was answered is sent again.

Knows keys, numbers and one SQLite file; must not know what was asked.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from retrieval_distill.errors import UserError

SECONDS = 60.0
"""How long one process waits for another that writes."""

KEYS_PER_LOOKUP = 500

_TABLES = """
CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, value BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS requests (subject TEXT, texts INTEGER, tokens REAL, seconds REAL);
CREATE INDEX IF NOT EXISTS by_subject ON requests (subject);
"""


@dataclass(frozen=True)
class Request:
    """A request that was answered."""

    subject: str
    """What it was about, such as a query's key."""
    texts: int
    """Texts embedded, or documents reranked."""
    tokens: float
    """Tokens sent, as the server counts them, or about."""
    seconds: float
    """Until the answer was there."""


@dataclass(frozen=True)
class Ledger:
    """A file of answers and of the requests that they took; without a path nothing is kept."""

    path: Path | None = None

    def known(self, keys: Iterable[str]) -> dict[str, np.ndarray]:
        """The answers that are there, float32 arrays, by key."""
        rows = self._rows("SELECT key, value FROM answers WHERE key", keys)
        return {key: np.frombuffer(value, "<f4") for key, value in rows}

    def answered(self, keys: Iterable[str]) -> set[str]:
        """Those of the keys whose answers are there."""
        return {key for (key,) in self._rows("SELECT key FROM answers WHERE key", keys)}

    def requests(self, subjects: Iterable[str]) -> list[Request]:
        """The requests about these subjects."""
        columns = "SELECT subject, texts, tokens, seconds FROM requests WHERE subject"
        return [Request(*row) for row in self._rows(columns, subjects)]

    def add(self, request: Request, answers: Mapping[str, np.ndarray]) -> None:
        """Keep what a request gave; once this returns, it survives a kill."""
        if self.path is None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        rows = [(key, np.ascontiguousarray(value, "<f4").tobytes()) for key, value in answers.items()]
        with self._connection(self.path) as connection, connection:
            connection.executemany("INSERT OR REPLACE INTO answers VALUES (?, ?)", rows)
            connection.execute("INSERT INTO requests VALUES (?, ?, ?, ?)", astuple(request))

    def _rows(self, query: str, values: Iterable[str]) -> Iterator[tuple[Any, ...]]:
        if self.path is None or not self.path.is_file():
            return
        with self._connection(self.path) as connection:
            distinct = list(dict.fromkeys(values))
            for start in range(0, len(distinct), KEYS_PER_LOOKUP):
                some = distinct[start : start + KEYS_PER_LOOKUP]
                yield from connection.execute(f"{query} IN ({','.join('?' * len(some))})", some)

    @contextmanager
    def _connection(self, path: Path) -> Iterator[sqlite3.Connection]:
        connection = None
        try:
            connection = sqlite3.connect(path, timeout=SECONDS)
            connection.executescript(f"PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; {_TABLES}")
            yield connection
        except sqlite3.Error as error:
            raise UserError(
                f"{path}: the answers of an endpoint cannot be kept or read there ({error}); make room if the disk is "
                "full; if the file is damaged, remove it: what it holds is then asked, and paid for, again"
            ) from error
        finally:
            if connection is not None:
                connection.close()
