"""Queries for a corpus that has none."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from retrieval_distill.config.endpoint import EndpointConfig
from retrieval_distill.config.evaluation import QUESTIONS
from retrieval_distill.config.section import Section

Way = Literal["titles", "headings", "sentences", "keywords", "summary", "questions", "seq2seq", "llm"]


class Seq2SeqConfig(Section):
    """A sequence-to-sequence model that writes queries, as in doc2query and GPL (arXiv 2112.07577)."""

    model: str = "BeIR/query-gen-msmarco-t5-base-v1"
    """Hub id or folder; the default is GPL's."""
    prefix: str = ""
    """Put before every document; some models were trained with ``"text2query: "``."""
    max_length: int = Field(350, ge=8)
    """Tokens of a document that are read."""
    query_length: int = Field(64, ge=1)
    """Tokens of a query at most."""
    decoding: Literal["sample", "beam"] = "sample"
    """Draw tokens (GPL), or keep the likeliest queries (beam search), which differ less."""
    top_k: int = Field(25, ge=1)
    """``sample``: tokens drawn from at each step."""
    top_p: float = Field(0.95, gt=0, le=1)
    """``sample``: probability of those tokens that may be drawn, the likeliest first (nucleus)."""
    temperature: float = Field(1.0, gt=0)
    """``sample``: above 1 the draws are more even."""
    beams: int = Field(4, ge=1)
    """``beam``: queries in the making; at least as many as are asked for."""
    dtype: str = "auto"
    """What the model computes in; ``auto``: bfloat16 where it is native."""


class QueryLLMConfig(EndpointConfig):
    """A language model that writes queries."""

    model: str | None = None
    """Its name on the server."""
    prompt: str | None = None
    """Template with ``{document}`` and ``{count}``; ``None``: a built-in one."""
    temperature: float = Field(0.7, ge=0)
    """Above 0 the queries of a document differ more."""
    query_tokens: int = Field(64, ge=8)
    """Tokens that an answer may take for each query."""


class RoundTripConfig(Section):
    """Which generated queries stay: those that lead back to their document."""

    retrieval: int | None = Field(None, ge=1)
    """Kept is a query whose document first-stage retrieval ranks among so many (Promptagator, arXiv 2209.11755);
    ``None``: it is not asked."""
    teacher: int | None = Field(None, ge=1)
    """Kept is a query whose document the teacher ranks among so many of its candidates; ``None``: it is not asked."""
    score: float | None = None
    """Kept is a query whose document the teacher gives at least this score (doc2query--, arXiv 2301.03266); ``None``:
    any."""
    candidates: int = Field(10, ge=1)
    """Documents of first-stage retrieval that the teacher ranks beside the query's own."""

    @property
    def asks_teacher(self) -> bool:
        """Whether the teacher is asked."""
        return self.teacher is not None or self.score is not None

    @property
    def asks(self) -> bool:
        """Whether anything is asked."""
        return self.retrieval is not None or self.asks_teacher


class GenerateConfig(Section):
    """Queries made from the documents themselves; they become the training split ``generated``."""

    ways: dict[Way, Annotated[float, Field(gt=0)]] = {"titles": 1, "sentences": 1}
    """Way -> queries made from each document, at most; 0.5: from every second one. So a way is weighed by the number of
    its queries. Without a model: ``titles``, ``headings`` (of Markdown or HTML) each with its section, ``sentences``
    (salient ones), ``keywords`` (the salient words of such a one), ``summary`` (the first sentence), ``questions``
    (English, by rules, of the first sentence or the title). With one: ``seq2seq``, ``llm``."""
    documents: int | None = Field(None, ge=1)
    """Documents that queries are made from, drawn by the seed; ``None``: all."""
    keep: float = Field(0.1, ge=0, le=1)
    """Share of the queries of all ways without a model but ``headings`` that stay in the text of their document. The
    others are taken out of it for training, so that the student cannot learn to look for equal words (arXiv 1906.00300,
    section 5)."""
    min_words: int = Field(3, ge=1)
    """Shorter queries are dropped."""
    max_words: int = Field(48, ge=1)
    """Longer queries are dropped."""
    held_out: tuple[str, ...] = ("dev", "test", QUESTIONS)
    """Splits whose queries must not be among the generated ones; one the dataset lacks is passed over."""
    query_threshold: float = Field(0.9, gt=0, le=1)
    """Jaccard similarity of words from which a query counts as one of those."""
    round_trip: RoundTripConfig = RoundTripConfig()
    seq2seq: Seq2SeqConfig = Seq2SeqConfig()
    llm: QueryLLMConfig = QueryLLMConfig()
