"""Extracts the answer of a chat completion, without the model's thoughts.

Knows the forms of completions; must not know HTTP, or what was asked.
"""

from __future__ import annotations

from typing import Any

from retrieval_distill.llm.adaptations import LONGER_THOUGHTS
from retrieval_distill.llm.client import NoAnswerError

_THOUGHTS = (("<think>", "</think>"), ("<thinking>", "</thinking>"), ("[THINK]", "[/THINK]"))


PATH, FORM = "/chat/completions", "a chat completion"


def first_choice(answer: Any) -> dict[str, Any]:
    """The choice of a completion that counts."""
    choice: dict[str, Any] = answer["choices"][0]
    return choice


def text_of(choice: dict[str, Any]) -> str:
    """The model's answer, without thoughts.

    Raises:
        NoAnswerError: The completion ended while the model was thinking.
    """
    message = choice["message"]
    content, thoughts = _join(message.get("content"))
    text = _without_thoughts(content)
    thought = thoughts or text != content or _has_thoughts(message) or choice.get("finish_reason") == "length"
    if thought and not text.strip():
        raise NoAnswerError("the answer holds only thoughts", wants=LONGER_THOUGHTS)
    return text


def _join(content: str | list[Any] | None) -> tuple[str, bool]:
    """The text of a message's content, which may be a list of parts, and whether other parts are thoughts."""
    if content is None or isinstance(content, str):
        return content or "", False
    parts = [{"type": "text", "text": part} if isinstance(part, str) else part for part in content]
    texts = [part["text"] for part in parts if isinstance(part.get("text"), str) and part.get("type") != "thinking"]
    return "".join(texts), any(part.get("type") in ("thinking", "reasoning") for part in parts)


def _has_thoughts(message: dict[str, Any]) -> bool:
    return any(message.get(name) for name in ("reasoning_content", "reasoning"))


def _without_thoughts(text: str) -> str:
    """The text after the last thought; empty if that is unfinished."""
    for begin, end in _THOUGHTS:
        text = text.rpartition(end)[2].partition(begin)[0]
    return text
