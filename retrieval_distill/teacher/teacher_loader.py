"""Loads a teacher by its name, ``KIND:NAME``.

Knows which kinds of teacher there are; must not know how any of them works.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from retrieval_distill import models
from retrieval_distill.config import BM25Config, MemberConfig
from retrieval_distill.data.dataset import Texts
from retrieval_distill.errors import UserError
from retrieval_distill.scores.teacher_contract import Teacher

if TYPE_CHECKING:
    from retrieval_distill.embedding.embeddings import Embeddings


@dataclass(frozen=True)
class Corpus:
    """The corpus, as far as teachers use it."""

    documents: Texts | None = None
    """The documents, for the word statistics of ``bm25``."""
    vectors: Sequence[Embeddings] = ()
    """Document vectors of any models; a bi-encoder uses those that it would compute itself."""


def load(config: MemberConfig, corpus: Corpus = Corpus()) -> Teacher:
    """Load one teacher.

    Args:
        config: ``model`` is a cross-encoder (hub id, folder, ``starter``), ``bi-encoder:NAME``, ``bm25``, ``llm:NAME``
            (with ``endpoint``), ``api:NAME`` or ``scores:FILE``; the other keys are the kind's options.
        corpus: Documents, which ``bm25`` needs, and their vectors, which save a bi-encoder work.

    Raises:
        UserError: There is no such model or file, or something that the kind needs is missing.
    """
    kind, name = split(config.model)
    return _KINDS[kind](name, config, corpus)


def split(model: str) -> tuple[str, str]:
    """Split into kind and name: ``"llm:judge"`` -> (llm, judge); a name without a known kind is a cross-encoder."""
    kind, colon, name = model.partition(":")
    return (kind, name) if kind in _KINDS and (colon or kind == BM25) else ("cross-encoder", model)


def check(config: MemberConfig) -> None:
    """Check without much cost that a teacher can be loaded.

    Raises:
        UserError: As :func:`load`.
    """
    kind, name = split(config.model)
    if kind in ("cross-encoder", "bi-encoder"):
        models.resolve(name)
    else:
        load(config, Corpus(Texts.of([])))


def identity(config: MemberConfig, documents: Texts) -> dict[str, object]:
    """All facts that change a teacher's scores on this corpus, without loading its weights; for cache keys."""
    kind, name = split(config.model)
    if kind in ("cross-encoder", "bi-encoder"):
        known: dict[str, object] = {
            "kind": kind,
            "model": models.fingerprint(name),
            "max_length": config.tokens,
            "dtype": config.dtype,
            "label": config.label,
        }
        return known if kind == "bi-encoder" else {**_arithmetic(config.dtype), **known}
    if kind == "scores":
        from retrieval_distill.scores import score_files

        return {"kind": kind, "model": score_files.fingerprint(name)}
    return {"kind": kind, "model": load(config, Corpus(documents)).fingerprint}


def _arithmetic(dtype: str) -> dict[str, str]:
    from retrieval_distill.hardware import devices
    from retrieval_distill.teacher import exact_head

    return exact_head.arithmetic(devices.dtype_name(dtype))


def _cross_encoder(name: str, config: MemberConfig, corpus: Corpus) -> Teacher:
    from retrieval_distill.teacher import cross_encoder

    return cross_encoder.load(name, config.tokens, config.dtype, config.label)


def _bi_encoder(name: str, config: MemberConfig, corpus: Corpus) -> Teacher:
    from retrieval_distill.teacher import bi_encoder

    return bi_encoder.load(name, config.tokens, config.dtype, corpus.vectors)


def _bm25(name: str, config: MemberConfig, corpus: Corpus) -> Teacher:
    from retrieval_distill.teacher import bm25

    if name:
        raise UserError(f"teacher 'bm25:{name}': write bm25; its options are keys, such as bm25.stemmer=english")
    if corpus.documents is None:
        raise UserError("teacher 'bm25' needs the documents of the corpus: load_teacher('bm25', documents=...)")
    return bm25.load(corpus.documents, (config.bm25 or BM25Config()).bm25)


def _llm(name: str, config: MemberConfig, corpus: Corpus) -> Teacher:
    from retrieval_distill.teacher import llm_judge

    if config.llm.endpoint is None:
        raise UserError(f"teacher 'llm:{name}' needs teacher.llm.endpoint, such as http://localhost:8000/v1")
    options = config.llm.model_dump(exclude={"endpoint"})
    return llm_judge.load(name, config.llm.endpoint, **options)


def _api(name: str, config: MemberConfig, corpus: Corpus) -> Teacher:
    from retrieval_distill.teacher import api_reranker

    return api_reranker.load(name)


def _scores(name: str, config: MemberConfig, corpus: Corpus) -> Teacher:
    from retrieval_distill.scores import score_files

    return score_files.load(name)


BM25 = "bm25"
"""The only kind without a name."""

_KINDS: dict[str, Callable[[str, MemberConfig, Corpus], Teacher]] = {
    "cross-encoder": _cross_encoder,
    "bi-encoder": _bi_encoder,
    BM25: _bm25,
    "llm": _llm,
    "api": _api,
    "scores": _scores,
}
