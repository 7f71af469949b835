"""Verbs of vectors and indexes: ``embed``, ``export``, ``index``, ``search``.

Knows texts, bi-encoders and folders; must not know FAISS, judgements or how what was tried is shown.
"""

from __future__ import annotations

import logging
from os import fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retrieval_distill.api.nouns import documents_of, queries_of
from retrieval_distill.bounds import Count, Multiple, Tokens, bounded
from retrieval_distill.config import IntentConfig, configured
from retrieval_distill.data.dataset import Dataset
from retrieval_distill.data.run import Run

if TYPE_CHECKING:
    from retrieval_distill.api.nouns import Documents, Model, Queries
    from retrieval_distill.embedding.embeddings import Embeddings
    from retrieval_distill.index.index import Index


@bounded
def embed(
    documents: Documents,
    model: Model,
    *,
    out: str | Path,
    dtype: str = "auto",
    max_length: Tokens | None = None,
    storage: str = "float32",
    engine: str = "local",
    backend: str = "torch",
) -> Embeddings:
    """Embed documents to disk, shard by shard; a killed embedding continues, and only what is new is embedded.

    Args:
        documents: ``Texts``, a ``Dataset``, ``{id: text}`` or a list of texts.
        model: Bi-encoder: hub id, folder, ``packaged:all-MiniLM-L6-v2`` or ``api:NAME``; in Python also a ``Student``.
        out: Folder of the vectors.
        dtype: What the model computes in: ``"float32"``, ``"bfloat16"``, ``"float16"`` or ``"auto"``, which is bfloat16
            where that is native.
        max_length: Token limit; ``None``: the model's own.
        storage: ``"float32"``, ``"float16"`` (half the bytes), ``"int8"`` (a quarter) or ``"binary"`` (a 32nd).
        engine: ``"local"``, or ``"ray"``: the nodes of a Ray cluster (``RAY_ADDRESS``).
        backend: ``"torch"``, ``"onnx"``, ``"openvino"``, or ``"auto"``: the fastest here, measured on these texts.

    Raises:
        UserError: See :func:`retrieval_distill.embedding.embed.embed`.
    """
    from retrieval_distill.embedding import embed as embedding

    manifest = embedding.embed(
        fspath(model), documents_of(documents), out, dtype, max_length, storage=storage, engine=engine, backend=backend
    )
    return embedding.Embeddings.open(out, manifest)


def export(embeddings: Embeddings | str | Path, *, out: str | Path) -> int:
    """Write vectors for other systems: ``NAME.parquet``, or a LanceDB table, ``DATABASE/NAME.lance``.

    Args:
        embeddings: Folder that ``embed`` wrote; in Python also what it gave.
        out: ``FILE.parquet``, or ``DATABASE/TABLE.lance``, in an object store (``s3://``) too.

    Returns:
        How many vectors were written.

    Raises:
        UserError: See :func:`retrieval_distill.embedding.export.export`.
    """
    from retrieval_distill.embedding import export as exporting

    return exporting.export(_folder(embeddings), str(out))


logger = logging.getLogger("retrieval_distill")


