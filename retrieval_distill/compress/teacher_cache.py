"""Cache of a teacher's activations on disk, for later passes over the texts and for later students.

Each kind of activation has a file, token after token (for sentence vectors, text after text), in the dtype of the
computation, and a file of marks that tells which texts are in it. A text is marked after it is written, so a killed
training leaves no half-written values that would be read, and two trainings may share a folder: their values differ at
most by the rounding of differently padded batches.

Knows tensors and files; must not know models or how activations are used.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Collection
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from retrieval_distill.compress.transfer import VECTOR, ActivationKey, Activations, EncoderShape
from retrieval_distill.data.tokens import Tokens
from retrieval_distill.errors import UserError
from retrieval_distill.runtime.disk import explain_full_disk

logger = logging.getLogger("retrieval_distill")


class TeacherCache:
    """A folder of one teacher's activations for one set of token rows.

    Args:
        folder: Used only for this teacher and these rows; created if missing.
        asks: The activations to keep: anything but attention maps.
        teacher: The teacher's shape.
        tokens: The token rows.
        dtype: The teacher's dtype; sentence vectors are float32.

    Raises:
        UserError: Attention maps are included, or the disk is full.
    """

    def __init__(
        self, folder: Path, asks: Collection[ActivationKey], teacher: EncoderShape, tokens: Tokens, dtype: torch.dtype
    ) -> None:
        if any(kind == "attention" for kind, _ in asks):
            raise UserError(
                "compress.teacher_cache: attention maps are too large to cache; leave teacher_cache out, or use "
                "relations instead of attention_maps"
            )
        folder.mkdir(parents=True, exist_ok=True)
        texts = np.arange(len(tokens) + 1)
        with explain_full_disk(
            folder, "the teacher's activations cannot be cached; leave compress.teacher_cache out, or"
        ):
            self._files = {
                ask: _File(folder, ask, texts, teacher.dimensions, torch.float32)
                if ask == VECTOR
                else _File(folder, ask, tokens.offsets, teacher.width, dtype)
                for ask in sorted(asks)
            }
        taken = sum(file.values.nbytes for file in self._files.values())
        logger.info(
            "the teacher's activations for %s texts take %.2f GB in %s", f"{len(tokens):,}", taken / 1e9, folder
        )

    def __call__(self, rows: np.ndarray, look: Callable[[], Activations]) -> Activations:
        """The activations of a batch, from the cache if complete, else from ``look``, whose result is cached.

        Args:
            rows: The batch's rows.
            look: Computes the teacher's activations for the batch.

        Returns:
            Like ``look``; cached values are padded with zeros.
        """
        if all(file.has(rows) for file in self._files.values()):
            return {ask: file.read(rows) for ask, file in self._files.items()}
        seen = look()
        for ask, file in self._files.items():
            file.write(rows, seen[ask])
        return seen


class _File:
    """The values of one kind, [places, width]; row ``i`` has the places ``offsets[i]`` to ``offsets[i + 1]``."""

    def __init__(self, folder: Path, ask: ActivationKey, offsets: np.ndarray, width: int, dtype: torch.dtype) -> None:
        path = folder / f"{ask[0]}-{ask[1]}.{str(dtype).removeprefix('torch.')}"
        marks, size = path.with_suffix(".marks"), int(offsets[-1]) * width
        self.offsets, self._of_texts = offsets, ask == VECTOR
        if marks.exists() and not _is_as_large(path, size * dtype.itemsize):
            logger.warning("%s was altered; the teacher's activations are computed again", path)
            for file in (marks, path):
                file.unlink(missing_ok=True)
        self.values = _map_file(path, size, dtype).view(-1, width)
        self.marks = _map_file(marks, len(offsets) - 1, torch.uint8).numpy()

    def has(self, rows: np.ndarray) -> bool:
        return bool(self.marks[rows].all())

    def read(self, rows: np.ndarray) -> Tensor:
        parts = [self.values[self.offsets[row] : self.offsets[row + 1]] for row in rows]
        padded = pad_sequence(parts, batch_first=True)
        return padded.squeeze(1) if self._of_texts else padded

    def write(self, rows: np.ndarray, seen: Tensor) -> None:
        for row, values in zip(rows, seen.unsqueeze(1) if self._of_texts else seen, strict=True):
            start, end = self.offsets[row], self.offsets[row + 1]
            self.values[start:end] = values[: end - start]
        self.marks[rows] = 1


def _is_as_large(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size


def _map_file(path: Path, size: int, dtype: torch.dtype) -> Tensor:
    """A file as a shared memory-mapped tensor. Its space is allocated at once, since a full disk would crash later."""
    with path.open("ab") as file:
        os.posix_fallocate(file.fileno(), 0, size * dtype.itemsize)
    return torch.from_file(str(path), shared=True, size=size, dtype=dtype)
