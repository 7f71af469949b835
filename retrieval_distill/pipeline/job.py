"""One recipe in one folder: what its stages share.

Knows the nouns of a run and where they are kept; must not know the order of the stages, or what they refuse.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from retrieval_distill import api, models
from retrieval_distill.config import BM25Config, MemberConfig, Recipe, TeacherConfig
from retrieval_distill.config.mining import LEXICAL, START
from retrieval_distill.data import feedback_queries, generated
from retrieval_distill.data.dataset import Dataset, Texts
from retrieval_distill.data.run import Run
from retrieval_distill.embedding.embed import Embeddings
from retrieval_distill.errors import UserError
from retrieval_distill.evaluation import rivals
from retrieval_distill.reporting.run_folder import SEEDS
from retrieval_distill.retrieval.bm25 import BM25
from retrieval_distill.runtime.stages import Manifest, stage
from retrieval_distill.scores.teacher_contract import Teacher
from retrieval_distill.teacher import teacher_loader as teachers
from retrieval_distill.teacher.calibration.calibration import Calibration
from retrieval_distill.teacher.ensemble import Ensemble

if TYPE_CHECKING:
    from transformers import TrainerCallback

logger = logging.getLogger("retrieval_distill")


@dataclass
class Job:
    """One recipe in one folder; a stage is a function of it that leaves its files and manifest there."""

    recipe: Recipe
    out: Path
    dataset: Dataset
    manifests: dict[str, Manifest] = field(default_factory=dict)
    callbacks: Sequence[TrainerCallback] = ()
    """Called while the student trains."""
    retraining: int = 0
    """Added to the recipe's seed for the training alone, to train once more on the same data."""
    _teachers: tuple[Teacher, ...] = ()

    @property
    def parts(self) -> tuple[str | None, ...]:
        """The splits that train, tune and are measured anyway."""
        return self.train_split, self.recipe.dataset.dev, self.recipe.dataset.test

    @property
    def also(self) -> tuple[str, ...]:
        """The splits that are measured beside the test split."""
        found = self.recipe.evaluate.other_splits(*self.parts)
        return tuple(split for split in dict.fromkeys(found) if self.dataset.qrels.get(split))

    @property
    def settled(self) -> Recipe:
        """The recipe with the split that trains, where the dataset had it chosen."""
        if self.recipe.generate is not None or self.recipe.datasets:
            return self.recipe
        dataset = self.recipe.dataset.model_copy(update={"train": self.train_split})
        return self.recipe.model_copy(update={"dataset": dataset})

    @property
    def measurable(self) -> bool:
        """Whether there is anything to measure the student on."""
        return self.recipe.dataset.test in self.dataset.qrels

    @property
    def train_split(self) -> str:
        """The split whose queries train the student: the recipe's, or the generated one."""
        if self.recipe.generate is not None:
            return generated.SPLIT
        return generated.training_split(self.dataset, self.recipe.dataset.train)

    @cached_property
    def trained(self) -> Dataset:
        """The dataset as training sees it; the same, but for generated queries."""
        return generated.training_view(self.dataset, self.train_split)

    @cached_property
    def training_queries(self) -> Texts:
        """The training split's queries, or as many as the recipe takes, drawn by the seed."""
        queries = self.dataset.queries(self.train_split)
        return queries.sample(self.recipe.dataset.train_queries, self.recipe.seed)

    @cached_property
    def told(self) -> pd.DataFrame | None:
        """What the feedback log says of documents; ``None``: the recipe names no log."""
        path = self.out / "feedback" / feedback_queries.FILE
        return None if self.recipe.feedback is None else pd.read_parquet(path)

    @property
    def feedback_inputs(self) -> dict[str, Any]:
        """What makes the feedback another one, for stages that read it; empty where there is none."""
        config = self.recipe.feedback
        if config is None:
            return {}
        return {"feedback": [self.manifests["feedback"]["fingerprint"], config.negatives, config.weight]}

    @property
    def judged_dev(self) -> str | None:
        """The dev split, where the dataset has one that is judged, or gets one when its queries are generated."""
        config, qrels = self.recipe.dataset, self.dataset.qrels
        ahead = self.recipe.generate is not None and generated.SPLIT not in qrels and config.train not in qrels
        return config.dev if config.dev and (qrels.get(config.dev) or (ahead and config.dev_queries)) else None

    @property
    def tuning_split(self) -> str | None:
        """The dev split, if its queries are people's: generated ones have their documents' words, and choose BM25."""
        split = self.judged_dev
        if split is None or split not in self.dataset.qrels or generated.is_generated(self.dataset, split):
            return None
        return split

    @property
    def teacher_config(self) -> TeacherConfig:
        """The recipe's teacher; weights that nothing can be fitted on are those given, of standard scores."""
        config = self.recipe.teacher
        return config if self.tuning_split else config.unfitted

    @cached_property
    def dev(self) -> Dataset:
        """The dataset as the dev queries see it; the same, but for generated ones."""
        return generated.held_out_view(self.dataset, self.judged_dev) if self.judged_dev else self.dataset

    @property
    def dev_inputs(self) -> dict[str, Any]:
        """What stages that search for dev queries depend on, beside the queries and the indexes."""
        return {} if self.dev is self.dataset else {"documents": self.dev.documents.fingerprint}

    @property
    def members(self) -> tuple[MemberConfig, ...]:
        """The teachers' options; ``bm25`` reads words as ``retrieve`` says, unless it has options of its own."""
        words = BM25Config(**self.recipe.retrieve.bm25)
        members = self.teacher_config.members
        return tuple(member.model_copy(update={"bm25": member.bm25 or words}) for member in members)

    @property
    def teachers(self) -> tuple[Teacher, ...]:
        """The teachers, loaded when the first pair has to be scored."""
        if not self._teachers:
            corpus = teachers.Corpus(self.dataset.documents, self._vectors)
            self._teachers = tuple(teachers.load(member, corpus) for member in self.members)
        return self._teachers

    @property
    def _vectors(self) -> list[Embeddings]:
        """The vectors that there are, by models that nothing trains."""
        names = dict.fromkeys(("start", *self.retrievers, *self.baselines))
        return [self.embeddings(name) for name in names if f"embed-{name}" in self.manifests]

    def release_teachers(self) -> None:
        """Give back the teachers' memory; they are loaded again when they are needed."""
        self._teachers = ()

    @property
    def teacher(self) -> Ensemble:
        """The teachers as one, calibrated as the scores that train the student are."""
        return Ensemble(self.teachers, Calibration.open(self.out / "teacher-scores"))

    @cached_property
    def baselines(self) -> dict[str, str]:
        """The models to measure beside the student, by their names in the report."""
        taken = [*rivals.SYSTEMS, *self.further_students]
        found = models.by_short_name(self.recipe.evaluate.baselines, taken, "evaluate.baselines")
        if other := [model for name, model in found.items() if name.startswith(rivals.RERANKED)]:
            raise UserError(f"evaluate.baselines: {other[0]!r} has the name of a reranker; rename it, or list it there")
        return found

    @cached_property
    def rerankers(self) -> dict[str, MemberConfig]:
        """The rerankers to measure beside the teacher, by their names in the report."""
        words = BM25Config(**self.recipe.retrieve.bm25)
        named = models.by_short_name(self.recipe.evaluate.rerankers, (), "evaluate.rerankers")
        return {rivals.RERANKED + name: MemberConfig(model=model, bm25=words) for name, model in named.items()}

    @cached_property
    def loaded_rerankers(self) -> dict[str, Teacher]:
        """The same, loaded."""
        corpus = teachers.Corpus(self.dataset.documents, self._vectors)
        return {name: teachers.load(member, corpus) for name, member in self.rerankers.items()}

    @cached_property
    def retrievers(self) -> dict[str, str]:
        """The models that mine beside the start model, by the names of their folders."""
        models_ = [name for name in self.recipe.mining.retrievers if name not in (LEXICAL, START)]
        others = [name for name, model in self.baselines.items() if model not in models_]
        return models.by_short_name(models_, [*rivals.SYSTEMS, *others], "mining.retrievers")

    def dev_split(self) -> str:
        """The dev split, which evaluations in training cannot do without."""
        if self.judged_dev is None:
            splits = ", ".join(self.dataset.qrels)
            raise UserError(f"training.evaluate_steps needs dev queries: set dataset.dev to a judged split ({splits})")
        return self.judged_dev

    def model(self, name: str) -> str:
        """The model of a dense system, by its name in the report."""
        if name in self.further_students:
            return str(self.further_students[name] / "student")
        return {"start": self.recipe.student.model, "student": str(self.out / "student"), **self.baselines}[name]

    @property
    def further_students(self) -> dict[str, Path]:
        """Where the students of further seeds are, by the names of their vectors and indexes."""
        first, count = self.recipe.seed, self.recipe.evaluate.seeds
        return {f"student-seed-{seed}": self.out / SEEDS / str(seed) for seed in range(first + 1, first + count)}

    def folder(self, what: str, name: str) -> Path:
        """Where a dense system's ``embeddings`` or its ``index`` is, by its name in the report."""
        seed = self.further_students.get(name)
        return seed / f"{what}-student" if seed else self.out / f"{what}-{name}"

    def embeddings(self, name: str) -> Embeddings:
        """A model's vectors of the documents, by its name in the report."""
        return Embeddings.open(self.folder("embeddings", name))

    @cached_property
    def bm25(self) -> BM25:
        """BM25 over the documents."""
        return BM25(self.dataset.documents, **self.recipe.retrieve.bm25)

    def lexical(self, queries: Texts, depth: int) -> Run:
        """BM25's best documents; of several datasets, each query's own."""
        return api.retrieve(queries, self.dataset, depth=depth, bm25=self.bm25)

    def dense(self, name: str, model: str, queries: Texts, depth: int) -> Run:
        """A bi-encoder's best documents, by the index of that name; of several datasets, each query's own."""
        return api.search(
            queries, self.folder("index", name), model=model, documents=self.dataset, depth=depth,
            dtype=self.recipe.embed.dtype,
        )  # fmt: skip

    @property
    def first_stage(self) -> dict[str, Any]:
        """Options of ``api.retrieve`` and ``api.generate`` for BM25 and the start model, fused."""
        return {"index": self.out / "index-start", "model": self.recipe.student.model, "bm25": self.bm25}

    @property
    def store(self) -> Path:
        """Folder of the score store."""
        return self.out / "scores"

    @property
    def compressed(self) -> list[Path]:
        """Folders of the students that the recipe's ``compress`` makes, in order."""
        return [self.out / f"compressed-{number}" for number in range(1, len(self.recipe.compress) + 1)]

    @property
    def student_recipe(self) -> Recipe:
        """The recipe with the student that ``distill`` starts from: the last compressed one, where there is one."""
        student, seed = self.recipe.student, self.recipe.seed + self.retraining
        if self.recipe.compress:
            student = student.model_copy(update={"model": str(self.compressed[-1])})
        return self.recipe.model_copy(update={"student": student, "seed": seed})

    @property
    def teacher_name(self) -> str:
        """The teachers by the names the recipe gives them."""
        return " + ".join(member.model for member in self.recipe.teacher.members)

    @property
    def teacher_inputs(self) -> dict[str, Any]:
        """What makes the teachers' scores other ones."""
        config = self.teacher_config
        members = [
            {
                **teachers.identity(member, self.dataset.documents),
                **member.model_dump(include={"normalise", "weight"}),
            }
            for member in self.members
        ]
        return {"members": members, **config.model_dump(include={"weights", "squashed"})}

    def stage(self, name: str, folder: str, inputs: dict[str, Any], work: Any) -> None:
        """Do the work in a folder of the run, unless it is there from the same inputs."""
        self.note(name, stage(name, self.out / folder, inputs, work))

    def note(self, name: str, manifest: Manifest) -> None:
        """Keep a stage's manifest for later stages and the report."""
        self.manifests[name] = manifest
        if manifest["skipped"]:
            logger.info("%s: unchanged, kept", name)
