"""Verbs of teachers: ``load_teacher``, ``gate``, ``score``, ``rerank``, ``fit_teacher``.

Knows Runs, datasets and the score store; must not know what kind of teacher scores.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from retrieval_distill import models
from retrieval_distill.api.candidates import retrieve
from retrieval_distill.api.nouns import dataset_of, documents_of, run_of
from retrieval_distill.api.vectors import embed, index
from retrieval_distill.bounds import Count, Tokens, bounded
from retrieval_distill.config import MemberConfig, TeacherConfig, configured, parse_teacher
from retrieval_distill.config.fit_teacher import FitTeacherConfig
from retrieval_distill.data import generated
from retrieval_distill.data.dataset import Dataset, Qrels, Texts
from retrieval_distill.data.relevance import with_relevant
from retrieval_distill.data.run import Run
from retrieval_distill.data.training_set import TrainingSet
from retrieval_distill.errors import UserError, nearest
from retrieval_distill.evaluation import self_hits
from retrieval_distill.runtime import destination, processes, stages

if TYPE_CHECKING:
    from retrieval_distill.api.nouns import Documents, Model, Runs
    from retrieval_distill.scores.teacher_contract import Teacher
    from retrieval_distill.teacher.calibration.calibration import Calibration
    from retrieval_distill.teacher.ensemble import Ensemble
    from retrieval_distill.teacher.gate import Gate

TRAIN_DEPTH = 30
"""Candidates per training query, from which ``fit_teacher`` draws its hard negatives."""

VECTORS, INDEX = "embeddings", "index"
"""What ``fit_teacher`` finds candidates with, in their folder, until they are found."""

ENGINES = ("local", "ray")


@bounded
def load_teacher(
    name: Model,
    *,
    max_length: Tokens | None = None,
    dtype: str = "auto",
    documents: Documents | None = None,
    **options: Any,
) -> Teacher:
    """A teacher by name.

    Args:
        name: A cross-encoder (hub id, folder, ``starter``), ``bi-encoder:NAME``, ``bm25``, ``llm:NAME``,
            ``api:NAME`` or ``scores:FILE``.
        max_length: Tokens of a pair, at most the model's own limit, or of a bi-encoder's text; ``None``: 512 of a pair,
            and a bi-encoder's own limit.
        dtype: What the model computes in: ``"float32"``, ``"bfloat16"``, ``"float16"`` or ``"auto"``, which is bfloat16
            where that is native.
        documents: The corpus, or a ``Dataset``, in which ``bm25`` counts words; other teachers need none.
        options: Other keys of a recipe's section ``teacher``, such as ``label=1`` or ``llm={"endpoint": URL}``.

    Raises:
        UserError: No such teacher, or an option is missing or unknown.
    """
    from retrieval_distill.teacher import teacher_loader

    corpus = teacher_loader.Corpus(None if documents is None else documents_of(documents))
    return teacher_loader.load(parse_teacher(fspath(name), max_length, dtype, **options), corpus)


def gate(
    dataset: Dataset,
    *,
    teacher: Teacher | Sequence[Teacher],
    baselines: Runs,
    store: str | Path,
    split: str | None = "dev",
    measure: str = "nDCG@10",
    config: TeacherConfig | None = None,
) -> Gate:
    """Is this teacher better than what it would replace, here? Asked before the costly part.

    The teacher reranks each baseline's own documents. What a recipe's ``normalise`` and ``weights`` ask for is fitted
    on every second query and judged on the others.

    Args:
        dataset: Texts and judgements.
        teacher: One, or several that score together.
        baselines: First-stage Runs of the same queries by name, cut to the depth that is reranked.
        store: Folder of the score store; pairs in it are never scored again.
        split: Split that judges the runs' queries; ``None``: none does, and only agreement is reported.
        measure: What the teacher is judged by, as ir_measures names it.
        config: The recipe's section ``teacher``; ``None``: raw scores, un-squashed where a sigmoid squashed them.

    Raises:
        UserError: The teacher cannot score a pair, or something has to be fitted without judgements.
    """
    from retrieval_distill.scores.store import ScoreStore
    from retrieval_distill.teacher import gate as gating
    from retrieval_distill.teacher.ensemble import raw_scores

    teachers, runs = _members(teacher), {name: run_of(run) for name, run in baselines.items()}
    asked = dict.fromkeys(id_ for run in runs.values() for id_ in run.query_ids)
    judged = {} if split is None else generated.held_out_view(dataset, split).qrels(split)
    qrels = None if split is None else {id_: judged[id_] for id_ in asked}
    runs = {name: generated.use_copies(run, dataset) for name, run in runs.items()} if judged else runs
    runs = dict(self_hits.without_self_hits(runs, dataset, qrels or {}))
    pairs = gating.union(runs)
    raw, facts = raw_scores(pairs, dataset.queries, generated.with_copies(dataset), teachers, ScoreStore(store))
    verdict, calibration = gating.decide(teachers, raw, runs, qrels, _config(config, teachers), measure)
    return gating.Gate(verdict, calibration, facts)


def score(
    run: Run | Mapping[str, Mapping[str, float]],
    dataset: Dataset | Mapping[str, Any],
    *,
    teacher: Teacher | Ensemble | Sequence[Teacher],
    store: str | Path,
    calibration: Calibration | None = None,
    config: TeacherConfig | None = None,
    engine: str = "local",
) -> Run:
    """Teacher scores for every pair of a Run; raw scores are kept in the store, so asking twice costs nothing.

    Args:
        run: The pairs; their own scores do not matter.
        dataset: Texts of the queries and documents, also as ``{"documents": {id: text}, "queries": {id: text}}``. A
            generated query's document is read as training will see it.
        teacher: One, or several that score together.
        store: Folder of the score store; pairs in it are never scored again.
        calibration: How raw scores become what students learn from, as ``gate`` settled it; ``None``: as ``config``
            says.
        config: The recipe's section ``teacher``: its ``normalise``, ``weights`` and ``squashed``; ``None``: raw scores,
            un-squashed where a sigmoid squashed them to 0..1.
        engine: ``"local"``, or ``"ray"``: one cross-encoder on the nodes of a Ray cluster (``RAY_ADDRESS``).

    Returns:
        The same pairs under their scores; ``facts`` has ``pairs``, ``scored`` (now), ``stored`` (before), each
        teacher's ``raw`` Run and the ``calibration``.

    Raises:
        UserError: The teacher cannot score a pair; what it scored before is kept. Or a text is missing.
    """
    from retrieval_distill.scores.store import ScoreStore
    from retrieval_distill.teacher import gate as gating
    from retrieval_distill.teacher.ensemble import Ensemble, raw_scores

    if engine not in ENGINES:
        raise UserError(f"engine {engine!r} is unknown{nearest(engine, ENGINES)}")
    if engine == "ray":
        from retrieval_distill.teacher.cluster_teacher import on_cluster

        teacher = [on_cluster(*_members(teacher))]
    teachers = _members(teacher)
    if calibration is None and isinstance(teacher, Ensemble):
        calibration = teacher.calibration
    data = dataset_of(dataset)
    pairs = generated.use_copies(run_of(run), data)
    raw, facts = raw_scores(pairs, data.queries, generated.with_copies(data), teachers, ScoreStore(store))
    if calibration is None:
        calibration = gating.calibrate(teachers, raw, None, _config(config, teachers))
    return calibration.apply(raw).with_facts(**facts, raw=raw, calibration=calibration)


@bounded
def rerank(
    run: Run | Mapping[str, Mapping[str, float]],
    dataset: Dataset | Mapping[str, Any],
    *,
    teacher: Teacher | Ensemble,
    store: str | Path,
    depth: Count = 100,
) -> Run:
    """The first ``depth`` documents of every query in the teacher's order, the others below them in their old order.

    Args:
        run: A first stage.
        dataset: Texts of the queries and documents, also as ``{"documents": {id: text}, "queries": {id: text}}``.
        teacher: Reads query and document together.
        store: Folder of the score store; pairs in it are never scored again.
        depth: Documents per query that are reordered.

    Returns:
        The reordered run; ``facts`` has ``pairs``, ``scored`` (now) and ``stored`` (before).

    Raises:
        UserError: As ``score``.
    """
    from retrieval_distill.teacher import rerank as reranking

    data = dataset_of(dataset)
    return reranking.rerank(run_of(run), data.queries, data.documents, teacher, store, depth)


def fit_teacher(
    dataset: Dataset,
    *,
    out: str | Path,
    bi_encoder: Model | None = None,
    train: str = "train",
    dev: str | None = "dev",
    config: FitTeacherConfig | None = None,
    **options: Any,
) -> Teacher:
    """Fine-tune a cross-encoder on a dataset's judgements; a killed fit continues, a finished one is kept.

    Args:
        dataset: Texts and judgements.
        out: Folder of the teacher; candidates are kept beside it, in ``OUT-candidates``.
        bi_encoder: Bi-encoder that is fused with BM25 to find hard candidates; ``None``: BM25 alone.
        train: Split to learn from.
        dev: Split that tells which weights to keep; ``None``, or one the dataset lacks: the last ones are kept.
        config: How to train.
        options: Its keys by name, such as ``loss="lambda"``, ``adapter="none"`` or ``steps=500``.

    Raises:
        UserError: Several processes were started, no training query is judged, or the model is not to be had.
    """
    from retrieval_distill.teacher.fitting import fit

    if processes.count() > 1:
        raise UserError("fit-teacher trains in one process; start it without torchrun")
    chosen, folder = configured(FitTeacherConfig, config, options, "fit-teacher"), Path(out)
    destination.check_stage_folder(folder, "fit-teacher")
    qrels = {"train": _judged(dataset, train)}
    if dev is not None and dev in dataset.qrels:
        qrels["dev"] = _sample(_judged(dataset, dev), chosen.dev_queries, chosen.seed)
    found = folder.with_name(f"{folder.name}-candidates")
    depth, name = max(TRAIN_DEPTH, chosen.dev_depth), None if bi_encoder is None else fspath(bi_encoder)
    inputs = {
        "texts": [dataset.documents.fingerprint, dataset.queries.fingerprint],
        "queries": stages.fingerprint([list(judged) for judged in qrels.values()]),
        "bi_encoder": models.fingerprint(name) if name else None,
        "depth": depth,
    }

    def work(folder: Path) -> dict[str, Any]:
        return _retrieve(dataset, qrels, depth, name, folder)

    stages.stage("retrieve", found, inputs, work, scratch=(VECTORS, INDEX))
    runs = {split: Run.load(found / f"{split}.parquet") for split in qrels}
    seen = generated.training_view(dataset, train)
    candidates = generated.use_copies(with_relevant(runs["train"].top(TRAIN_DEPTH), qrels["train"]), dataset)
    learnt = TrainingSet(candidates, _judged(seen, train), dataset.queries, seen.documents)
    asked = None
    if "dev" in qrels:
        pool = with_relevant(runs["dev"].top(chosen.dev_depth), qrels["dev"])
        asked = TrainingSet(pool, qrels["dev"], dataset.queries, seen.documents)
    fit.fit_teacher(chosen, learnt, asked, folder)
    return load_teacher(folder)


def _members(teacher: Any) -> tuple[Teacher, ...]:
    from retrieval_distill.teacher.ensemble import Ensemble

    if isinstance(teacher, Ensemble):
        return teacher.teachers
    return tuple(teacher) if isinstance(teacher, Sequence) else (teacher,)


def _config(config: TeacherConfig | None, teachers: Sequence[Teacher]) -> TeacherConfig:
    return config or TeacherConfig(ensemble=tuple(MemberConfig() for _ in teachers))


def _judged(dataset: Dataset, split: str) -> Qrels:
    """The judgements of a split's queries that have a text and a relevant document."""
    from retrieval_distill.teacher.fitting.fit import NEEDED

    if split not in dataset.qrels:
        splits = ", ".join(dataset.qrels) or "none"
        raise UserError(f"{NEEDED}; dataset {dataset.name!r} has no split {split!r}, it has: {splits}")
    judged = dataset.qrels(split)
    kept = {id_: judged[id_] for id_ in dataset.queries(split) if any(grade > 0 for grade in judged[id_].values())}
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
    """Candidates of every split; where queries are documents, without their own, as in evaluation."""
    queries: Texts = dataset.queries.select(list(dict.fromkeys(id_ for judged in qrels.values() for id_ in judged)))
    built = None
    if bi_encoder:
        built = index(embed(dataset.documents, bi_encoder, out=out / VECTORS), out=out / INDEX)
    run = retrieve(queries, dataset.documents, depth=depth, index=built, model=bi_encoder)
    every = {query: grades for judged in qrels.values() for query, grades in judged.items()}
    found = self_hits.drop_self_hits(run, queries, dataset.documents, every)
    for split, judged in qrels.items():
        found.select(list(judged)).save(out / f"{split}.parquet")
    return {"queries": len(queries), "pairs": len(found)}
