"""``run``: the recipe read as prose. One folder in, one measured student out.

    dataset -> candidates -> teacher scores -> student -> vectors -> index -> measured runs -> report

Knows the order of the stages and what each depends on; must not know how a stage does its work. Started by
``torchrun``, the first process does all of it, and the others join it for the student.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from retrieval_distill import artifacts, models, processes, verbs
from retrieval_distill.artifacts import Manifest, stage, write_json
from retrieval_distill.config import Recipe, load_recipe
from retrieval_distill.data.dataset import Dataset, Qrels, Texts
from retrieval_distill.data.load import load
from retrieval_distill.errors import UserError
from retrieval_distill.evaluation import measures, speed
from retrieval_distill.indexing import exact
from retrieval_distill.indexing.embed import Embeddings
from retrieval_distill.indexing.faiss_index import Index
from retrieval_distill.reporting import publish, report
from retrieval_distill.retrieval.bm25 import BM25
from retrieval_distill.retrieval.run import Run
from retrieval_distill.teacher import gate, precision
from retrieval_distill.teacher import load as teachers
from retrieval_distill.teacher.calibration import Calibration
from retrieval_distill.teacher.contract import Teacher
from retrieval_distill.teacher.ensemble import Ensemble, raw_scores
from retrieval_distill.teacher.store import ScoreStore
from retrieval_distill.training.asked import asked
from retrieval_distill.training.groups import with_relevant

logger = logging.getLogger("retrieval_distill")


def run(recipe: Recipe, out: str | Path) -> dict[str, Any]:
    """Run a recipe in a folder; stages that are already done there with the same inputs are kept.

    Args:
        recipe: What to do.
        out: The run's folder; a killed run is continued by calling again.

    Returns:
        The report, as written to ``report.json``; ``report.html`` shows it, ``report.md`` is its Markdown twin. Nothing
        in processes that only helped to train.

    Raises:
        UserError: The folder belongs to another recipe or is no run, or an input is wrong.
    """
    job = Job(recipe, Path(out))
    start = time.monotonic()
    job.check()
    job.embed_start()
    job.retrieve()
    job.ask_gate()
    job.score()
    job.find_dev()
    job.distill()
    if processes.rank() > 0:
        return {}
    job.embed_student()
    job.embed_baselines()
    job.measure()
    finished = report.write(job.out, job.dataset, recipe, job.manifests)
    page = publish.report(job.out, dataset=job.dataset)
    logger.info("%s\nfinished in %.0f s; report: %s", report.table(finished), time.monotonic() - start, page)
    return finished


def demo(out: str | Path = "runs/demo", overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Run the shipped recipe ``demo``: python-docs, the starter teacher and the packaged student."""
    return run(load_recipe("demo", overrides), out)


def check_owner(out: Path, recipe: Recipe) -> None:
    """Refuse a folder that is not this recipe's.

    Raises:
        UserError: The folder holds another recipe's run, or files that are no run.
    """
    mark = out / "recipe.json"
    if mark.is_file():
        owner = artifacts.read_json(mark)["name"]
        if owner != recipe.name:
            raise UserError(f"{out} belongs to recipe {owner!r}, not {recipe.name!r}; choose another --out folder")
    elif out.exists() and (not out.is_dir() or any(path.name != "dataset" for path in out.iterdir())):
        raise UserError(f"{out} is not empty and holds no run; choose another --out folder")


