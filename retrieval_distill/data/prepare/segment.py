"""Splits long documents into passages of whole sentences within a token limit, with overlap and the document's title.

Knows sentences and token counts; must not know judgements. A document within the limit is unchanged, including its id.
The passages of a longer one are called ``ID#1``, ``ID#2`` and so on. A sentence that is too long is split between
words; a title of more than half of the limit is shortened to half.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import accumulate
from typing import Any

from retrieval_distill.data.columns import Record
from retrieval_distill.data.prepare.sentences import sentences
from retrieval_distill.data.tokens import tokenize

DOCUMENTS_PER_BATCH = 1024


class Segmenter:
    """Splits documents into passages.

    Args:
        tokenizer: The student's Hugging Face tokenizer.
        limit: Tokens per passage, title and special tokens included.
        overlap: Sentences that a passage repeats from the previous one, up to half of its length.
    """

    def __init__(self, tokenizer: Any, limit: int, overlap: int) -> None:
        self.tokenizer, self.overlap = tokenizer, overlap
        self.limit = limit - tokenizer.num_special_tokens_to_add()

    def passages(self, texts: Iterable[Record]) -> Iterator[tuple[str, Record]]:
        """(document id, passage) of every passage, in the documents' order."""
        batch: list[Record] = []
        for record in texts:
            batch.append(record)
            if len(batch) == DOCUMENTS_PER_BATCH:
                yield from self._batch(batch)
                batch = []
        yield from self._batch(batch)

    def _batch(self, records: list[Record]) -> Iterator[tuple[str, Record]]:
        lengths = self._tokens([f"{title} {text}".strip() for _, title, text in records])
        for record, length in zip(records, lengths, strict=True):
            id_, title, text = record
            if length <= self.limit:
                yield id_, record
                continue
            title = self._shortened(title)
            for number, passage in enumerate(self._cut(title, text), 1):
                yield id_, (f"{id_}#{number}", title, passage)

    def _shortened(self, title: str) -> str:
        """The words of a title that fit into half of the limit."""
        words = title.split()
        lengths = accumulate(self._tokens([f" {word}" for word in words]))
        return " ".join(word for word, length in zip(words, lengths, strict=True) if length <= self.limit // 2)

    def _cut(self, title: str, text: str) -> list[str]:
        """A text's passages, each with as many whole sentences as fit besides the title."""
        room = self.limit - (self._tokens([title])[0] if title else 0)
        pieces = self._pieces(text, room)
        lengths = self._tokens_in_text(pieces)
        passages, start, end = [], 0, 0
        while end < len(pieces):
            start = self._overlap_from(lengths, start, end, room)
            used = sum(lengths[start:end])
            if end > start and used + lengths[end] > room:  # the overlap leaves no room for new text
                start, used = end, 0
            while end < len(pieces) and (used == 0 or used + lengths[end] <= room):
                used += lengths[end]
                end += 1
            passages.append("".join(pieces[start:end]).strip())
        return passages

    def _overlap_from(self, lengths: list[int], start: int, end: int, room: int) -> int:
        """The start of the passage that continues at ``end``."""
        first = end
        while first > max(start + 1, end - self.overlap) and sum(lengths[first - 1 : end]) <= room // 2:
            first -= 1
        return first

    def _pieces(self, text: str, room: int) -> list[str]:
        """Sentences; one that does not fit is split into words, and a word that does not fit into characters."""
        found = [piece for piece in sentences(text) if piece.strip()]
        for cut in (_words, list):
            lengths = self._tokens_in_text(found)
            if max(lengths, default=0) <= room:
                return found
            split = [[piece] if length <= room else cut(piece) for piece, length in zip(found, lengths, strict=True)]
            found = [piece for parts in split for piece in self._joined(parts, room)]
        return found

    def _joined(self, parts: list[str], room: int) -> list[str]:
        """Adjacent parts joined again, as many as fit."""
        lengths, joined, used = self._tokens_in_text(parts), [""], 0
        for part, length in zip(parts, lengths, strict=True):
            if used and used + length > room:
                joined.append("")
                used = 0
            joined[-1] += part
            used += length
        return joined

    def _tokens_in_text(self, pieces: list[str]) -> list[int]:
        """Most tokens of each piece within a passage, since byte-level tokenizers encode the space before a word."""
        alone, inside = self._tokens(pieces), self._tokens([f" {piece.strip()}" for piece in pieces])
        return [max(pair) for pair in zip(alone, inside, strict=True)]

    def _tokens(self, texts: list[str]) -> list[int]:
        return tokenize(self.tokenizer, texts, None, special_tokens=False).lengths.tolist() if texts else []


def _words(sentence: str) -> list[str]:
    """Words with the white space after them."""
    return re.findall(r"\S+\s*|^\s+", sentence)
