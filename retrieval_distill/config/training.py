"""How the student trains."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from retrieval_distill.config.optimiser import OptimiserConfig


class TrainingConfig(OptimiserConfig):
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
    """Documents they are asked over: all relevant ones, then first-stage candidates, then others drawn by the seed."""
    agreement_queries: int = Field(100, ge=0)
    """Training queries whose whole lists tell how far the student agrees with the teacher, before, during and after."""
    memory: int | None = Field(None, ge=1)
    """Documents of earlier steps whose vectors, as they were then, are in-batch documents too, without gradients; for
    objectives that have such. ``None``: a step's own documents alone."""
    topics: int | None = Field(None, ge=2)
    """Topics of the queries (k-means of the untrained student's vectors): ``None``: none are sought."""
    topic_batches: Literal["one", "even"] = "one"
    """With ``topics``: each step is of ``one``, or of all of them, an ``even`` number of queries of each."""
    dataset_exponent: float = Field(1.0, ge=0, le=1)
    """With several datasets: one's share of the batches is its weight times its training queries to this power, so 1
    is by size, 0 all alike, and 0.5 between them."""
    dataset_batches: Literal["mixed", "one"] = "mixed"
    """With several datasets: whether each step holds all of them in their shares, or only ``one``, by turns."""
    draw: Literal["by-rank", "stratified"] = "by-rank"
    """How a query's other candidates are drawn: ``by-rank``, the higher in the teacher's order the likelier, or
    ``stratified``, one from each of as many equal parts of the range of their teacher scores."""
    easy_to_hard: bool = False
    """A curriculum: candidates that are easy to tell from the relevant one first, the teacher's favourites last."""
    frozen_layers: int | None = Field(None, ge=1)
    """Lower layers, embeddings included, that stay as they are: what they make of each text is computed once and kept
    on disk while the training lasts (tokens x width x 4 bytes, in bfloat16 2), and steps start from there. ``None``:
    all layers learn."""
    layer_decay: float = Field(1.0, gt=0, le=1)
    """Factor on the learning rate from layer to layer downwards; the embeddings have the lowest."""
    ema: float | None = Field(None, ge=0, lt=1)
    """Decay of a moving average of the weights, which becomes the student; ``None``: no average."""
    report_to: tuple[str, ...] = ()
    """Trackers that are given every row of the log, such as ``tensorboard``, ``wandb``, ``trackio`` or ``mlflow``."""
    lexical_weight: float | None = Field(None, gt=0)
    """Hybrid-aware distillation, for a student that is served fused with BM25: the objectives (and evaluations on dev
    queries) see its similarity plus so many times the pair's BM25 score, in standard deviations of those of the
    training candidates; BM25 is that of ``retrieve``. A similarity is a cosine times ``student.scale``, so 1 counts
    as 0.05 cosines do at a scale of 20. ``None``: the student learns to rank alone."""
    missing_scores: Literal["refuse", "drop", "lowest"] = "refuse"
    """A candidate without a teacher score: stop, leave it out, or give it the lowest score of its list."""

    @model_validator(mode="after")
    def _one_way_to_draw(self) -> TrainingConfig:
        if self.easy_to_hard and self.draw == "stratified":
            raise PydanticCustomError("draw", "easy_to_hard draws by rank: leave out draw=stratified or easy_to_hard")
        return self

    @model_validator(mode="after")
    def _patience_needs_evaluations(self) -> TrainingConfig:
        if self.patience is not None and self.evaluate_steps is None:
            raise PydanticCustomError("patience", "patience needs evaluate_steps, such as evaluate_steps=25")
        return self
