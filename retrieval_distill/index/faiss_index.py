"""``index`` and dense search: vectors on disk -> FAISS index -> Run.

Knows vectors and which student they belong to; must not know FAISS, texts of documents or judgements.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from retrieval_distill.data.dataset import Dataset, Texts
from retrieval_distill.data.mixture import apart
from retrieval_distill.data.run import Run
from retrieval_distill.embedding.embed import Embeddings, embed_queries
from retrieval_distill.errors import UserError
from retrieval_distill.index import build
from retrieval_distill.index.index import Index
from retrieval_distill.index.kinds import kind_named
from retrieval_distill.index.vectors import Prepared
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
    """Build a FAISS index over embedded documents, or add to the one there those that have been embedded since.

    Memory is that of the index and of the vectors it is trained on. A reader sees the old index or the new one.

    Args:
        embeddings: Folder written by ``embed``.
        folder: Where the index goes.
        kind: One of :data:`retrieval_distill.index.kinds.KINDS`.
        similarity: ``"cosine"`` (vectors are brought to length 1) or ``"dot"``.
        dimensions: Dimensions kept, the first ones, for a student trained with such a view; ``None``: all.
        rescore: How many times as many documents as asked for are looked up and ordered anew by their own vectors,
            which are then stored in the folder too; 0: none; ``None``: what the kind does by itself.

    Raises:
        UserError: Unknown kind, the embeddings are missing or hold a NaN, more dimensions are asked for than they have,
            rescoring for a kind that loses nothing, another process builds there, or the disk is full.
    """
    chosen = kind_named(kind)
    if rescore and not chosen.loses:
        raise UserError(f"index rescore {rescore}: kind {kind!r} holds the vectors as they are; leave rescoring off")
    prepared = Prepared(Embeddings.open(embeddings), similarity, dimensions)
    depth = chosen.rescore if rescore is None else rescore
    inputs = {**identity(prepared), "kind": kind, "rescore": depth}

    def work(out: Path) -> dict[str, Any]:
        before = manifests.find(Path(folder))
        same = before is not None and {**before["inputs"], "embeddings": inputs["embeddings"]} == inputs
        old = Path(folder) if before and same and manifests.is_whole(Path(folder), before) else None
        return build.write(out, kind, prepared, depth, old)

    return stages.stage("index", folder, inputs, work, scratch=(build.BUILT,))


def identity(prepared: Prepared) -> dict[str, Any]:
    """What says which vectors an index holds and which student may ask it, for its manifest."""
    made = prepared.embeddings.manifest
    vectors = {"embeddings": made["fingerprint"], "similarity": prepared.similarity, "dimensions": prepared.cut}
    return vectors | {key: made["inputs"][key] for key in ("model", "max_length")}


def search(index: Index, model: str, queries: Texts, depth: int, dtype: str = "auto") -> Run:
    """Dense retrieval: the ``depth`` best documents of every query.

    Args:
        index: What to search.
        model: The query encoder; it must be the one the documents were embedded with.
        queries: Embedded with the model's ``query`` prompt, if it has one.
        depth: Documents per query.
        dtype: What the model computes in.
    """
    scores, found = index.search(embed_queries(model, queries, index.manifest, index.folder, dtype), depth)
    return Run.from_best(queries.ids, found, scores)


def search_dataset(index: Index, model: str, queries: Texts, depth: int, dataset: Dataset, dtype: str = "auto") -> Run:
    """Dense retrieval over a dataset's documents; of several that were joined, each query finds its own one's.

    Args:
        index: Over the dataset's documents.
        model: The query encoder.
        queries: What to ask.
        depth: Documents per query.
        dataset: Tells which documents a query may find.
        dtype: What the model computes in.
    """
    vectors, parts = embed_queries(model, queries, index.manifest, index.folder, dtype), []
    for own, allowed in apart(dataset, queries):
        rows = queries.rows.find(own.ids)
        scores, found = index.search(vectors[rows], depth, index.allowed_rows(dataset.documents, allowed))
        parts.append(Run.from_best(own.ids, found, scores))
    return Run.joined(parts)
