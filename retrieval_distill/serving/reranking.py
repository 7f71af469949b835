"""Texts in the order of the teacher's scores, for the APIs that rerank.

Knows the service; must not know any API's shape.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from retrieval_distill.serving.errors import RefusedError
from retrieval_distill.serving.service import Service
from retrieval_distill.serving.texts import checked


async def ranked(
    service: Service, query: str, texts: Sequence[str], *, raw: bool, param: str
) -> list[tuple[int, float]]:
    """(number of the text, score) of every text, best first; equal scores in their order.

    Args:
        service: Has the teacher.
        query: The query.
        texts: The texts.
        raw: Whether scores are the teacher's own; else they are its logits' sigmoid, between 0 and 1.
        param: The texts' name in the request.

    Raises:
        RefusedError: There is no teacher, or a text cannot be read.
    """
    engine = service.engine
    if engine.teacher is None:
        raise RefusedError(501, "this server has no teacher to rerank with; start it with --teacher")
    checked([query], service.limits, "query")
    checked(texts, service.limits, param, empty=True)
    scores = await service.do("rerank", engine.scores, [(query, text) for text in texts])
    found = [score if raw else _sigmoid(score) for score in scores]
    return sorted(enumerate(found), key=lambda one: -one[1])


def _sigmoid(score: float) -> float:
    return 1 / (1 + math.exp(-score)) if score >= 0 else 1 - 1 / (1 + math.exp(score))
