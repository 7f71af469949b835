"""Exact search without an index: reads vectors block by block, and keeps only the best of every query.

Needs memory for the queries, their results and a tile of similarities, however large the corpus. Knows vectors on disk
and the student they belong to; must not know FAISS, document texts or judgements.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from retrieval_distill.data.dataset import Texts
from retrieval_distill.data.run import Run
from retrieval_distill.embedding.embed import Embeddings, comparable, embed_queries
from retrieval_distill.errors import UserError
from retrieval_distill.retrieval import exact_best
from retrieval_distill.retrieval.exact_best import Best, Documents

Blocks = Callable[[], Iterable[np.ndarray]]
"""Returns an iterator over the documents' vectors, arrays [any number, dimensions], from the beginning."""

TILE = 2048
"""Queries, and documents, per tile of similarities: at most 16 MB, which fits into a cache."""

QUERIES = 16_384
"""Queries searched at once: each holds up to twice as many documents as it keeps."""

PAIRS = 2_048
"""Pairs multiplied at once: at most 6 MB of vectors, which fit into a cache."""


def search(
    embeddings: Embeddings, model: str, queries: Texts, depth: int, similarity: str = "cosine", dtype: str = "auto"
) -> Run:
    """The ``depth`` most similar documents of every query.

    Args:
        embeddings: The corpus.
        model: The query encoder; must be the model that embedded the documents.
        queries: Embedded with the model's ``query`` prompt, if it has one.
        depth: Documents per query.
        similarity: ``"cosine"`` or ``"dot"``.
        dtype: Number format of the computation.

    Raises:
        UserError: The model's weights differ from those that embedded the documents.
    """
    vectors = comparable(embed_queries(model, queries, embeddings.manifest, embeddings.folder, dtype), similarity)
    scores, rows = best(vectors, embeddings.shards, depth, similarity)
    return Run.from_best(queries.ids, embeddings.ids_of(rows), scores)


def rescore(
    run: Run, embeddings: Embeddings, model: str, queries: Texts, similarity: str = "cosine", dtype: str = "auto"
) -> Run:
    """Rescore a Run by the similarity of vectors; only queries are embedded.

    Args:
        run: The pairs; their scores are ignored.
        embeddings: Vectors of all documents of the run.
        model: The query encoder; must be the model that embedded the documents.
        queries: Texts of the run's queries.
        similarity: ``"cosine"`` or ``"dot"``.
        dtype: Number format of the computation.

    Raises:
        UserError: The model's weights differ from those that embedded the documents, or a document has no vector.
    """
    documents = run.frame["doc_id"].tolist()
    rows = embeddings.rows.find(documents)
    if (rows < 0).any():
        unknown = documents[int(np.argmax(rows < 0))]
        raise UserError(f"{embeddings.folder}: no vector of document {unknown!r}; embed the corpus again")
    texts = queries.select(run.query_ids)
    vectors = comparable(embed_queries(model, texts, embeddings.manifest, embeddings.folder, dtype), similarity)
    query_rows = texts.rows.rows_of(run.frame["query_id"].tolist())
    return run.with_scores(products(vectors, embeddings.shards, query_rows, rows, similarity))


def best(queries: np.ndarray, blocks: Blocks, depth: int, similarity: str = "dot") -> tuple[np.ndarray, np.ndarray]:
    """The rows with the largest inner products for every query.

    Products are float32. Of equal ones at the cut-off the first document is kept, whatever the blocks.

    Args:
        queries: Comparable vectors, float32 [queries, dimensions].
        blocks: The documents' vectors, read once for every ``QUERIES`` queries.
        depth: Rows per query.
        similarity: ``"cosine"`` normalises the documents' vectors.

    Returns:
        Products and rows, both [queries, depth], best first, ties by row; rows are -1 if there are no more.
    """
    starts = range(0, len(queries), QUERIES)
    scores, rows = zip(*(_best(queries[at : at + QUERIES], blocks, depth, similarity) for at in starts), strict=True)
    return np.concatenate(scores), np.concatenate(rows)


def _best(queries: np.ndarray, blocks: Blocks, depth: int, similarity: str) -> tuple[np.ndarray, np.ndarray]:
    """:func:`best` for queries whose results all fit into memory."""
    parts = [Best(queries[at : at + TILE], depth) for at in range(0, len(queries), TILE)]
    start = 0
    for block in blocks():
        for at in range(0, len(block), TILE):
            documents = Documents(comparable(block[at : at + TILE], similarity))
            for part in parts:
                part.offer(documents, start + at)
        start += len(block)
    scores, rows = zip(*(part.ranked() for part in parts), strict=True)
    return np.concatenate(scores), np.concatenate(rows)


def products(
    queries: np.ndarray, blocks: Blocks, query_rows: np.ndarray, rows: np.ndarray, similarity: str = "dot"
) -> np.ndarray:
    """The similarity of pairs, float32 [pairs]; a pair's value does not depend on the others.

    Args:
        queries: Comparable vectors, float32 [queries, dimensions].
        blocks: The documents' vectors.
        query_rows: The pairs' queries.
        rows: The pairs' documents.
        similarity: ``"cosine"`` or ``"dot"``.
    """
    order = np.argsort(rows)
    values, start, done = np.empty(len(rows), np.float32), 0, 0
    for block in blocks():
        start += len(block)
        end = int(np.searchsorted(rows, start, sorter=order))
        for at in range(done, end, PAIRS):
            here = order[at : min(at + PAIRS, end)]
            here = here[np.argsort(query_rows[here])]
            documents = comparable(block[rows[here] - (start - len(block))], similarity)
            asked, queries_here = np.unique(query_rows[here], return_inverse=True)
            values[here] = exact_best.products(queries[asked], documents, queries_here, np.arange(len(here)))
        done = end
    return values
