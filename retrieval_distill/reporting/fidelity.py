"""The report's section on how faithful the student is to its teacher, with the queries where they differ most.

Knows a finished run's folder; must not know how agreement is computed or how the section looks.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from retrieval_distill.config import Recipe
from retrieval_distill.data.dataset import Dataset
from retrieval_distill.data.run import Run
from retrieval_distill.evaluation import fidelity
from retrieval_distill.objectives import Mix
from retrieval_distill.objectives.listwise_kl import ListwiseKL
from retrieval_distill.reporting.rankings import side_by_side
from retrieval_distill.reporting.report_distillation import Fidelity


def section(out: Path, teacher: Run, values: pd.DataFrame, dataset: Dataset, recipe: Recipe) -> Fidelity:
    """Compare the order of the documents that the teacher reranked for the test queries.

    Args:
        out: The run's folder; ``runs/student-on-pool.parquet`` holds the student's scores of those documents.
        teacher: The teacher's run.
        values: As :func:`retrieval_distill.evaluation.compare.per_query` gives them.
        dataset: Texts and judgements.
        recipe: The run's.
    """
    depth, temperatures = recipe.evaluate.rerank_depth, _temperatures(recipe)
    pool = teacher.top(depth), Run.load(out / "runs" / "student-on-pool.parquet")
    agreement = fidelity.per_query(*pool, *temperatures.values())
    headline = values.pivot(index="query_id", columns="system", values=recipe.evaluate.measures[0])
    return Fidelity(
        depth=depth,
        temperatures=temperatures,
        **fidelity.summarise(agreement),
        **fidelity.gain({name: headline[name].to_numpy() for name in ("student", "teacher", "start")}),
        worst=side_by_side(*pool, fidelity.worst(agreement), dataset, dataset.qrels(recipe.dataset.measured)),
    )


def _temperatures(recipe: Recipe) -> dict[str, float]:
    """Those at which training compared both distributions, or would have; the student's undoes its scale."""
    part = Mix(recipe.objectives).parts.get("listwise_kl")
    objective: Any = part.objective if part else ListwiseKL()
    return {
        "teacher": objective.teacher_temperature,
        "student": objective.student_temperature / recipe.student.scale,
    }
