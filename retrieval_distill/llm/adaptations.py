"""Adapts requests to parameters that a server or model refuses.

Adaptations are remembered per model for the life of the process. Knows the parameters of a request; must not know HTTP,
what is asked, or how an answer is parsed.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

logger = logging.getLogger("retrieval_distill")

Body = dict[str, Any]

FEW_LOGPROBS = 5
"""Number of tokens for which every server with logprobs lists them."""

WORD_TOKENS = 8
"""Tokens enough for a word after quotation marks or Markdown."""

THOUGHT_TOKENS = 4096
"""Tokens allowed for thinking before the answer."""


@dataclass(frozen=True)
class Adaptation:
    """A change to all further requests to a model."""

    reason: str
    """What the model does, for the log."""
    change: Callable[[Body], Body]
    """Returns the changed request; leaves alone what does not apply."""
    matches: Callable[[str, Body], bool] = lambda message, body: False
    """Whether a server's refusal of a request calls for the change; by default never, only an answer does."""


_learned: dict[tuple[str, str], tuple[Adaptation, ...]] = {}

_learning = threading.Lock()


def learned_adaptations(url: str, model: str) -> tuple[Adaptation, ...]:
    """The adaptations of requests to a model, in order."""
    return _learned.get((url, model), ())


def learn(url: str, model: str, wanted: Adaptation) -> None:
    """Adapt all further requests to a model, and log it once, however many threads find out."""
    with _learning:
        if wanted not in learned_adaptations(url, model):
            _learned[url, model] = (*learned_adaptations(url, model), wanted)
            logger.warning("%s: %s %s; further requests are adapted", url, model, wanted.reason)


def for_refusal(message: str, body: Body) -> Adaptation | None:
    """The adaptation that a server's refusal of a request calls for; ``None``: there is none."""
    return next((adaptation for adaptation in REFUSALS if adaptation.matches(message, body)), None)


def _is_unsupported(message: str) -> bool:
    return any(words in message.lower() for words in ("max_completion_tokens", "unsupported", "not supported"))


def _rename_max_tokens(body: Body) -> Body:
    return {"max_completion_tokens" if name == "max_tokens" else name: value for name, value in body.items()}


def _drop_temperature(body: Body) -> Body:
    return {name: value for name, value in body.items() if name != "temperature"}


def _without(name: str, reason: str) -> Adaptation:
    """Leave a field out where a server does not know it."""

    def change(body: Body) -> Body:
        return {field: value for field, value in body.items() if field != name}

    return Adaptation(reason, change, lambda message, body: name in body and name in message)


def _limit_logprobs(body: Body) -> Body:
    return body | ({"top_logprobs": FEW_LOGPROBS} if body.get("top_logprobs", 0) > FEW_LOGPROBS else {})


def _more(tokens: int) -> Callable[[Body], Body]:
    def change(body: Body) -> Body:
        limits = {"max_tokens", "max_completion_tokens"} & body.keys()
        return body | {limit: body[limit] + tokens for limit in limits}

    return change


REFUSALS = (
    Adaptation(
        "takes max_completion_tokens in place of max_tokens",
        _rename_max_tokens,
        lambda message, body: "max_tokens" in body and "max_tokens" in message and _is_unsupported(message),
    ),
    Adaptation(
        "accepts no temperature but its own",
        _drop_temperature,
        lambda message, body: body.get("temperature", 1) != 1 and "temperature" in message,
    ),
    Adaptation(
        f"lists at most {FEW_LOGPROBS} tokens",
        _limit_logprobs,
        lambda message, body: body.get("top_logprobs", 0) > FEW_LOGPROBS and "logprobs" in message,
    ),
    _without("encoding_format", "gives vectors as it likes"),
    _without("return_documents", "is not told whether to send documents back"),
)
"""Adaptations that a server's refusal may call for."""

LONGER_WORDS = Adaptation(f"begins with punctuation; a word may take {WORD_TOKENS} more tokens", _more(WORD_TOKENS))

LONGER_THOUGHTS = Adaptation(
    f"thinks before it answers; an answer may take {THOUGHT_TOKENS:,} more tokens", _more(THOUGHT_TOKENS)
)
