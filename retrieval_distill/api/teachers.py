"""Verbs of teachers: ``load_teacher``, ``score``, ``rerank``, ``fit_teacher``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from retrieval_distill.config import parse, parse_teacher
from retrieval_distill.data.dataset import AnyTexts, Dataset, Texts
from retrieval_distill.data.run import Run
from retrieval_distill.errors import UserError, nearest
from retrieval_distill.runtime import processes
from retrieval_distill.runtime.stages import Manifest
from retrieval_distill.scores.contract import Teacher
from retrieval_distill.scores.store import ScoreStore
from retrieval_distill.teacher import ensemble, scoring
from retrieval_distill.teacher.ensemble import Ensemble


def load_teacher(
    name: str, max_length: int | None = 512, dtype: str = "auto", overrides: Sequence[str] = (), **options: Any
) -> Teacher:
    """A teacher by name.

    Args:
        name: A cross-encoder (hub id, folder, ``starter``), ``bi-encoder:NAME``, ``llm:NAME`` or ``scores:FILE``.
        max_length: Tokens of a pair, at most the model's own limit, which ``None`` stands for.
        dtype: What the model computes in; ``"auto"``: bfloat16 where it is native.
        overrides: Other keys of a recipe's teacher section, as ``"llm.endpoint=http://localhost:8000/v1"``.
        options: The same as Python values, such as ``label=1`` or ``llm={"endpoint": URL}``.

    Raises:
        UserError: No such teacher, or an option is missing or unknown.
    """
    from retrieval_distill.teacher import load

    return load.load(parse_teacher(name, max_length, dtype, overrides, **options))


def score(
    run: Run,
    queries: AnyTexts,
    documents: AnyTexts,
    teacher: Teacher | Ensemble,
    store: str | Path,
    engine: str = "local",
) -> tuple[Run, dict[str, Any]]:
    """A teacher's raw scores for every pair of a Run, through the score store in folder ``store``.

    Several teachers (an ensemble) give calibrated scores; the store keeps each one's raw ones. With ``engine="ray"``
    a cross-encoder scores on the nodes of a Ray cluster (``RAY_ADDRESS``), and the store stays here.
    """
    queries, documents = Texts.of(queries), Texts.of(documents)
    if engine not in ("local", "ray"):
        raise UserError(f"engine {engine!r} is unknown{nearest(engine, ('local', 'ray'))}")
    if engine == "ray":
        from retrieval_distill.teacher.on_cluster import on_cluster

        teacher = on_cluster(teacher)
    if isinstance(teacher, Ensemble):
        return ensemble.score(run, queries, documents, teacher, ScoreStore(store))
    return scoring.score(run, queries, documents, teacher, ScoreStore(store))


def rerank(
    run: Run, queries: AnyTexts, documents: AnyTexts, teacher: Teacher | Ensemble, store: str | Path, depth: int
) -> tuple[Run, dict[str, Any]]:
    """The first ``depth`` documents of every query in the teacher's order, the others below them in their old order."""
    head, counts = score(run.top(depth), queries, documents, teacher, store)
    tail = run.frame[run.frame.groupby("query_id", sort=False).cumcount() >= depth]
    if tail.empty:
        return head, counts
    floor = tail["query_id"].map(head.frame.groupby("query_id")["score"].min())
    below = tail.groupby("query_id", sort=False).cumcount() + 1
    merged = pd.concat([head.frame, tail.assign(score=floor - below)])
    return Run.from_columns(merged["query_id"], merged["doc_id"], merged["score"]), counts


def fit_teacher(
    dataset: Dataset, folder: str | Path, overrides: Sequence[str] = (), bi_encoder: str | None = None,
    train: str = "train", dev: str | None = "dev", **options: Any,
) -> Manifest:  # fmt: skip
    """Fine-tune a cross-encoder on a dataset's judgements; ``load_teacher(folder)`` loads it.

    Args:
        dataset: Texts and judgements.
        folder: Where the teacher goes; a killed fit continues, a finished one is kept.
        overrides: Keys of ``FitTeacherConfig``, as ``"loss=lambda"``.
        bi_encoder: Fused with BM25 to find hard candidates; ``None``: BM25 alone.
        train: Split to learn from.
        dev: Split that tells which weights to keep; ``None``: the last ones are kept.
        options: Keys of ``FitTeacherConfig`` as Python values.

    Raises:
        UserError: Several processes were started, or see ``retrieval_distill.teacher.fitting.fit``.
    """
    if processes.count() > 1:
        raise UserError("fit-teacher trains in one process; start it without torchrun")
    from retrieval_distill.config.fit_teacher import FitTeacherConfig
    from retrieval_distill.teacher.fitting.fit import fit_on

    config = parse(FitTeacherConfig, dict(options), "fit-teacher", overrides)
    return fit_on(dataset, config, folder, bi_encoder, train, dev)
