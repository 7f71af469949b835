"""Distillation objectives: one small file each, one contract, one registry.

    objectives: {margin_mse: 0.1, listwise_kl: {weight: 1.0, teacher_temperature: 2.0}}

mixes them by weight. Knows names and weights; must not know models or data.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from retrieval_distill.errors import UserError, nearest
from retrieval_distill.objectives.contract import CandidateLists, Objective
from retrieval_distill.objectives.in_batch import InBatchContrastive
from retrieval_distill.objectives.listwise_kl import ListwiseKL
from retrieval_distill.objectives.margin_mse import MarginMSE

OBJECTIVES: dict[str, type[Objective]] = {
    "margin_mse": MarginMSE,
    "listwise_kl": ListwiseKL,
    "in_batch": InBatchContrastive,
}


class Mix:
    """A weighted sum of objectives; its components stay visible.

    Args:
        parts: Name -> weight, or name -> ``{"weight": ..., option: ...}``.

    Raises:
        UserError: An unknown objective or option, or no positive weight.
    """

    def __init__(self, parts: Mapping[str, float | Mapping[str, Any]]) -> None:
        self.parts: dict[str, tuple[float, Objective]] = {}
        for name, value in parts.items():
            options = dict(value) if isinstance(value, Mapping) else {"weight": value}
            weight = float(options.pop("weight", 1.0))
            if weight > 0:
                self.parts[name] = (weight, _build(name, options))
        if not self.parts:
            raise UserError("objectives: at least one objective needs a weight above 0")

    def __call__(self, lists: CandidateLists) -> tuple[Tensor, dict[str, Tensor]]:
        """The weighted sum, and each component without its weight."""
        components = {name: objective(lists) for name, (_, objective) in self.parts.items()}
        total = sum(weight * components[name] for name, (weight, _) in self.parts.items())
        return total, components  # type: ignore[return-value]


def _build(name: str, options: dict[str, Any]) -> Objective:
    if name not in OBJECTIVES:
        raise UserError(f"objective {name!r} is unknown{nearest(name, OBJECTIVES)}")
    known = [option for option in inspect.signature(OBJECTIVES[name].__init__).parameters if option != "self"]
    for option in options:
        if option not in known:
            raise UserError(f"objectives.{name}: option {option!r} is unknown{nearest(option, ['weight', *known])}")
    return OBJECTIVES[name](**options)


__all__ = ["OBJECTIVES", "CandidateLists", "Mix", "Objective"]
