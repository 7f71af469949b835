"""Layer-wise learning rates: the lower a layer, the slower it learns.

What lower layers know of language is general and best kept; what upper layers know belongs to the task they were
trained for. Knows parameters and where they stand in a transformer; must not know optimisers or what is trained.

Source: Howard and Ruder, "Universal Language Model Fine-tuning for Text Classification", 2018, arXiv:1801.06146,
section 3.2 (discriminative fine-tuning; their factor is 2.6, a decay of 0.38, for three layers of an LSTM).
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from torch import nn
from transformers import PreTrainedModel


def parameter_groups(
    model: nn.Module, learning_rate: float, decay: float, weight_decay: float, decayed: Collection[str]
) -> list[dict[str, Any]]:
    """An optimiser's parameter groups: the rate of a parameter is ``learning_rate * decay ** steps_below_top``.

    Args:
        model: Holds one transformer, or several (queries' and documents'), each with rates of its own depth.
        learning_rate: Of the top layer and of all above the layers: final norms, pooling, dense layers, heads.
        decay: What each layer downwards multiplies the rate by.
        weight_decay: Of parameters named in ``decayed``; the others have none.
        decayed: Names of parameters.

    Returns:
        Groups with ``params``, ``lr`` and ``weight_decay``, the highest rate first (it is the one that is logged).
    """
    below = steps_below_top(model)
    groups: dict[tuple[int, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups.setdefault((below.get(name, 0), name not in decayed), []).append(parameter)
    return [
        {"params": params, "lr": learning_rate * decay**steps, "weight_decay": 0.0 if free else weight_decay}
        for (steps, free), params in sorted(groups.items(), key=lambda item: item[0])
    ]


def steps_below_top(model: nn.Module) -> dict[str, int]:
    """How many layers below the top one each transformer parameter stands: 0 in it and above, embeddings the most.

    Layers are the one list that is as long as the configuration says; what is registered before it (embeddings and
    their norms) lies below all layers, what comes after it above. So it is in every transformer of the library.
    """
    below: dict[str, int] = {}
    for prefix, backbone in model.named_modules():
        if isinstance(backbone, PreTrainedModel):
            own = _steps_below_top(backbone)
            below |= {f"{prefix}.{name}" if prefix else name: steps for name, steps in own.items()}
    return below


def _steps_below_top(backbone: PreTrainedModel) -> dict[str, int]:
    depth = backbone.config.num_hidden_layers
    modules = backbone.named_modules()
    lists = [name for name, module in modules if isinstance(module, nn.ModuleList) and len(module) == depth]
    below: dict[str, int] = {}
    reached = depth
    for name, _ in backbone.named_parameters():
        if lists and name.startswith(f"{lists[0]}."):
            reached = depth - 1 - int(name.removeprefix(f"{lists[0]}.").split(".")[0])
        elif reached < depth:
            reached = 0  # past the layers
        below[name] = reached if lists else 0
    return below
