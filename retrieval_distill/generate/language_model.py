"""Queries by a large language model on a server, one request per document.

Sources: Bonifacio et al., "InPars", 2022, arXiv:2202.05144; Dai et al., "Promptagator", 2022, arXiv:2209.11755.

Knows prompts and what answers look like; must not know HTTP, files or judgements.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.compute as pc

from retrieval_distill.config.endpoint import ASKING
from retrieval_distill.config.generate import QueryLLMConfig
from retrieval_distill.data.columns import Record
from retrieval_distill.data.dataset import Texts
from retrieval_distill.data.prepare.words import words
from retrieval_distill.errors import UserError
from retrieval_distill.formatting import counted
from retrieval_distill.generate.query_generator import QueriesByRow, Query
from retrieval_distill.llm import client, completions, prompts
from retrieval_distill.llm.client import Endpoint, Questions
from retrieval_distill.llm.completions import text_of

logger = logging.getLogger("retrieval_distill")

PROMPT = (
    "Write {count} different search queries that somebody who needs the document below would type, and that it "
    "answers. Use other words than the document where you can. Reply with one query per line and nothing else.\n\n"
    "Document: {document}\n\nQueries:"
)

_BULLET = re.compile(r"(?:[-*•]|\(?\d+[.):]|(?:search )?(?:query|question) ?\d*:)\s+", re.IGNORECASE)
"""Markers that a model puts before list items."""

_QUOTES = "\"'“”`"
"""Quotes that a model puts around a query."""

_HALF_CHARACTER = re.compile("[\ud800-\udfff]")
"""A lone surrogate, which cannot be encoded."""

_NO_QUERY = re.compile(r"^\s*```|:\s*$")
"""A fence, or an announcement such as "Here are three queries:"."""


@dataclass(frozen=True)
class LanguageModel:
    """A way that sends several requests at once; queries come in the order in which answers arrive."""

    config: QueryLLMConfig
    endpoint: Endpoint

    @classmethod
    def load(cls, config: QueryLLMConfig) -> LanguageModel:
        """Set up a model on a server, without sending a request.

        Raises:
            UserError: An option is missing or cannot work.
        """
        if config.endpoint is None or config.model is None:
            raise UserError("generate.ways: llm needs generate.llm.endpoint and generate.llm.model")
        prompts.check_template(config.prompt or PROMPT, ("document", "count"))
        options = config.model_dump(include=ASKING)
        return cls(config, client.endpoint(config.model, config.endpoint, **options))

    def announce(self, documents: Texts, rate: float) -> None:
        """Announce the cost of ``rate`` queries per document before it arises."""
        characters = [pc.utf8_length(documents.table[column]).to_numpy() for column in ("title", "text")]
        sizes = np.sum(characters, axis=0) + 1
        prompts.announce_truncation(sizes, self.config.max_characters)
        share = min(rate, 1.0)
        each = np.minimum(sizes, self.config.max_characters) + len(self.config.prompt or PROMPT)
        tokens_out = round(rate * len(documents)) * self.config.query_tokens
        self.endpoint.announce(round(share * len(documents)), "document", int(share * each.sum()), tokens_out)

    def make(self, documents: Sequence[Record], counts: Sequence[int], done: Sequence[bool]) -> Iterator[QueriesByRow]:
        """See :class:`~retrieval_distill.generate.query_generator.QueryGenerator`; logs answers without a query."""
        yield {row: [] for row, count in enumerate(counts) if count == 0 and not done[row]}
        rows = [row for row, count in enumerate(counts) if count > 0 and not done[row]]
        if not rows:
            return
        texts = [f"{title} {text}".strip() for _, title, text in documents]
        body, none = (lambda row: self._body(texts[row], counts[row])), list[str]()
        questions = Questions(
            body,
            lambda row, answer: self._queries(answer, counts[row]),
            lambda row: f"queries for {documents[row][0]!r}",
            completions.PATH,
            completions.FORM,
            none,
        )
        unusable = 0
        for answers in self.endpoint.ask(rows, questions):
            unusable += sum(not found for found in answers.values())
            yield {row: [Query(text) for text in found[: counts[row]]] for row, found in answers.items()}
        if unusable:
            logger.warning("%d of %s no query", unusable, counted(len(rows), "answer", "hold"))

    def _queries(self, answer: Any, count: int) -> list[str]:
        """The queries of an answer, without what repeats the instruction, as a model does that continues the prompt."""
        instruction = " ".join(prompts.fill(self.config.prompt or PROMPT, document="", count=str(count)).split())
        queries = parse_answer(completions.first_choice(answer))
        return [query for query in queries if query.casefold() not in instruction.casefold()]

    def _body(self, text: str, count: int) -> dict[str, Any]:
        cut = text[: self.config.max_characters]
        content = prompts.fill(self.config.prompt or PROMPT, document=cut, count=str(count))
        return {
            "model": self.endpoint.model,
            "messages": [{"role": "user", "content": content}],
            "temperature": self.config.temperature,
            "max_tokens": count * self.config.query_tokens,
        }


def parse_answer(choice: dict[str, Any]) -> list[str]:
    """The distinct queries of an answer: one per line, JSON Lines, or a JSON list.

    A query is a string, or the value of ``query`` in an object. The last line of a truncated answer is dropped.

    Raises:
        NoAnswerError: As :func:`retrieval_distill.llm.completions.text_of`.
    """
    lines = [line for line in text_of(choice).splitlines() if line.strip() and not _NO_QUERY.search(line)]
    if choice.get("finish_reason") == "length":
        lines = lines[:-1]
    whole = _json("\n".join(lines))
    found = whole if isinstance(whole, list) else [_json(line) or line for line in lines]
    queries = [query for value in found if (query := _query(value))]
    return list(dict.fromkeys(queries))


def _json(text: str) -> Any:
    """The value of a JSON list, object or string; ``None`` for other texts."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):  # the latter: thousands of brackets
        return None
    return value if isinstance(value, list | dict | str) else None


def _query(value: Any) -> str | None:
    """A query as one clean line; ``None`` if the value is not a query."""
    if isinstance(value, dict):
        value = value.get("query")
    if not isinstance(value, str) or _HALF_CHARACTER.search(value) or not words(value):
        return None
    for _ in range(2):  # a list number may come before the quotation marks, or inside
        value = value.strip()
        bullet = _BULLET.match(value)
        value = value[bullet.end() if bullet else 0 :].strip(_QUOTES)
    return " ".join(value.split()) or None
