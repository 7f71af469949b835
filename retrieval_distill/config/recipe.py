"""The recipe: every section, and what is not in one."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from retrieval_distill.config.compress import CompressConfig
from retrieval_distill.config.dataset import DatasetConfig, SourceConfig
from retrieval_distill.config.endpoint import APIConfig
from retrieval_distill.config.evaluation import EvaluateConfig
from retrieval_distill.config.feedback import FeedbackConfig
from retrieval_distill.config.generate import GenerateConfig
from retrieval_distill.config.indexing import EmbedConfig, IndexConfig
from retrieval_distill.config.mining import MiningConfig
from retrieval_distill.config.prepare import PrepareConfig
from retrieval_distill.config.retrieval import RetrieveConfig
from retrieval_distill.config.section import Section
from retrieval_distill.config.student import StudentConfig
from retrieval_distill.config.teacher import EmbeddingTeacherConfig, TeacherConfig
from retrieval_distill.config.training import TrainingConfig
from retrieval_distill.config.tune import TuneConfig


def _chain(value: Any) -> Any:
    """One step stands for a chain of one."""
    return [value] if isinstance(value, dict | CompressConfig) else value


class Recipe(Section):
    """Everything ``run`` needs to know."""

    name: str
    """Names the recipe; an output folder belongs to one recipe."""
    seed: int = 7
    """Fixes the draw of queries, negatives and their order."""
    dataset: DatasetConfig = DatasetConfig()
    datasets: dict[Annotated[str, Field(pattern=r"^[\w.-]+$")], SourceConfig] = {}
    """Several datasets by name, in place of ``dataset.source``; their ids become ``NAME/ID``."""
    prepare: PrepareConfig | None = None
    """Clean the data first (``{}`` for the defaults, with this recipe's splits and models); ``None``: take it as is."""
    generate: GenerateConfig | None = None
    """Make the training queries from the documents (``{}`` for the defaults); ``None``: train on the dataset's."""
    endpoints: dict[Annotated[str, Field(pattern=r"^[\w.-]+$")], APIConfig] = {}
    """Models on servers by name: ``api:NAME`` is then a teacher, an embedding teacher, a retriever or a baseline."""
    feedback: FeedbackConfig | None = None
    """Train on what people searched, clicked and judged, beside the other training queries (``{log: FILE}``); ``None``:
    not."""
    retrieve: RetrieveConfig = RetrieveConfig()
    mining: MiningConfig = MiningConfig()
    teacher: TeacherConfig = TeacherConfig()
    compress: Annotated[tuple[CompressConfig, ...], BeforeValidator(_chain)] = ()
    """How the student is made smaller on the documents' plain text before ``distill``: one step, or a list of steps,
    each starting from and taught by the result of the one before; ``student`` then starts from the last. Absent: not at
    all."""
    student: StudentConfig = StudentConfig()
    objectives: dict[str, float | tuple[float, float] | dict[str, Any]] = {
        "soft_contrastive": {"weight": 1.0, "teacher_temperature": 2.0}
    }
    """Objective -> weight, ``[weight at the start, at the end]``, or ``{weight, from, until, options}``.

    The default is the best of ``scripts/study_objectives.md``.
    """
    views: dict[str | int, float] = {"full": 1.0}
    """View -> weight: what the objectives see of the vectors; ``full``, ``128`` (dimensions), ``int8``, ``binary``,
    ``128/binary``. For vectors that serve at several sizes."""
    embedding_teacher: EmbeddingTeacherConfig = EmbeddingTeacherConfig()
    training: TrainingConfig = TrainingConfig()
    embed: EmbedConfig = EmbedConfig()
    index: IndexConfig = IndexConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    tune: TuneConfig = TuneConfig()

    @model_validator(mode="after")
    def _several_datasets(self) -> Recipe:
        if not self.datasets:
            return self
        if self.feedback is not None:
            raise PydanticCustomError("feedback", "feedback is learnt from for one dataset at a time, not for datasets")
        splits, training = {"train", "dev", "test"}, self.training
        if self.dataset.model_dump(exclude=splits) != DatasetConfig().model_dump(exclude=splits):
            raise PydanticCustomError("datasets", "dataset only names splits beside datasets; put the rest into these")
        if training.topics and (training.topic_batches, training.dataset_batches) == ("one", "mixed"):
            raise PydanticCustomError("topics", "batches of one topic need training.dataset_batches=one")
        if {"random", "in-topic"} & {*self.mining.draw}:
            raise PydanticCustomError("draw", "random and in-topic draws would mix the datasets' documents")
        return self
