"""Encoders that compute a batch without its padding: padded texts go in and come out, layers see them in one row.

Knows the layers of BERT's family and ModernBERT; must not know pairs or scores.
"""

from __future__ import annotations

from types import MethodType
from typing import Any

import torch
from sentence_transformers import CrossEncoder
from torch import Tensor

from retrieval_distill.hardware import varlen
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
        vars(encoder)["forward"] = MethodType(_forward, encoder)
        same = first_token.agrees(scores(), expected)
    except Exception:  # parts that work in another way
        same = False
    if not same:
        vars(encoder).pop("forward", None)
        encoder.set_attn_implementation(usual)
    return same


def _forward(encoder: Any, input_ids: Tensor, attention_mask: Tensor, **other: Any) -> Any:
    """An encoder's forward pass over texts that are padded on the right."""
    packed, embeddings = varlen.Packed.of(attention_mask), encoder.embeddings
    if hasattr(embeddings, "create_position_ids_from_input_ids"):  # RoBERTa's family, which counts from padding_idx
        positions = embeddings.create_position_ids_from_input_ids(input_ids, embeddings.padding_idx)
    else:
        positions = attention_mask.cumsum(dim=1) - 1
    if other.get("token_type_ids") is not None:
        other["token_type_ids"] = packed.pack(other["token_type_ids"])
    other |= {"input_ids": packed.pack(input_ids), "position_ids": packed.pack(positions), "packed": packed}
    output = type(encoder).forward(encoder, **other)
    output.last_hidden_state = packed.pad(output.last_hidden_state)
    if getattr(encoder, "pooler", None) is not None:
        output.pooler_output = encoder.pooler(output.last_hidden_state)
    return output
