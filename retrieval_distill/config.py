"""The recipe: the one source of YAML keys, ``--set`` options, defaults and their documentation.

Knows names, types and bounds; must not know how a stage does its work.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from retrieval_distill.errors import UserError, nearest

RECIPES = Path(__file__).parent / "recipes"


class Section(BaseModel):
    """A part of the recipe; a key it does not know is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


S = TypeVar("S", bound=Section)


class ReadConfig(Section):
    """How a dataset's source is read."""

    format: str | None = None
    """Name of the source's format; ``None``: its prefix, ending or files tell."""
    columns: dict[str, str] = {}
    """Names of columns that differ: ``{id: doc_id, text: body, title: name, queries.id: qid, qrels.score: grade}``."""
    queries: str | None = None
    """Table of queries, for a source that holds documents only."""
    qrels: dict[str, str] = {}
    """Split -> file of judgements (a table, or TREC), for a source that holds none."""
    encoding: str = "utf-8"
    """Encoding of text files; a byte that it does not allow is a bad row, never guessed at."""
    on_bad: Literal["refuse", "skip"] = "refuse"
    """What to do with a row that cannot be read: stop and name it, or leave it out, counted and named."""


class DatasetConfig(ReadConfig):
    """What to work on."""

    source: str = "python-docs"
    """A folder or file of any format read, ``beir:NAME``, ``nanobeir:NAME``, ``hf:NAME``, ``ir:NAME``, or the embedded
    ``python-docs``."""
    train: str = "train"
    """Split whose queries train the student."""
    dev: str | None = "dev"
    """Split whose queries the gate asks; ``None``, or a split the dataset lacks: it only reports agreement."""
    test: str = "test"
    """Split that the report measures."""
    train_queries: int | None = Field(None, ge=1)
    """Training queries used, drawn by the seed; ``None`` uses all."""


class RetrieveConfig(Section):
    """First-stage retrieval: candidates of training queries, baselines and the pool the teacher reranks."""

    depth: int = Field(30, ge=1)
    """Documents that BM25 and the start model each put forward per training query."""
    keep: int = Field(12, ge=1)
    """Candidates kept per training query after reciprocal-rank fusion; these are scored by the teacher."""
    k1: float = Field(1.5, ge=0)
    """BM25's term-frequency saturation."""
    b: float = Field(0.75, ge=0, le=1)
    """BM25's length normalisation."""
    stemmer: str | None = None
    """PyStemmer language for BM25 (extra ``stem``); ``None`` matches words as written."""


NO_LIMIT = 1 << 30
"""A token limit that leaves the model's own."""


class LLMConfig(Section):
    """An LLM judge behind an OpenAI-compatible endpoint."""

    endpoint: str | None = None
    """Base URL, such as ``http://localhost:8000/v1``; the key is read from ``OPENAI_API_KEY``."""
    mode: Literal["log-odds", "graded"] = "log-odds"
    """``log-odds`` of yes against no, or a grade from 0 to 4."""
    prompt: str | None = None
    """Template with ``{query}`` and ``{document}``; ``None``: a built-in one."""
    max_characters: int = Field(6000, ge=100)
    """Documents are cut to this."""
    concurrency: int = Field(8, ge=1)
    """Requests under way at once."""
    timeout: float = Field(60.0, gt=0)
    """Seconds that one answer may take."""
    attempts: int = Field(6, ge=1)
    """Tries per pair before scoring stops."""
    price_in: float | None = Field(None, ge=0)
    """Price of a million tokens sent, for the estimate; ``None``: no estimate."""
    price_out: float | None = Field(None, ge=0)
    """Price of a million tokens received."""


class MemberConfig(Section):
    """One teacher."""

    model: str = "cross-encoder/ms-marco-MiniLM-L6-v2"
    """A cross-encoder (hub id, folder, ``starter``), ``bi-encoder:NAME``, ``llm:NAME`` or ``scores:FILE``."""
    max_length: int = Field(512, ge=8)
    """Tokens of a query-passage pair (bi-encoder: of a text), at most the model's own limit."""
    dtype: str = "auto"
    """``float32``, ``bfloat16``, ``float16``, ``int8`` (CPU), or ``auto``: bfloat16 where it is native."""
    label: int | None = Field(None, ge=0)
    """Which label means relevant, for a cross-encoder of several; ``None`` for one of one."""
    llm: LLMConfig = LLMConfig()
    """Options of ``llm:NAME``."""
    normalise: Literal["none", "z-score", "min-max", "rank", "temperature"] = "none"
    """What objectives see of the raw scores: per query for all but ``temperature``, which is fitted on dev queries."""
    weight: float = Field(1.0, ge=0)
    """Share in an ensemble."""


