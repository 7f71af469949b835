"""Cross-batch memory: document vectors of earlier steps serve as additional in-batch documents at hardly any cost.

Encoders change slowly during fine-tuning, so vectors from a few steps ago are nearly up to date. They get no gradient;
queries do. The order of training is fixed beforehand, so the documents in memory at any step are known: a batch names
them, with their judgements, and a resumed training only needs their vectors, which are part of every checkpoint. A
document that the step embeds itself is not taken from memory. Knows draws, ids and vectors; must not know models or
objectives.

Source: Wang et al., "Cross-Batch Memory for Embedding Learning", 2020, arXiv:1912.06798; with only one side of a
two-tower model in memory, Wang et al., "Cross-Batch Negative Sampling for Training Two-Tower Recommenders", 2021,
arXiv:2110.15154.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from transformers import TrainerCallback, TrainingArguments

from retrieval_distill.training.batches import Collator
from retrieval_distill.training.groups import Draw

FILE = "memory.safetensors"
"""File of a checkpoint: the vectors in memory for the next step, and their documents' ids."""


@dataclass(frozen=True, eq=False)
class MemoryCollator:
    """Collates positions in the training order into a batch that also names the documents in memory.

    Args:
        collator: Collates draws.
        draws: The whole training order.
        size: Capacity: the memory holds this many distinct documents, the latest ones of earlier steps.
        step: Draws per optimiser step; micro-batches of the same step are not in memory.
    """

    collator: Collator
    draws: Sequence[Draw]
    size: int
    step: int

    def __call__(self, places: Sequence[int]) -> dict[str, Any]:
        """Assemble one batch."""
        return self.collator([self.draws[place] for place in places], self.remembered_at(places[0]))

    def remembered_at(self, place: int) -> list[str]:
        """The documents in memory at the step of a position, the latest first."""
        start = place // self.step * self.step
        groups, found = self.collator.groups, dict[str, None]()
        for draw in (self.draws[earlier] for earlier in range(start - 1, -1, -1)):
            found |= dict.fromkeys(groups[draw.group].doc_ids[candidate] for candidate in draw.candidates)
            if len(found) >= self.size:
                break
        return list(found)[: self.size]


class Memory(TrainerCallback):
    """The vectors in memory by document id, as their steps computed them; saved in every checkpoint."""

    def __init__(self) -> None:
        self._vectors: dict[str, Tensor] = {}
        self._next: dict[str, Tensor] = {}

    def recall(self, doc_ids: Sequence[str], like: Tensor) -> Tensor:
        """Vectors in memory, [documents, dimensions], with the device and dtype of ``like`` [any, dimensions]."""
        return torch.stack([self._vectors[doc].to(like) for doc in doc_ids]) if doc_ids else like[:0].detach()

    def store(self, doc_ids: Sequence[str], vectors: Tensor, remembered: Sequence[str]) -> None:
        """Store a batch's vectors, and keep those of the documents that it took from memory.

        They are available from the next step on, so a batch that is repeated after running out of memory sees the same
        vectors.
        """
        kept = {doc: self._vectors[doc] for doc in remembered}
        self._next = {**kept, **self._next, **dict(zip(doc_ids, vectors.detach(), strict=True))}

    def on_train_begin(self, args: TrainingArguments, state: Any, control: Any, **_: Any) -> None:
        """Called by the trainer before the first step, after restoring a checkpoint's state."""
        if state.global_step:
            with safe_open(_file(args, state), "pt") as file:
                ids = json.loads(file.metadata()["ids"])
                self._vectors = dict(zip(ids, file.get_tensor("vectors"), strict=True))

    def on_step_end(self, args: TrainingArguments, state: Any, control: Any, **_: Any) -> None:
        """Called by the trainer after every optimiser step."""
        self._vectors, self._next = self._next, {}

    def on_save(self, args: TrainingArguments, state: Any, control: Any, **_: Any) -> None:
        """Called by the trainer after writing a checkpoint, which this file completes."""
        if state.is_world_process_zero:
            vectors = torch.stack(list(self._vectors.values())).cpu()
            save_file({"vectors": vectors}, _file(args, state), {"ids": json.dumps(list(self._vectors))})


def _file(args: TrainingArguments, state: Any) -> Path:
    return Path(str(args.output_dir)) / f"checkpoint-{state.global_step}" / FILE
