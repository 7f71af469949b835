"""Verbs that find documents for queries, to answer or to train: ``retrieve``, ``mine``, ``filter_negatives``.

Knows Runs, retrievers and judgements; must not know teachers.
"""

from __future__ import annotations

from collections.abc import Mapping
from os import fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retrieval_distill.api.nouns import documents_of, queries_of
from retrieval_distill.bounds import Count, Share, Weight, bounded
from retrieval_distill.config import FilterConfig, MiningConfig, configured
from retrieval_distill.data.dataset import Dataset, Texts
from retrieval_distill.data.run import Run

if TYPE_CHECKING:
    from retrieval_distill.api.nouns import Documents, Model, Queries
    from retrieval_distill.embedding.embeddings import Embeddings
    from retrieval_distill.index.index import Index
    from retrieval_distill.mining.mine import Candidates
    from retrieval_distill.retrieval.bm25 import BM25


@bounded
def retrieve(
    queries: Queries,
    documents: Documents,
    *,
    depth: Count = 100,
    index: Index | str | Path | None = None,
    model: Model | None = None,
    k1: Weight = 1.5,
    b: Share = 0.75,
    stemmer: str | None = None,
    language: str = "english",
    bm25: BM25 | None = None,
    dtype: str = "auto",
) -> Run:
    """First-stage retrieval: BM25, fused by reciprocal ranks with dense search where an index is given.

    Args:
        queries: What to ask: ``Texts``, ``{id: text}`` or a list of texts.
        documents: The corpus: ``Texts``, ``{id: text}``, a list of texts, or a ``Dataset``. Of several datasets that
            were joined, each query is asked over its own.
        depth: Documents per query that each retriever puts forward, and that are kept.
        index: Folder of an index over the documents' vectors; in Python also the ``Index``; ``None``: BM25 alone.
        model: The bi-encoder that embedded them: hub id, folder or packaged name; in Python also a ``Student``.
        k1: BM25's term-frequency saturation.
        b: BM25's length normalisation.
        stemmer: PyStemmer language for BM25, such as ``"english"``; ``None``: words as they are written.
        language: Whose stop words BM25 leaves out, such as ``"german"``; ``"none"``: every word counts.
        bm25: BM25 over these documents, built before; ``k1``, ``b``, ``stemmer`` and ``language`` are then its own.
            ``None``: it is built here.
        dtype: What the bi-encoder computes in: ``"float32"``, ``"bfloat16"``, ``"float16"`` or ``"auto"``.

    Raises:
        UserError: The model is not the one that embedded the documents, or only one of the two is given.

    Example:
        >>> import retrieval_distill as rd
        >>> rd.retrieve({"q": "a black cat"}, {"a": "the cat sat", "b": "a dog barked"}).pairs
        [('q', 'a')]
    """
    from retrieval_distill.api.vectors import search
    from retrieval_distill.data.mixture import by_source
    from retrieval_distill.errors import UserError
    from retrieval_distill.retrieval.bm25 import BM25
    from retrieval_distill.retrieval.fusion import reciprocal_rank_fusion

    if (index is None) != (model is None):
        raise UserError("index and model belong together: the model is the one that embedded the index's documents")
    asked, texts = queries_of(queries), documents_of(documents)
    lexical = bm25 or BM25(texts, k1, b, stemmer, language)
    parts = by_source(documents, asked) if isinstance(documents, Dataset) else [(asked, None)]
    found = Run.concat(lexical.search(own, depth, allowed) for own, allowed in parts)
    if index is None or model is None:
        return found
    dense = search(asked, index, model=model, documents=documents, depth=depth, dtype=dtype)
    return reciprocal_rank_fusion([found, dense]).top(depth)


