"""A run's folder, read for its report: what is there, and which stages are still to come.

Knows where a run keeps its files; must not know how they are measured or shown.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from retrieval_distill.config import parse_recipe
from retrieval_distill.data import feedback_queries, generated, sources
from retrieval_distill.data.dataset import Dataset
from retrieval_distill.data.formats.sidecars import GENERATED
from retrieval_distill.data.run import Run
from retrieval_distill.errors import UserError
from retrieval_distill.evaluation.compare import Measured, per_query, summarise
from retrieval_distill.evaluation.passages import by_document
from retrieval_distill.reporting import unmeasured
from retrieval_distill.reporting.report_distillation import Gate, read_gate
from retrieval_distill.reporting.report_file import Costs, RunReport
from retrieval_distill.runtime import stages

STAGES = {
    "embed-start": "embeddings-start",
    "index-start": "index-start",
    "generate": "generated",
    "feedback": "feedback",
    "gate": "gate",
    "retrieve": "candidates",
    "score": "teacher-scores",
    "filter": "training-lists",
    "distill": "student",
    "embed-student": "embeddings-student",
    "index-student": "index-student",
    "tune-fusion": "fusion",
    "search": "runs",
}
"""Stage -> the folder it leaves behind, in the order of a run."""

SEEDS = "seeds"
"""Folder of the students of further seeds, each in a folder named after its seed."""

READ = ("generate", "feedback", "gate", "score", "distill", "search")
"""Stages whose files a report is made from."""

OPTIONAL = {"generate", "feedback", "tune-fusion"}
"""Stages that not every run has: queries to make, feedback, dev queries."""


@dataclass(frozen=True, eq=False)
class RunFolder:
    """A run, finished or not; what it has not written yet is empty or ``None``.

    ``given`` is the run's dataset where the caller holds it already; ``None``: it is read when it is needed.
    """

    path: Path
    given: Dataset | None = None

    @classmethod
    def open(cls, path: str | Path, dataset: Dataset | None = None) -> RunFolder:
        """Open the folder of a run.

        Raises:
            UserError: The folder holds no run, or a file that the report reads was altered.
        """
        path = Path(path)
        if not (path / "recipe.json").is_file():
            raise UserError(f"{path}: no run there; make one with: retrieval-distill run RECIPE --out {path}")
        for stage in READ:
            stages.verified_manifest(path / STAGES[stage])
        return cls(path, dataset)

    @cached_property
    def recipe(self) -> dict[str, Any]:
        """The recipe as plain values."""
        return stages.read_json(self.path / "recipe.json")

    @property
    def source(self) -> str:
        """The dataset's source, or those of its several."""
        several = self.recipe.get("datasets", {}).values()
        return ", ".join(one["source"] for one in several) or self.recipe["dataset"]["source"]

    @cached_property
    def report(self) -> RunReport | None:
        """``report.json``; ``None`` before the run has finished, and while it runs again with a changed recipe."""
        finished = RunReport.read(self.path)
        return finished if finished and finished.recipe == self.recipe else None

    @cached_property
    def stages(self) -> dict[str, Costs]:
        """Each finished stage's costs; what comes after a stage under way is an earlier run's and left out."""
        if self.report:
            return self.report.stages
        found = {}
        for name, folder in STAGES.items():
            if (self.path / f"{folder}.partial").is_dir():
                break
            if manifest := stages.read_manifest(self.path / folder):
                found[name] = Costs.of(manifest)
        return found

    def counts(self, stage: str) -> dict[str, Any]:
        """What a stage counted; empty before it has finished."""
        return self.stages[stage].counts if stage in self.stages else {}

    @property
    def missing(self) -> list[str]:
        """Stages still to come; what the recipe does not ask for is not missed."""
        optional = OPTIONAL - {name for name in ("generate", "feedback") if self.recipe.get(name)}
        off = optional | ({"gate"} if self.recipe["teacher"]["gate"] == "off" else set())
        return [name for name in STAGES if name not in self.stages and name not in off]

    @cached_property
    def unmeasured(self) -> str | None:
        """Why a finished run measured nothing; ``None`` where it did, or is not finished."""
        path = self.path / unmeasured.FILE
        told = stages.read_json(path) if path.is_file() else {}
        return told["unmeasured"] if told.get("recipe") == self.recipe else None

    @cached_property
    def training_log(self) -> list[dict[str, float]]:
        """A row per logged window, as far as training has come."""
        if (self.path / "student.partial").is_dir():
            return self._log_of_checkpoint()
        path = self.path / "student" / "training_log.json"
        return stages.read_json(path) if path.is_file() else []

    def _log_of_checkpoint(self) -> list[dict[str, float]]:
        """The log within the newest whole checkpoint of a training under way."""
        states = list((self.path / "student.partial" / "checkpoints").glob("checkpoint-*/trainer_state.json"))
        whole = [state for state in states if (state.parent / "whole").is_file()]
        if not whole:
            return []
        newest = max(whole, key=lambda state: int(state.parent.name.split("-")[1]))
        return stages.read_json(newest)["log_history"]

    @cached_property
    def scores(self) -> Run | None:
        """The teacher's scores of the training candidates, as the objectives see them."""
        path = self.path / "teacher-scores" / "run.parquet"
        return Run.load(path) if "score" in self.stages and path.is_file() else None

    @cached_property
    def gate(self) -> Gate | None:
        """The gate's verdict."""
        return read_gate(self.path) if "gate" in self.stages else None

    @cached_property
    def runs(self) -> dict[str, Run]:
        """Each measured system's Run over the test queries, in the report's order."""
        names = self.report.systems if self.report else ()
        paths = {name: self.path / "runs" / f"{name}.parquet" for name in names}
        return {name: Run.load(path) for name, path in paths.items() if path.is_file()}

    @cached_property
    def dataset(self) -> Dataset | None:
        """Texts and judgements; ``None`` where the recipe's source is gone or no stage has needed it yet."""
        if self.given is not None or not self.stages:
            return self.given
        try:
            found = sources.of_run(parse_recipe(self.recipe), self.path / "dataset")
        except UserError:
            return None
        made = self.path / STAGES["generate"] / GENERATED
        if self.recipe.get("generate") and made.is_file():
            made_here = generated.add_generated(found, pd.read_parquet(made))
            found = sources.with_dev(made_here, parse_recipe(self.recipe))
        told = self.path / STAGES["feedback"] / feedback_queries.FILE
        if self.recipe.get("feedback") and told.is_file():
            split = generated.SPLIT if self.recipe.get("generate") else self.recipe["dataset"]["train"]
            found = feedback_queries.add_feedback(found, pd.read_parquet(told), split)
        return found

    @cached_property
    def values(self) -> pd.DataFrame:
        """Long table of every system's value for every test query: ``system``, ``query_id``, a column per measure."""
        kept = self.path / "per_query.parquet"
        if kept.is_file():
            return pd.read_parquet(kept)
        if self.report is None or self.dataset is None or not self.runs:
            return pd.DataFrame(columns=["system", "query_id"])
        runs, qrels = by_document(self.runs, self.dataset, self.dataset.qrels(self.recipe["dataset"]["test"]))
        return per_query(runs, qrels, self.report.measures)

    @cached_property
    def reached(self) -> dict[str, Measured]:
        """System -> what it reached in the first measure; comparisons that an older report lacks are made from the
        values by query.
        """
        if self.report is None:
            return {}
        measure = self.report.headline
        told = self.report.values(measure)
        if all(value.difference_vs for value in told.values()) or self.values.empty:
            return told
        made = {name: of[measure] for name, of in summarise(self.values).items()}
        return {
            name: replace(
                value, p_holm_vs=value.p_holm_vs or made[name].p_holm_vs, difference_vs=made[name].difference_vs
            )
            for name, value in told.items()
        }

    def paired(self, measure: str) -> pd.DataFrame:
        """A row per test query, a column per system: their values of one measure."""
        if measure not in self.values:
            return pd.DataFrame()
        return self.values.pivot(index="query_id", columns="system", values=measure)