class TeacherConfig(MemberConfig):
    """The teacher, or several."""

    ensemble: tuple[MemberConfig, ...] = ()
    """Several teachers in place of ``model``; their normalised scores are added up by weight."""
    weights: Literal["given", "fitted"] = "given"
    """Whether an ensemble's weights are those given, or fitted on dev queries."""
    squashed: Literal["undo", "keep", "refuse"] = "undo"
    """What to do with scores that a sigmoid has squashed into 0..1: back to logits, nothing, or stop."""
    gate: Literal["stop", "warn", "off"] = "warn"
    """What to do when the teacher is not shown to be better than the start model and BM25 on the dev queries."""
    gate_queries: int = Field(200, ge=10)
    """Dev queries the gate asks."""
    gate_depth: int = Field(20, ge=2)
    """Documents of the start model and of BM25 that the gate lets the teacher rerank per dev query."""

    @property
    def members(self) -> tuple[MemberConfig, ...]:
        """The ensemble, or the one teacher."""
        return self.ensemble or (self,)


class LoRAConfig(Section):
    """Training through low-rank matrices beside frozen weights; they are merged into these when the student is saved.

    Memory for gradients and optimiser falls to that of the small matrices. They want a higher ``learning_rate`` than
    whole weights do: 1e-4 to 5e-4.
    """

    rank: int = Field(16, ge=1)
    """Rank of the matrices; practice ranges from 8 to 64."""
    alpha: int = Field(32, ge=1)
    """What they add is scaled by ``alpha / rank``; twice the rank is the custom."""
    targets: Literal["all-linear"] | tuple[str, ...] = "all-linear"
    """Every linear layer, or those whose names end so (``[query, value]``)."""


class StudentConfig(Section):
    """The bi-encoder to train."""

    model: str = "distilbert/distilbert-base-uncased"
    """Any encoder, decoder or sentence-transformers model: hub id, folder, or ``packaged:all-MiniLM-L6-v2``."""
    layers: tuple[int, ...] | Annotated[str, Field(pattern=r"^(first|last|spaced|auto):[1-9][0-9]*$")] | None = None
    """Layers to keep: their numbers from 0 (``[0, 2, 5]``), or how many and which, as ``spaced:3``; ``None``: all.

    ``first:N`` and ``last:N`` are those next to the input and the output; ``spaced:N`` goes from the first to the
    last as evenly as possible. ``auto:N`` tries the spaced ones and every N neighbours, and keeps those whose
    untrained student ranks the candidates of up to 200 training queries best (nDCG@10).
    """
    pooling: Literal["mean", "cls", "last", "max", "weightedmean"] | None = None
    """How token vectors become one; ``None`` keeps the model's own (plain encoders: mean, decoders: last)."""
    dimensions: int | None = Field(None, ge=1)
    """Length of the vectors, by a linear map that is trained along; ``None`` keeps the model's own."""
    vocabulary: Literal["corpus"] | Annotated[int, Field(ge=1)] | None = None
    """``corpus`` keeps only tokens of the documents and training queries, a number so many of them; ``None``: all.

    Characters stay, so that new texts can be cut. The vectors of these texts stay as they are under ``corpus``.
    """
    separate: bool = False
    """Whether queries and documents get encoders of their own, equal at the start; the student is twice as large."""
    query_model: str | None = None
    """A model for queries alone, often a smaller one, kept whole; ``model`` then embeds documents only."""
    freeze_documents: bool = False
    """With ``separate`` or ``query_model``: train the query encoder alone; documents keep ``model``'s vectors."""
    lora: LoRAConfig | None = None
    """Train through adapters (``{}`` for their defaults); ``None`` trains all weights."""
    similarity: Literal["cosine", "dot"] = "cosine"
    """Similarity in training, index and evaluation."""
    scale: float = Field(20.0, gt=0)
    """Factor on similarities in training, so that they can reach the teacher's margins (1 suits ``dot``)."""
    max_length: int = Field(256, ge=8)
    """Token limit, saved in the student."""
    query_prompt: str | None = None
    """Put before every query, saved in the student; ``None`` keeps the model's own."""
    document_prompt: str | None = None
    """Put before every document, saved in the student; ``None`` keeps the model's own."""


