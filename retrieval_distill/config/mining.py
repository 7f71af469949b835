"""How the candidates of training queries are chosen, and the named ways to choose them."""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from retrieval_distill.config.section import Section
from retrieval_distill.errors import nearest

LEXICAL, START = "bm25", "start"
"""Retrievers that are no models' names."""

PRESETS: dict[str, tuple[str, dict[str, Any]]] = {
    "hybrid": ("the best of BM25 and the start model, fused", {}),
    "bm25-hard": ("the best of BM25", {"retrievers": ["bm25"]}),
    "dense-hard": ("the best of the start model", {"retrievers": ["start"]}),
    "hybrid-banded": ("half the best of both, half drawn from ranks 10 to 50", {"draw": {"top": 0.5, "10-50": 0.5}}),
    "hybrid-filtered": (
        "the best of both, without those whose chance to be relevant is above 95 % of the positive's",
        {"filter": {"share_of_positive": 0.95}},
    ),
    "random": ("documents drawn from the whole corpus", {"draw": {"random": 1.0}}),
}
"""Name -> what it is, and the values it stands for; their effect is measured in ``scripts/study_mining.md``."""

BAND = re.compile(r"([1-9]\d*)-([1-9]\d*)")
"""Ranks, such as ``10-50``: the first is 1, and both ends belong to the band."""

SOURCES = ("top", "random", "in-topic")
"""What candidates are drawn from, beside bands of ranks."""


class FilterConfig(Section):
    """Which documents not judged relevant may serve as negatives; ``None``: any, as far as this rule goes.

    Scores are the teacher's, as the objectives see them: raw logits, of any sign, unless ``teacher.normalise`` says
    otherwise. "The positive" is the relevant document of a query that the teacher scores lowest. Shares compare
    ``sigmoid(score)``, for a share of a logit below 0 would be larger than the logit itself. Relevant documents always
    stay, and so do the negatives of a query without one, as far as they are compared with it.
    """

    lowest: float | None = None
    """Score below which a negative is too easy."""
    highest: float | None = None
    """Score above which a negative is too likely to be relevant."""
    margin: float | None = Field(None, ge=0)
    """A negative's score is lower than the positive's minus this."""
    share_of_positive: float | None = Field(None, gt=0, le=1)
    """A negative's ``sigmoid(score)`` is lower than this share of the positive's (TopK-PercPos of NV-Retriever,
    arXiv 2407.15831, whose best share was 0.95)."""
    share_of_best: float | None = Field(None, gt=0, le=1)
    """The same against the best score of the query's list, relevant or not."""


class MiningConfig(Section):
    """How candidates are chosen; in place of the section, the name of a preset may stand."""

    preset: str | None = None
    """``hybrid``, ``bm25-hard``, ``dense-hard``, ``hybrid-banded``, ``hybrid-filtered`` or ``random``: values for what
    is not given beside it. ``None``: the defaults, which are those of ``hybrid``."""
    retrievers: tuple[str, ...] = Field(("bm25", "start"), min_length=1)
    """``bm25``, ``start`` (the student as it is before each round's training), and any bi-encoders by name
    (``api:NAME`` too)."""
    fusion: Literal["rrf", "weighted"] = "rrf"
    """How their lists become one: by reciprocal ranks, or by scores scaled to 0..1 per query."""
    weights: tuple[float, ...] | None = None
    """How much each retriever counts in the fusion; ``None``: all alike."""
    draw: dict[str, float] = {"top": 1.0}
    """Where a query's ``retrieve.keep`` candidates come from -> share: ``top`` of the fused list, ranks of it such as
    ``10-50`` (drawn by the seed), ``random`` documents, or ``in-topic``: of the topic of a relevant document."""
    topics: int = Field(50, ge=2)
    """Topics for ``in-topic``: k-means of the documents' vectors."""
    filter: FilterConfig = FilterConfig()
    rounds: int = Field(1, ge=1)
    """Rounds of mining, scoring and training; from the second on, the student mines for its own training (ANCE, arXiv
    2007.00808), which goes on for ``training.steps`` more. Only pairs new to the score store are scored."""

    @model_validator(mode="before")
    @classmethod
    def _preset_values(cls, values: Any) -> Any:
        values = {"preset": values} if isinstance(values, str) else values
        name = values.get("preset") if isinstance(values, dict) else None
        if name is None:
            return values
        if name not in PRESETS:
            raise PydanticCustomError("preset", "no such preset" + nearest(str(name), PRESETS))
        return {**PRESETS[name][1], **values}

    @field_validator("draw")
    @classmethod
    def _known_sources(cls, draw: dict[str, float]) -> dict[str, float]:
        for source, share in draw.items():
            ranks = BAND.fullmatch(source)
            if source not in SOURCES and not (ranks and int(ranks[1]) <= int(ranks[2])):
                raise PydanticCustomError("source", "draw from top, random, in-topic, or ranks such as 10-50")
            if share <= 0:
                raise PydanticCustomError("share", "a share must be above 0")
        if not draw:
            raise PydanticCustomError("draw", "draw from something, such as {top: 1}")
        return draw

    @model_validator(mode="after")
    def _one_weight_each(self) -> MiningConfig:
        if len(set(self.retrievers)) < len(self.retrievers):
            raise PydanticCustomError("retrievers", "a retriever is named twice; weigh it by weights instead")
        if self.weights is not None and len(self.weights) != len(self.retrievers):
            raise PydanticCustomError("weights", "as many weights as retrievers are needed")
        return self

    @property
    def draws_by_chance(self) -> bool:
        """Whether the seed decides anything."""
        return set(self.draw) != {"top"}

    def depth(self, depth: int) -> int:
        """How many documents each retriever has to find: ``depth``, or as many as the bands of ranks need."""
        return max([depth, *(int(ranks[2]) for source in self.draw if (ranks := BAND.fullmatch(source)))])
