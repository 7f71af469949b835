"""Prompts for a language model that judges a pair, and the parsing of its answer into a score.

Knows prompts and answers; must not know HTTP, pairs or stores.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection
from functools import partial
from typing import Any, Literal, NamedTuple

import numpy as np

from retrieval_distill.errors import UserError
from retrieval_distill.llm.adaptations import LONGER_WORDS
from retrieval_distill.llm.client import NoAnswerError
from retrieval_distill.llm.completions import text_of

Mode = Literal["log-odds", "graded"]

PARSER_VERSION = 2
"""Increased whenever the same answer would get another score."""

MIN_MASS = 1e-7
"""Below this, the probability that the listed tokens leave is only float32 rounding."""

LITTLE = 0.05
"""Median probability of yes and no together below which a model does not answer the question."""

IMPOSSIBLE = -9999.0
"""Logprob that servers return for minus infinity."""

TOP_LOGPROBS = 20

ANSWER_TOKENS: dict[Mode, int] = {"log-odds": 1, "graded": 8}

PROMPTS: dict[Mode, str] = {
    "log-odds": "Does the document answer the query? Reply with one word, yes or no.\n\n"
    "Query: {query}\n\nDocument: {document}\n\nDoes the document answer the query (yes or no)?",
    "graded": "How well does the document answer the query? 0: unrelated, 1: on the topic but no answer, "
    "2: part of the answer, 3: the answer among other things, 4: a full and direct answer. "
    "Reply with one number from 0 to 4 and nothing else.\n\nQuery: {query}\n\nDocument: {document}\n\nGrade:",
}

_SPACES = " \t\r\n▁ĠĊ"
"""White space, and tokenizers' symbols for it."""

_SCALE = re.compile(
    r"""(?<![\d.,])0\s*(?:[-\u2010-\u2015~]|\.{2,3}|\u2026|to|and)\s*4(?!\d|[.,]\d)"""  # 0-4, 0 to 4
    r"""|(?:/|\bout\s+of\b|\bof\b)\s*4(?!\d|[.,]\d)""",  # 3/4, 3 out of 4
    re.IGNORECASE,
)
"""Mentions of the scale, which are no grade."""

_GRADE = re.compile(r"\D*?(?<![^\W_])(?<![-\u2010-\u2015\u2212])(\d+(?:\.\d+|,\d\d?)?|\.\d+)(?![^\W_]|\s*%)\D*")
"""A text with exactly one number that is not part of a word, not negative and no percentage."""


class Answer(NamedTuple):
    """A pair's answer."""

    score: float
    said: float
    """The probability that the model says one of the words that make the score."""


Read = Callable[[dict[str, Any]], Answer]


def answer_parser(mode: Mode, positive: Collection[str], negative: Collection[str]) -> Read:
    """A function from a completion's choice to a score; see :class:`retrieval_distill.teacher.llm_judge.LLMJudge`.

    Args:
        mode: ``"log-odds"`` or ``"graded"``.
        positive: Words for "yes".
        negative: Words for "no".

    Raises:
        UserError: A list is empty, or a word has no letters or is in both lists.
    """
    yes, no = ({_word(word) for word in side} for side in (positive, negative))
    if not (yes and no) or "" in yes | no or yes & no:
        raise UserError(f"positive={list(positive)} and negative={list(negative)}: each needs words of its own")
    return _grade if mode == "graded" else partial(_log_odds, yes, no)


def _log_odds(positive: set[str], negative: set[str], choice: dict[str, Any]) -> Answer:
    """Log-odds of yes against no at the first token where the model chooses between words."""
    given = choice.get("logprobs")
    if not given or not given["content"][0].get("top_logprobs"):
        raise NoAnswerError("the server returns no logprobs", again=False, check="; use mode=graded")
    for token in given["content"]:
        listed = [(near["token"], float(near["logprob"])) for near in token["top_logprobs"]]
        listed = [(near, logprob) for near, logprob in listed if logprob > IMPOSSIBLE]
        yes, no = ([logprob for near, logprob in listed if _word(near) in side] for side in (positive, negative))
        if yes or no:
            said = sum(map(math.exp, [*yes, *no]))
            return Answer(_odds(yes, no, [logprob for _, logprob in listed]), said)
        if _word(token["token"]):
            first = [near.strip(_SPACES).lower() for near, _ in listed][:5]
            sides = " nor ".join("/".join(sorted(side)) for side in (positive, negative))
            raise NoAnswerError(
                f"neither {sides} is among the likeliest first tokens: {first}",
                check="; if the prompt asks for other words, name them, e.g. positive=[ja] and negative=[nein]",
            )
    raise NoAnswerError("the answer begins with punctuation only", wants=LONGER_WORDS)


def _odds(yes: list[float], no: list[float], listed: list[float]) -> float:
    left = 1 - sum(map(math.exp, listed))
    bound = min(math.log(max(left, MIN_MASS)), *listed)
    odds = float(np.logaddexp.reduce(yes or [bound]) - np.logaddexp.reduce(no or [bound]))
    if not math.isfinite(odds):
        raise ValueError(odds)
    return odds


def _word(token: str) -> str:
    """A token in lower case, without the white space and punctuation around it."""
    return re.sub(r"^[\W_]+|[\W_]+$", "", token.strip(_SPACES)).casefold()


def _grade(choice: dict[str, Any]) -> Answer:
    """The single number in the answer."""
    answer = text_of(choice)
    grade = _GRADE.fullmatch(_SCALE.sub(" ", answer))
    if grade is None or not 0 <= (number := float(grade[1].replace(",", "."))) <= 4:
        raise NoAnswerError(f"the answer {answer!r} is no single grade from 0 to 4")
    return Answer(number, 1.0)
