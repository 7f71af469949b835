"""Speeds up a model on a CPU, in place: linear layers, attention, memory allocation.

Knows which optimisations there are; must not know what the model is for.
"""

from __future__ import annotations

from torch import nn

from retrieval_distill.hardware import attention, devices


def speed_up(model: nn.Module, learns: bool = False) -> None:
    """Apply all optimisations to a model on a CPU; do nothing on other devices.

    Args:
        model: On its device, in its final dtype.
        learns: Whether its weights will change.
    """
    if next(model.parameters()).device.type != "cpu":
        return
    devices.keep_freed_memory()
    devices.align(model)
    devices.speed_up_linear_layers(model, learns)
    attention.speed_up(model)
