"""What servers of chat completions refuse in a request, and how it is put to them instead.

What was learned of a model holds for the process. Knows the parameters of a request; must not know HTTP, what is asked,
or how an answer is read.
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
"""Tokens whose logprobs every server that gives any will list."""

WORD_TOKENS = 8
"""Tokens that hold a word behind quotation marks or Markdown."""

THOUGHT_TOKENS = 4096
"""Tokens that a model may think for before it answers."""


@dataclass(frozen=True)
class Adaptation:
    """A change of every further request to a model."""

    reason: str
    """What the model was found to do, for people."""
    change: Callable[[Body], Body]
    """The request, changed; what does not apply to it is left."""
    meant: Callable[[str, Body], bool] = lambda said, body: False
    """Whether a refusal in these words, of this request, asks for the change; never: the answer does."""


_learned: dict[tuple[str, str], tuple[Adaptation, ...]] = {}

_learning = threading.Lock()


def learned(url: str, model: str) -> tuple[Adaptation, ...]:
    """How requests to a model are changed, in this order."""
    return _learned.get((url, model), ())


def learn(url: str, model: str, wanted: Adaptation) -> None:
    """Ask a model in another way from now on, and say so: once, however many threads find it out."""
    with _learning:
        if wanted not in learned(url, model):
            _learned[url, model] = (*learned(url, model), wanted)
            logger.warning("%s: %s %s; it is asked so from now on", url, model, wanted.reason)


def for_refusal(said: str, body: Body) -> Adaptation | None:
    """The change that a server's refusal of a request asks for; ``None``: it cannot be helped."""
    return next((adaptation for adaptation in REFUSALS if adaptation.meant(said, body)), None)


def _is_unsupported(said: str) -> bool:
    return any(words in said.lower() for words in ("max_completion_tokens", "unsupported", "not supported"))


def _renamed(body: Body) -> Body:
    return {"max_completion_tokens" if name == "max_tokens" else name: value for name, value in body.items()}


def _own_temperature(body: Body) -> Body:
    return {name: value for name, value in body.items() if name != "temperature"}


def _few_logprobs(body: Body) -> Body:
    return body | ({"top_logprobs": FEW_LOGPROBS} if body.get("top_logprobs", 0) > FEW_LOGPROBS else {})


def _more(tokens: int) -> Callable[[Body], Body]:
    def change(body: Body) -> Body:
        limits = {"max_tokens", "max_completion_tokens"} & body.keys()
        return body | {limit: body[limit] + tokens for limit in limits}

    return change


REFUSALS = (
    Adaptation(
        "takes max_completion_tokens in place of max_tokens",
        _renamed,
        lambda said, body: "max_tokens" in body and "max_tokens" in said and _is_unsupported(said),
    ),
    Adaptation(
        "takes no temperature but its own",
        _own_temperature,
        lambda said, body: body.get("temperature", 1) != 1 and "temperature" in said,
    ),
    Adaptation(
        f"lists {FEW_LOGPROBS} tokens at most",
        _few_logprobs,
        lambda said, body: body.get("top_logprobs", 0) > FEW_LOGPROBS and "logprobs" in said,
    ),
)
"""Of which one is found by the words of a refusal."""

MORE_FOR_A_WORD = Adaptation(f"begins with marks; a word may take {WORD_TOKENS} tokens more", _more(WORD_TOKENS))

MORE_FOR_THOUGHTS = Adaptation(
    f"thinks before it answers; an answer may take {THOUGHT_TOKENS:,} tokens more", _more(THOUGHT_TOKENS)
)
