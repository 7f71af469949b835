"""A memory of earlier steps' document vectors, which serve as further in-batch documents at hardly any cost.

Fine-tuned encoders move slowly, so vectors of a few steps ago are nearly those of today. They get no gradient; queries
do. The order of training is fixed beforehand, so which documents are remembered at a step is known without having been
there: a batch names them, with their judgements and all else that is known of its own documents, and a resumed training
only has to find their vectors, which are part of every checkpoint. A document that a step embeds itself is not
remembered in it. Knows draws, ids and vectors; must not know models or objectives.

Source: Wang et al., "Cross-Batch Memory for Embedding Learning", 2020, arXiv:1912.06798; for encoders of two sides,
documents alone being remembered, Wang et al., "Cross-Batch Negative Sampling for Training Two-Tower Recommenders",
2021, arXiv:2110.15154.
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
"""Of a checkpoint: the vectors that the next step remembers, and their documents' ids."""


@dataclass(frozen=True, eq=False)
class Recalling:
    """Collates places in the order of training: a batch of their draws that names the documents remembered in it.

    Args:
        collator: Makes batches of draws.
        draws: The whole order.
        size: Documents that are remembered: the last ones of earlier steps, each once.
        step: Draws of an optimiser step; batches of one step do not remember one another.
    """

    collator: Collator
    draws: Sequence[Draw]
    size: int
    step: int

    def __call__(self, places: Sequence[int]) -> dict[str, Any]:
        """Assemble one batch."""
        return self.collator([self.draws[place] for place in places], self.before(places[0]))

    def before(self, place: int) -> list[str]:
        """The documents in memory at the step of a place, the latest first."""
        start = place // self.step * self.step
        groups, found = self.collator.groups, dict[str, None]()
        for draw in (self.draws[earlier] for earlier in range(start - 1, -1, -1)):
            found |= dict.fromkeys(groups[draw.group].doc_ids[candidate] for candidate in draw.candidates)
            if len(found) >= self.size:
                break
        return list(found)[: self.size]


class Memory(TrainerCallback):
    """The vectors themselves, by document, as the steps left them; in every checkpoint."""

    def __init__(self) -> None:
        self._vectors: dict[str, Tensor] = {}
        self._next: dict[str, Tensor] = {}

    def recall(self, doc_ids: Sequence[str], like: Tensor) -> Tensor:
        """Vectors of remembered documents, [documents, dimensions], on the device of ``like`` [any, dimensions]."""
        return torch.stack([self._vectors[doc].to(like) for doc in doc_ids]) if doc_ids else like[:0].detach()

    def note(self, doc_ids: Sequence[str], vectors: Tensor, remembered: Sequence[str]) -> None:
        """Take in a batch: its documents with their vectors, and those that were remembered in it.

        They are remembered from the next step on; so a batch that is tried again, short of memory, finds the same.
        """
        kept = {doc: self._vectors[doc] for doc in remembered}
        self._next = {**kept, **self._next, **dict(zip(doc_ids, vectors.detach(), strict=True))}

    def on_train_begin(self, args: TrainingArguments, state: Any, control: Any, **_: Any) -> None:
        """Called by the trainer before the first step, after it went back to a checkpoint's state."""
        if state.global_step:
            with safe_open(_file(args, state), "pt") as file:
                ids = json.loads(file.metadata()["ids"])
                self._vectors = dict(zip(ids, file.get_tensor("vectors"), strict=True))

    def on_step_end(self, args: TrainingArguments, state: Any, control: Any, **_: Any) -> None:
        """Called by the trainer after every optimiser step."""
        self._vectors, self._next = self._next, {}

    def on_save(self, args: TrainingArguments, state: Any, control: Any, **_: Any) -> None:
        """Called by the trainer after it wrote a checkpoint, which this file makes whole."""
        if state.is_world_process_zero:
            vectors = torch.stack(list(self._vectors.values())).cpu()
            save_file({"vectors": vectors}, _file(args, state), {"ids": json.dumps(list(self._vectors))})


def _file(args: TrainingArguments, state: Any) -> Path:
    return Path(str(args.output_dir)) / f"checkpoint-{state.global_step}" / FILE
