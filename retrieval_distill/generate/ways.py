"""The ways to generate queries, by name. Knows which there are; must not know how any of them works."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from retrieval_distill import models
from retrieval_distill.config import GenerateConfig
from retrieval_distill.data.dataset import Texts
from retrieval_distill.generate import offline, questions
from retrieval_distill.generate.query_generator import QueryGenerator
from retrieval_distill.generate.salience import Salience

Build = Callable[[GenerateConfig, int, Texts], QueryGenerator]
"""(options, seed, documents) -> the way."""


def build(name: str, config: GenerateConfig, seed: int, documents: Texts) -> QueryGenerator:
    """A way by name.

    Raises:
        UserError: An option that it needs is missing or cannot work.
    """
    return _WAYS[name](config, seed, documents)


def check(config: GenerateConfig) -> None:
    """Check cheaply that every way can be built, before any expensive work.

    Raises:
        UserError: As for :func:`build`, or a model is neither on disk nor reachable.
    """
    if "seq2seq" in config.ways:
        models.resolve(config.seq2seq.model)
    if "llm" in config.ways:
        from retrieval_distill.generate.language_model import LanguageModel

        LanguageModel.load(config.llm)


def identity(config: GenerateConfig) -> dict[str, Any]:
    """All options that change the queries, and the fingerprint of the model that writes them, as JSON values."""
    llm = config.llm.model_dump(include={"model", "prompt", "max_characters", "temperature", "query_tokens"})
    by_way = {
        "seq2seq": lambda: {**config.seq2seq.model_dump(), "model": models.fingerprint(config.seq2seq.model)},
        "llm": lambda: llm,
    }
    options: dict[str, Any] = {name: options_of() for name, options_of in by_way.items() if name in config.ways}
    return {**config.model_dump(mode="json", exclude={"seq2seq", "llm"}), **options}


def _offline(name: str, find: offline.Find) -> Build:
    return lambda config, seed, documents: offline.Offline(name, find, config.keep, seed)


def _headings(config: GenerateConfig, seed: int, documents: Texts) -> QueryGenerator:
    return offline.Offline("headings", offline.headings, 0.0, seed)  # a section, never the whole document


def _salient(name: str, find: Callable[[Salience], offline.Find]) -> Build:
    def built(config: GenerateConfig, seed: int, documents: Texts) -> QueryGenerator:
        salience = Salience(f"{title} {text}" for _, title, text in documents.records())
        return offline.Offline(name, find(salience), config.keep, seed)

    return built


def _seq2seq(config: GenerateConfig, seed: int, documents: Texts) -> QueryGenerator:
    from retrieval_distill.generate.seq2seq import Seq2Seq

    return Seq2Seq(config.seq2seq, seed)


def _llm(config: GenerateConfig, seed: int, documents: Texts) -> QueryGenerator:
    from retrieval_distill.generate.language_model import LanguageModel

    way = LanguageModel.load(config.llm)
    way.announce(documents, config.ways["llm"])
    return way


_WAYS: dict[str, Build] = {
    "titles": _offline("titles", offline.titles),
    "headings": _headings,
    "sentences": _salient("sentences", offline.salient_sentences),
    "keywords": _salient("keywords", offline.keywords),
    "summary": _offline("summary", offline.summary),
    "questions": _offline("questions", questions.questions),
    "seq2seq": _seq2seq,
    "llm": _llm,
}
