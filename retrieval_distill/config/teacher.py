"""Who teaches."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from retrieval_distill.config.endpoint import EndpointConfig
from retrieval_distill.config.retrieval import BM25Config
from retrieval_distill.config.section import Section

NO_LIMIT = 1 << 30
"""A token limit that leaves the model's own."""

PAIR_TOKENS = 512
"""Tokens of a query-passage pair, unless told otherwise."""


Words = Annotated[tuple[str, ...], Field(min_length=1)]
"""Words that an answer may begin with."""


class LLMConfig(EndpointConfig):
    """An LLM judge."""

    mode: Literal["log-odds", "graded"] = "log-odds"
    """``log-odds`` of yes against no, or a grade from 0 to 4."""
    prompt: str | None = None
    """Template with ``{query}`` and ``{document}``; ``None``: a built-in one."""
    positive: Words = ("yes",)
    """``log-odds``: words for "yes" in the prompt's language."""
    negative: Words = ("no",)
    """Words for "no"."""


class MemberConfig(Section):
    """One teacher."""

    model: str = "cross-encoder/ms-marco-MiniLM-L6-v2"
    """A cross-encoder (hub id, folder, ``starter``), ``bi-encoder:NAME``, ``bm25``, ``llm:NAME``, ``api:NAME`` or
    ``scores:FILE``."""
    max_length: int | None = Field(None, ge=8)
    """Tokens of a query-passage pair, at most the model's own limit, or of a bi-encoder's text; ``None``: 512 of a
    pair, and a bi-encoder's own limit, with which stored vectors of the corpus can be used."""
    dtype: str = "auto"
    """``float32``, ``bfloat16``, ``float16``, ``int8`` (CPU), or ``auto``: bfloat16 where it is native."""
    label: int | None = Field(None, ge=0)
    """Which label means relevant, for a cross-encoder of several; ``None`` for one of one."""
    llm: LLMConfig = LLMConfig()
    """Options of ``llm:NAME``."""
    bm25: BM25Config | None = None
    """Options of ``bm25``; ``None``: in a recipe those of its section ``retrieve``, elsewhere the defaults."""
    normalise: Literal["none", "z-score", "min-max", "rank", "temperature"] = "none"
    """What objectives see of the raw scores: per query for all but ``temperature``, which is fitted on dev queries."""
    weight: float = Field(1.0, ge=0)
    """Share in an ensemble."""

    @property
    def tokens(self) -> int | None:
        """``max_length`` or its default; ``None``: the model's own limit."""
        return self.max_length or (None if self.model.startswith("bi-encoder:") else PAIR_TOKENS)


class TeacherConfig(MemberConfig):
    """The teacher, or several."""

    ensemble: tuple[MemberConfig, ...] = ()
    """Several teachers in place of ``model``; their normalised scores are added up by weight."""
    weights: Literal["given", "fitted"] = "given"
    """Whether an ensemble's weights are those given, or fitted on dev queries. Without dev queries of people's there is
    nothing to fit them on: they are those given, of standard scores (``z-score``) where no other ones are asked for."""
    squashed: Literal["undo", "keep", "refuse"] = "undo"
    """What to do with scores that a sigmoid has squashed into 0..1: back to logits, nothing, or stop."""
    gate: Literal["stop", "warn", "off"] = "warn"
    """What to do where dev queries do not show the teacher to beat BM25, the start model, and the two fused."""
    gate_queries: int = Field(200, ge=10)
    """Dev queries the gate asks."""
    gate_depth: int = Field(20, ge=2)
    """Best documents of each of these that the gate lets the teacher rerank per dev query."""

    @property
    def members(self) -> tuple[MemberConfig, ...]:
        """The ensemble, or the one teacher."""
        return self.ensemble or (self,)

    @property
    def unfitted(self) -> TeacherConfig:
        """The same where nothing can be fitted: an ensemble's weights are those given, of scores on one scale."""
        if self.weights == "given" or not self.ensemble:
            return self
        alike = (
            member if member.normalise != "none" else member.model_copy(update={"normalise": "z-score"})
            for member in self.ensemble
        )
        return self.model_copy(update={"weights": "given", "ensemble": tuple(alike)})


class EmbeddingTeacherConfig(Section):
    """A bi-encoder whose vectors teach, for the objectives ``embedding`` and ``in_batch_kl``."""

    model: str | None = None
    """Any bi-encoder, ``api:NAME``, or ``start``: the student before training (self-distillation); ``None``: no such
    teacher."""
    max_length: int | None = Field(None, ge=8)
    """Token limit; ``None``: the model's own."""
    dtype: str = "auto"
    """What the model computes in."""
