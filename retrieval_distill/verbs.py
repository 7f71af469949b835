"""The verbs: what the command line, a recipe and Python code do, each in one function.

Each takes the nouns (Dataset, Run, folders of models and vectors) and gives one back; a stage of the pipeline adds
only where results are kept. Knows how rooms fit together; must not know recipes or option parsing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from retrieval_distill import artifacts, models
from retrieval_distill.artifacts import Manifest
from retrieval_distill.config import Recipe
from retrieval_distill.data.dataset import Dataset, Texts
from retrieval_distill.evaluation import compare, measures
from retrieval_distill.indexing import faiss_index
from retrieval_distill.indexing.embed import embed
from retrieval_distill.indexing.faiss_index import Index, index
from retrieval_distill.retrieval.bm25 import BM25
from retrieval_distill.retrieval.fusion import reciprocal_rank_fusion
from retrieval_distill.retrieval.run import Run
from retrieval_distill.teacher import scoring
from retrieval_distill.teacher.scoring import Teacher
from retrieval_distill.teacher.store import ScoreStore

__all__ = ["distill", "embed", "evaluate", "index", "load_teacher", "rerank", "retrieve", "score", "search"]


def retrieve(
    documents: Texts,
    queries: Texts,
    depth: int = 100,
    index_folder: str | Path | None = None,
    model: str | None = None,
    k1: float = 1.5,
    b: float = 0.75,
    stemmer: str | None = None,
) -> Run:
    """First-stage retrieval: BM25, fused with dense search where an index is given.

    Args:
        documents: The corpus.
        queries: What to ask.
        depth: Documents per query that each retriever puts forward, and that are kept.
        index_folder: Index written by ``index``; ``None`` retrieves with BM25 alone.
        model: The bi-encoder the index was built with.
        k1: BM25's term-frequency saturation.
        b: BM25's length normalisation.
        stemmer: PyStemmer language for BM25, or ``None``.
    """
    lexical = BM25(documents, k1, b, stemmer).search(queries, depth)
    if index_folder is None or model is None:
        return lexical
    return reciprocal_rank_fusion([lexical, search(index_folder, model, queries, depth)]).top(depth)


def search(index_folder: str | Path, model: str, queries: Texts, depth: int = 100, dtype: str = "auto") -> Run:
    """Dense search of an index with the model it was built with."""
    return faiss_index.search(Index.open(index_folder), model, queries, depth, dtype)


def load_teacher(name: str, max_length: int | None = 512, dtype: str = "auto") -> Teacher:
    """A cross-encoder teacher by hub id, folder or ``"starter"``."""
    from retrieval_distill.teacher import cross_encoder

    return cross_encoder.load(name, max_length, dtype)


def score(
    run: Run, queries: Texts, documents: Texts, teacher: Teacher, store: str | Path
) -> tuple[Run, dict[str, int]]:
    """Raw teacher logits for every pair of a Run, through the score store in folder ``store``."""
    return scoring.score(run, queries, documents, teacher, ScoreStore(store))


def distill(run: Run, dataset: Dataset, split: str, recipe: Recipe, folder: str | Path) -> Manifest:
    """Train a student on raw teacher scores; a killed training continues, a finished one is kept.

    Args:
        run: Candidates of the split's queries under teacher scores.
        dataset: Texts and judgements.
        split: Which judgements tell relevant candidates from the others.
        recipe: Its sections ``student``, ``objectives`` and ``training`` and its ``seed`` are used.
        folder: Where the student goes; ``SentenceTransformer(folder)`` loads it.
    """

    def work(out: Path) -> dict[str, Any]:
        from retrieval_distill.training.trainer import distill

        return distill(run, dataset.split(split), dataset.queries, dataset.documents, recipe, out)

    inputs = {
        "scores": artifacts.fingerprint(run.frame.to_csv(index=False)),
        "texts": [dataset.documents.fingerprint, dataset.queries.fingerprint],
        "qrels": artifacts.fingerprint(dataset.split(split)),
        "model": models.fingerprint(recipe.student.model),
        "seed": recipe.seed,
        **recipe.model_dump(mode="json", include={"student", "objectives", "training"}),
    }
    return artifacts.stage("distill", folder, inputs, work)


def rerank(
    run: Run, queries: Texts, documents: Texts, teacher: Teacher, store: str | Path, depth: int
) -> tuple[Run, dict[str, int]]:
    """The first ``depth`` documents of every query in the teacher's order, the others below them in their old order."""
    head, counts = score(run.top(depth), queries, documents, teacher, store)
    tail = run.frame[run.frame.groupby("query_id", sort=False).cumcount() >= depth]
    if tail.empty:
        return head, counts
    floor = tail["query_id"].map(head.frame.groupby("query_id")["score"].min())
    below = tail.groupby("query_id", sort=False).cumcount() + 1
    merged = pd.concat([head.frame, tail.assign(score=floor - below)])
    return Run.from_columns(merged["query_id"], merged["doc_id"], merged["score"]), counts


def evaluate(
    systems: Mapping[str, Run], dataset: Dataset, split: str, names: Sequence[str] = measures.DEFAULT_MEASURES
) -> dict[str, dict[str, Any]]:
    """Measures of several Runs over the same judged queries, with intervals and paired tests between them."""
    return compare.compare(systems, dataset.split(split), names)
