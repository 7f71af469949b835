"""Rounds of mining, scoring and training: one, or as many as ``mining.rounds`` asks for; and the last training again.

Knows where a round keeps its files and whose student it starts from; must not know how a stage does its work.

Source of mining anew with the student: Xiong et al., "Approximate Nearest Neighbor Negative Contrastive Learning for
Dense Text Retrieval" (ANCE), 2020, arXiv:2007.00808. Theirs mines beside the training; here one waits for the other.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from retrieval_distill.config import Recipe
from retrieval_distill.pipeline.job import Job
from retrieval_distill.reporting.run_folder import SEEDS
from retrieval_distill.runtime import stages
from retrieval_distill.runtime.stages import Manifest

BUILT = {
    "layers": None, "pooling": None, "dimensions": None, "vocabulary": None, "separate": False, "query_model": None
}  # fmt: skip
"""Options of the student that its first round has carried out; saved with it, they must not be carried out again."""


@dataclass(frozen=True, eq=False)
class Round:
    """One round; the last one's folders and stages have the names that those of a single one have.

    The others' folders stand in ``round-N``, and their stages are named ``STAGE-N``. A student of seed N that learns
    from the last round's lists again has its folders in ``seeds/N``, and its stages are named ``STAGE-seed-N``.
    """

    job: Job
    number: int
    later: int = 0
    """By how much the seed of this training exceeds that of the round itself."""

    @property
    def before(self) -> Round | None:
        """The round before this one."""
        return Round(self.job, self.number - 1) if self.number > 1 else None

    @property
    def out(self) -> Path:
        """Where the round's folders are."""
        if self.later:
            return self.job.out / SEEDS / str(self.seed)
        return self.job.out if self._is_last else self.job.out / f"round-{self.number}"

    @property
    def seed(self) -> int:
        """The seed by which its student is known: the recipe's, or a later one."""
        return self.job.recipe.seed + self.later

    @property
    def student(self) -> str:
        """The name of its student's vectors, index and results."""
        return self._named("student")

    @property
    def lists(self) -> Path:
        """What its student learns from."""
        return replace(self, later=0).out / "training-lists"

    @property
    def start(self) -> str:
        """The student as it is before this round's training."""
        return str(self.before.out / "student") if self.before else self.job.recipe.student.model

    @property
    def start_vectors(self) -> Path:
        """That student's vectors of the documents."""
        return self.before.out / "embeddings-student" if self.before else self.job.out / "embeddings-start"

    @property
    def start_index(self) -> Path:
        """The index over them."""
        return self.before.out / "index-student" if self.before else self.job.out / "index-start"

    @property
    def recipe(self) -> Recipe:
        """The job's recipe; from the second round on, training starts from the round before, in an order of its own."""
        first = self.job.student_recipe
        seed = first.seed + self.number - 1 + self.later
        if self.before is None:
            return first.model_copy(update={"seed": seed})
        student = self.job.recipe.student.model_copy(update={"model": self.start, **BUILT})
        return self.job.recipe.model_copy(update={"student": student, "seed": seed})

    def stage(self, name: str, folder: str, inputs: dict[str, Any], work: Any) -> None:
        """Do the work in a folder of the round, unless it is there from the same inputs."""
        self.note(name, stages.stage(name, self.out / folder, inputs, work))

    def note(self, name: str, manifest: Manifest) -> None:
        """Keep a stage's manifest for later stages and the report."""
        self.job.note(self._named(name), manifest)

    def manifest(self, name: str) -> Manifest:
        """Of a stage of this round."""
        return self.job.manifests[self._named(name)]

    def fingerprint(self, name: str) -> str:
        """Of a stage of this round."""
        return self.manifest(name)["fingerprint"]

    @property
    def _is_last(self) -> bool:
        return self.number == self.job.recipe.mining.rounds

    def _named(self, stage: str) -> str:
        if self.later:
            return f"{stage}-seed-{self.seed}"
        return stage if self._is_last else f"{stage}-{self.number}"


def rounds(job: Job) -> Iterator[Round]:
    """Every round in order."""
    return (Round(job, number) for number in range(1, job.recipe.mining.rounds + 1))


def further_seeds(job: Job) -> list[Round]:
    """The last round's training again, once for every further seed that ``evaluate.seeds`` asks for."""
    return [Round(job, job.recipe.mining.rounds, later) for later in range(1, job.recipe.evaluate.seeds)]
