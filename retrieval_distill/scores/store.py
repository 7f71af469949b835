"""The store of raw teacher logits: append-only, resumable, mergeable; no pair is scored twice.

    ROOT/store.json                      {"format": 1}
    ROOT/TEACHER/teacher.json            a description for people, written once
    ROOT/TEACHER/CHECKSUM.parquet        a shard: columns query, document (uint64 text hashes) and score (float32)

A shard's name *is* its checksum (the first 32 hex digits of the SHA-256). So shards of several processes or machines
never collide, merging two stores means copying files, and hashing a shard again shows whether it is damaged.

Texts are identified by 64 bits of BLAKE2b: among n distinct texts any two collide with a probability of about
n^2 / 2^65 (one in 370,000 for ten million texts). If several shards hold the same pair, its smallest score counts.

Knows hashes, scores and files; must not know teachers, models or tokenizers.
"""

from __future__ import annotations

import hashlib
import logging
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from retrieval_distill.errors import UserError
from retrieval_distill.formatting import counted
from retrieval_distill.runtime import disk, files
from retrieval_distill.runtime.files import atomic
from retrieval_distill.runtime.stages import read_json, write_json
from retrieval_distill.scores import lookup

logger = logging.getLogger("retrieval_distill")

FORMAT = 1
"""Layout version that this code writes, and the newest that it reads."""

_SHARD = re.compile(r"[0-9a-f]{32}\.parquet")


