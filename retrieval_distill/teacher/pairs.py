"""Token ids of query-passage pairs: assembled from texts that are cut once each, or pair by pair from the library.

Assembled pairs equal the library's, id for id, with ``longest_first`` truncation; where that cannot be shown for a
tokenizer, or a chat template stands around the texts, the library makes each pair. Knows tokenizers and the library's
way of preparing texts; must not know weights or scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, Protocol

import numpy as np

from retrieval_distill.data.tokens import Tokens, tokenize

PAIRS_PER_CALL = 512
"""Pairs that the library prepares at once."""

_COLUMNS = {"input_ids", "token_type_ids"}


@dataclass(frozen=True, eq=False)
class PairTemplate:
    """A tokenizer's pair layout: ``prefix`` query ``middle`` document ``suffix``, with token type ids per part."""

    prefix: tuple[int, ...]
    middle: tuple[int, ...]
    suffix: tuple[int, ...]
    types: tuple[tuple[int, ...], ...] | None
    """Type ids of (prefix, query, middle, document, suffix), the texts' as one value; ``None`` without type ids."""

    @property
    def special(self) -> int:
        """Special tokens of a pair."""
        return len(self.prefix) + len(self.middle) + len(self.suffix)

    def lengths(self, query: np.ndarray, document: np.ndarray, max_length: int) -> tuple[np.ndarray, np.ndarray]:
        """Tokens kept of each query and document under ``longest_first``: the longer one is cut first.

        The Rust tokenizers' rule: the shorter text keeps its length if the other can absorb the whole cut; else
        both end up at half of the room, the second one with the odd token.
        """
        room = max_length - self.special
        shorter, longer = np.minimum(query, document), np.maximum(query, document)
        over = shorter + longer > room
        low = np.where(over, np.minimum(shorter, room // 2), shorter)
        high = np.where(over, room - low, longer)
        swapped = query > document
        return np.where(swapped, high, low), np.where(swapped, low, high)

    def assemble(self, queries: Ragged, documents: Ragged, pad_id: int) -> dict[str, np.ndarray]:
        """Padded model inputs of a batch of pairs.

        Args:
            queries: The query of every pair, as many tokens as it keeps.
            documents: Its document.
            pad_id: What stands right of shorter pairs.

        Returns:
            ``input_ids``, ``attention_mask`` and, where the model has them, ``token_type_ids``: int64 [pairs, longest].
        """
        pairs = len(queries.lengths)
        parts = [
            _fixed(self.prefix, pairs), queries, _fixed(self.middle, pairs), documents, _fixed(self.suffix, pairs),
        ]  # fmt: skip
        ends = np.cumsum([part.lengths for part in parts], axis=0)
        column = np.arange(ends[-1].max())
        ids = np.full((pairs, len(column)), pad_id, np.int64)
        types = np.zeros_like(ids)
        for number, (part, end) in enumerate(zip(parts, ends, strict=True)):
            start = (end - part.lengths)[:, None]
            inside = (column >= start) & (column < end[:, None])
            ids[inside] = part.flat[(part.starts[:, None] - start + column)[inside]]
            if self.types is not None and self.types[number]:
                kinds = np.asarray(self.types[number])
                types[inside] = kinds[np.minimum((column - start)[inside], len(kinds) - 1)]
        features = {"input_ids": ids, "attention_mask": (column < ends[-1][:, None]).astype(np.int64)}
        return features if self.types is None else {**features, "token_type_ids": types}


@dataclass(frozen=True, eq=False)
class Ragged:
    """Pieces of a flat array: piece ``i`` is ``flat[starts[i] : starts[i] + lengths[i]]``."""

    flat: np.ndarray
    starts: np.ndarray
    lengths: np.ndarray

    @classmethod
    def of(cls, tokens: Tokens, rows: np.ndarray, lengths: np.ndarray) -> Ragged:
        """The first ``lengths[i]`` tokens of row ``rows[i]``."""
        return cls(tokens.flat, tokens.offsets[rows], lengths)


class Encoded(Protocol):
    """Pairs as token ids, ready to be batched."""

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each pair, [pairs]."""

    def features(self, batch: np.ndarray) -> dict[str, np.ndarray]:
        """Model inputs of some pairs, by their places, padded on the right: int64 [pairs of the batch, longest]."""


@dataclass(frozen=True, eq=False)
class Assembled:
    """Pairs that are put together, batch by batch, from texts that were cut once each."""

    layout: PairTemplate
    texts: tuple[Tokens, Tokens]
    rows: np.ndarray
    kept: np.ndarray
    """Tokens of each pair's query and document, int [pairs, 2]."""
    pad_id: int

    @classmethod
    def of(
        cls, layout: PairTemplate, tokenizer: Any, texts: Sequence[Sequence[str]], rows: np.ndarray, limit: int
    ) -> Assembled:
        """Cut the texts of (queries, documents); pairs are their rows [pairs, 2]."""
        queries, documents = (tokenize(tokenizer, side, None, special_tokens=False) for side in texts)
        kept = layout.lengths(queries.lengths[rows[:, 0]], documents.lengths[rows[:, 1]], limit)
        return cls(layout, (queries, documents), rows, np.stack(kept, axis=1), tokenizer.pad_token_id)

    @cached_property
    def lengths(self) -> np.ndarray:
        """See :class:`Encoded`."""
        return self.kept.sum(axis=1) + self.layout.special

    @property
    def cut(self) -> int:
        """How many pairs are longer than the limit."""
        whole = np.stack([text.lengths[rows] for text, rows in zip(self.texts, self.rows.T, strict=True)], axis=1)
        return int((self.kept < whole).any(axis=1).sum())

    def features(self, batch: np.ndarray) -> dict[str, np.ndarray]:
        """See :class:`Encoded`."""
        queries, documents = (Ragged.of(self.texts[i], self.rows[batch, i], self.kept[batch, i]) for i in (0, 1))
        return self.layout.assemble(queries, documents, self.pad_id)


@dataclass(frozen=True, eq=False)
class Whole:
    """Pairs as the library prepares them: with its prompt, chat template and truncation, but without padding."""

    columns: dict[str, Tokens]
    """``input_ids`` and, where the model has them, ``token_type_ids``."""
    pad_id: int

    @classmethod
    def of(cls, transformer: Any, pairs: Sequence[tuple[str, str]], prompt: str | None = None) -> Whole:
        """Prepare pairs by the library's transformer module, whose tokenizer can pad."""
        rows: dict[str, list[np.ndarray]] = {}
        for start in range(0, len(pairs), PAIRS_PER_CALL):
            features = transformer.preprocess(list(pairs[start : start + PAIRS_PER_CALL]), prompt=prompt)
            real = features["attention_mask"].numpy().astype(bool)
            for name in _COLUMNS & features.keys():
                found = features[name].numpy()
                rows.setdefault(name, []).extend(row[kept] for row, kept in zip(found, real, strict=True))
        return cls(
            {name: Tokens.from_rows(column) for name, column in rows.items()}, transformer.tokenizer.pad_token_id
        )

    @property
    def rows(self) -> np.ndarray:
        """The places of all pairs."""
        return np.arange(len(self.lengths))

    @cached_property
    def lengths(self) -> np.ndarray:
        """See :class:`Encoded`."""
        return self.columns["input_ids"].lengths

    @property
    def shared(self) -> np.ndarray:
        """The tokens with which all pairs start; at least one token of each pair is left out."""
        ids = self.columns["input_ids"]
        length = max(0, int(ids.lengths.min()) - 1) if len(ids) > 1 else 0
        starts = ids.flat[ids.offsets[:-1, None] + np.arange(length)] if length else np.zeros((1, 0), np.int32)
        same = (starts == starts[0]).all(axis=0)
        return starts[0][: length if same.all() else int(same.argmin())].astype(np.int64)

    def features(self, batch: np.ndarray) -> dict[str, np.ndarray]:
        """See :class:`Encoded`."""
        lengths = self.lengths[batch]
        column = np.arange(lengths.max())
        inside = column < lengths[:, None]
        padded = {"attention_mask": inside.astype(np.int64)}
        for name, tokens in self.columns.items():
            padded[name] = np.full(inside.shape, self.pad_id if name == "input_ids" else 0, np.int64)
            padded[name][inside] = tokens.flat[(tokens.offsets[batch][:, None] + column)[inside]]
        return padded


@dataclass(frozen=True, eq=False)
class Continued:
    """What follows the tokens with which all pairs start."""

    whole: Whole
    prefix: np.ndarray
    """The tokens in front, int64; see :attr:`Whole.shared`."""

    @cached_property
    def lengths(self) -> np.ndarray:
        """See :class:`Encoded`; without the prefix."""
        return self.whole.lengths - len(self.prefix)

    def features(self, batch: np.ndarray) -> dict[str, np.ndarray]:
        """See :class:`Encoded`; and the ``prefix``."""
        following = {name: value[:, len(self.prefix) :] for name, value in self.whole.features(batch).items()}
        return {**following, "prefix": self.prefix}


def template(tokenizer: Any) -> PairTemplate | None:
    """Read the pair layout off the tokenizer; ``None`` when it has no such layout."""
    try:
        first, second = (tokenizer(t, add_special_tokens=False)["input_ids"] for t in ("alpha", "omega"))
        pair = tokenizer("alpha", "omega")
    except Exception:  # a tokenizer that cannot encode pairs at all
        return None
    ids = list(pair["input_ids"])
    at_first, at_second = _find(ids, first, 0), None
    if at_first is not None:
        at_second = _find(ids, second, at_first + len(first))
    if at_first is None or at_second is None or not first or not second:
        return None
    cuts = (0, at_first, at_first + len(first), at_second, at_second + len(second), len(ids))
    parts = [tuple(ids[a:b]) for a, b in pairwise(cuts)]
    types = None
    if "token_type_ids" in pair:
        all_types = [tuple(pair["token_type_ids"][a:b]) for a, b in pairwise(cuts)]
        types = tuple(part[:1] if i in (1, 3) else part for i, part in enumerate(all_types))
    return PairTemplate(parts[0], parts[2], parts[4], types)


def agrees(
    layout: PairTemplate,
    tokenizer: Any,
    queries: Sequence[str],
    documents: Sequence[str],
    max_length: int,
    own: Whole | None = None,
) -> bool:
    """Whether assembled pairs equal the library's for these texts (a sample of the real ones).

    Args:
        layout: The layout to be shown right.
        tokenizer: The tokenizer.
        queries: A query for each pair.
        documents: Its document.
        max_length: Tokens of a pair.
        own: The pairs as the library makes them; ``None``: as the tokenizer alone does.
    """
    rows = np.tile(np.arange(len(queries))[:, None], 2)
    if own is None:
        encoded = tokenizer(list(queries), list(documents), truncation="longest_first", max_length=max_length)
        names = _COLUMNS & encoded.keys()
        own = Whole({name: Tokens.from_rows(encoded[name]) for name in names}, tokenizer.pad_token_id)
    ours = Assembled.of(layout, tokenizer, (queries, documents), rows, max_length)
    if not np.array_equal(ours.lengths, own.lengths):
        return False
    theirs, found = own.features(own.rows), ours.features(own.rows)
    return found.keys() <= theirs.keys() and all(np.array_equal(theirs[name], found[name]) for name in found)


def _fixed(ids: tuple[int, ...], pairs: int) -> Ragged:
    return Ragged(np.array(ids, np.int64), np.zeros(pairs, np.int64), np.full(pairs, len(ids)))


def _find(ids: list[int], part: list[int], start: int) -> int | None:
    for at in range(start, len(ids) - len(part) + 1):
        if ids[at : at + len(part)] == part:
            return at
    return None
