"""Verbs of teachers: ``load_teacher``, ``score``, ``rerank``, ``fit_teacher``."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from retrieval_distill import models
from retrieval_distill.api.candidates import retrieve
from retrieval_distill.api.vectors import index
from retrieval_distill.config import NO_LIMIT, MemberConfig, parse
from retrieval_distill.config.fit_teacher import FitTeacherConfig
from retrieval_distill.data import generated
from retrieval_distill.data.dataset import Dataset, Qrels
from retrieval_distill.data.run import Run
from retrieval_distill.embedding.embed import embed
from retrieval_distill.errors import UserError
from retrieval_distill.runtime import processes, stages
from retrieval_distill.runtime.stages import Manifest
from retrieval_distill.scores.contract import Teacher
from retrieval_distill.teacher.rerank import rerank, score

__all__ = ["fit_teacher", "load_teacher", "rerank", "score"]

TRAIN_DEPTH = 30
"""Candidates per training query, from which its hard negatives are drawn."""


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

    limit = NO_LIMIT if max_length is None else max_length
    values = {"model": name, "max_length": limit, "dtype": dtype, **options}
    return load.load(parse(MemberConfig, values, "teacher", overrides))


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

    config = parse(FitTeacherConfig, dict(options), "fit-teacher", overrides)
    return fit_on(dataset, config, folder, bi_encoder, train, dev)


def fit_on(
    dataset: Dataset,
    config: FitTeacherConfig,
    folder: str | Path,
    bi_encoder: str | None = None,
    train: str = "train",
    dev: str | None = "dev",
) -> Manifest:
    """Fine-tune a cross-encoder on a dataset's judgements; candidates are found here.

    Args:
        dataset: Texts and judgements.
        config: What to train and how.
        folder: Where the teacher goes; candidates are kept beside it, in ``FOLDER-candidates``.
        bi_encoder: Its search is fused with BM25's; ``None``: BM25 alone.
        train: Split to learn from.
        dev: Split that tells which weights are best; ``None``, or one the dataset lacks: the last weights are kept.

    Returns:
        The manifest; its ``counts`` hold ``dev``: the measure before and after, with its doubt.

    Raises:
        UserError: No training query is judged, or the model is not to be had.
    """
    from retrieval_distill.teacher.fitting import fit
    from retrieval_distill.training.groups import with_relevant

    folder = Path(folder)
    qrels = {"train": _judged(dataset, train)}
    if dev is not None and dev in dataset.qrels:
        qrels["dev"] = _sample(_judged(dataset, dev), config.dev_queries, config.seed)
    found = folder.with_name(f"{folder.name}-candidates")
    depth = max(TRAIN_DEPTH, config.dev_depth)
    inputs = {
        "texts": [dataset.documents.fingerprint, dataset.queries.fingerprint],
        "queries": stages.fingerprint([list(judged) for judged in qrels.values()]),
        "bi_encoder": models.fingerprint(bi_encoder) if bi_encoder else None,
        "depth": depth,
    }
    stages.stage("retrieve", found, inputs, lambda out: _retrieve(dataset, qrels, depth, bi_encoder, out))
    runs = {split: Run.load(found / f"{split}.parquet") for split in qrels}
    asked = (with_relevant(runs["dev"].top(config.dev_depth), qrels["dev"]), qrels["dev"]) if "dev" in qrels else None
    candidates = generated.renamed(with_relevant(runs["train"].top(TRAIN_DEPTH), qrels["train"]), dataset)
    seen = generated.as_trained(dataset, train)
    return fit.fit_teacher(config, candidates, _judged(seen, train), dataset.queries, seen.documents, asked, folder)


def _judged(dataset: Dataset, split: str) -> Qrels:
    """The judgements of a split's queries that have a text and a relevant document."""
    from retrieval_distill.teacher.fitting.fit import NEEDED

    if split not in dataset.qrels:
        splits = ", ".join(dataset.qrels) or "none"
        raise UserError(f"{NEEDED}; dataset {dataset.name!r} has no split {split!r}, it has: {splits}")
    judged = dataset.split(split)
    kept = {id_: judged[id_] for id_ in dataset.queries_of(split) if any(grade > 0 for grade in judged[id_].values())}
    if not kept:
        raise UserError(f"{NEEDED}; split {split!r} of dataset {dataset.name!r} has none")
    return kept


def _sample(qrels: Qrels, count: int, seed: int) -> Qrels:
    ids = list(qrels)
    if count >= len(ids):
        return qrels
    return {ids[row]: qrels[ids[row]] for row in sorted(np.random.default_rng(seed).choice(len(ids), count, False))}


def _retrieve(
    dataset: Dataset, qrels: dict[str, Qrels], depth: int, bi_encoder: str | None, out: Path
) -> dict[str, Any]:
    """Candidates of every split, a query's own document left out, as in evaluation."""
    if bi_encoder:
        embed(bi_encoder, dataset.documents, out / "embeddings")
        index(out / "embeddings", out / "index")
    queries = dataset.queries.select(list(dict.fromkeys(id_ for judged in qrels.values() for id_ in judged)))
    built = out / "index" if bi_encoder else None
    run = retrieve(dataset.documents, queries, depth, built, bi_encoder)
    found = Run(run.frame[run.frame["query_id"] != run.frame["doc_id"]].reset_index(drop=True))
    for split, judged in qrels.items():
        found.select(list(judged)).save(out / f"{split}.parquet")
    for used in ("embeddings", "index"):
        shutil.rmtree(out / used, ignore_errors=True)
    return {"queries": len(queries), "pairs": len(found)}
