"""Verbs that find documents for queries, to answer or to train: ``retrieve``, ``mine``, ``filter_negatives``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from retrieval_distill import api
from retrieval_distill.config import MiningConfig, parse
from retrieval_distill.data.dataset import AnyTexts, Dataset, Texts
from retrieval_distill.data.run import Run
from retrieval_distill.retrieval.bm25 import BM25
from retrieval_distill.retrieval.fusion import reciprocal_rank_fusion


def retrieve(
    documents: AnyTexts,
    queries: AnyTexts,
    depth: int = 100,
    index_folder: str | Path | None = None,
    model: str | None = None,
    k1: float = 1.5,
    b: float = 0.75,
    stemmer: str | None = None,
    language: str = "english",
) -> Run:
    """First-stage retrieval: BM25, fused with dense search where an index is given.

    Args:
        documents: The corpus: ``Texts``, or what :meth:`Texts.of` makes them of, as a dictionary of ids and texts.
        queries: What to ask, likewise.
        depth: Documents per query that each retriever puts forward, and that are kept.
        index_folder: Index written by ``index``; ``None`` retrieves with BM25 alone.
        model: The bi-encoder the index was built with.
        k1: BM25's term-frequency saturation.
        b: BM25's length normalisation.
        stemmer: PyStemmer language for BM25, or ``None``.
        language: Whose stop words BM25 leaves out; ``"none"``: every word counts.

    Raises:
        UserError: There is no such stemmer or language.
    """
    documents, queries = Texts.of(documents), Texts.of(queries)
    lexical = BM25(documents, k1, b, stemmer, language).search(queries, depth)
    if index_folder is None or model is None:
        return lexical
    return reciprocal_rank_fusion([lexical, api.search(index_folder, model, queries, depth)]).top(depth)


def mine(
    dataset: Dataset,
    folder: str | Path,
    split: str = "train",
    depth: int = 30,
    keep: int = 12,
    seed: int = 7,
    dtype: str = "auto",
    overrides: Sequence[str] = (),
    **options: Any,
) -> tuple[Run, dict[str, Any]]:
    """Candidates of a split's queries, by any number of retrievers, with every relevant document.

    Args:
        dataset: Texts and judgements.
        folder: Keeps the vectors of the retrievers, so that they are made once.
        split: Whose queries are mined.
        depth: Documents that each retriever puts forward per query.
        keep: Candidates per query.
        seed: Of every draw.
        dtype: What models compute in.
        overrides: Keys of a recipe's section ``mining``, as ``"retrievers=[bm25, my-model]"``; those for scores
            (``filter``) and training (``rounds``) do nothing here.
        options: The same as Python values.

    Returns:
        The candidates; their scores are those of the fusion, 0 where there is none. And the mining report, see
        :func:`retrieval_distill.mining.report.of_lists`, with the ``copies`` of relevant documents left out.

    Raises:
        UserError: An option is unknown, or a retriever is no model; ``start`` is none outside of a recipe.
    """
    from retrieval_distill.mining import report
    from retrieval_distill.mining.mine import mine
    from retrieval_distill.mining.search import search_all

    config = parse(MiningConfig, dict(options), "mine", overrides)
    queries, qrels = dataset.queries_of(split), dataset.split(split)
    lists, vectors = search_all(config, queries, dataset.documents, depth, Path(folder), dtype)
    mined = mine(lists, queries, qrels, dataset.documents, config, keep, seed, vectors)
    return mined.candidates, {**report.of_lists(lists, mined.drawn, qrels), "copies": mined.copies}


def filter_negatives(
    scored: Run, dataset: Dataset, split: str = "train", overrides: Sequence[str] = (), **options: Any
) -> tuple[Run, dict[str, int]]:
    """A scored run without what looks like false negatives.

    Args:
        scored: Candidates under a teacher's raw scores.
        dataset: Whose judgements tell the relevant ones, which always stay.
        split: Of these judgements.
        overrides: Keys of a recipe's section ``mining.filter``, as ``"margin=1"``.
        options: The same as Python values.

    Returns:
        The run, and how many documents each rule would have removed alone.

    Raises:
        UserError: An option is unknown or out of bounds.
    """
    from retrieval_distill.config import FilterConfig
    from retrieval_distill.data import generated
    from retrieval_distill.mining.filters import keep_negatives

    config = parse(FilterConfig, dict(options), "filter-negatives", overrides)
    return keep_negatives(scored, generated.as_trained(dataset, split).split(split), config)