class ScoreStore:
    """Raw scores by teacher fingerprint, query hash and document hash; the folder need not exist yet.

    Any number of processes may read and add at once. Nothing is written before the first ``add`` or ``describe``.
    """

    def __init__(self, root: str | Path) -> None:
        """Open a store.

        Raises:
            UserError: ``root`` is not a folder, holds something other than a score store, or was written by a newer
                version of this package.
        """
        self.root = Path(root)
        self._whole: set[Path] = set()
        if self.root.exists() and not self.root.is_dir():
            raise UserError(f"{self.root}: a score store is a folder, but this is a file")
        if self._header.is_file():
            _check_format(self._header)
            files.remove_abandoned([*self.root.glob(".*"), *self.root.glob(f"*/{files.TEMPORARY}*")])
        elif self.root.is_dir() and (foreign := next(filter(_is_foreign, self.root.iterdir()), None)):
            raise UserError(f"{self.root} holds {foreign.name} and is not a score store; choose another folder for it")

    def add(self, teacher: str, queries: np.ndarray, documents: np.ndarray, scores: np.ndarray) -> Path:
        """Commit one shard; once this returns, it survives a crash or power cut.

        Args:
            teacher: The teacher's fingerprint.
            queries: Text hashes [pairs].
            documents: Text hashes [pairs], aligned with ``queries``.
            scores: Raw logits [pairs], aligned with ``queries``.

        Returns:
            The shard's path.

        Raises:
            UserError: A score is NaN or infinite, or the disk is full; the store is then unchanged.
        """
        scores = _finite(teacher, scores)
        table = pa.table({"query": _hashes(queries), "document": _hashes(documents), "score": scores})
        with self._temporary(teacher) as temporary:
            pq.write_table(table, temporary, compression="none")
            return self._commit(temporary)

    def describe(self, teacher: str, description: dict[str, Any]) -> None:
        """Store a teacher's description for people; the first one is kept, unless it is damaged."""
        path = self._folder(teacher) / "teacher.json"
        try:
            described = path.is_file() and read_json(path) is not None
        except UserError:
            described = False
        if not described:
            with self._explain_full_disk():
                self._create(teacher)
                write_json(path, description)

    def lookup(self, teacher: str, queries: np.ndarray, documents: np.ndarray) -> np.ndarray:
        """The stored score of each pair, float32 [pairs] aligned with the input; NaN where there is none."""
        return lookup.pair_scores(self.shards(teacher), *_check_aligned(queries, documents))

    def missing(self, teacher: str, queries: np.ndarray, documents: np.ndarray) -> np.ndarray:
        """The first row of each distinct pair that is not stored yet, ascending (int64)."""
        queries, documents = _check_aligned(queries, documents)
        wanted = np.isnan(self.lookup(teacher, queries, documents))
        return lookup.first_rows(queries, documents, wanted)

    def teachers(self) -> list[dict[str, Any]]:
        """Per teacher, by fingerprint: ``fingerprint``, ``description``, ``pairs`` (distinct) and ``shards``."""
        return [self._summary(teacher) for teacher in self.fingerprints()]

    def fingerprints(self) -> list[str]:
        """The teachers that have scores or a description here."""
        folders = self.root.iterdir() if self.root.is_dir() else ()
        return sorted(path.name for path in folders if path.is_dir() and not path.name.startswith("."))

    def find(self, beginning: str | None) -> str:
        """The teacher whose fingerprint has this beginning; ``None``: the only teacher.

        Raises:
            UserError: There is none, or more than one.
        """
        known = self.fingerprints()
        found = [mark for mark in known if mark.startswith(beginning or "")]
        if len(found) != 1:
            problem = "name a teacher" if beginning is None else f"{len(found)} teachers begin with {beginning!r}"
            raise UserError(f"{self.root}: {problem}; teachers here: {', '.join(known) or 'none'}")
        return found[0]

    def description(self, teacher: str) -> dict[str, Any]:
        """The description stored by ``describe``; empty if there is none."""
        path = self._folder(teacher) / "teacher.json"
        return read_json(path) if path.is_file() else {}

    def shards(self, teacher: str) -> list[Path]:
        """The intact shards of a teacher; each is hashed once per process."""
        return [path for path in self._listed(teacher) if path in self._whole or self._is_whole(path)]

    def scored_shards(self, teacher: str) -> list[Path]:
        """The shards of a teacher, of which there must be at least one.

        Raises:
            UserError: The store holds no scores of this teacher.
        """
        if not (shards := self.shards(teacher)):
            known = ", ".join(self.fingerprints()) or "none"
            raise UserError(f"{self.root}: no scores of teacher {teacher!r}; teachers here: {known}")
        return shards

    def merge(self, other: ScoreStore) -> int:
        """Copy the shards that ``other`` has and this store lacks; damaged ones are skipped with a warning.

        Returns:
            The number of shards copied.

        Raises:
            UserError: ``other`` does not exist, or the disk is full; shards already copied are kept.
        """
        if not other.root.is_dir():
            raise UserError(f"{other.root}: no such score store")
        copied = 0
        for teacher in other.fingerprints():
            self.describe(teacher, other.description(teacher))
            here = {shard.name for shard in self.shards(teacher)}
            for shard in other._listed(teacher):
                copied += shard.name not in here and self._copy(teacher, shard)
        return copied

    def export(self, teacher: str, path: str | Path) -> None:
        """Write one teacher's distinct pairs as plain Parquet: query, document, score, sorted by hash.

        Raises:
            UserError: The store holds no scores of this teacher.
        """
        shards = self.scored_shards(teacher)
        with atomic(path) as temporary:
            lookup.write(shards, temporary)

    def verify(self, teacher: str) -> list[Path]:
        """Rehash every shard of a teacher and set damaged ones aside.

        Returns:
            The shards set aside by this call, under their new names (``CHECKSUM.parquet.damaged``).
        """
        return [_damaged_path(shard) for shard in self._listed(teacher) if not self._is_whole(shard)]

    @property
    def _header(self) -> Path:
        return self.root / "store.json"

    def _folder(self, teacher: str) -> Path:
        if not re.fullmatch(r"\w[\w.-]*", teacher, re.ASCII):
            raise UserError(f"{teacher!r} is not a teacher fingerprint: letters, digits, '_', '-' and '.' only")
        return self.root / teacher

    def _summary(self, teacher: str) -> dict[str, Any]:
        shards = self.shards(teacher)
        description = self.description(teacher)
        return {
            "fingerprint": teacher,
            "description": description,
            "pairs": lookup.count(shards),
            "shards": len(shards),
        }

    def _listed(self, teacher: str) -> list[Path]:
        """Every committed shard, intact or not, sorted."""
        return sorted(path for path in self._folder(teacher).glob("*.parquet") if _SHARD.fullmatch(path.name))

    def _is_whole(self, shard: Path) -> bool:
        """Whether a shard matches the checksum in its name; if not, it is set aside."""
        with suppress(FileNotFoundError):  # another process has just set it aside
            if _checksum(shard) == shard.stem:
                self._whole.add(shard)
                return True
        self._whole.discard(shard)
        logger.warning(
            "%s is damaged; set aside as %s, its pairs count as not scored", shard, _damaged_path(shard).name
        )
        with suppress(OSError):  # a read-only store: the shard stays where it is, unread
            shard.replace(_damaged_path(shard))
        return False

    def _create(self, teacher: str) -> None:
        """Create the header and the folders if missing; the header first, since it identifies a store."""
        folder = self._folder(teacher)
        if not self._header.is_file():
            write_json(self._header, {"format": FORMAT})
        if not folder.is_dir():
            folder.mkdir(parents=True, exist_ok=True)
            files.sync(self.root)

    @contextmanager
    def _explain_full_disk(self) -> Iterator[None]:
        """Raise a full disk as a :class:`UserError`."""
        with disk.explain_full_disk(
            self.root, "the last scores could not be stored; every score committed so far is kept"
        ):
            yield

    @contextmanager
    def _temporary(self, teacher: str) -> Iterator[Path]:
        """A path for an unfinished shard, which is removed afterwards unless it was committed."""
        temporary = files.temporary_path(self._folder(teacher))
        try:
            with self._explain_full_disk():
                self._create(teacher)
                yield temporary
        finally:
            temporary.unlink(missing_ok=True)

    def _commit(self, temporary: Path) -> Path:
        """Turn a file into a shard: flush it to disk, then rename it to its checksum."""
        files.sync(temporary)
        shard = temporary.with_name(f"{_checksum(temporary)}.parquet")
        temporary.replace(shard)
        files.sync(shard.parent)
        self._whole.add(shard)
        return shard

    def _copy(self, teacher: str, shard: Path) -> bool:
        """Copy a shard of another store; ``False`` if it is damaged."""
        with self._temporary(teacher) as temporary:
            shutil.copyfile(shard, temporary)
            if _checksum(temporary) != shard.stem:
                logger.warning("%s is damaged; not copied", shard)
                return False
            self._commit(temporary)
        return True


