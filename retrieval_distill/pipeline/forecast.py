"""How long a run takes on this machine: reckoned before it begins from a moment's measurement, and mended as it goes.

Work is counted in passes of one token through one parameter of a transformer, since that is what nearly all of the
time goes into. Knows how many texts each stage reads; must not know how a stage does its work.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from safetensors import safe_open

from retrieval_distill import endpoints, models
from retrieval_distill.config import NO_LIMIT, MemberConfig
from retrieval_distill.pipeline.job import Job
from retrieval_distill.runtime import stages
from retrieval_distill.runtime.progress import whole_progress
from retrieval_distill.student import encoder
from retrieval_distill.teacher import teacher_loader

SAMPLE = 256
"""Documents and queries whose tokens are counted."""

SECONDS = 1.0
"""Time that the measurement takes, besides loading the model."""

TRAINING = 3.7
"""Forward passes that cost as much as one text of a training step: forward, backward, the optimiser (``make demo``,
avx512_bf16)."""

DISTINCT = 0.6
"""Share of the gate's documents that are left where its three rivals found the same (``make demo``)."""

WORTHWHILE = 1e12
"""Passes that take seconds anywhere; fewer are not worth a measurement."""


class Workload:
    """How much there is to do in a job, in passes."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self._model = encoder.load(job.recipe.student.model, job.recipe.embed.dtype)
        self._documents = job.dataset.documents.sample(SAMPLE, seed=0).take()
        queries = job.dataset.queries.sample(SAMPLE, seed=0).take() or self._documents
        self._lengths = encoder.tokens_of(self._model, self._documents, "document", NO_LIMIT, beyond=True).lengths
        self._query_lengths = encoder.tokens_of(self._model, queries, "query", NO_LIMIT, beyond=True).lengths

    @cached_property
    def passes_per_second(self) -> float:
        """Measured: documents embedded by the start model for a second."""
        read, start = 0, time.monotonic()
        limit = encoder.limit(self._model, "document")
        while (seconds := time.monotonic() - start) < SECONDS:
            rows = slice(read % SAMPLE, read % SAMPLE + 16)
            encoder.encode(self._model, self._documents[rows] or self._documents[:16], "document")
            read += 16
        return read * self._mean(self._lengths, limit) * parameters(self.job.recipe.student.model) / seconds

    def embedding(self, model: str, limit: int | None) -> float:
        """Of all documents, up to a number of tokens; ``None``: the start model's own limit."""
        tokens = self._mean(self._lengths, limit or encoder.limit(self._model, "document"))
        return len(self.job.dataset.documents) * tokens * parameters(model)

    def scoring(self, pairs: float) -> float:
        """Of so many pairs, with the teachers that are cross-encoders here; the others are not foreseen."""
        return sum(pairs * self._pair_tokens(member) * _of_teacher(member) for member in self.job.members)

    def gate(self) -> float:
        """Of the pairs of the gate's queries."""
        config = self.job.recipe.teacher
        return self.scoring(config.gate_queries * 3 * config.gate_depth * DISTINCT)

    def candidates(self) -> float:
        """Of the pairs that train, to be scored."""
        return self.scoring(self._training_queries * (self.job.recipe.retrieve.keep + 0.5))

    def training(self) -> float:
        """Of the student's training."""
        config = self.job.recipe.training
        epoch = self._training_queries / config.queries_per_step
        steps = (config.steps or config.epochs * epoch) * config.gradient_accumulation
        limit = min(config.max_length or NO_LIMIT, self.job.recipe.student.max_length)
        texts = config.candidates * self._mean(self._lengths, limit) + self._mean(self._query_lengths, limit)
        return TRAINING * steps * config.queries_per_step * texts * parameters(self.job.recipe.student.model)

    def reranking(self, split: str) -> float:
        """Of the pairs that the teacher reranks for a split's queries."""
        return self.scoring(len(self.job.dataset.qrels(split)) * self.job.recipe.evaluate.rerank_depth)

    @property
    def _training_queries(self) -> int:
        """Those that there are or, before queries are generated, about one for a document."""
        job = self.job
        making = job.recipe.generate
        if making and job.train_split not in job.dataset.qrels:
            there = min(making.documents or NO_LIMIT, len(job.dataset.documents))
        else:
            there = len(job.dataset.qrels(job.train_split))
        return min(job.recipe.dataset.train_queries or NO_LIMIT, there)

    def _pair_tokens(self, member: MemberConfig) -> float:
        return self._mean(self._lengths + float(np.mean(self._query_lengths)), member.tokens)

    @staticmethod
    def _mean(lengths: np.ndarray, limit: int | None) -> float:
        return float(np.minimum(lengths, limit or NO_LIMIT).mean())


@cache
def parameters(model: str) -> int:
    """Those of a transformer's layers: words' vectors are looked up, which costs next to nothing.

    Of a model without a file of safetensors, or on a server, none are known, and 0 is returned.
    """
    if endpoints.is_one(model):
        return 0
    folder = models.resolve(model)
    if base := models.adapter_base(folder):
        return parameters(base)
    return sum(_in_file(path) for path in folder.rglob("*.safetensors"))


def _in_file(path: Path) -> int:
    with safe_open(path, "numpy") as file:
        shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118 (it is no dictionary)
    return sum(math.prod(shape) for name, shape in shapes.items() if len(shape) == 2 and "embed" not in name)


def _of_teacher(member: MemberConfig) -> int:
    kind, name = teacher_loader.split(member.model)
    return parameters(name) if kind == "cross-encoder" else 0


class Act(NamedTuple):
    """A part of a run."""

    what: str
    """In words, for the log."""
    do: Callable[[], None]
    work: Callable[[Workload], float] | None = None
    """Passes that it takes; ``None``: next to none, or nobody knows."""
    folder: Path | None = None
    """Where it leaves its files: with a manifest there, it is taken for done."""


def carry_out(job: Job, acts: Sequence[Act]) -> None:
    """Do one act after the other, and say how long all of it takes on this machine."""
    seconds = forecast(job, acts)
    with whole_progress([act.what for act in acts], seconds) as begin:
        for number, act in enumerate(acts):
            begin(number)
            act.do()


def forecast(job: Job, acts: Sequence[Act]) -> list[float]:
    """The seconds that each act takes here; 0 for one that is done, takes next to no time, or is not foreseen."""
    ahead = [act.work if act.work and not (act.folder and stages.read_manifest(act.folder)) else None for act in acts]
    load = Workload(job) if any(ahead) else None
    passes = [work(load) if work and load else 0.0 for work in ahead]
    if load is None or sum(passes) < WORTHWHILE or not parameters(job.recipe.student.model):
        return [0.0] * len(acts)
    return [some / load.passes_per_second for some in passes]
