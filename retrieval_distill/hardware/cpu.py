"""A model made fast on a CPU, in place: its linear layers, its attention, and the memory between them.

Knows what there is to speed up; must not know what the model is for.
"""

from __future__ import annotations

from torch import nn

from retrieval_distill.hardware import attention, devices


def speed_up(model: nn.Module, learns: bool = False) -> None:
    """Do all that pays where the model is; away from CPUs nothing does.

    Args:
        model: On its device, in the dtype that it computes in.
        learns: Whether its weights are going to change.
    """
    if next(model.parameters()).device.type != "cpu":
        return
    devices.keep_freed_memory()
    devices.align(model)
    devices.speed_up_linear_layers(model, learns)
    attention.speed_up(model)
