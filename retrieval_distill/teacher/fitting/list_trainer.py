"""Training of ``fit-teacher`` with the library's cross-encoder trainer: lists, losses, evaluation, checkpoints.

Knows groups of candidates and the trainer; must not know how candidates were found or the files of a finished teacher.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset as Rows
from sentence_transformers import CrossEncoder
from sentence_transformers.base.evaluation import BaseEvaluator
from sentence_transformers.base.sampler import DefaultBatchSampler
from sentence_transformers.cross_encoder import CrossEncoderTrainer, CrossEncoderTrainingArguments
from sentence_transformers.cross_encoder.data_collator import CrossEncoderDataCollator
from sentence_transformers.cross_encoder.losses import BinaryCrossEntropyLoss, LambdaLoss, ListNetLoss
from torch import Tensor, nn
from torch.utils.data import BatchSampler, SequentialSampler
from transformers import PrinterCallback, TrainerState

from retrieval_distill.config.fit_teacher import FitTeacherConfig
from retrieval_distill.data.dataset import Qrels, Texts
from retrieval_distill.data.run import Run
from retrieval_distill.evaluation.measures import evaluate
from retrieval_distill.hardware import devices
from retrieval_distill.runtime import quiet
from retrieval_distill.training.checkpoints import LogAtCheckpoints, MarkComplete, resume
from retrieval_distill.training.early_stopping import StopEarly
from retrieval_distill.training.groups import Draw, Group
from retrieval_distill.training.trainer_arguments import arguments

logger = logging.getLogger("retrieval_distill")

MEASURE = "nDCG@10"
"""Measure of the dev queries."""

LOGGED = f"eval_{MEASURE}"

PAIRS_PER_CALL = 2048
"""Pairs tokenised at once during an evaluation."""


class BinaryLists(nn.Module):
    """The library's pairwise loss applied to lists, so that all losses have the same steps."""

    def __init__(self, model: CrossEncoder) -> None:
        super().__init__()
        self.model = model
        self.pairwise = BinaryCrossEntropyLoss(model)

    def forward(self, inputs: list[Any], labels: list[Tensor], **options: Any) -> Tensor:
        """Mean over all pairs of the step."""
        pairs = [(query, doc) for query, docs in zip(*inputs, strict=True) for doc in docs]
        return self.pairwise([list(column) for column in zip(*pairs, strict=True)], torch.cat(labels), **options)


def _one_hot(grades: np.ndarray) -> np.ndarray:
    """Labels whose softmax, which ListNet takes, is uniform over the relevant candidates and 0 elsewhere."""
    return np.where(grades > 0, 0.0, -np.inf)


# mini_batch_size=-1: the model gets all pairs of a step at once, so that it can sort them by length
LOSSES: dict[str, Callable[[CrossEncoder], nn.Module]] = {
    "listwise": lambda model: ListNetLoss(model, mini_batch_size=-1),
    "binary": BinaryLists,
    "lambda": lambda model: LambdaLoss(model, mini_batch_size=-1),
}

LABELS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "listwise": _one_hot,
    "binary": lambda grades: (grades > 0).astype(float),
    "lambda": lambda grades: grades.astype(float),
}


@dataclass
class ListCollator(CrossEncoderDataCollator):
    """Collates rows of the schedule into the library's columns ``query``, ``documents`` and ``labels``.

    Texts are looked up here, so the schedule itself holds only numbers.
    """

    groups: Sequence[Group] = ()
    draws: Sequence[Draw] = ()
    queries: Texts | None = None
    documents: Texts | None = None
    loss: str = "listwise"

    def __call__(self, features: list[dict[str, Any]]) -> dict[str, Any]:
        """Assemble one step."""
        return super().__call__([self.row(self.draws[feature["draw"]]) for feature in features])

    def row(self, draw: Draw) -> dict[str, Any]:
        """One list as texts."""
        assert self.queries is not None and self.documents is not None
        group = self.groups[draw.group]
        grades = np.array([group.grades[candidate] for candidate in draw.candidates])
        return {
            "query": self.queries[group.query_id],
            "documents": self.documents.take([group.doc_ids[candidate] for candidate in draw.candidates]),
            "labels": LABELS[self.loss](grades).tolist(),
        }


