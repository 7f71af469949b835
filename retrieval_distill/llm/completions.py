"""The text of a chat completion: what the model says, apart from what it thinks.

Knows the shapes that servers give a completion; must not know HTTP, or what was asked.
"""

from __future__ import annotations

from typing import Any

from retrieval_distill.llm.adaptations import MORE_FOR_THOUGHTS
from retrieval_distill.llm.chat import NoAnswerError

_THOUGHTS = (("<think>", "</think>"), ("<thinking>", "</thinking>"), ("[THINK]", "[/THINK]"))


def text_of(choice: dict[str, Any]) -> str:
    """What the model answers; thoughts before it are left out.

    Raises:
        NoAnswerError: The answer ended while the model was thinking.
    """
    message = choice["message"]
    content, thoughts = _joined(message.get("content"))
    text = _without_thoughts(content)
    thought = thoughts or text != content or _thought(message) or choice.get("finish_reason") == "length"
    if thought and not text.strip():
        raise NoAnswerError("the answer holds thoughts alone", wants=MORE_FOR_THOUGHTS)
    return text


def _joined(content: str | list[Any] | None) -> tuple[str, bool]:
    """The text of a content that may come in parts, and whether other parts are thoughts."""
    if content is None or isinstance(content, str):
        return content or "", False
    parts = [{"type": "text", "text": part} if isinstance(part, str) else part for part in content]
    texts = [part["text"] for part in parts if isinstance(part.get("text"), str) and part.get("type") != "thinking"]
    return "".join(texts), any(part.get("type") in ("thinking", "reasoning") for part in parts)


def _thought(message: dict[str, Any]) -> bool:
    return any(message.get(name) for name in ("reasoning_content", "reasoning"))


def _without_thoughts(text: str) -> str:
    """What stands behind the last thought; nothing, where that has no end."""
    for begin, end in _THOUGHTS:
        text = text.rpartition(end)[2].partition(begin)[0]
    return text
