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

    def assemble(self, query: np.ndarray, document: np.ndarray) -> np.ndarray:
        """Ids of one pair from already cut texts."""
        return np.concatenate([self.prefix, query, self.middle, document, self.suffix]).astype(np.int64)

    def type_ids(self, query: int, document: int) -> np.ndarray | None:
        """Token type ids of a pair whose texts keep this many tokens."""
        if self.types is None:
            return None
        prefix, q, middle, d, suffix = self.types
        return np.concatenate([prefix, q * query, middle, d * document, suffix]).astype(np.int64)


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
    keep_q, keep_d = layout.lengths(first.lengths, second.lengths, max_length)
    for i, ids in enumerate(own["input_ids"]):
        if not np.array_equal(ids, layout.assemble(first[i][: keep_q[i]], second[i][: keep_d[i]])):
            return False
        types = layout.type_ids(int(keep_q[i]), int(keep_d[i]))
        if types is not None and not np.array_equal(own["token_type_ids"][i], types):
            return False
    return True


def texts_as_tokens(tokenizer: Any, texts: Sequence[str], max_length: int) -> Tokens:
    """Token ids of texts without special tokens, none longer than a pair can hold."""
    tokens = tokenize(tokenizer, texts, None, special_tokens=False)
    if not len(tokens) or tokens.lengths.max() <= max_length:
        return tokens
    return Tokens.from_rows([tokens[i][:max_length] for i in range(len(tokens))])


def _find(ids: list[int], part: list[int], start: int) -> int | None:
    for at in range(start, len(ids) - len(part) + 1):
        if ids[at : at + len(part)] == part:
            return at
    return None
