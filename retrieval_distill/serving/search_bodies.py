"""What the search API is asked and answers: bodies of requests, filters of documents, shapes of answers.

Knows pydantic and the limits of a request; must not know how documents are found, or which route takes a body.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

from retrieval_distill.serving.answers import Body, Name
from retrieval_distill.serving.fields import MAX_PARTS, MAX_VALUES
from retrieval_distill.serving.limits import MAX_DEPTH, MAX_OFFSET

Scalar = str | int | Annotated[float, Field(allow_inf_nan=False)] | bool


class Comparison(Body):
    """A document's field against a value; ``contains`` ignores case in text, and means an element of a list."""

    field: Name
    op: Literal["=", "!=", "<", "<=", ">", ">=", "in", "contains"]
    value: Scalar | Annotated[list[Scalar], Field(max_length=MAX_VALUES)]


class And(Body):
    """All of these."""

    all_: Annotated[list[Filter], Field(alias="and", min_length=1, max_length=MAX_PARTS)]


class Or(Body):
    """Any of these."""

    any_: Annotated[list[Filter], Field(alias="or", min_length=1, max_length=MAX_PARTS)]


class Not(Body):
    """Not this."""

    not_: Annotated[Filter, Field(alias="not")]


def _form(value: Any) -> str:
    """Which kind of filter a value is, as it was sent or as it was read."""
    if isinstance(value, Body):
        return type(value).__name__.lower()
    keys = value if isinstance(value, dict) else ()
    return next((word for word in ("and", "or", "not") if word in keys), "comparison")


Filter = Annotated[
    Annotated[And, Tag("and")]
    | Annotated[Or, Tag("or")]
    | Annotated[Not, Tag("not")]
    | Annotated[Comparison, Tag("comparison")],
    Discriminator(_form),
]
"""Which documents may be found."""

for model in (And, Or, Not):
    model.model_rebuild()

Where = Filter | None
Session = Annotated[Name | None, Field(description="An id of the caller's, to tell one person's searches.")]


class Search(Body):
    """What to look for: ``query``, or documents ``like`` a document."""

    query: str | None = None
    depth: Annotated[int, Field(ge=1, le=MAX_DEPTH)] = 10
    offset: Annotated[int, Field(ge=0, le=MAX_OFFSET)] = 0
    system: Name | None = None
    rerank: bool = False
    where: Where = None
    like: Name | None = None
    interleave: Annotated[list[Name], Field(min_length=2, max_length=2)] | None = None
    session: Session = None

    @model_validator(mode="after")
    def one_of_two(self) -> Search:
        """Exactly one of query and like; interleaving of plain first pages."""
        if (self.query is None) == (self.like is None):
            raise ValueError("give query, or like: the id of a document")
        if self.interleave and (self.like or self.rerank or self.offset or self.system):
            raise ValueError("interleave goes with query, depth, where and session alone")
        return self


class Compare(Body):
    """A query for two systems."""

    query: str
    systems: Annotated[list[Name], Field(min_length=2, max_length=2)]
    depth: Annotated[int, Field(ge=1, le=MAX_DEPTH)] = 10
    where: Where = None
    session: Session = None


class Feedback(Body):
    """What a person did with a hit; a judgement has a grade, from -1 (thumb down) to 3."""

    search_id: Name
    doc_id: Name
    kind: Literal["click", "judgement"]
    grade: Annotated[int, Field(ge=-1, le=3)] | None = None

    @model_validator(mode="after")
    def grade_of_judgement(self) -> Feedback:
        """A judgement has a grade, a click has none."""
        if (self.kind == "judgement") != (self.grade is not None):
            raise ValueError("a judgement needs a grade, and a click has none")
        return self


class Preference(Body):
    """Which of two searches side by side was better."""

    left: Name
    right: Name
    preferred: Literal["left", "right", "tie"]


class SystemAnswer(BaseModel):
    """A system."""

    name: str
    label: str
    trained: bool
    hybrid: bool


class FieldAnswer(BaseModel):
    """A field by which documents can be filtered."""

    name: str
    type: Literal["integer", "number", "boolean", "string", "list"]


class SystemsAnswer(BaseModel):
    """What can be asked."""

    systems: list[SystemAnswer]
    default: str
    rerank: bool
    fields: list[FieldAnswer]
    feedback: bool
    docs: int


class Part(BaseModel):
    """A document's place in one part of a search."""

    score: float
    rank: int


class Parts(BaseModel):
    """Its places; null: that part did not find it, or was not asked."""

    dense: Part | None
    bm25: Part | None
    teacher: Part | None


class HitAnswer(BaseModel):
    """A document; ``highlights`` are (start, end) in characters of the snippet."""

    id: str
    rank: int
    score: float
    title: str
    snippet: str
    highlights: list[tuple[int, int]]
    passage: str | None
    metadata: dict[str, Any]
    parts: Parts


class BlindAnswer(BaseModel):
    """What was found; ``total`` is how many documents could be, with this filter."""

    search_id: str | None
    query: str
    total: int
    milliseconds: dict[str, float]
    hits: list[HitAnswer]


class SearchAnswer(BlindAnswer):
    """The same with the system's name."""

    model_config = ConfigDict(title="SearchAnswer")
    system: str


class CompareAnswer(BaseModel):
    """Two systems' answers, on sides drawn at random."""

    left: BlindAnswer
    right: BlindAnswer


class Sides(BaseModel):
    """The systems' names, after the preference."""

    left: str
    right: str