class EmbeddingTeacherConfig(Section):
    """A bi-encoder whose vectors teach, for the objectives ``embedding`` and ``in_batch_kl``."""

    model: str | None = None
    """Any bi-encoder, or ``start``: the student before training (self-distillation); ``None``: no such teacher."""
    max_length: int | None = Field(None, ge=8)
    """Token limit; ``None``: the model's own."""
    dtype: str = "auto"
    """What the model computes in."""


class TrainingConfig(Section):
    """How the student trains."""

    steps: int | None = Field(None, ge=1)
    """Optimiser steps; ``None``: as many as ``epochs`` need."""
    epochs: float = Field(1.0, gt=0)
    """Passes over the training queries, where ``steps`` is not given."""
    queries_per_step: int = Field(32, ge=1)
    """Queries of one optimiser step (per device)."""
    candidates: int = Field(6, ge=2)
    """Candidates per query and step: one relevant, the others drawn from its list anew each epoch."""
    max_length: int | None = Field(None, ge=8)
    """Token limit in training only; ``None``: the student's."""
    learning_rate: float = Field(5e-5, gt=0)
    """Peak learning rate of AdamW."""
    warmup: float = Field(0.1, ge=0, le=1)
    """Share of the steps in which the learning rate rises; it then falls linearly to 0."""
    weight_decay: float = Field(0.01, ge=0)
    """AdamW's weight decay."""
    max_grad_norm: float = Field(1.0, gt=0)
    """Gradients are clipped to this norm."""
    dropout: float | None = Field(0.0, ge=0, lt=1)
    """Dropout of the student in training; ``None`` keeps the model's. Distillation needs none, and it is slow."""
    bf16: bool | None = None
    """The transformer computes in bfloat16, its weights stay float32; ``None``: where it is native."""
    gradient_accumulation: int = Field(1, ge=1)
    """Batches of ``queries_per_step`` whose gradients are averaged before the optimiser moves."""
    cache_texts: int | None = Field(None, ge=1)
    """Texts whose activations are held at once (gradient caching): a step of any size fits, a forward pass more."""
    save_steps: int = Field(25, ge=1)
    """Steps between checkpoints: the most that a crash costs."""
    evaluate_steps: int | None = Field(None, ge=1)
    """Steps between evaluations on dev queries: the best weights become the student. ``None``: the last ones do."""
    patience: int | None = Field(None, ge=1)
    """Evaluations without a better one after which training stops; ``None``: it runs to its end."""
    dev_queries: int = Field(200, ge=1)
    """Dev queries of an evaluation, drawn by the seed."""
    dev_documents: int = Field(2000, ge=10)
    """Documents they are asked over: relevant ones, first-stage candidates, and others drawn by the seed."""
    agreement_queries: int = Field(100, ge=0)
    """Training queries whose whole lists tell how far the student agrees with the teacher, before, during and after."""
    topics: int | None = Field(None, ge=2)
    """Topics of the queries (k-means of the untrained student's vectors): each step is of one; ``None``: of any."""
    easy_to_hard: bool = False
    """A curriculum: candidates that are easy to tell from the relevant one first, the teacher's favourites last."""
    layer_decay: float = Field(1.0, gt=0, le=1)
    """Factor on the learning rate from layer to layer downwards; the embeddings have the lowest."""
    ema: float | None = Field(None, ge=0, lt=1)
    """Decay of a moving average of the weights, which becomes the student; ``None``: no average."""
    report_to: tuple[str, ...] = ()
    """Trackers that are given every row of the log, such as ``tensorboard``, ``wandb``, ``trackio`` or ``mlflow``."""
    missing_scores: Literal["refuse", "drop", "lowest"] = "refuse"
    """A candidate without a teacher score: stop, leave it out, or give it the lowest score of its list."""

    @model_validator(mode="after")
    def _patience_needs_evaluations(self) -> TrainingConfig:
        if self.patience is not None and self.evaluate_steps is None:
            raise PydanticCustomError("patience", "patience needs evaluate_steps, such as evaluate_steps=25")
        return self


class EmbedConfig(Section):
    """How the corpus is embedded."""

    dtype: str = "auto"
    """What the student computes in; vectors are stored as float32."""


class IndexConfig(Section):
    """The search index."""

    kind: Literal["flat", "hnsw", "sq8"] = "flat"
    """``flat`` is exact, ``hnsw`` a graph, ``sq8`` holds 8-bit vectors."""
    dimensions: int | None = Field(None, ge=1)
    """Dimensions kept of every vector, the first ones, for a student trained with such a view; ``None``: all."""


