"""One recipe in one folder: what its stages share.

Knows the nouns of a run and where they are kept; must not know the order of the stages.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from retrieval_distill import models
from retrieval_distill.config import Recipe
from retrieval_distill.config.mining import LEXICAL, START
from retrieval_distill.data import generated
from retrieval_distill.data.dataset import Dataset, Qrels, Texts
from retrieval_distill.data.mixture import apart
from retrieval_distill.data.run import Run
from retrieval_distill.embedding.embed import Embeddings
from retrieval_distill.errors import UserError
from retrieval_distill.evaluation import measures
from retrieval_distill.generate import ways
from retrieval_distill.index import faiss_index
from retrieval_distill.index.faiss_index import Index
from retrieval_distill.pipeline import data
from retrieval_distill.reporting import report
from retrieval_distill.retrieval.bm25 import BM25
from retrieval_distill.retrieval.fusion import reciprocal_rank_fusion
from retrieval_distill.runtime import destination, files, processes, stages
from retrieval_distill.runtime.stages import Manifest, stage, write_json
from retrieval_distill.scores.contract import Teacher
from retrieval_distill.scores.store import ScoreStore
from retrieval_distill.teacher import load as teachers
from retrieval_distill.teacher.calibration.calibration import Calibration
from retrieval_distill.teacher.ensemble import Ensemble, raw_scores
from retrieval_distill.training.objective_mix import asked

logger = logging.getLogger("retrieval_distill")


@dataclass
class Job:
    """One recipe in one folder; a stage is a function of it that leaves its files and manifest there."""

    recipe: Recipe
    out: Path
    manifests: dict[str, Manifest] = field(default_factory=dict)

    def check(self) -> None:
        """Find what would stop the run later, before anything is written; then make the folder this recipe's.

        Of several processes only the first does.
        """
        if processes.rank() > 0:
            return
        check_owner(self.out, self.recipe)
        asked(self.recipe)
        measures.parse_measures(self.recipe.evaluate.measures)
        models.resolve(self.recipe.student.model)
        for model in [*self.baselines.values(), *self.retrievers.values()]:
            models.resolve(model)
        for member in self.recipe.teacher.members:
            teachers.check(member)
        if self.recipe.generate is None:
            self.dataset.split(self.recipe.dataset.train)
        else:
            ways.check(self.recipe.generate)
            generated.refuse_generated(self.dataset)
        if self.measurable:
            self.dataset.split(self.recipe.dataset.test)
        if self.recipe.training.report_to:
            from retrieval_distill.training.trackers import trackers

            trackers(self.recipe.training.report_to)
        if self.recipe.training.evaluate_steps:
            self.dev_split()
        write_json(self.out / "recipe.json", self.recipe.model_dump(mode="json"))
        files.sweep(self.out.glob(".*"))

    @cached_property
    def dataset(self) -> Dataset:
        """The recipe's dataset; building, downloading and cleaning it is the first stage."""
        return data.dataset(self)

    @property
    def measurable(self) -> bool:
        """Whether there is anything to measure the student on; a corpus whose queries are generated may lack it."""
        return self.recipe.generate is None or self.recipe.dataset.test in self.dataset.qrels

    @property
    def train_split(self) -> str:
        """The split whose queries train the student: the recipe's, or the generated one."""
        return self.recipe.dataset.train if self.recipe.generate is None else generated.SPLIT

    @cached_property
    def trained(self) -> Dataset:
        """The dataset as training sees it; the same, but for generated queries."""
        return generated.as_trained(self.dataset, self.train_split)

    @cached_property
    def training_queries(self) -> Texts:
        """The training split's queries, or as many as the recipe takes, drawn by the seed."""
        queries = self.dataset.queries_of(self.train_split)
        return queries.drawn(self.recipe.dataset.train_queries, self.recipe.seed)

    @cached_property
    def gate_queries(self) -> tuple[Texts, Qrels | None]:
        """Queries the gate asks, drawn by the seed, with judgements if the dataset has a dev split of that name."""
        split = self.recipe.dataset.dev
        judged = self.dataset.split(split) if split in self.dataset.qrels else None
        queries = self.training_queries if judged is None else self.dataset.queries_of(str(split))
        drawn = queries.drawn(self.recipe.teacher.gate_queries, self.recipe.seed)
        return drawn, None if judged is None else {id_: judged[id_] for id_ in drawn}

    @cached_property
    def teachers(self) -> tuple[Teacher, ...]:
        """The teachers, loaded when the first pair has to be scored."""
        return tuple(teachers.load(member) for member in self.recipe.teacher.members)

    @property
    def teacher(self) -> Ensemble:
        """The teachers as one, calibrated as the scores that train the student are."""
        calibration = stages.read_json(self.out / "teacher-scores" / "calibration.json")
        return Ensemble(self.teachers, Calibration.from_json(calibration))

    @cached_property
    def baselines(self) -> dict[str, str]:
        """The models to measure beside the student, by their names in the report."""
        return models.by_short_name(self.recipe.evaluate.baselines, report.SYSTEMS, "evaluate.baselines")

    @cached_property
    def retrievers(self) -> dict[str, str]:
        """The models that mine beside the start model, by the names of their folders."""
        models_ = [name for name in self.recipe.mining.retrievers if name not in (LEXICAL, START)]
        others = [name for name, model in self.baselines.items() if model not in models_]
        return models.by_short_name(models_, [*report.SYSTEMS, *others], "mining.retrievers")

    def dev_split(self) -> str:
        """The dev split, which evaluations in training cannot do without."""
        split = self.recipe.dataset.dev
        if split is None or not self.dataset.qrels.get(split):
            splits = ", ".join(self.dataset.qrels)
            raise UserError(f"training.evaluate_steps needs dev queries: set dataset.dev to a judged split ({splits})")
        return split

    def embeddings(self, name: str) -> Embeddings:
        """A model's vectors of the documents, by its name in the report."""
        return Embeddings.open(self.out / f"embeddings-{name}")

    @cached_property
    def bm25(self) -> BM25:
        """BM25 over the documents."""
        config = self.recipe.retrieve
        return BM25(self.dataset.documents, config.k1, config.b, config.stemmer)

    def lexical(self, queries: Texts, depth: int) -> Run:
        """BM25's best documents; of several datasets, each query's own."""
        return Run.joined(self.bm25.search(own, depth, allowed) for own, allowed in apart(self.dataset, queries))

    def dense(self, index: Path, model: str, queries: Texts, depth: int) -> Run:
        """A bi-encoder's best documents; of several datasets, each query's own."""
        opened, documents = Index.open(index), self.dataset.documents
        return Run.joined(
            faiss_index.search(opened, model, own, depth, allowed=opened.allowed_rows(documents, allowed))
            for own, allowed in apart(self.dataset, queries)
        )

    def first_stage(self, queries: Texts, depth: int) -> Run:
        """BM25 and the start model, each to this depth, fused."""
        dense = self.dense(self.out / "index-start", self.recipe.student.model, queries, depth)
        return reciprocal_rank_fusion([self.lexical(queries, depth), dense])

    @property
    def store(self) -> Path:
        """Folder of the score store."""
        return self.out / "scores"

    def raw_scores(self, run: Run, queries: Texts) -> tuple[list[Run], dict[str, Any]]:
        """Each teacher's raw scores of a Run, through the score store, and what they cost."""
        return raw_scores(run, queries, self.trained.documents, self.teachers, ScoreStore(self.store))

    @property
    def compressed(self) -> list[Path]:
        """Folders of the students that the recipe's ``compress`` makes, in order."""
        return [self.out / f"compressed-{number}" for number in range(1, len(self.recipe.compress) + 1)]

    @property
    def student_recipe(self) -> Recipe:
        """The recipe with the student that ``distill`` starts from: the last compressed one, where there is one."""
        if not self.recipe.compress:
            return self.recipe
        student = self.recipe.student.model_copy(update={"model": str(self.compressed[-1])})
        return self.recipe.model_copy(update={"student": student})

    @property
    def teacher_name(self) -> str:
        """The teachers by the names the recipe gives them."""
        return " + ".join(member.model for member in self.recipe.teacher.members)

    @property
    def teacher_inputs(self) -> dict[str, Any]:
        """What makes the teachers' scores other ones."""
        config = self.recipe.teacher
        members = [
            {**teachers.identity(member), **member.model_dump(include={"normalise", "weight"})}
            for member in config.members
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


def check_owner(out: Path, recipe: Recipe) -> None:
    """Refuse a folder that is not this recipe's.

    Raises:
        UserError: The folder holds another recipe's run, or files that are no run.
    """
    mark = out / "recipe.json"
    if mark.is_file():
        found = stages.read_json(mark)
        owner = found.get("name") if isinstance(found, dict) else None
        if owner != recipe.name:
            raise UserError(f"{out} belongs to recipe {owner!r}, not {recipe.name!r}; choose another --out folder")
    elif out.exists() and (not out.is_dir() or any(path.name != "dataset" for path in out.iterdir())):
        raise UserError(f"{out} is not empty and holds no run; choose another --out folder")
    destination.kept(out, "run", lambda folder: mark.is_file(), ("dataset",))
