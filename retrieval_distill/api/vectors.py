"""Verbs of vectors and indexes: ``index``, ``search``; ``embed`` and ``export`` are whole where they are."""

from __future__ import annotations

import logging
from pathlib import Path

from retrieval_distill.config import IntentConfig
from retrieval_distill.data.dataset import Texts
from retrieval_distill.data.run import Run
from retrieval_distill.embedding.embed import Embeddings, embed_queries
from retrieval_distill.index import faiss_index
from retrieval_distill.index.faiss_index import Index
from retrieval_distill.runtime.stages import Manifest

logger = logging.getLogger("retrieval_distill")


def index(
    embeddings: str | Path,
    folder: str | Path,
    kind: str = "flat",
    similarity: str = "cosine",
    dimensions: int | None = None,
    rescore: int | None = None,
    intent: IntentConfig | None = None,
    asked: tuple[str, Texts] | None = None,
) -> Manifest:
    """Build a FAISS index over embedded documents, or (``kind="auto"``) find the cheapest that meets an intent.

    Args:
        embeddings: Folder written by ``embed``.
        folder: Where the index goes; with ``auto`` also ``tuning.json`` and ``tuning.html``, which tell what was tried.
        kind: ``flat``, ``hnsw``, ``ivf``, ``ivf-pq``, ``sq8``, ``binary`` or ``auto``.
        similarity: ``"cosine"`` or ``"dot"``.
        dimensions: Dimensions kept, the first ones; ``None``: all.
        rescore: Rescoring depth, see :func:`retrieval_distill.index.faiss_index.index`; ``auto`` tunes its own.
        intent: What ``auto`` aims at; ``None``: its defaults.
        asked: The model that embedded the documents and held-out queries for ``auto``; ``None``, or fewer than two
            queries: documents' own vectors, moved, stand in for queries.

    Raises:
        UserError: See :mod:`retrieval_distill.index`; or the model is not the one that embedded the documents.
    """
    if kind != "auto":
        return faiss_index.index(embeddings, folder, kind, similarity, dimensions, rescore)
    from retrieval_distill.index import tune
    from retrieval_distill.reporting import tradeoff

    source, queries = Embeddings.open(embeddings), None
    aim = intent or IntentConfig()
    if asked is not None and len(asked[1]) < tune.FEWEST:
        logger.warning(
            "index: %d held-out queries are needed, one to choose by and one to measure, and there are %d; "
            "documents' own vectors, moved, stand in for queries", tune.FEWEST, len(asked[1]),
        )  # fmt: skip
    elif asked is not None:
        model, texts = asked
        drawn = texts.select(tune.drawn(texts.ids, aim.queries))
        queries = tune.HeldOut(drawn.fingerprint, lambda: embed_queries(model, drawn, source.manifest, source.folder))
    manifest = tune.auto(embeddings, folder, aim, similarity, dimensions, queries)
    tradeoff.write(Path(folder))
    return manifest


def search(index_folder: str | Path, model: str, queries: Texts, depth: int = 100, dtype: str = "auto") -> Run:
    """Dense search of an index with the model it was built with."""
    return faiss_index.search(Index.open(index_folder), model, queries, depth, dtype)
