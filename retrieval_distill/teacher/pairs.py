"""Assembling query-passage pairs from token ids cut once per text.

Equal, id for id, to the tokenizer's own pair encoding with ``longest_first`` truncation; where that cannot be
shown for a tokenizer, it is not used. Knows tokenizers; must not know models or scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from retrieval_distill.data.tokens import Tokens, tokenize


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
    layout: PairTemplate, tokenizer: Any, queries: Sequence[str], documents: Sequence[str], max_length: int
) -> bool:
    """Whether assembled pairs equal the tokenizer's own for these texts (a sample of the real ones)."""
    own = tokenizer(list(queries), list(documents), truncation="longest_first", max_length=max_length)
    first, second = (tokenize(tokenizer, texts, None, special_tokens=False) for texts in (queries, documents))
    keep = layout.lengths(first.lengths, second.lengths, max_length)
    rows = np.arange(len(queries))
    ours = layout.assemble(Ragged.of(first, rows, keep[0]), Ragged.of(second, rows, keep[1]), 0)
    lengths = ours["attention_mask"].sum(axis=1)
    names = {"input_ids", "token_type_ids"} & ours.keys()
    return names <= own.keys() and all(
        np.array_equal(own[name][row], ours[name][row, : lengths[row]]) for name in names for row in rows
    )


def _fixed(ids: tuple[int, ...], pairs: int) -> Ragged:
    return Ragged(np.array(ids, np.int64), np.zeros(pairs, np.int64), np.full(pairs, len(ids)))


def _find(ids: list[int], part: list[int], start: int) -> int | None:
    for at in range(start, len(ids) - len(part) + 1):
        if ids[at : at + len(part)] == part:
            return at
    return None