@bounded
def index(
    embeddings: Embeddings | str | Path,
    *,
    out: str | Path | None = None,
    kind: str | None = None,
    similarity: str = "cosine",
    dimensions: int | None = None,
    rescore: Multiple | None = None,
    model: Model | None = None,
    queries: Queries | None = None,
    config: IntentConfig | None = None,
    **intent: Any,
) -> Index:
    """Build a FAISS index over embedded documents, or find the cheapest one that meets an intent.

    Args:
        embeddings: Folder that ``embed`` wrote; in Python also what it gave.
        out: Folder of the index; ``None``: ``EMBEDDINGS-index`` beside the vectors. With ``auto`` it also gets
            ``tuning.json``, which tells what was tried.
        kind: ``flat`` (exact), ``hnsw``, ``ivf``, ``ivf-pq``, ``sq8``, ``binary``, or ``auto``: the cheapest that meets
            the intent; ``None``: ``auto`` where an intent is given, else ``flat``.
        similarity: ``"cosine"`` or ``"dot"``.
        dimensions: Dimensions kept, the first ones; ``None``: all.
        rescore: How many times as many documents are looked up and ordered by their stored vectors; ``None``: what the
            kind does by itself; ``auto`` tunes its own.
        model: For ``auto``: the model that embedded the documents.
        queries: For ``auto``: held-out queries; ``None``, or fewer than two: documents' own vectors, moved, stand in
            for queries.
        config: What ``auto`` aims at, the recipe's section ``index.intent``.
        intent: Its keys by name, such as ``recall=0.95``, ``memory="200MB"``, ``latency_ms=2`` or ``minutes=15``.

    Raises:
        UserError: See :func:`retrieval_distill.index.faiss_index.index`; the model is not the one that embedded the
            documents; or only one of ``model`` and ``queries`` is given.
    """
    from retrieval_distill.errors import UserError
    from retrieval_distill.index import faiss_index

    source = _folder(embeddings)
    folder = Path(out) if out is not None else source.with_name(f"{source.name}-index")
    if (kind or ("auto" if intent or config else "flat")) != "auto":
        manifest = faiss_index.index(source, folder, kind or "flat", similarity, dimensions, rescore)
        return faiss_index.Index.open(folder, manifest)
    from retrieval_distill.embedding.embed import Embeddings, embed_queries
    from retrieval_distill.index import tune

    if (model is None) != (queries is None):
        raise UserError("model and queries belong together: held-out queries, and the model that embeds them")
    aim, held_out = configured(IntentConfig, config, intent, "index"), None
    texts = None if queries is None else queries_of(queries)
    if texts is not None and len(texts) < tune.MIN_QUERIES:
        logger.warning(
            "index: %d held-out queries are needed, one to choose by and one to measure, and there are %d; "
            "documents' own vectors, moved, stand in for queries", tune.MIN_QUERIES, len(texts),
        )  # fmt: skip
    elif model is not None and texts is not None:
        opened = Embeddings.open(source)
        drawn, name = texts.select(tune.sample_ids(texts.ids, aim.queries)), fspath(model)
        held_out = tune.HeldOutQueries(
            drawn.fingerprint, lambda: embed_queries(name, drawn, opened.manifest, opened.folder)
        )
    manifest = tune.auto(source, folder, aim, similarity, dimensions, held_out)
    return faiss_index.Index.open(folder, manifest)


@bounded
def search(
    queries: Queries,
    index: Index | str | Path,
    *,
    model: Model,
    documents: Documents | None = None,
    depth: Count = 100,
    dtype: str = "auto",
) -> Run:
    """Dense search of an index with the model that embedded its documents.

    Args:
        queries: What to ask: ``Texts``, ``{id: text}`` or a list of texts.
        index: What ``index`` gave, or its folder.
        model: The bi-encoder.
        documents: A ``Dataset`` of several that were joined: each query finds its own one's documents. ``None``, or
            anything else: all documents may be found.
        depth: Documents per query.
        dtype: What the model computes in: ``"float32"``, ``"bfloat16"``, ``"float16"`` or ``"auto"``.

    Raises:
        UserError: The model is not the one that embedded the documents, or the folder holds no index.
    """
    from retrieval_distill.index import faiss_index

    asked = queries_of(queries)
    opened = index if isinstance(index, faiss_index.Index) else faiss_index.Index.open(index)
    if isinstance(documents, Dataset):
        return faiss_index.search_dataset(opened, fspath(model), asked, depth, documents, dtype)
    return faiss_index.search(opened, fspath(model), asked, depth, dtype)


def _folder(embeddings: Embeddings | str | Path) -> Path:
    return Path(embeddings) if isinstance(embeddings, str | Path) else embeddings.folder
