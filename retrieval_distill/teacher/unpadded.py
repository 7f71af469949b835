"""Cross-encoders that compute a batch without its padding, on a GPU that has a kernel for it.

Knows the layers of BERT's family and ModernBERT; must not know pairs or scores.
"""

from __future__ import annotations

from types import MethodType
from typing import Any

import torch
from sentence_transformers import CrossEncoder
from torch import Tensor

from retrieval_distill.hardware import varlen
from retrieval_distill.student import unpadded
from retrieval_distill.teacher import first_token, modernbert, modules


@torch.no_grad()
def speed_up(model: CrossEncoder, dtype: torch.dtype) -> bool:
    """Let a cross-encoder's transformer compute without padding, in place, where device and layers allow it.

    Args:
        model: In float32, on its device, in evaluation mode; its last layer may compute the first token alone.
        dtype: What it will compute in.

    Returns:
        Whether it will.
    """
    transformer: Any = model.model
    encoder = getattr(transformer, transformer.base_model_prefix, transformer)
    if (found := first_token.last_layer(encoder)) is None or found[1] is first_token.mpnet:
        return False
    last, config = found[0], encoder.config
    if "forward" in vars(last) and getattr(last, "attention_type", None) == modernbert.LOCAL:
        return False  # see varlen.attention
    if not varlen.is_available(str(model.device), dtype, config.hidden_size // config.num_attention_heads):
        return False
    probe, usual = first_token.probe(transformer), config._attn_implementation

    def scores() -> Tensor:
        return model({**probe, "modality": modules.modality(model)})["scores"]

    expected = scores()
    try:
        encoder.set_attn_implementation(varlen.NAME)
        vars(encoder)["forward"] = MethodType(unpadded.forward, encoder)
        same = first_token.agrees(scores(), expected)
    except Exception:  # parts that work in another way
        same = False
    if not same:
        vars(encoder).pop("forward", None)
        encoder.set_attn_implementation(usual)
    return same
