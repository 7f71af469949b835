"""Vectors from an endpoint: OpenAI's ``/embeddings``, or ``/embed`` of text-embeddings-inference.

Knows the requests and the answers of both; must not know HTTP, files of vectors or what a vector is for.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from retrieval_distill.errors import UserError
from retrieval_distill.formatting import plural
from retrieval_distill.llm import priced
from retrieval_distill.llm.client import Endpoint, NoAnswerError, Questions
from retrieval_distill.llm.ledger import Ledger, Request

if TYPE_CHECKING:
    from retrieval_distill.config.endpoint import APIConfig

Kind = Literal["query", "document"]

PATHS = {"v1": "/embeddings", "tei": "/embed"}


@dataclass(frozen=True, eq=False)
class Embedder:
    """A model on a server that embeds texts. What it answers is kept, and not asked again."""

    endpoint: Endpoint
    options: APIConfig
    fingerprint: str
    """Of all that changes a vector."""
    ledger: Ledger

    def key(self, text: str, kind: Kind) -> str:
        """What a text's vector is kept under."""
        return priced.key(self.fingerprint, kind, self._sent(text, kind))

    def announce(self, batches: Iterable[Sequence[str]], kind: Kind, batch: int | None = None) -> None:
        """Say how many requests texts take that are not answered yet, and what they cost."""
        count = characters = requests = 0
        for texts in batches:
            keys = {self.key(text, kind): text for text in texts}
            missing = keys.keys() - self.ledger.answered(keys)
            count += len(missing)
            characters += sum(len(self._sent(keys[key], kind)) for key in missing)
            requests += -(-len(missing) // (batch or self.options.batch))
        if count:
            priced.announce(self.endpoint, self.options, count, kind, characters, requests)

    def vectors(self, texts: Sequence[str], kind: Kind, batch: int | None = None) -> np.ndarray:
        """Vectors of texts, float32 [texts, dimensions]; see :meth:`parts`."""
        found: list[np.ndarray] = [np.empty(0)] * len(texts)
        for rows, vectors in self.parts(texts, kind, batch=batch):
            for row, vector in zip(rows, vectors, strict=True):
                found[row] = vector
        return np.stack(found) if found else np.empty((0, 0), np.float32)

    def parts(
        self, texts: Sequence[str], kind: Kind, done: np.ndarray | None = None, batch: int | None = None
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Rows of texts, and their vectors, float32 [rows, dimensions], as they arrive; equal texts are asked once.

        Args:
            texts: The texts.
            kind: Which prefix and fields are sent.
            done: Texts whose vectors are not needed, bool [texts]; ``None``: none.
            batch: Texts of a request; ``None``: as the endpoint's options say.

        Raises:
            UserError: As :meth:`retrieval_distill.llm.client.Endpoint.ask`, or vectors differ in their dimensions.
        """
        wanted = [row for row in range(len(texts)) if done is None or not done[row]]
        rows_of: dict[str, list[int]] = {}
        for row in wanted:
            rows_of.setdefault(self.key(texts[row], kind), []).append(row)
        known = self.ledger.known(rows_of)
        widths = {len(vector) for vector in known.values()}
        if known:
            yield _rows(rows_of, known)
        asked = [key for key in rows_of if key not in known]
        size = batch or self.options.batch
        batches = [asked[start : start + size] for start in range(0, len(asked), size)]

        def sent(number: int) -> list[str]:
            return [self._sent(texts[rows_of[key][0]], kind) for key in batches[number]]

        def keep(number: int, answer: tuple[np.ndarray, float | None], seconds: float) -> None:
            (found, tokens), keys = answer, batches[number]
            widths.add(found.shape[1])
            if len(widths) > 1:
                raise UserError(
                    f"{self.endpoint.url}: {self.endpoint.model} gave vectors of {' and of '.join(map(str, widths))} "
                    "dimensions; another model answers there now: start in a new folder"
                )
            tokens = tokens or sum(map(len, sent(number))) / priced.CHARACTERS_PER_TOKEN
            self.ledger.add(Request(keys[0], len(keys), tokens, seconds), dict(zip(keys, found, strict=True)))

        questions = Questions(
            body=lambda number: self._body(sent(number), kind),
            read=lambda number, answer: self._read(answer, len(batches[number])),
            name=lambda number: f"vectors of {plural(kind)} such as {sent(number)[0][:40]!r}",
            path=PATHS[self.options.speaks],
            form="embeddings",
            keep=keep,
        )
        for answers in self.endpoint.ask(range(len(batches)), questions):
            for number, (found, _) in answers.items():
                yield _rows(rows_of, dict(zip(batches[number], found, strict=True)))

    def _sent(self, text: str, kind: Kind) -> str:
        prefix = self.options.query_prefix if kind == "query" else self.options.document_prefix
        return (prefix + text[: self.options.max_characters]) or " "  # an empty text is refused by most servers

    def _body(self, texts: list[str], kind: Kind) -> dict[str, Any]:
        fields = self.options.query_fields if kind == "query" else self.options.document_fields
        if self.options.speaks == "tei":
            return {"inputs": texts, "normalize": True, "truncate": True, **fields}
        return {"model": self.endpoint.model, "input": texts, "encoding_format": "base64", **fields}

    def _read(self, answer: Any, count: int) -> tuple[np.ndarray, float | None]:
        """The vectors in the order of the texts, float32 [texts, dimensions], and the tokens that were counted."""
        if self.options.speaks == "tei":
            return _matrix(priced.in_order(range(len(answer)), count, [_vector(value) for value in answer])), None
        data = answer["data"]
        places = [item.get("index", place) for place, item in enumerate(data)]
        ordered = priced.in_order(places, count, [_vector(item["embedding"]) for item in data])
        return _matrix(ordered), priced.counted(answer)


def _vector(value: Any) -> np.ndarray:
    """A vector from base64 of little-endian float32, or from numbers."""
    if isinstance(value, str):
        return np.frombuffer(base64.b64decode(value, validate=True), "<f4")
    return np.array([float(number) for number in value], np.float32)


def _matrix(vectors: Sequence[np.ndarray]) -> np.ndarray:
    if not vectors or len({len(vector) for vector in vectors}) != 1 or not len(vectors[0]):
        raise NoAnswerError("the answer holds no vectors, or vectors of several lengths")
    found = np.stack(vectors).astype(np.float32)
    if not np.isfinite(found).all():
        raise NoAnswerError("the answer holds vectors with NaN or infinite numbers")
    return found


def _rows(rows_of: dict[str, list[int]], vectors: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Every row of these keys, and its vector."""
    pairs = [(row, vector) for key, vector in vectors.items() for row in rows_of[key]]
    return np.array([row for row, _ in pairs], np.int64), np.stack([vector for _, vector in pairs])
