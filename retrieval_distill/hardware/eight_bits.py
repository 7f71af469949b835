"""Linear layers in 8 bits on a CPU: weights with a scale for each output, activations with a scale for each token.

A scale for a whole batch, as PyTorch's own dynamic quantisation has it, is set by the largest activation of any token,
and rankings do not survive that; one for each token costs a pass over the activations. Weights take 7 of the 8 bits: a
processor without VNNI adds the products of two neighbours in 16 bits, which then never overflow, so that all processors
have the same sums. Knows linear layers; must not know what a model is for.

Source: Yao et al., "ZeroQuant", 2022, arXiv:2206.01861, section 4.1.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from retrieval_distill.errors import UserError

ACTIVATION, WEIGHT = 127, 63
"""Largest codes; the smallest are their negatives."""

PIECE = 256
"""Tokens multiplied at once: their 32-bit sums stay in the cache until they are scaled back."""


class Linear(nn.Module):
    """A linear layer in 8 bits, without gradients: any shape [..., inputs] -> [..., outputs], in the given dtype."""

    codes: Tensor
    """int8 [inputs, outputs]"""
    scales: Tensor
    """float32 [outputs]"""
    bias: Tensor
    """float32 [outputs]"""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        weight = layer.weight.detach().float()
        scales = _scales(weight, WEIGHT)
        self.register_buffer("codes", _codes(weight, scales).t())
        self.register_buffer("scales", scales.flatten())
        self.register_buffer("bias", torch.zeros(len(weight)) if layer.bias is None else layer.bias.detach().float())

    def forward(self, input: Tensor) -> Tensor:
        """The layer's result."""
        rows = input.reshape(-1, input.shape[-1])
        found = rows.new_empty(len(rows), len(self.scales))
        for piece, place in zip(rows.split(PIECE), found.split(PIECE), strict=True):
            place.copy_(self._piece(piece))
        return found.view(*input.shape[:-1], found.shape[-1])

    def _piece(self, rows: Tensor) -> Tensor:
        rows = rows.float()
        scales = _scales(rows, ACTIVATION)
        products = torch._int_mm(_codes(rows, scales), self.codes).float().mul_(scales)
        return torch.addcmul(self.bias, products, self.scales)


def quantize(model: nn.Module, device: str) -> None:
    """Put 8-bit layers in the place of a model's linear ones.

    Raises:
        UserError: The device is not a CPU.
    """
    if device != "cpu":
        raise UserError(f"dtype int8 works only on a CPU; on {device} use bfloat16 or float16")
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.Linear):
                setattr(module, name, Linear(child))


def _scales(rows: Tensor, largest: int) -> Tensor:
    """What a code of 1 stands for, by row: float32 [rows, 1]."""
    return (rows.abs().amax(dim=1, keepdim=True) / largest).clamp_min(torch.finfo(torch.float32).tiny)


def _codes(rows: Tensor, scales: Tensor) -> Tensor:
    return (rows / scales).round_().to(torch.int8)
