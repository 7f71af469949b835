"""``index`` and dense search: vectors on disk -> FAISS index -> Run.

Knows FAISS, vectors and which student they belong to; must not know texts of documents or judgements.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from retrieval_distill import artifacts
from retrieval_distill.data.dataset import Texts
from retrieval_distill.errors import UserError, nearest
from retrieval_distill.indexing.embed import Embeddings, comparable, embed_queries, require
from retrieval_distill.retrieval.run import Run

logger = logging.getLogger("retrieval_distill")

KINDS = {"flat": "Flat", "hnsw": "HNSW32", "sq8": "SQ8"}
"""Index kinds by FAISS factory string: exact search, a graph (fast, approximate), 8-bit vectors (4x smaller)."""


def index(
    embeddings: str | Path,
    folder: str | Path,
    kind: str = "flat",
    similarity: str = "cosine",
    dimensions: int | None = None,
) -> artifacts.Manifest:
    """Build a FAISS index over embedded documents.

    Args:
        embeddings: Folder written by ``embed``.
        folder: Where the index goes.
        kind: ``"flat"`` (exact), ``"hnsw"`` or ``"sq8"``.
        similarity: ``"cosine"`` (vectors are brought to length 1) or ``"dot"``.
        dimensions: Dimensions kept, the first ones, for a student trained with such a view; ``None``: all.

    Raises:
        UserError: Unknown kind, the embeddings are missing, or more dimensions are asked for than they have.
    """
    if kind not in KINDS:
        raise UserError(f"index kind {kind!r} is unknown{nearest(kind, KINDS)}")
    source = Embeddings.open(embeddings)
    have = source.manifest["counts"]["dimensions"]
    if dimensions is not None and not 1 <= dimensions <= have:
        raise UserError(f"index dimensions {dimensions}: the vectors have {have}")
    inputs = {
        "embeddings": source.manifest["fingerprint"],
        "kind": kind,
        "similarity": similarity,
        "dimensions": dimensions,
    }
    inputs |= {key: source.manifest["inputs"][key] for key in ("model", "max_length")}

    def work(out: Path) -> dict[str, Any]:
        built: Any = None
        for shard in source.shards():
            vectors = comparable(np.array(shard), similarity, dimensions)
            if built is None:
                built = faiss.index_factory(vectors.shape[1], KINDS[kind], faiss.METRIC_INNER_PRODUCT)
                built.train(vectors)
            built.add(vectors)
        path = out / "index.faiss"
        faiss.write_index(built, str(path))
        (out / "ids.parquet").write_bytes((source.folder / "ids.parquet").read_bytes())
        return {"documents": len(source.ids), "dimensions": built.d, "bytes": path.stat().st_size}

    return artifacts.stage("index", folder, inputs, work)


@dataclass(frozen=True, eq=False)
class Index:
    """A FAISS index with the ids of its rows and the manifest that says which student may ask it."""

    folder: Path
    manifest: dict[str, Any]

    @classmethod
    def open(cls, folder: str | Path) -> Index:
        """Open what ``index`` wrote.

        Raises:
            UserError: The folder holds no finished index.
        """
        manifest = artifacts.read_manifest(folder)
        if manifest is None or not (Path(folder) / "index.faiss").is_file():
            raise UserError(f"{folder}: no index there; make one with: retrieval-distill index")
        return cls(Path(folder), manifest)

    @cached_property
    def ids(self) -> np.ndarray:
        """Document ids by row."""
        return np.array(Embeddings(self.folder).ids, dtype=object)

    @cached_property
    def faiss(self) -> Any:
        """The index itself, memory-mapped."""
        return faiss.read_index(str(self.folder / "index.faiss"), faiss.IO_FLAG_MMAP)

    def require(self, model: str) -> None:
        """Refuse a query encoder that the vectors do not come from.

        Raises:
            UserError: The model's weights differ from those that embedded the documents.
        """
        require(model, self.manifest, self.folder)

    def search(
        self, vectors: np.ndarray, depth: int, allowed: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Best rows for query vectors [queries, dimensions]: scores and document ids, both [queries, depth].

        A graph (``hnsw``) may find fewer: the places left over have id ``None``.

        Args:
            vectors: As the query encoder gives them.
            depth: Documents per query.
            allowed: Which rows may be found, bool [documents]; ``None``: all.
        """
        made = self.manifest["inputs"]
        prepared = comparable(vectors, made["similarity"], made.get("dimensions"))
        only = None if allowed is None else self._only(np.packbits(allowed, bitorder="little"))
        scores, rows = self.faiss.search(prepared, min(depth, len(self.ids)), params=only)
        found = self.ids[rows]
        found[rows < 0] = None
        return scores, found

    def _only(self, bits: np.ndarray) -> Any:
        library: Any = faiss  # its Python layer takes arrays and keywords, which its annotations do not know
        graph = self.manifest["inputs"]["kind"] == "hnsw"
        parameters = library.SearchParametersHNSW if graph else library.SearchParameters
        return parameters(sel=library.IDSelectorBitmap(bits))


def search(
    index: Index, model: str, queries: Texts, depth: int, dtype: str = "auto", allowed: np.ndarray | None = None
) -> Run:
    """Dense retrieval: the ``depth`` best documents of every query.

    Args:
        index: What to search.
        model: The query encoder; it must be the one the documents were embedded with.
        queries: Embedded with the model's ``query`` prompt, if it has one.
        depth: Documents per query.
        dtype: What the model computes in.
        allowed: Which rows may be found, bool [documents]; ``None``: all.
    """
    scores, found = index.search(embed_queries(model, queries, index.manifest, index.folder, dtype), depth, allowed)
    return Run.from_best(queries.ids, found, scores)
