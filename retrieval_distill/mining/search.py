"""Asking retrievers by name, outside of a recipe: BM25 and any bi-encoders, whose vectors are kept.

Knows names of retrievers; must not know judgements or what a list is for. Memory is bounded however large the corpus
(``indexing.exact``).
"""

from __future__ import annotations

from pathlib import Path

from retrieval_distill import models
from retrieval_distill.config.mining import LEXICAL, START, MiningConfig
from retrieval_distill.data.dataset import Texts
from retrieval_distill.data.run import Run
from retrieval_distill.embedding.embed import Embeddings, embed
from retrieval_distill.errors import UserError
from retrieval_distill.retrieval import exact
from retrieval_distill.retrieval.bm25 import BM25


def search_all(
    config: MiningConfig, queries: Texts, documents: Texts, depth: int, folder: Path, dtype: str = "auto"
) -> tuple[dict[str, Run], Embeddings | None]:
    """Each retriever's list of every query, and the first one's vectors, if one has any.

    Args:
        config: Retrievers and ranks are used.
        queries: What to ask.
        documents: The corpus.
        depth: Documents per query, or as many as the bands of ranks need.
        folder: Keeps the vectors, a folder for each model.
        dtype: What models compute in.

    Raises:
        UserError: A retriever is no model.
    """
    if START in config.retrievers:
        raise UserError("retriever 'start' is the student of a recipe; here, name the model itself, and bm25")
    folders = models.by_short_name([name for name in config.retrievers if name != LEXICAL], [LEXICAL], "--retriever")
    for model in folders.values():
        models.resolve(model)
    lists, depth = {}, config.depth(depth)
    if LEXICAL in config.retrievers:
        lists[LEXICAL] = BM25(documents).search(queries, depth)
    vectors = {}
    for short, model in folders.items():
        embed(model, documents, folder / short, dtype)
        vectors[model] = Embeddings.open(folder / short)
        lists[model] = exact.search(vectors[model], model, queries, depth, models.similarity(model), dtype)
    return {name: lists[name] for name in config.retrievers}, next(iter(vectors.values()), None)