@bounded
def mine(
    dataset: Dataset,
    *,
    split: str = "train",
    queries: Texts | None = None,
    depth: Count = 30,
    keep: Count = 12,
    relevant: Count | None = 8,
    start: Model | None = None,
    indexes: Mapping[str, Index | str | Path] | None = None,
    vectors: str | Path | None = None,
    topic_vectors: Embeddings | None = None,
    bm25: BM25 | None = None,
    seed: int = 7,
    dtype: str = "auto",
    config: MiningConfig | None = None,
    **options: Any,
) -> Candidates:
    """Candidates of a split's queries, by any number of retrievers, with the relevant documents.

    Args:
        dataset: Texts and judgements.
        split: Split whose queries are mined.
        queries: Some of them; ``None``: all.
        depth: Documents that each retriever puts forward per query.
        keep: Candidates per query.
        relevant: Relevant documents per query at most, the highest grades first; ``None``: all.
        start: The model that the retriever name ``start`` stands for; ``None``: that name is left out of the default
            retrievers, and refused where it is named.
        indexes: Folders of indexes by retriever; in Python also each ``Index``. One without is searched exactly.
        vectors: Folder that keeps the vectors of retrievers without an index; ``None``: only ``bm25`` and retrievers
            with an index can be named.
        topic_vectors: Vectors of the documents for the draw ``in-topic``; ``None``: those of the first retriever that
            has some in ``vectors``.
        bm25: BM25 over the documents, built before; ``None``: it is built where it is needed.
        seed: Random seed.
        dtype: What models compute in: ``"float32"``, ``"bfloat16"``, ``"float16"`` or ``"auto"``.
        config: The recipe's section ``mining``; ``filter`` and ``rounds`` are for other acts.
        options: Its keys by name, such as ``preset="hybrid-banded"`` or ``retrievers=["bm25", "my-model"]``.

    Returns:
        The candidates, a Run whose scores are those of the fusion (0 for a document that was not found); it holds the
        retrievers' ``lists``, what was ``drawn``, and the ``report``.

    Raises:
        UserError: An option is unknown, or a retriever is no model.

    Example:
        >>> import retrieval_distill as rd
        >>> pool = rd.mine(rd.load_dataset("data/sample"), retrievers=["bm25"], keep=3)
        >>> len(pool.query_ids) > 0
        True
    """
    from retrieval_distill.mining import mine as mining
    from retrieval_distill.mining.retrievers import Retrievers, default_retrievers

    first = None if start is None else fspath(start)
    chosen = configured(MiningConfig, config, default_retrievers(config, options, first), "mine")
    asked = dataset.queries(split) if queries is None else queries
    judged = dataset.qrels(split)
    folder = None if vectors is None else Path(vectors)
    retrievers = Retrievers(dataset, indexes or {}, folder, first, bm25, dtype)
    lists = retrievers.lists(chosen, asked, depth)
    topics = topic_vectors or retrievers.vectors(chosen)
    qrels = {id_: judged[id_] for id_ in asked}
    return mining.mine(lists, asked, qrels, dataset.documents, chosen, keep, seed, topics, relevant)


def filter_negatives(
    scored: Run, dataset: Dataset, *, split: str = "train", config: FilterConfig | None = None, **options: Any
) -> Run:
    """A scored run without what looks like false negatives.

    Args:
        scored: Candidates under a teacher's raw scores.
        dataset: Whose judgements tell the relevant ones, which always stay.
        split: Split of these judgements.
        config: The recipe's section ``mining.filter``.
        options: Its keys by name: ``lowest``, ``highest``, ``margin``, ``share_of_positive``, ``share_of_best``.

    Returns:
        The run; its ``facts["removed"]`` tells how many documents each rule would have removed alone.

    Raises:
        UserError: An option is unknown or out of bounds.
    """
    from retrieval_distill.data import generated
    from retrieval_distill.mining.negative_filters import keep_negatives

    config = configured(FilterConfig, config, options, "filter-negatives")
    kept, removed = keep_negatives(scored, generated.training_view(dataset, split).qrels(split), config)
    return kept.with_facts(removed={**removed, "all": len(scored) - len(kept)})
