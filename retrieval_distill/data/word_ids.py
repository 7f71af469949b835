"""Token ids word by word, each word cut once: texts repeat their words, and a tokenizer would cut each again.

Right for tokenizers that never look across white space, as those of the BERT family; :func:`suits` tells. Knows
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
"""Words remembered, about 100 MB; then it starts anew."""


def suits(backend: Any) -> bool:
    """Whether the ids of a text are those of its words: BERT's normalisation, splitting and WordPiece, nothing else."""
    known_parts = (
        isinstance(backend.model, WordPiece)
        and isinstance(backend.pre_tokenizer, BertPreTokenizer)
        and isinstance(backend.normalizer, BertNormalizer | None)
    )
    added = backend.get_added_tokens_decoder().values()
    return known_parts and not any(set(token.content) & {" ", "\n"} for token in added)


class WordIds(dict[str, tuple[int, ...]]):
    """Ids of words, special tokens aside; a word that is not there yet is cut when it is asked for.

    Args:
        backend: The tokenizer's; truncation must be off.
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
        """Ids of every text; words beyond the limit are not looked at. See :func:`tokens.tokenize`.

        ``keeps_end``: long texts lose their beginnings.
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
