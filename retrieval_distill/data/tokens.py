"""Token ids: texts are tokenised once, and batched with little padding.

Knows tokenizers and lengths; must not know what the ids are for. All forward passes (scoring, embedding, training) use
this module.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np

from retrieval_distill.data import word_ids

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, eq=False)
class Tokens:
    """Ragged token ids: row ``i`` is ``flat[offsets[i]:offsets[i + 1]]`` (int32)."""

    flat: np.ndarray
    offsets: np.ndarray

    @classmethod
    def from_rows(cls, rows: Sequence[Sequence[int] | np.ndarray]) -> Tokens:
        """Create from lists of ids."""
        lengths = np.fromiter((len(row) for row in rows), np.int64, len(rows))
        flat = np.fromiter(chain.from_iterable(rows), np.int32, int(lengths.sum()))
        return cls(flat, np.concatenate([[0], np.cumsum(lengths)]))

    @staticmethod
    def write(folder: Path, parts: Iterable[Tokens]) -> Tokens:
        """Store tokens part by part, with one in memory at a time, as ``flat.npy`` and ``offsets.npy``, and open them.

        Args:
            folder: An existing folder; files of an earlier attempt are replaced.
            parts: Consecutive parts of the tokens.
        """
        lengths = [np.zeros(1, np.int64)]
        with (folder / "flat.npy").open("wb") as out:
            _write_header(out, 0)
            for part in parts:
                out.write(part.flat.astype("<i4", copy=False).tobytes())
                lengths.append(part.lengths)
            offsets = np.cumsum(np.concatenate(lengths))
            out.seek(0)
            _write_header(out, int(offsets[-1]))  # overwrites the first: NumPy reserves space for larger numbers
        np.save(folder / "offsets.npy", offsets, allow_pickle=False)
        return Tokens.open(folder)

    @classmethod
    def open(cls, folder: Path) -> Tokens:
        """Open stored tokens, memory-mapped."""
        flat, offsets = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("flat", "offsets"))
        return cls(flat.view(np.ndarray), offsets.view(np.ndarray))  # plain arrays, since slicing a memmap is slow

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> np.ndarray:
        return self.flat[self.offsets[row] : self.offsets[row + 1]]

    @property
    def lengths(self) -> np.ndarray:
        """Tokens per row, shape [rows]."""
        return np.diff(self.offsets)

    @property
    def fingerprint(self) -> str:
        """Hash of all rows."""
        parts = np.ascontiguousarray(self.offsets, "<i8"), np.ascontiguousarray(self.flat, "<i4")
        digest = hashlib.blake2b(parts[0].data)
        digest.update(parts[1].data)
        return digest.hexdigest()


def _write_header(out: Any, count: int) -> None:
    np.lib.format.write_array_header_1_0(out, {"descr": "<i4", "fortran_order": False, "shape": (count,)})


def tokenize(tokenizer: Any, texts: Sequence[str], max_length: int | None, special_tokens: bool = True) -> Tokens:
    """Token ids of every text, equal to ``tokenizer(text, truncation=True, max_length=max_length)``.

    Args:
        tokenizer: A Hugging Face tokenizer, which determines the side of truncation. Its own truncation and padding
            settings are not changed.
        texts: The texts.
        max_length: Ids kept per text, special tokens included; ``None``: all.
        special_tokens: Whether ``[CLS]`` and the like are added.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        rows = tokenizer(
            list(texts), truncation=max_length is not None, max_length=max_length,
            add_special_tokens=special_tokens, return_attention_mask=False,
        )["input_ids"]  # fmt: skip
        return Tokens.from_rows(rows)
    backend, side = _own_copy(tokenizer, backend), getattr(tokenizer, "truncation_side", "right")
    if (words := _WORDS[tokenizer]) is not None:
        return Tokens.from_rows(words.cut(texts, max_length, special_tokens, side == "left"))
    backend.no_truncation() if max_length is None else backend.enable_truncation(max_length, direction=side)
    encoded = backend.encode_batch_fast(list(texts), add_special_tokens=special_tokens)
    return Tokens.from_rows([encoding.ids for encoding in encoded])


def _own_copy(tokenizer: Any, backend: Any) -> Any:
    """A cached copy of a tokenizer's backend, since truncation and padding are shared state, and copying is slow."""
    if tokenizer not in _COPIES:
        _COPIES[tokenizer] = copy.deepcopy(backend)
        _COPIES[tokenizer].no_padding()
        _COPIES[tokenizer].no_truncation()
        _WORDS[tokenizer] = word_ids.WordIds(_COPIES[tokenizer]) if word_ids.is_supported(_COPIES[tokenizer]) else None
    return _COPIES[tokenizer]


_COPIES: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()
_WORDS: WeakKeyDictionary[Any, word_ids.WordIds | None] = WeakKeyDictionary()
"""Word cache of a tokenizer that works word by word."""


def token_batches(lengths: np.ndarray, budget: int) -> list[np.ndarray]:
    """Row numbers in batches of at most ``budget`` padded tokens, longest rows first.

    Rows of similar length share a batch, so there is little padding; the largest batch comes first, so that running out
    of memory happens at once. A row longer than the budget gets a batch of its own.
    """
    order = np.argsort(-lengths, kind="stable")
    batches, start = [], 0
    while start < len(order):
        longest = max(int(lengths[order[start]]), 1)
        size = max(1, budget // longest)
        batches.append(order[start : start + size])
        start += size
    return batches


def same_length_batches(lengths: np.ndarray, budget: int) -> list[np.ndarray]:
    """Like :func:`token_batches`, but only rows of equal length share a batch, so that none is padded.

    On a CPU a row's result then does not depend on which others share its batch, to the last bit: padding, not the
    number of rows, changes the order in which a product is summed.
    """
    order = np.argsort(-lengths, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(lengths[order])) + 1)
    return [rows[batch] for rows in groups for batch in token_batches(lengths[rows], budget)]


def pad(rows: Sequence[np.ndarray], pad_id: int) -> dict[str, torch.Tensor]:
    """:func:`padded` as tensors."""
    import torch  # exported models do without

    return {name: torch.from_numpy(values) for name, values in padded(rows, pad_id).items()}


def padded(rows: Sequence[np.ndarray], pad_id: int) -> dict[str, np.ndarray]:
    """``input_ids`` and ``attention_mask``, int64 [rows, longest], padded on the right."""
    longest = max(len(row) for row in rows)
    ids = np.full((len(rows), longest), pad_id, np.int64)
    mask = np.zeros((len(rows), longest), np.int64)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = row
        mask[i, : len(row)] = 1
    return {"input_ids": ids, "attention_mask": mask}