def _check_format(header: Path) -> None:
    try:
        found = int(read_json(header)["format"])
    except (UserError, ValueError, KeyError, TypeError):
        raise UserError(f'{header}: not the header of a score store; it should read {{"format": {FORMAT}}}') from None
    if found > FORMAT:
        advice = "update retrieval-distill, or choose another folder for the store"
        raise UserError(f"{header}: the score store has format {found}, this version reads up to {FORMAT}; {advice}")


def _finite(teacher: str, scores: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        scores = np.ascontiguousarray(scores, np.float32)
    wrong = np.flatnonzero(~np.isfinite(scores))
    if len(wrong):
        count, first = f"{len(wrong)} of {counted(len(scores), 'score')}", f"{scores[wrong[0]]} in row {wrong[0]}"
        raise UserError(f"teacher {teacher}: {count} are NaN or infinite, first {first}; nothing was stored")
    return scores


def _hashes(values: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(values, np.uint64)


def _check_aligned(queries: np.ndarray, documents: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if len(queries) != len(documents):
        raise ValueError(f"{len(queries)} queries but {len(documents)} documents: a pair needs one of each")
    return _hashes(queries), _hashes(documents)


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:32]


def _damaged_path(shard: Path) -> Path:
    return shard.with_name(f"{shard.name}.damaged")


def _is_foreign(path: Path) -> bool:
    """Whether an entry of a folder without a header does not belong to a score store."""
    return not (path.name.startswith(".") or (path / "teacher.json").is_file())