class EvaluateConfig(Section):
    """What is measured."""

    measures: tuple[str, ...] = ("nDCG@10", "RR@10", "R@100")
    """Measures as ir_measures names them; the first one is the headline."""
    depth: int = Field(100, ge=1)
    """Documents retrieved per test query."""
    rerank_depth: int = Field(30, ge=1)
    """Documents per test query, of BM25 and the start model fused, that the teacher baseline reranks."""
    baselines: tuple[str, ...] = ()
    """Bi-encoders (hub ids, folders) measured beside the student, each with its own token limit and similarity."""


class Recipe(Section):
    """Everything ``run`` needs to know."""

    name: str
    """Names the recipe; an output folder belongs to one recipe."""
    seed: int = 7
    """Fixes the draw of queries, negatives and their order."""
    dataset: DatasetConfig = DatasetConfig()
    retrieve: RetrieveConfig = RetrieveConfig()
    teacher: TeacherConfig = TeacherConfig()
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


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe file, or a shipped recipe by name, and apply ``key=value`` overrides.

    Args:
        path: YAML file, or the name of a shipped recipe such as ``demo``.
        overrides: Such as ``training.steps=50``; the value is YAML.

    Raises:
        UserError: The file is missing or not YAML, a key does not exist, or a value is out of bounds.
    """
    path = Path(path)
    if not path.is_file() and (RECIPES / f"{path}.yaml").is_file():
        path = RECIPES / f"{path}.yaml"
    if not path.is_file():
        shipped = ", ".join(sorted(recipe.stem for recipe in RECIPES.glob("*.yaml")))
        raise UserError(f"{path}: no such recipe file; shipped recipes: {shipped}")
    values = load_values(path)
    for override in overrides:
        _apply(values, override)
    values.setdefault("name", path.stem)
    return parse_recipe(values, str(path))


def load_values(path: Path) -> dict[str, Any]:
    """The keys and values of a YAML file.

    Raises:
        UserError: There is no such file, or it is not YAML or no mapping.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not valid YAML: {error}") from None
    if not isinstance(values, dict):
        raise UserError(f"{path}: expected a mapping of keys to values")
    return values


def parse_recipe(values: dict[str, Any], where: str = "recipe") -> Recipe:
    """Check a recipe's plain values; see :func:`parse`."""
    return parse(Recipe, values, where)


def parse(schema: type[S], values: dict[str, Any], where: str, overrides: Sequence[str] = ()) -> S:
    """Check plain values against a section's schema.

    Args:
        schema: The section.
        values: Its keys and values.
        where: Opens the message, such as the file's name.
        overrides: ``key=value`` on top of ``values``; the value is YAML.

    Raises:
        UserError: A key does not exist, or a value is out of bounds.
    """
    for override in overrides:
        _apply(values, override)
    try:
        return schema.model_validate(values)
    except ValidationError as error:
        raise UserError("\n".join(_explain(problem, where, schema) for problem in error.errors())) from None


def _apply(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise UserError(f"--set {override!r}: write it as key=value, for example training.steps=50")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise UserError(f"--set {override!r}: the value is not valid YAML") from None
    *parents, last = key.split(".")
    for parent in parents:
        values = values.setdefault(parent, {})
        if not isinstance(values, dict):
            raise UserError(f"--set {override!r}: {parent!r} is not a section")
    values[last] = value


def _explain(problem: Any, where: str, schema: type[BaseModel]) -> str:
    """One validation problem in the user's words."""
    choices = ("dict[", "float", "tuple[", "literal[", "constrained-")  # which part of a union was tried
    at = [str(part) for part in problem["loc"] if not str(part).startswith(choices)]
    key = ".".join(at)
    if problem["type"] == "extra_forbidden":
        return f"{where}: key {key!r} does not exist{nearest(at[-1], _keys(schema, at[:-1]))}"
    got = "" if isinstance(problem["input"], dict) else f" (got {problem['input']!r})"
    return f"{where}: {key}: {problem['msg']}{got}"


def _keys(section: Any, path: list[str]) -> list[str]:
    """The keys of the section that a path leads to; sections may be optional, or numbered in a list."""
    for part in path:
        if not part.isdigit():
            section = section.model_fields[part].annotation
            section = next((choice for choice in get_args(section) if hasattr(choice, "model_fields")), section)
    return list(getattr(section, "model_fields", ()))
