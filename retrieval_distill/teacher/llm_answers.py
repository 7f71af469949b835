"""What a language model is asked about a pair, and how its answer becomes a score.

Knows prompts and what answers look like; must not know HTTP, pairs or stores.
"""

from __future__ import annotations

import math
import re
from typing import Any, Literal

import numpy as np

from retrieval_distill.llm import NoAnswerError

Mode = Literal["log-odds", "graded"]

LEAST_MASS = 1e-7
"""Probability below which "what the listed tokens leave over" is only the rounding of float32."""

IMPOSSIBLE = -9999.0
"""The logprob that servers write for minus infinity."""

TOP_LOGPROBS = 20

ANSWER_TOKENS: dict[Mode, int] = {"log-odds": 1, "graded": 8}

PROMPTS: dict[Mode, str] = {
    "log-odds": "Does the document answer the query? Reply with one word, yes or no.\n\n"
    "Query: {query}\n\nDocument: {document}\n\nDoes the document answer the query (yes or no)?",
    "graded": "How well does the document answer the query? 0: unrelated, 1: on the topic but no answer, "
    "2: part of the answer, 3: the answer among other things, 4: a full and direct answer. "
    "Reply with one number from 0 to 4 and nothing else.\n\nQuery: {query}\n\nDocument: {document}\n\nGrade:",
}


def _log_odds(choice: dict[str, Any]) -> float:
    """Log-odds of yes against no; see :class:`LLMJudge`."""
    given = choice.get("logprobs")
    top = given["content"][0].get("top_logprobs") if given else None
    if not top:
        raise NoAnswerError("the server gives no logprobs", again=False, check="; use mode=graded")
    listed = [(token["token"].strip(" \t\r\n▁Ġ").lower(), float(token["logprob"])) for token in top]
    listed = [(word, logprob) for word, logprob in listed if logprob > IMPOSSIBLE]
    yes, no = ([logprob for word, logprob in listed if word == side] for side in ("yes", "no"))
    if not yes and not no:
        raise NoAnswerError(
            f"neither yes nor no is among the likeliest first tokens: {[word for word, _ in listed][:5]}"
        )
    left = 1 - sum(math.exp(logprob) for _, logprob in listed)
    bound = min(math.log(max(left, LEAST_MASS)), *(logprob for _, logprob in listed))
    odds = float(np.logaddexp.reduce(yes or [bound]) - np.logaddexp.reduce(no or [bound]))
    if not math.isfinite(odds):
        raise ValueError(odds)
    return odds


def _grade(choice: dict[str, Any]) -> float:
    """The first number of the answer."""
    answer = choice["message"]["content"]
    number = re.search(r"-?(?:\d+(?:\.\d+)?|\.\d+)", answer)
    if number is None or not 0 <= float(number[0]) <= 4:
        raise NoAnswerError(f"the answer {answer!r} is no grade from 0 to 4")
    return float(number[0])


READERS = {"log-odds": _log_odds, "graded": _grade}
