"""Distillation objectives: one small file each, one interface, one registry.

    objectives:
      margin_mse: 0.1
      listwise_kl: {weight: 1.0, teacher_temperature: 2.0}
      in_batch: {weight: [1.0, 0.0]}              # from 1 to 0 over the course of training
      list_mle: {weight: 0.5, from: 0.5}          # only in the second half

mixes them by weight. Knows names and weights; must not know models or data.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from retrieval_distill.errors import UserError
from retrieval_distill.objectives.adr_mse import ADRMSE
from retrieval_distill.objectives.approx_ndcg import ApproxNDCG
from retrieval_distill.objectives.contract import CandidateLists, Objective, Vectors
from retrieval_distill.objectives.embedding import EmbeddingDistillation
from retrieval_distill.objectives.in_batch import InBatchContrastive
from retrieval_distill.objectives.in_batch_kl import InBatchKL
from retrieval_distill.objectives.list_mle import ListMLE
from retrieval_distill.objectives.list_net import ListNet
from retrieval_distill.objectives.listwise_kl import ListwiseKL
from retrieval_distill.objectives.margin_mse import MarginMSE
from retrieval_distill.objectives.mixing import read
from retrieval_distill.objectives.rank_net import RankNet
from retrieval_distill.objectives.score_mse import ScoreMSE
from retrieval_distill.objectives.self_distillation import SelfDistillation
from retrieval_distill.objectives.soft_contrastive import SoftContrastive

OBJECTIVES: dict[str, type[Objective]] = {
    "margin_mse": MarginMSE,
    "score_mse": ScoreMSE,
    "listwise_kl": ListwiseKL,
    "list_net": ListNet,
    "list_mle": ListMLE,
    "rank_net": RankNet,
    "adr_mse": ADRMSE,
    "approx_ndcg": ApproxNDCG,
    "in_batch": InBatchContrastive,
    "soft_contrastive": SoftContrastive,
    "in_batch_kl": InBatchKL,
    "embedding": EmbeddingDistillation,
    "self_distillation": SelfDistillation,
}


class Mix:
    """A weighted sum of objectives, which also returns its components.

    Args:
        parts: Name -> weight, or name -> ``{"weight": ..., "from": ..., "until": ..., option: ...}``; a weight is a
            number or ``[start, end]``; see :class:`retrieval_distill.objectives.schedule.Schedule`.

    Raises:
        UserError: An unknown objective or option, a value out of bounds, no positive weight, or a part of the
            training in which no objective is active.
    """

    def __init__(self, parts: Mapping[str, float | Sequence[float] | Mapping[str, Any]]) -> None:
        self.parts = read("objectives", OBJECTIVES, parts)

    def __call__(self, lists: CandidateLists, progress: float = 1.0) -> tuple[Tensor, dict[str, Tensor]]:
        """The weighted sum, and each active component without its weight.

        An objective that needs attributes that these lists lack (see :attr:`Objective.needs`) is skipped.

        Args:
            lists: The step's candidate lists.
            progress: Share of the training completed, 0 to 1.
        """
        active = {
            name: part
            for name, part in self.parts.items()
            if part.schedule.active(progress) and all(getattr(lists, need) is not None for need in part.objective.needs)
        }
        components = {name: part.objective(lists) for name, part in active.items()}
        weighted = [part.schedule.at(progress) * components[name] for name, part in active.items()]
        return sum(weighted, start=lists.in_batch.new_zeros(())), components

    def check_needs(self, given: Mapping[str, str]) -> None:
        """Refuse objectives that would never be active for lack of inputs.

        Args:
            given: Each input beyond candidates and their scores: ``""`` if the training provides it, else the option
                that would.

        Raises:
            UserError: An objective needs an input that is not provided.
        """
        for name, part in self.parts.items():
            missing = [given[need] for need in part.objective.needs if given[need]]
            if missing:
                raise UserError(f"objectives.{name} needs {' and '.join(dict.fromkeys(missing))}")


__all__ = ["OBJECTIVES", "CandidateLists", "Mix", "Objective", "Vectors"]
