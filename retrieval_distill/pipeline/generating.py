"""The stage that makes training queries from the documents."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from retrieval_distill.config.generate import RoundTripConfig
from retrieval_distill.data import generated
from retrieval_distill.data.dataset import Texts
from retrieval_distill.data.formats.sidecars import GENERATED
from retrieval_distill.data.run import Run
from retrieval_distill.generate.generate import generate as generate_into
from retrieval_distill.generate.round_trip import Asked
from retrieval_distill.pipeline.job import Job
from retrieval_distill.scores.store import ScoreStore
from retrieval_distill.teacher import gate
from retrieval_distill.teacher.ensemble import raw_scores


def generate(job: Job) -> None:
    """Queries for training, as the recipe's ``generate`` says; from then on they are the dataset's."""
    config, folder = job.recipe.generate, job.out / "generated"
    assert config is not None

    def save(made: pd.DataFrame, out: Path) -> None:
        made.to_parquet(out / GENERATED, index=False)

    asked = _asked(job, config.round_trip)
    job.note("generate", generate_into(job.dataset, folder, config, job.recipe.seed, asked, save))
    job.dataset = generated.merged(job.dataset, pd.read_parquet(folder / GENERATED))


def _asked(job: Job, config: RoundTripConfig) -> Asked:
    """The first stage and the teachers of the recipe."""
    identity = {
        "start": job.manifests["index-start"]["fingerprint"],
        "retrieve": job.recipe.retrieve.model_dump(include={"k1", "b", "stemmer"}),
        "teacher": job.teacher_inputs if config.asks_teacher else None,
    }

    def score(run: Run, queries: Texts, documents: Texts) -> Run:
        raw, _ = raw_scores(run, queries, documents, job.teachers, ScoreStore(job.store))
        return gate.calibrate(job.teachers, raw, None, job.recipe.teacher).apply(raw)

    return Asked(job.first_stage, score, identity)
