"""Drops documents that are too short, too long or in another language. Knows texts; must not know judgements."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import Any

from retrieval_distill.config import PrepareConfig
from retrieval_distill.data.bad_input import Ledger
from retrieval_distill.data.columns import Record
from retrieval_distill.data.prepare.words import words
from retrieval_distill.errors import UserError


def by_length(texts: Iterable[Record], config: PrepareConfig, dropped: Ledger) -> Iterator[Record]:
    """The documents within the limits on words (of title and text); empty documents are always dropped."""
    for id_, title, text in texts:
        count = len(words(f"{title} {text}"))
        if not f"{title}{text}".strip():
            dropped.add("document without text", id_)
        elif count < config.min_words:
            dropped.add(f"document of fewer than {config.min_words} words", id_)
        elif config.max_words is not None and count > config.max_words:
            dropped.add(f"document of more than {config.max_words} words", id_)
        else:
            yield id_, title, text


def by_language(texts: Iterable[Record], config: PrepareConfig, dropped: Ledger) -> Iterator[Record]:
    """The documents in the wanted languages, or whose language is uncertain.

    Raises:
        UserError: py3langid is not installed, or a language is unknown.
    """
    if not config.languages:
        yield from texts
        return
    classify = _classifier(config.languages)
    for id_, title, text in texts:
        language, confidence = classify(f"{title} {text}")
        if language in config.languages or confidence < config.language_confidence:
            yield id_, title, text
        else:
            dropped.add(f"document in another language ({language})", id_)


def _classifier(languages: tuple[str, ...]) -> Callable[[str], tuple[str, float]]:
    identifier = _identifier()
    known = {language for language, _ in identifier.rank("text")}
    if unknown := set(languages) - known:
        raise UserError(f"languages: {', '.join(sorted(unknown))} is not known; known: {', '.join(sorted(known))}")
    return identifier.classify


@cache
def _identifier() -> Any:
    """The library's model for 139 languages, with probabilities."""
    try:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier
    except ImportError:
        raise UserError("languages needs: pip install 'retrieval-distill[language]'") from None
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
