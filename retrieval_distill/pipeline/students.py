"""The stage that trains the student."""

from __future__ import annotations

from retrieval_distill import api
from retrieval_distill.data.run import Run
from retrieval_distill.pipeline.rounds import Round


def distill(turn: Round) -> None:
    """The student, trained on the teacher's scores of the round's candidates."""
    job = turn.job
    lists = Run.load(turn.out / "training-lists" / "run.parquet")
    dev = None
    if job.recipe.training.evaluate_steps:
        dev = Run.load(job.out / "dev-candidates" / "run.parquet"), job.dev_split()
    split = job.train_split
    job.__dict__.pop("teachers", None)  # make room: their scores are all there
    turn.note("distill", api.distill(lists, job.dataset, split, turn.recipe, turn.out / "student", dev))
