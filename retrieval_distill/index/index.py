"""Opens and searches an index: verified files, memory-mapped.

Knows FAISS, files and which model may query the index; must not know how an index is built, texts or judgements.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from retrieval_distill.data.columns import values_at
from retrieval_distill.data.dataset import Texts
from retrieval_distill.embedding.embeddings import comparable
from retrieval_distill.embedding.queries import require_same_model
from retrieval_distill.errors import UserError
from retrieval_distill.formatting import counted
from retrieval_distill.index import build, gpu, rescoring
from retrieval_distill.index.kinds import KINDS, SEARCH_PARAMETERS, UNTYPED, Kind, encode
from retrieval_distill.index.vectors import require_finite_rows
from retrieval_distill.runtime import stages
from retrieval_distill.runtime.files import checksum
from retrieval_distill.runtime.manifests import Entry

HASHED_AT_OPEN = 256 << 20
"""Bytes up to which opening an index hashes all its files; for a larger one call ``verify``."""


@dataclass(frozen=True)
class Setting:
    """How to search an index: the value of its kind's knob (``None``: no knob) and the rescoring depth (0: none)."""

    setting: int | None = None
    rescore: int = 0


@dataclass(frozen=True, eq=False)
class Index:
    """A memory-mapped FAISS index with the ids of its rows and its manifest.

    ``stored`` are the vectors for rescoring, if there are any.
    """

    folder: Path
    manifest: stages.Manifest
    faiss: Any
    id_column: pa.ChunkedArray
    stored: np.ndarray | None = None

    @classmethod
    def open(cls, folder: str | Path, made: stages.Manifest | None = None) -> Index:
        """Open an index; while it is being replaced, either the old one or the new one.

        Args:
            folder: A folder written by ``index``.
            made: The manifest that ``index`` just returned, which tells whether the stage was skipped.

        Raises:
            UserError: The folder holds no finished index, or one of its files is missing or was altered.
        """
        while True:
            manifest = stages.read_manifest(folder)
            if manifest is None or "files" not in manifest["counts"]:
                raise UserError(
                    f"{folder}: no index there, or one of an older version; build it with: retrieval-distill index"
                )
            try:
                opened = cls._read(Path(folder), {**manifest, **(made or {})})
            except (UserError, OSError):
                if _is_current(folder, manifest):
                    raise
            else:
                if _is_current(folder, manifest):
                    return opened

    @classmethod
    def _read(cls, folder: Path, manifest: stages.Manifest) -> Index:
        counts = manifest["counts"]
        small = counts["disk_bytes"] <= HASHED_AT_OPEN
        for name, known in counts["files"].items():
            _check(folder / name, known, small)
        stored = folder / rescoring.FILE
        return cls(
            folder, manifest, build.read_faiss(folder / build.FILE, KINDS[counts["kind"]].binary),
            pq.read_table(folder / build.IDS)["id"],
            rescoring.open_stored(stored) if rescoring.FILE in counts["files"] else None,
        )  # fmt: skip

    def __len__(self) -> int:
        return self.documents

    def __repr__(self) -> str:
        return f"Index({str(self.folder)!r}, {self.manifest['counts']['kind']}, {counted(self.documents, 'document')})"

    def verify(self) -> None:
        """Hash every file again, however large.

        Raises:
            UserError: One is missing or was altered.
        """
        for name, known in self.manifest["counts"]["files"].items():
            _check(self.folder / name, known, whole=True)

    @property
    def documents(self) -> int:
        """Number of documents in the index."""
        return self.manifest["counts"]["documents"]

    @property
    def kind(self) -> Kind:
        """The kind of index."""
        return KINDS[self.manifest["counts"]["kind"]]

    @cached_property
    def setting(self) -> Setting:
        """The default search setting."""
        return Setting(**self.manifest["counts"]["search"])

    def ids_of(self, rows: np.ndarray) -> np.ndarray:
        """Document ids of rows, an object array of the same shape; ``None`` for rows below 0."""
        return values_at(self.id_column, rows)

    def allowed_rows(self, documents: Texts, allowed: np.ndarray | None) -> np.ndarray | None:
        """A filter of documents, bool [documents], reordered to the rows of the index.

        Rows whose document is not in ``documents`` are not allowed. ``None``, no filter, stays ``None``.
        """
        if allowed is None:
            return None
        rows = documents.rows.find(self.id_column.to_pylist())
        return (rows >= 0) & allowed[rows]

    def require(self, model: str) -> None:
        """Refuse a query encoder that did not embed the documents.

        Raises:
            UserError: The model's weights differ from those that embedded the documents.
        """
        require_same_model(model, self.manifest, self.folder)

    def search(
        self, vectors: np.ndarray, depth: int, allowed: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Best documents for query vectors [queries, dimensions]: scores and ids, both [queries, depth].

        A graph (``hnsw``) or lists (``ivf``) may find fewer: the remaining places have id ``None``.

        Args:
            vectors: The query encoder's output.
            depth: Documents per query.
            allowed: Which rows may be found, bool [documents]; all of them are then compared, whatever the kind.
                ``None``: no filter.

        Raises:
            UserError: The vectors have other dimensions than the documents', or hold a NaN.
        """
        scores, rows = self.best_rows(vectors, depth, allowed=allowed)
        return scores, self.ids_of(rows)

    def best_rows(
        self, vectors: np.ndarray, depth: int, setting: Setting | None = None, allowed: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Like :meth:`search`, but returns rows instead of ids (-1: empty); ``setting`` ``None``: the tuned one."""
        setting, queries = setting or self.setting, self._prepared(vectors)
        depth = min(depth, self.documents)
        if not setting.rescore or self.stored is None:
            return self._first_stage(queries, depth, setting.setting, allowed)
        wide = min(depth * setting.rescore, self.documents)
        _, rows = self._first_stage(queries, wide, setting.setting, allowed)
        return rescoring.rescore_rows(self.stored, queries, rows, depth)

    def _prepared(self, vectors: np.ndarray) -> np.ndarray:
        made, needed = self.manifest["inputs"], self.manifest["counts"]["embedded_dimensions"]
        if vectors.shape[1] != needed:
            raise UserError(
                f"{self.folder}: its documents' vectors have {needed} dimensions, the queries' {vectors.shape[1]}; use "
                "the model that embedded the documents"
            )
        require_finite_rows(vectors, "the vector of query")
        return comparable(vectors, made["similarity"], made["dimensions"])

    def _first_stage(
        self, queries: np.ndarray, depth: int, setting: int | None, allowed: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        kind = self.kind
        parameters: dict[str, Any] = {} if kind.knob is None or setting is None else {kind.knob: setting}
        searched = self._fast
        if allowed is not None:
            searched, parameters = _for_filter(self.faiss, kind)
            parameters["sel"] = UNTYPED.IDSelectorBitmap(np.packbits(allowed, bitorder="little"))
        knob = kind.knob if kind.knob in parameters else None
        params = SEARCH_PARAMETERS[knob](**parameters) if parameters else None
        with _threads(len(queries)):
            scores, rows = searched.search(encode(kind, queries), depth, params=params)
        return (1 - scores * (2 / queries.shape[1]) if kind.binary else scores), rows

    @cached_property
    def _fast(self) -> Any:
        """The index to search: on a GPU if there is one and it supports the kind."""
        return gpu.to_gpu(self.faiss) if self.kind.gpu else self.faiss


@contextmanager
def _threads(most: int) -> Iterator[None]:
    """Use at most as many FAISS threads as there are queries.

    More threads slow a single query down: FAISS and PyTorch have separate OpenMP runtimes whose idle threads spin, so
    each keeps the other from the cores.
    """
    before = UNTYPED.omp_get_max_threads()
    UNTYPED.omp_set_num_threads(max(1, min(most, before)))
    try:
        yield
    finally:
        UNTYPED.omp_set_num_threads(before)


def _for_filter(index: Any, kind: Kind) -> tuple[Any, dict[str, Any]]:
    """An exhaustive search: a graph's storage, or all lists; filtered, a graph or a few lists would find too little."""
    if kind.knob == "efSearch":
        return faiss.downcast_index(index.storage), {}
    return index, {"nprobe": index.nlist} if kind.knob == "nprobe" else {}


def _is_current(folder: str | Path, manifest: stages.Manifest) -> bool:
    now = stages.read_manifest(folder)
    return now is not None and now["fingerprint"] == manifest["fingerprint"]


def _check(path: Path, known: Entry, whole: bool) -> None:
    """Refuse a missing or altered file."""
    if not path.is_file():
        raise UserError(f"{path}: this file of the index is missing; build the index again")
    if path.stat().st_size != known["bytes"] or (whole and checksum(path) != known["sha256"]):
        raise UserError(f"{path}: this file of the index was altered; build the index again")
