"""``index`` and dense search: vectors on disk -> FAISS index -> Run.

Knows vectors and the student they belong to; must not know FAISS, document texts or judgements.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from retrieval_distill.data.dataset import Dataset, Texts
from retrieval_distill.data.mixture import by_source
from retrieval_distill.data.run import Run
from retrieval_distill.embedding.embed import Embeddings, embed_queries
from retrieval_distill.errors import UserError
from retrieval_distill.index import build
from retrieval_distill.index.index import Index
from retrieval_distill.index.kinds import get_kind
from retrieval_distill.index.vectors import PreparedVectors
from retrieval_distill.runtime import manifests, stages

__all__ = ["Index", "identity", "index", "search", "search_dataset"]


def index(
    embeddings: str | Path,
    folder: str | Path,
    kind: str = "flat",
    similarity: str = "cosine",
    dimensions: int | None = None,
    rescore: int | None = None,
) -> stages.Manifest:
    """Build a FAISS index over embedded documents, or add newly embedded documents to an existing one.

    Needs memory for the index and its training vectors. Readers see the old index or the new one.

    Args:
        embeddings: Folder written by ``embed``.
        folder: Where the index goes.
        kind: One of :data:`retrieval_distill.index.kinds.KINDS`.
        similarity: ``"cosine"`` (vectors are normalised) or ``"dot"``.
        dimensions: Number of leading dimensions to keep, for a student trained with such a view; ``None``: all.
        rescore: How many times as many documents as requested are retrieved and then rescored by their exact vectors,
            which are stored in the folder too; 0: no rescoring; ``None``: the kind's default.

    Raises:
        UserError: The kind is unknown, the embeddings are missing, hold a NaN or have fewer dimensions, the kind is
            lossless and ``rescore`` is set, another process builds there, or the disk is full.
    """
    chosen = get_kind(kind)
    if rescore and not chosen.loses:
        raise UserError(
            f"index rescore {rescore}: kind {kind!r} stores exact vectors, so rescoring is useless; leave it off"
        )
    prepared = PreparedVectors(Embeddings.open(embeddings), similarity, dimensions)
    depth = chosen.rescore if rescore is None else rescore
    inputs = {**identity(prepared), "kind": kind, "rescore": depth}

    def work(out: Path) -> dict[str, Any]:
        before = manifests.find(Path(folder))
        same = before is not None and {**before["inputs"], "embeddings": inputs["embeddings"]} == inputs
        old = Path(folder) if before and same and manifests.is_intact(Path(folder), before) else None
        return build.write(out, kind, prepared, depth, old)

    return stages.stage("index", folder, inputs, work, scratch=(build.BUILT,))


def identity(prepared: PreparedVectors) -> dict[str, Any]:
    """Manifest inputs that identify the vectors of an index and the student that must embed queries."""
    made = prepared.embeddings.manifest
    vectors = {"embeddings": made["fingerprint"], "similarity": prepared.similarity, "dimensions": prepared.cut}
    return vectors | {key: made["inputs"][key] for key in ("model", "max_length")}


def search(index: Index, model: str, queries: Texts, depth: int, dtype: str = "auto") -> Run:
    """Dense retrieval: the ``depth`` best documents of every query.

    Args:
        index: The index to search.
        model: The query encoder; must be the model that embedded the documents.
        queries: Embedded with the model's ``query`` prompt, if it has one.
        depth: Documents per query.
        dtype: Number format of the computation.
    """
    scores, found = index.search(embed_queries(model, queries, index.manifest, index.folder, dtype), depth)
    return Run.from_best(queries.ids, found, scores)


def search_dataset(index: Index, model: str, queries: Texts, depth: int, dataset: Dataset, dtype: str = "auto") -> Run:
    """Dense retrieval over a dataset; in a mixture, each query searches only the documents of its own dataset.

    Args:
        index: An index over the dataset's documents.
        model: The query encoder.
        queries: The queries.
        depth: Documents per query.
        dataset: The dataset, which determines the documents a query may find.
        dtype: Number format of the computation.
    """
    vectors, parts = embed_queries(model, queries, index.manifest, index.folder, dtype), []
    for own, allowed in by_source(dataset, queries):
        rows = queries.rows.find(own.ids)
        scores, found = index.search(vectors[rows], depth, index.allowed_rows(dataset.documents, allowed))
        parts.append(Run.from_best(own.ids, found, scores))
    return Run.concat(parts)
