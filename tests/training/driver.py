"""A small training as a function and as a program, so that tests can kill it or start it several times at once.

python -m tests.training.driver RECIPE.json FOLDER [STEP]     # killed after that step
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
from pathlib import Path

from retrieval_distill.config import parse_recipe
from retrieval_distill.data.dataset import Dataset
from retrieval_distill.data.formats import beir
from retrieval_distill.data.run import Run
from retrieval_distill.data.training_set import TrainingSet
from retrieval_distill.retrieval.bm25 import BM25
from retrieval_distill.runtime import processes
from retrieval_distill.training import checkpoints, distillation
from retrieval_distill.training.dev_retrieval import DevSet


def teacher_run(dataset: Dataset) -> Run:
    """Each query's relevant document and five others, under scores of a generator."""
    rng = random.Random(11)
    scores = {}
    for query, judged in dataset.qrels("train").items():
        others = rng.sample([doc for doc in dataset.documents if doc not in judged], 5)
        scores[query] = {doc: rng.gauss(4.0 if doc in judged else 0.0, 2.0) for doc in [*judged, *others]}
    return Run.from_dict(scores)


def dev_set(dataset: Dataset) -> DevSet:
    """The dev queries over all documents."""
    return DevSet(dataset.queries("dev"), dataset.qrels("dev"), dataset.documents)


def distill(values: dict, folder: Path, run: Run | None = None) -> dict:
    """Train and give back the counts."""
    dataset = beir.load(values["dataset"]["source"])
    recipe = parse_recipe(values)
    dev = dev_set(dataset) if recipe.training.evaluate_steps else None
    learnt = TrainingSet(run or teacher_run(dataset), dataset.qrels("train"), dataset.queries, dataset.documents)
    return distillation.distill(learnt, recipe, folder, dev, bm25=BM25(dataset.documents).score_matrix)


def train(values: dict, folder: Path, run: Run | None = None) -> list[dict]:
    """Train and give back the log."""
    distill(values, folder, run)
    return json.loads((folder / "training_log.json").read_text())


def die_after(step: int) -> None:
    real = checkpoints.Advance.on_step_end

    def dying(self, args, state, control, **rest):
        real(self, args, state, control, **rest)
        if state.global_step == step:
            os.kill(os.getpid(), signal.SIGKILL)

    checkpoints.Advance.on_step_end = dying


if __name__ == "__main__":
    if len(sys.argv) > 3:
        die_after(int(sys.argv[3]))
    train(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2]))
    processes.leave()