@dataclass
class Job:
    """One recipe in one folder; each method is a stage that leaves its files and manifest there."""

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
        for model in self.baselines.values():
            models.resolve(model)
        for member in self.recipe.teacher.members:
            teachers.check(member)
        for split in (self.recipe.dataset.train, self.recipe.dataset.test):
            self.dataset.split(split)
        if self.recipe.training.report_to:
            from retrieval_distill.training.trackers import trackers

            trackers(self.recipe.training.report_to)
        if self.recipe.training.evaluate_steps:
            self._require_dev()
        write_json(self.out / "recipe.json", self.recipe.model_dump(mode="json"))

    @cached_property
    def dataset(self) -> Dataset:
        """The recipe's dataset; building or downloading it is the first stage."""
        return load(self.recipe.dataset.source, self.out / "dataset", self.recipe.dataset)

    @cached_property
    def training_queries(self) -> Texts:
        """The training split's queries, or as many as the recipe takes, drawn by the seed."""
        return self._drawn(self.dataset.queries_of(self.recipe.dataset.train), self.recipe.dataset.train_queries)

    @cached_property
    def gate_queries(self) -> tuple[Texts, Qrels | None]:
        """Queries the gate asks, drawn by the seed, with judgements if the dataset has a dev split of that name."""
        split = self.recipe.dataset.dev
        judged = self.dataset.split(split) if split in self.dataset.qrels else None
        queries = self.training_queries if judged is None else self.dataset.queries_of(str(split))
        drawn = self._drawn(queries, self.recipe.teacher.gate_queries)
        return drawn, None if judged is None else {id_: judged[id_] for id_ in drawn}

    @cached_property
    def teachers(self) -> tuple[Teacher, ...]:
        """The teachers, loaded when the first pair has to be scored."""
        return tuple(teachers.load(member) for member in self.recipe.teacher.members)

    @property
    def teacher(self) -> Ensemble:
        """The teachers as one, calibrated as the scores that train the student are."""
        calibration = artifacts.read_json(self.out / "teacher-scores" / "calibration.json")
        return Ensemble(self.teachers, Calibration.from_json(calibration))

    @cached_property
    def baselines(self) -> dict[str, str]:
        """The models to measure beside the student, by their names in the report."""
        return models.by_short_name(self.recipe.evaluate.baselines, report.SYSTEMS, "evaluate.baselines")

    def embed_start(self) -> None:
        """The start model's vectors and index: it mines candidates and is a baseline."""
        config = self.recipe.student
        self._embed_and_index("start", config.model, config.max_length, config.similarity)

    def retrieve(self) -> None:
        """Candidates of the training queries: BM25 and the start model fused, with every relevant document."""
        config = self.recipe.retrieve

        def work(folder: Path) -> dict[str, int]:
            found = self._first_stage(self.training_queries, config.depth).top(config.keep)
            qrels = self.dataset.split(self.recipe.dataset.train)
            candidates = with_relevant(found, {id_: qrels[id_] for id_ in self.training_queries})
            candidates.save(folder / "run.parquet")
            return {"queries": len(candidates.query_ids), "pairs": len(candidates)}

        inputs = {
            "texts": [self.dataset.documents.fingerprint, self.training_queries.fingerprint],
            "qrels": artifacts.fingerprint(self.dataset.split(self.recipe.dataset.train)),
            "start": self.manifests["index-start"]["fingerprint"],
            "retrieve": config.model_dump(),
        }
        self._stage("retrieve", "candidates", inputs, work)

    def ask_gate(self) -> None:
        """Is the teacher better than the start model and BM25 on this corpus? Asked before the costly part."""
        config, (queries, qrels) = self.recipe.teacher, self.gate_queries
        fitted = gate.needs_fit(config)
        if config.gate == "off" and not fitted:
            return

        def work(folder: Path) -> dict[str, Any]:
            start = verbs.search(self.out / "index-start", self.recipe.student.model, queries, config.gate_depth)
            baselines = {"bm25": self._bm25.search(queries, config.gate_depth), "start": start}
            raw, counts = self._raw_scores(gate.union(baselines), queries)
            verdict, calibration = gate.ask(
                self.teachers, raw, baselines, qrels, config, self.recipe.evaluate.measures[0]
            )
            write_json(folder / "gate.json", verdict)
            write_json(folder / "calibration.json", calibration.to_json())
            return counts

        inputs = {
            "teacher": self._teacher_inputs,
            "queries": queries.fingerprint,
            "qrels": artifacts.fingerprint(qrels),
            "measure": self.recipe.evaluate.measures[0],
            "start": self.manifests["index-start"]["fingerprint"],
            "retrieve": self.recipe.retrieve.model_dump(include={"k1", "b", "stemmer"}),
            "depth": config.gate_depth,
        }
        self._stage("gate", "gate", inputs, work)
        gate.apply(artifacts.read_json(self.out / "gate" / "gate.json"), config.gate, self._teacher_name)

    def score(self) -> None:
        """The teachers' scores for every candidate: raw into the score store, calibrated for the objectives."""
        config = self.recipe.teacher

        def work(folder: Path) -> dict[str, Any]:
            candidates = Run.load(self.out / "candidates" / "run.parquet")
            raw, counts = self._raw_scores(candidates, self.training_queries)
            if "gate" in self.manifests:
                calibration = Calibration.from_json(artifacts.read_json(self.out / "gate" / "calibration.json"))
            else:
                calibration = gate.calibrate(self.teachers, raw, None, config)
            write_json(folder / "calibration.json", calibration.to_json())
            calibration.apply(raw).save(folder / "run.parquet")
            agreement = [
                precision.against_float32(member, run, self.training_queries, self.dataset.documents)
                for member, run in zip(config.members, raw, strict=True)
            ]
            return {**counts, "rank_agreement": [found for found in agreement if found]}

        inputs = {
            "candidates": self.manifests["retrieve"]["fingerprint"],
            "teacher": self._teacher_inputs,
            "calibration": self.manifests["gate"]["fingerprint"] if "gate" in self.manifests else None,
        }
        self._stage("score", "teacher-scores", inputs, work)

    def find_dev(self) -> None:
        """Candidates of the dev queries that the training is evaluated on, where the recipe asks for it."""
        training, depth = self.recipe.training, self.recipe.retrieve.depth
        if not training.evaluate_steps:
            return
        queries = self._drawn(self.dataset.queries_of(self._require_dev()), training.dev_queries)

        def work(folder: Path) -> dict[str, int]:
            found = self._first_stage(queries, depth)
            found.save(folder / "run.parquet")
            return {"queries": len(queries), "pairs": len(found)}

        inputs = {
            "texts": [self.dataset.documents.fingerprint, queries.fingerprint],
            "start": self.manifests["index-start"]["fingerprint"],
            "retrieve": self.recipe.retrieve.model_dump(include={"depth", "k1", "b", "stemmer"}),
        }
        self._stage("retrieve-dev", "dev-candidates", inputs, work)

    def distill(self) -> None:
        """The student, trained on the teacher's scores."""
        scored = Run.load(self.out / "teacher-scores" / "run.parquet")
        dev = None
        if self.recipe.training.evaluate_steps:
            dev = Run.load(self.out / "dev-candidates" / "run.parquet"), self._require_dev()
        split = self.recipe.dataset.train
        self.__dict__.pop("teachers", None)  # make room: their scores are all there
        self._note("distill", verbs.distill(scored, self.dataset, split, self.recipe, self.out / "student", dev))

    def embed_student(self) -> None:
        """The student's vectors and index."""
        self._embed_and_index("student", str(self.out / "student"), None, self.recipe.student.similarity)

    def embed_baselines(self) -> None:
        """The vectors and indexes of the other models that are measured."""
        for name, model in self.baselines.items():
            self._embed_and_index(name, model, None, models.similarity(model))

    def measure(self) -> None:
        """Runs of every system over the test queries, the student's scores of the teacher's pool, and their speed."""
        config = self.recipe.evaluate
        queries = self.dataset.queries_of(self.recipe.dataset.test)
        dense = {"start": self.recipe.student.model, "student": str(self.out / "student"), **self.baselines}

        def work(folder: Path) -> dict[str, Any]:
            runs = {"bm25": self._bm25.search(queries, config.depth)}
            for name, model in dense.items():
                runs[name] = verbs.search(self.out / f"index-{name}", model, queries, config.depth)
            pool = verbs.reciprocal_rank_fusion([runs["bm25"], runs["start"]]).top(config.depth)
            runs["teacher"], counts = verbs.rerank(
                pool, queries, self.dataset.documents, self.teacher, self._store, config.rerank_depth
            )
            runs["student-on-pool"] = exact.rescore(
                runs["teacher"].top(config.rerank_depth), self._embeddings("student"), dense["student"], queries,
                self.recipe.student.similarity,
            )  # fmt: skip
            for name, found in runs.items():
                found.save(folder / f"{name}.parquet")
            write_json(folder / "speed.json", self._speeds(dense, queries))
            return {"queries": len(queries), **counts}

        inputs = {
            "indexes": {name: self.manifests[f"index-{name}"]["fingerprint"] for name in dense},
            "queries": queries.fingerprint,
            "retrieve": self.recipe.retrieve.model_dump(include={"k1", "b", "stemmer"}),
            "depths": [config.depth, config.rerank_depth],
            "teacher": self._teacher_inputs,
        }
        self._stage("search", "runs", inputs, work)

    def _drawn(self, queries: Texts, limit: int | None) -> Texts:
        """As many of the queries, drawn by the seed; ``None``: all."""
        if limit is None or limit >= len(queries):
            return queries
        chosen = np.random.default_rng(self.recipe.seed).choice(len(queries), limit, replace=False)
        return queries.select([queries.ids[row] for row in sorted(chosen)])

    def _require_dev(self) -> str:
        """The dev split, which evaluations in training cannot do without."""
        split = self.recipe.dataset.dev
        if split is None or not self.dataset.qrels.get(split):
            splits = ", ".join(self.dataset.qrels)
            raise UserError(f"training.evaluate_steps needs dev queries: set dataset.dev to a judged split ({splits})")
        return split

    def _speeds(self, dense: dict[str, str], queries: Texts) -> dict[str, dict[str, Any]]:
        """Speed and size of every retriever by name."""
        measured = {"bm25": speed.lexical(self._bm25, queries)}
        for name, model in dense.items():
            index, dtype = Index.open(self.out / f"index-{name}"), self.recipe.embed.dtype
            measured[name] = speed.dense(index, self._embeddings(name), model, dtype, queries, self.dataset.documents)
        return measured

    def _embeddings(self, name: str) -> Embeddings:
        return Embeddings.open(self.out / f"embeddings-{name}")

    @cached_property
    def _bm25(self) -> BM25:
        config = self.recipe.retrieve
        return BM25(self.dataset.documents, config.k1, config.b, config.stemmer)

    def _first_stage(self, queries: Texts, depth: int) -> Run:
        dense = verbs.search(self.out / "index-start", self.recipe.student.model, queries, depth)
        return verbs.reciprocal_rank_fusion([self._bm25.search(queries, depth), dense])

    @property
    def _store(self) -> Path:
        return self.out / "scores"

    def _raw_scores(self, run: Run, queries: Texts) -> tuple[list[Run], dict[str, Any]]:
        return raw_scores(run, queries, self.dataset.documents, self.teachers, ScoreStore(self._store))

    @property
    def _teacher_name(self) -> str:
        return " + ".join(member.model for member in self.recipe.teacher.members)

    @property
    def _teacher_inputs(self) -> dict[str, Any]:
        config = self.recipe.teacher
        members = [
            {**teachers.identity(member), **member.model_dump(include={"normalise", "weight"})}
            for member in config.members
        ]
        return {"members": members, **config.model_dump(include={"weights", "squashed"})}

    def _embed_and_index(self, name: str, model: str, max_length: int | None, similarity: str) -> None:
        vectors, dtype = self.out / f"embeddings-{name}", self.recipe.embed.dtype
        self._note(f"embed-{name}", verbs.embed(model, self.dataset.documents, vectors, dtype, max_length))
        index, config = self.out / f"index-{name}", self.recipe.index
        self._note(f"index-{name}", verbs.index(vectors, index, config.kind, similarity, config.dimensions))

    def _stage(self, name: str, folder: str, inputs: dict[str, Any], work: Any) -> None:
        self._note(name, stage(name, self.out / folder, inputs, work))

    def _note(self, name: str, manifest: Manifest) -> None:
        self.manifests[name] = manifest
        if manifest["skipped"]:
            logger.info("%s: unchanged, kept", name)
