"""Uses decoders (GPT-2's family) as encoders.

A decoder's token attends only to those before it, so only the last token has seen the whole text. An end-of-sequence
token is appended there, as in its training, which also gives an empty text a token. Knows architectures and tokenizers;
must not know recipes or data.

Source: Wang et al., "Improving Text Embeddings with Large Language Models", 2023, arXiv:2401.00368 (end token,
last-token pooling).
"""

from __future__ import annotations

from typing import Any

from sentence_transformers import SentenceTransformer
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, MODEL_FOR_MASKED_LM_MAPPING_NAMES

from retrieval_distill.student import head


def is_decoder(config: Any) -> bool:
    """Whether a configuration is that of a causal language model, and of nothing else."""
    continues = config.model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    fills_gaps = config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES
    one_sided = getattr(config, "is_causal", True) and not getattr(config, "is_encoder_decoder", False)
    return continues and one_sided and not fills_gaps


def as_encoder(model: SentenceTransformer) -> None:
    """Make a decoder, wrapped by the library, pool the end token of right-padded texts, in place."""
    tokenizer = model.tokenizer
    tokenizer.padding_side = "right"  # positions count from the first column
    if tokenizer.num_special_tokens_to_add() == 0:
        tokenizer.add_eos_token = True
    head.set_pooling(model, "last")


def set_padding(tokenizer: Any) -> None:
    """Pad with the end token if a tokenizer has no padding token; the attention mask distinguishes them."""
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
