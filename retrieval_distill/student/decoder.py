"""Decoders (GPT-2's family) at work as encoders.

A decoder's token sees only what stands before it, so the last token is the one that has seen the text; an end mark is
put there, as its training knows it, and so that an empty text has a token too. Knows architectures and tokenizers;
must not know recipes or data.

Source: Wang et al., "Improving Text Embeddings with Large Language Models", 2023, arXiv:2401.00368 (end mark, last
token).
"""

from __future__ import annotations

from typing import Any

from sentence_transformers import SentenceTransformer
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, MODEL_FOR_MASKED_LM_MAPPING_NAMES

from retrieval_distill.student import head


def is_decoder(config: Any) -> bool:
    """Whether a model of this configuration is made to continue texts, and for nothing else."""
    continues = config.model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    fills_gaps = config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES
    one_sided = getattr(config, "is_causal", True) and not getattr(config, "is_encoder_decoder", False)
    return continues and one_sided and not fills_gaps


def as_encoder(model: SentenceTransformer) -> None:
    """Let a plain decoder, as the library wraps it, pool the end mark of right-padded texts, in place."""
    tokenizer = model.tokenizer
    tokenizer.padding_side = "right"  # positions count from the first column
    if tokenizer.num_special_tokens_to_add() == 0:
        tokenizer.add_eos_token = True
    head.set_pooling(model, "last")


def set_padding(tokenizer: Any) -> None:
    """Pad with the end mark where a tokenizer has no padding token; the attention mask tells them apart."""
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
