"""Tokenises word by word with a cache of words, since texts repeat their words.

Correct for tokenizers that never look across white space, such as BERT's; :func:`is_supported` tells. Knows
backends of tokenizers; must not know what the ids are for.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain, islice
from typing import Any

from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer

MOST_WORDS = 500_000
"""Number of cached words, about 100 MB; then the cache is cleared."""


def is_supported(backend: Any) -> bool:
    """Whether a tokenizer works word by word: BERT's normalisation, splitting and WordPiece, and nothing else."""
    known_parts = (
        isinstance(backend.model, WordPiece)
        and isinstance(backend.pre_tokenizer, BertPreTokenizer)
        and isinstance(backend.normalizer, BertNormalizer | None)
    )
    added = backend.get_added_tokens_decoder().values()
    return known_parts and not any(set(token.content) & {" ", "\n"} for token in added)


class WordIds(dict[str, tuple[int, ...]]):
    """Cache of the ids of words, without special tokens; missing words are tokenised on access.

    Args:
        backend: The tokenizer's backend; truncation must be off.
    """

    def __init__(self, backend: Any) -> None:
        self._backend = backend
        alone, bare = (backend.encode("a", add_special_tokens=special).ids for special in (True, False))
        at = next(start for start in range(len(alone)) if alone[start : start + len(bare)] == bare)
        self._before, self._after = alone[:at], alone[at + len(bare) :]

    def __missing__(self, word: str) -> tuple[int, ...]:
        ids = self[word] = tuple(self._backend.encode(word, add_special_tokens=False).ids)
        return ids

    def cut(
        self, texts: Iterable[str], max_length: int | None, special_tokens: bool, keeps_end: bool = False
    ) -> list[list[int]]:
        """Ids of every text, ignoring words beyond the limit; see :func:`tokens.tokenize`.

        ``keeps_end``: truncate long texts at the beginning.
        """
        if len(self) > MOST_WORDS:
            self.clear()
        before, after = (self._before, self._after) if special_tokens else ([], [])
        limit = None if max_length is None else max(0, max_length - len(before) - len(after))
        words = (text.replace("\n", " ").split(" ") for text in texts)
        if keeps_end and limit is not None:
            ends = ([*chain.from_iterable(map(self.__getitem__, row))] for row in words)
            return [[*before, *ids[max(0, len(ids) - limit) :], *after] for ids in ends]
        return [[*before, *islice(chain.from_iterable(map(self.__getitem__, row)), limit), *after] for row in words]