@dataclass(eq=False)
class DevEvaluator(BaseEvaluator):
    """Evaluates a model's current weights by reranking the candidates of the dev queries."""

    run: Run
    qrels: Qrels
    queries: Texts
    documents: Texts
    bf16: bool
    pairs: list[tuple[str, str]] = field(init=False)

    def __post_init__(self) -> None:
        super().__init__()
        self.primary_metric = MEASURE
        frame = self.run.frame
        queries, documents = (
            self.queries.take(frame["query_id"].tolist()),
            self.documents.take(frame["doc_id"].tolist()),
        )
        self.pairs = list(zip(queries, documents, strict=True))

    def __call__(self, model: Any, output_path: str | None = None, epoch: float = -1, steps: int = -1) -> Any:
        """The mean measure; called by the trainer."""
        return {MEASURE: float(self.values(model).mean())}

    def values(self, model: CrossEncoder) -> np.ndarray:
        """The measure of every dev query, in the order of the judgements."""
        reranked = self.run.with_scores(scores(model, self.pairs, self.bf16))
        return evaluate(reranked, self.qrels, [MEASURE])[MEASURE].to_numpy()


@torch.no_grad()
def scores(model: CrossEncoder, pairs: Sequence[tuple[str, str]], bf16: bool = False) -> np.ndarray:
    """Raw logits of pairs of texts with the model's current weights, float32."""
    model.eval()
    order = np.argsort([-len(query) - len(document) for query, document in pairs], kind="stable")
    logits = np.empty(len(pairs), np.float32)
    with torch.autocast(model.device.type, torch.bfloat16, enabled=bf16):
        for start in range(0, len(order), PAIRS_PER_CALL):
            rows = order[start : start + PAIRS_PER_CALL]
            features = model.preprocess([pairs[row] for row in rows])
            on_device = {k: v.to(model.device) if isinstance(v, Tensor) else v for k, v in features.items()}
            logits[rows] = model(on_device)["scores"].view(-1).float().cpu().numpy()
    return logits


class ListTrainer(CrossEncoderTrainer):
    """The library's trainer, which takes the schedule in order."""

    def get_batch_sampler(self, dataset: Any, batch_size: int, drop_last: bool, *_: Any, **__: Any) -> BatchSampler:
        """Batches in the order of the schedule, which is already shuffled reproducibly."""
        return DefaultBatchSampler(SequentialSampler(dataset), batch_size=batch_size, drop_last=drop_last)

    def add_model_card_callback(self, default_args_dict: dict[str, Any]) -> None:
        """Do nothing, because we write the model card."""


def train(
    model: CrossEncoder,
    collator: ListCollator,
    dev: DevEvaluator | None,
    config: FitTeacherConfig,
    steps: int,
    checkpoints: Path,
) -> TrainerState:
    """Train in place, from the last complete checkpoint if any; leave the best weights, or without ``dev`` the last."""
    args = arguments(
        config, steps, config.seed, LOGGED if dev else None, checkpoints, CrossEncoderTrainingArguments,
        per_device_train_batch_size=config.queries_per_step, learning_rate=config.peak_learning_rate,
        bf16=uses_bf16(config), eval_steps=config.evaluate_every, save_steps=config.evaluate_every,
        logging_steps=min(5, config.evaluate_every),
    )  # fmt: skip
    trainer = ListTrainer(
        model=model,
        args=args,
        train_dataset=Rows.from_dict({"draw": list(range(len(collator.draws)))}),
        data_collator=collator,
        loss=LOSSES[config.loss](model),
        evaluator=dev,
        callbacks=[LogAtCheckpoints(), MarkComplete(), *([StopEarly(LOGGED, config.patience)] if dev else [])],
    )
    trainer.pop_callback(PrinterCallback)
    with quiet.libraries():
        state = resume(trainer, "training the teacher", config.patience)
        # the library's own load_best_model_at_end only logs when it fails
        kept = state.best_global_step if dev else state.global_step
        trainer._load_from_checkpoint(str(checkpoints / f"checkpoint-{kept}"))
    return state


def uses_bf16(config: FitTeacherConfig) -> bool:
    """Whether training and evaluation compute in bfloat16."""
    return devices.uses_bfloat16(config.bf16)
