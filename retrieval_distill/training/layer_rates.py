"""Layer-wise learning rates: the lower a layer, the lower its rate.

Lower layers hold general knowledge of language that should be kept, upper layers what is specific to the task. Knows
parameters and their layer in a transformer; must not know optimisers or what is trained.

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
        model: Contains one transformer, or two (for queries and documents).
        learning_rate: Rate of the top layer and everything above it: final norms, pooling, dense layers, heads.
        decay: Factor from each layer to the one below.
        weight_decay: Weight decay of the parameters in ``decayed``; the others have none.
        decayed: Names of parameters.

    Returns:
        Groups with ``params``, ``lr`` and ``weight_decay``, the highest rate first, because the first one is logged.
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
    """Each transformer parameter's distance from the top layer, in layers: 0 in it and above, embeddings the farthest.

    The layers are the module list of the configured length. Parameters registered before it (embeddings and their
    norms) lie below all layers, those after it above. This holds for every transformer of the library.
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
