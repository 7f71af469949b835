"""Scores from an endpoint: ``/rerank`` as Cohere and Jina have it, or that of text-embeddings-inference.

Knows the requests and the answers of both; must not know HTTP, stores, Runs or what a score is for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from retrieval_distill.llm import priced
from retrieval_distill.llm.client import Endpoint, NoAnswerError, Questions
from retrieval_distill.llm.ledger import Ledger, Request

if TYPE_CHECKING:
    from retrieval_distill.config.endpoint import APIConfig


@dataclass(frozen=True)
class Asked:
    """A query and documents that have to be scored for it."""

    query: str
    documents: Sequence[str]
    name: str
    """For messages, such as ``"scores for query 'q'"``."""


@dataclass(frozen=True, eq=False)
class Reranker:
    """A model on a server that scores documents for a query. What it answers is kept, and not asked again."""

    endpoint: Endpoint
    options: APIConfig
    fingerprint: str
    """Of all that changes a score."""
    ledger: Ledger

    def subject(self, query: str) -> str:
        """What the requests about a query are kept under."""
        return priced.key(self.fingerprint, query)

    def score(self, asked: Sequence[Asked]) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """Which query, which of its documents, int64 [some], and their raw scores, float32 [some], as they arrive.

        The number of requests and their price are said first; every document of every query comes exactly once.

        Raises:
            UserError: As :meth:`retrieval_distill.llm.client.Endpoint.ask`.
        """
        requests: list[tuple[int, np.ndarray]] = []
        for number, one in enumerate(asked):
            keys = self._keys(one)
            known = self.ledger.known(keys)
            there = np.array([key in known for key in keys], bool)
            if there.any():
                rows = np.flatnonzero(there)
                yield number, rows, np.concatenate([known[keys[row]] for row in rows])
            missing = np.flatnonzero(~there)
            starts = range(0, len(missing), self.options.batch)
            requests += [(number, missing[start : start + self.options.batch]) for start in starts]
        if not requests:
            return
        self._announce(asked, requests)

        def keep(place: int, answer: tuple[np.ndarray, float | None], seconds: float) -> None:
            (scores, tokens), (number, rows) = answer, requests[place]
            keys, subject = self._keys(asked[number]), self.subject(asked[number].query)
            tokens = tokens or self._characters(asked, number, rows) / priced.CHARACTERS_PER_TOKEN
            answered = {keys[row]: scores[at : at + 1] for at, row in enumerate(rows)}
            self.ledger.add(Request(subject, len(rows), tokens, seconds), answered)

        questions = Questions(
            body=lambda place: self._body(asked[requests[place][0]].query, self._texts(asked, *requests[place])),
            read=lambda place, answer: self._read(answer, len(requests[place][1])),
            name=lambda place: asked[requests[place][0]].name,
            path="/rerank",
            form="a reranking",
            keep=keep,
        )
        for answers in self.endpoint.ask(range(len(requests)), questions):
            for place, (scores, _) in answers.items():
                yield requests[place][0], requests[place][1], scores

    def _announce(self, asked: Sequence[Asked], requests: Sequence[tuple[int, np.ndarray]]) -> None:
        pairs = sum(len(rows) for _, rows in requests)
        characters = sum(self._characters(asked, *request) for request in requests)
        priced.announce(self.endpoint, self.options, pairs, "pair", characters, len(requests))

    def _keys(self, one: Asked) -> list[str]:
        return [priced.key(self.fingerprint, one.query, self._cut(text)) for text in one.documents]

    def _texts(self, asked: Sequence[Asked], number: int, rows: np.ndarray) -> list[str]:
        return [self._cut(asked[number].documents[row]) for row in rows]

    def _characters(self, asked: Sequence[Asked], number: int, rows: np.ndarray) -> int:
        """Characters that a request is charged for: the query counts with each of its documents."""
        return len(asked[number].query) * len(rows) + sum(map(len, self._texts(asked, number, rows)))

    def _cut(self, text: str) -> str:
        return text[: self.options.max_characters] or " "

    def _body(self, query: str, documents: list[str]) -> dict[str, Any]:
        if self.options.speaks == "tei":
            fixed = {"query": query, "texts": documents, "raw_scores": True, "truncate": True}
        else:
            fixed = {"model": self.endpoint.model, "query": query, "documents": documents, "top_n": len(documents)}
            fixed["return_documents"] = False
        return {**fixed, **self.options.rerank_fields}

    def _read(self, answer: Any, count: int) -> tuple[np.ndarray, float | None]:
        """Scores in the order of the documents, float32 [count], and the tokens that were counted."""
        tei = self.options.speaks == "tei"
        results = answer if tei else answer["results"]
        scores = [float(result["score" if tei else "relevance_score"]) for result in results]
        found = np.array(priced.in_order([result["index"] for result in results], count, scores), np.float32)
        if not np.isfinite(found).all():
            raise NoAnswerError("the answer holds scores that are NaN or infinite")
        return found, None if tei else priced.counted(answer)
