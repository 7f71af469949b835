"""Plain texts as token batches: tokenised once by both tokenizers, compared, and batched by a token budget.

Knows texts, tokenizers and lengths; must not know models' weights or transfers.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sentence_transformers import SentenceTransformer

from retrieval_distill.data.dataset import Texts
from retrieval_distill.data.tokens import Tokens, token_batches
from retrieval_distill.errors import UserError
from retrieval_distill.formatting import counted
from retrieval_distill.training import token_store

logger = logging.getLogger("retrieval_distill")

SHORTEST = 2
"""Fewest tokens of a text, without special tokens: a single one has no relations."""

POOL = 64
"""Number of batches whose texts are drawn together and then sorted by length, to reduce padding."""


@dataclass(frozen=True, eq=False)
class Batch:
    """One batch: its number in training order, and the rows of its texts."""

    number: int
    rows: np.ndarray


@dataclass(frozen=True, eq=False)
class Collator:
    """Turns a batch's ``rows`` and ``number`` into token ids: ``student`` and ``teacher`` (rows), and ``text_ids``.

    With ``masked`` above 0, that share of the tokens, drawn with the batch's number as seed, is replaced by mask tokens
    at the same places for both.
    """

    ids: Sequence[str]
    student: Tokens
    teacher: Tokens
    masks: tuple[int, int] | None = None
    masked: float = 0.0
    seed: int = 0

    def __call__(self, batches: Sequence[Batch]) -> dict[str, Any]:
        """Assemble one batch."""
        (batch,) = batches
        pairs = [(self.student[row], self.teacher[row]) for row in batch.rows]
        if self.masked and self.masks:
            draw = np.random.default_rng([self.seed, batch.number])
            pairs = [self._hide(own, other, draw) for own, other in pairs]
        student, teacher = zip(*pairs, strict=True)
        text_ids = [self.ids[row] for row in batch.rows]
        ids = {"student": student, "teacher": teacher, "text_ids": text_ids}
        return {**ids, "rows": batch.rows, "number": batch.number}

    def _hide(self, own: np.ndarray, other: np.ndarray, draw: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        hidden = draw.random(len(own)) < self.masked
        hidden[[0, -1]] = False  # special tokens around a text
        assert self.masks is not None
        return np.where(hidden, self.masks[0], own), np.where(hidden, self.masks[1], other)


def tokenize_both(
    student: SentenceTransformer, teacher: SentenceTransformer, texts: Texts, max_length: int, folder: Path
) -> tuple[Tokens, Tokens]:
    """The texts' token ids for both tokenizers, cached in ``folder``."""
    limits = [model.max_seq_length or max_length for model in (student, teacher)]
    limit = min(max_length, *limits)
    own = token_store.tokenize(student, texts, "document", limit, folder / "student").tokens
    return own, token_store.tokenize(teacher, texts, "document", limit, folder / "teacher").tokens


def refuse_misaligned(
    student: SentenceTransformer, teacher: SentenceTransformer, tokens: tuple[Tokens, Tokens], transfers: Sequence[str]
) -> None:
    """Refuse token-by-token transfers if the two tokenise any text differently.

    Token ids may differ, so a student whose vocabulary was trimmed is fine.

    Raises:
        UserError: They differ; the message shows a text.
    """
    names = student.tokenizer.convert_ids_to_tokens(range(len(student.tokenizer)))
    numbers = teacher.tokenizer.get_vocab()
    same = np.array([numbers.get(name, -1) for name in names], np.int64)
    own, other = tokens
    if np.array_equal(own.offsets, other.offsets) and np.array_equal(same[own.flat], other.flat):
        return
    row = next(row for row in range(len(own)) if not np.array_equal(same[own[row]], other[row]))
    shown = [
        " ".join(model.tokenizer.convert_ids_to_tokens(ids[row][:8].tolist()))
        for model, ids in zip((student, teacher), tokens, strict=True)
    ]
    raise UserError(
        f"compress.transfers: {', '.join(transfers)} compare token by token, but student and teacher tokenise "
        f"texts differently: {shown[0]!r} and {shown[1]!r}; use a teacher with the student's tokenizer and prompts, or "
        "only the transfer embedding, which compares one vector per text"
    )


def usable(model: SentenceTransformer, tokens: Tokens) -> np.ndarray:
    """Rows of texts that are long enough.

    Raises:
        UserError: There are none.
    """
    marks = model.tokenizer.num_special_tokens_to_add()
    rows = np.flatnonzero(tokens.lengths >= marks + SHORTEST)
    short = len(tokens) - len(rows)
    if not len(rows):
        raise UserError(
            f"compress: none of the {len(tokens):,} texts has {SHORTEST} tokens; there is nothing to learn from"
        )
    if short:
        logger.warning("left out %s with fewer than %d tokens", counted(short, "text"), SHORTEST)
    return rows


def batches(
    lengths: np.ndarray, rows: np.ndarray, size: int, together: int, steps: int | None, tokens: int, seed: int
) -> list[Batch]:
    """All batches of the training in order, shuffled anew for every pass over the texts.

    Args:
        lengths: Number of tokens of every text.
        rows: The texts to use.
        size: Padded tokens per batch.
        together: Batches per step; there are only complete steps.
        steps: Number of steps; ``None``: until ``tokens`` are reached.
        tokens: Number of real tokens.
        seed: Random seed of the order.
    """
    draw = np.random.default_rng(seed)
    found: list[np.ndarray] = []
    taken = 0

    def enough() -> bool:
        whole = len(found) % together == 0
        return len(found) == steps * together if steps is not None else whole and taken >= tokens

    while not enough():
        pools = np.array_split(draw.permutation(rows), max(1, round(lengths[rows].sum() / (POOL * size))))
        dealt = [pool[batch] for pool in pools for batch in token_batches(lengths[pool], size)]
        for place in draw.permutation(len(dealt)):
            if enough():
                break
            found.append(dealt[place])
            taken += int(lengths[dealt[place]].sum())
    return [Batch(number, rows) for number, rows in enumerate(found)]
