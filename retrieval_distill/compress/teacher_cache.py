"""What a teacher made of texts, kept on disk: later passes over them, and later students, need not ask it again.

Every ask has a file of its own, token after token (of the sentence vector: text after text), in the dtype that it was
computed in, and beside it a file of marks that says which texts are in. A text is marked after it was written, so a
killed training leaves nothing half-written that would be read, and two trainings may share a folder: what both write
differs by no more than the rounding of batches padded differently.

Knows tensors and files; must not know models or what is done with what it keeps.
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

from retrieval_distill.compress.contract import VECTOR, Anatomy, Ask, Seen
from retrieval_distill.data.tokens import Tokens
from retrieval_distill.errors import UserError
from retrieval_distill.runtime.disk import explain_full_disk

logger = logging.getLogger("retrieval_distill")


class TeacherCache:
    """A folder of what was asked of one teacher, of one set of token rows.

    Args:
        folder: Belongs to this teacher and these rows alone; made if need be.
        asks: What is kept: anything but attention maps.
        teacher: The teacher's measures.
        tokens: The rows it is given.
        dtype: What it computes in; its sentence vectors are float32.

    Raises:
        UserError: Attention maps are asked for, or the disk has no room.
    """

    def __init__(
        self, folder: Path, asks: Collection[Ask], teacher: Anatomy, tokens: Tokens, dtype: torch.dtype
    ) -> None:
        if any(kind == "attention" for kind, _ in asks):
            raise UserError(
                "compress.teacher_cache: attention maps are too large to keep; leave teacher_cache out, or take "
                "relations in place of attention_maps"
            )
        folder.mkdir(parents=True, exist_ok=True)
        texts = np.arange(len(tokens) + 1)
        with explain_full_disk(
            folder, "what the teacher makes of the texts cannot be kept; leave compress.teacher_cache out, or"
        ):
            self._files = {
                ask: _File(folder, ask, texts, teacher.dimensions, torch.float32)
                if ask == VECTOR
                else _File(folder, ask, tokens.offsets, teacher.width, dtype)
                for ask in sorted(asks)
            }
        taken = sum(file.values.nbytes for file in self._files.values())
        logger.info("what the teacher makes of %s texts takes %.2f GB in %s", f"{len(tokens):,}", taken / 1e9, folder)

    def __call__(self, rows: np.ndarray, look: Callable[[], Seen]) -> Seen:
        """What was asked of a batch; unless all of it is there, ``look`` is called, and what it gives is kept.

        Args:
            rows: The batch's rows.
            look: Asks the teacher about the batch.

        Returns:
            As ``look`` gives it; what was kept is padded with zeros.
        """
        if all(file.has(rows) for file in self._files.values()):
            return {ask: file.read(rows) for ask, file in self._files.items()}
        seen = look()
        for ask, file in self._files.items():
            file.write(rows, seen[ask])
        return seen


class _File:
    """One ask's values [places, width]; row ``i``'s places are ``offsets[i]`` to ``offsets[i + 1]``."""

    def __init__(self, folder: Path, ask: Ask, offsets: np.ndarray, width: int, dtype: torch.dtype) -> None:
        path = folder / f"{ask[0]}-{ask[1]}.{str(dtype).removeprefix('torch.')}"
        marks, size = path.with_suffix(".marks"), int(offsets[-1]) * width
        self.offsets, self._of_texts = offsets, ask == VECTOR
        if marks.exists() and not _is_as_large(path, size * dtype.itemsize):
            logger.warning("%s is not as it was: the teacher is asked again", path)
            for file in (marks, path):
                file.unlink(missing_ok=True)
        self.values = _mapped(path, size, dtype).view(-1, width)
        self.marks = _mapped(marks, len(offsets) - 1, torch.uint8).numpy()

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


def _mapped(path: Path, size: int, dtype: torch.dtype) -> Tensor:
    """A file as a tensor that is written through; its room is taken at once: a full disk could not be told later."""
    with path.open("ab") as file:
        os.posix_fallocate(file.fileno(), 0, size * dtype.itemsize)
    return torch.from_file(str(path), shared=True, size=size, dtype=dtype)
