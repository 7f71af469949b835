"""A teacher by name: ``KIND:NAME`` in, something that scores pairs out.

Knows which kinds of teacher there are; must not know how any of them works.
"""

from __future__ import annotations

from collections.abc import Callable

from retrieval_distill import models
from retrieval_distill.config import MemberConfig
from retrieval_distill.errors import UserError
from retrieval_distill.scores.teacher_contract import Teacher


def load(config: MemberConfig) -> Teacher:
    """Load one teacher.

    Args:
        config: ``model`` is a cross-encoder (hub id, folder, ``starter``), ``bi-encoder:NAME``, ``llm:NAME`` (with
            ``endpoint``) or ``scores:FILE``; the other keys are the kind's options.

    Raises:
        UserError: No such model or file, or an option that its kind needs is missing.
    """
    kind, name = split(config.model)
    return _KINDS[kind](name, config)


def split(model: str) -> tuple[str, str]:
    """Kind and name: ``"llm:judge"`` -> (llm, judge); a name without a known kind is a cross-encoder."""
    kind, colon, name = model.partition(":")
    return (kind, name) if colon and kind in _KINDS else ("cross-encoder", model)


def check(config: MemberConfig) -> None:
    """Find out cheaply that a teacher cannot be had, before anything costly.

    Raises:
        UserError: As for :func:`load`.
    """
    kind, name = split(config.model)
    if kind in ("cross-encoder", "bi-encoder"):
        models.resolve(name)
    else:
        load(config)


def identity(config: MemberConfig) -> dict[str, object]:
    """What a stage's fingerprint has to know of a teacher, without loading its weights."""
    kind, name = split(config.model)
    if kind in ("cross-encoder", "bi-encoder"):
        known = {"kind": kind, "model": models.fingerprint(name), **config.model_dump(include=_IDENTITY)}
        return known if kind == "bi-encoder" else {**_arithmetic(config.dtype), **known}
    if kind == "scores":
        from retrieval_distill.scores import score_files

        return {"kind": kind, "model": score_files.fingerprint(name)}
    return {"kind": kind, "model": load(config).fingerprint}


def _arithmetic(dtype: str) -> dict[str, str]:
    from retrieval_distill.hardware import devices
    from retrieval_distill.teacher import exact_head

    return exact_head.arithmetic(devices.dtype_name(dtype))


def _cross_encoder(name: str, config: MemberConfig) -> Teacher:
    from retrieval_distill.teacher import cross_encoder

    return cross_encoder.load(name, config.max_length, config.dtype, config.label)


def _bi_encoder(name: str, config: MemberConfig) -> Teacher:
    from retrieval_distill.teacher import bi_encoder

    return bi_encoder.load(name, config.max_length, config.dtype)


def _llm(name: str, config: MemberConfig) -> Teacher:
    from retrieval_distill.teacher import llm_judge

    if config.llm.endpoint is None:
        raise UserError(f"teacher 'llm:{name}' needs teacher.llm.endpoint, such as http://localhost:8000/v1")
    options = config.llm.model_dump(exclude={"endpoint"})
    return llm_judge.load(name, config.llm.endpoint, **options)


def _scores(name: str, config: MemberConfig) -> Teacher:
    from retrieval_distill.scores import score_files

    return score_files.load(name)


_KINDS: dict[str, Callable[[str, MemberConfig], Teacher]] = {
    "cross-encoder": _cross_encoder,
    "bi-encoder": _bi_encoder,
    "llm": _llm,
    "scores": _scores,
}

_IDENTITY = {"max_length", "dtype", "label"}
