"""Captures an encoder's internal activations with forward hooks.

A hook keeps a reference to the tensor; nothing is copied. Knows models; must not know how activations are used.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor, nn

from retrieval_distill.compress.families import Family, family_of
from retrieval_distill.compress.transfer import VECTOR, ActivationKey, Activations, EncoderShape
from retrieval_distill.errors import UserError
from retrieval_distill.student import encoder
from retrieval_distill.student.layers import stack

logger = logging.getLogger("retrieval_distill")

PROJECTIONS = ("query", "key", "value")


class Captures:
    """An encoder that also returns internal activations.

    Args:
        model: A bi-encoder with a single encoder.
        asked: The activations to return.

    Raises:
        UserError: The encoder's family is unknown, or it cannot return attention maps.
    """

    def __init__(self, model: SentenceTransformer, asked: Iterable[ActivationKey]) -> None:
        self.model = model
        self._seen: dict[ActivationKey, Tensor] = {}
        wanted = sorted(set(asked) - {VECTOR})
        if any(kind == "attention" for kind, _ in wanted):
            _show_attention(model[0].auto_model)
        self._hooks = [self._listen(ask) for ask in wanted]

    def __call__(self, rows: Sequence[np.ndarray], weights: dict[str, Tensor] | None = None) -> Activations:
        """The activations of a batch of token rows, always including the sentence vectors."""
        self._seen.clear()
        vectors = encoder.forward(self.model, rows, weights)
        seen, self._seen = self._seen, {}
        return {**seen, VECTOR: vectors}

    def close(self) -> None:
        """Remove the hooks."""
        for hook in self._hooks:
            hook.remove()

    def _listen(self, ask: ActivationKey) -> Any:
        backbone: Any = self.model[0].auto_model
        kind, layer = ask
        if kind == "tokens":
            return self._after(self.model[0], ask, lambda features: features["token_embeddings"])
        if kind == "embeddings":
            return self._after(backbone.embeddings, ask, _first)
        inside, family = stack(self.model)[1][layer], family_of(backbone)
        if kind == "hidden":
            return self._after(inside, ask, _first)
        if kind == "attention":
            return self._attention(inside, family, ask)
        return self._projection(inside, family, ask)

    def _projection(self, layer: nn.Module, family: Family, ask: ActivationKey) -> Any:
        place = PROJECTIONS.index(ask[0])
        if len(family.projections) == 1:
            return self._after(layer.get_submodule(family.projections[0]), ask, lambda out: out.chunk(3, -1)[place])
        return self._after(layer.get_submodule(family.projections[place]), ask, lambda out: out)

    def _attention(self, layer: nn.Module, family: Family, ask: ActivationKey) -> Any:
        module = layer.get_submodule(family.maps)
        if not family.maps_go_in:
            return self._after(module, ask, lambda out: _require_maps(out[1]))

        def keep(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            self._seen[ask] = inputs[0]

        return module.register_forward_pre_hook(keep)

    def _after(self, module: nn.Module, ask: ActivationKey, pick: Callable[[Any], Tensor]) -> Any:
        def keep(_: nn.Module, __: Any, output: Any) -> None:
            self._seen[ask] = pick(output)

        return module.register_forward_hook(keep)


def shape_of(model: SentenceTransformer) -> EncoderShape:
    """An encoder's shape."""
    backbone: Any = model[0].auto_model
    config = backbone.config
    return EncoderShape(
        len(stack(model)[1]), config.hidden_size, config.num_attention_heads, int(model.get_embedding_dimension() or 0)
    )


def _first(output: Any) -> Tensor:
    return output if isinstance(output, Tensor) else output[0]


def _require_maps(maps: Tensor | None) -> Tensor:
    if maps is None:
        raise UserError("compress.transfers.attention_maps: this encoder cannot return its attention maps")
    return maps


def _show_attention(backbone: Any) -> None:
    """Switch to unfused attention, since fused kernels never materialise a map."""
    if backbone.config._attn_implementation == "eager":
        return
    logger.info(
        "attention maps: %s attention does not return them; switching to eager attention",
        backbone.config._attn_implementation,
    )
    try:
        backbone.set_attn_implementation("eager")
    except (ValueError, ImportError) as error:
        raise UserError(f"compress.transfers.attention_maps: {error}; use relations, which need no maps") from None


def real_tokens(rows: Sequence[np.ndarray], device: Any) -> Tensor:
    """Mask of real tokens for right-padded token rows: bool [rows, longest]."""
    lengths = torch.tensor([len(row) for row in rows], device=device)
    return torch.arange(int(lengths.max()), device=device) < lengths[:, None]
