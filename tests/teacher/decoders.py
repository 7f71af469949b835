"""Tiny causal language models as rerankers; their tokenizers cannot pad."""

from __future__ import annotations

from pathlib import Path

import torch


def yes_or_no_decoder(folder: Path) -> str:
    """A causal language model that answers yes or no, as decoder-style rerankers do."""
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer, sizes = _without_padding()
    torch.manual_seed(5)
    model = LlamaForCausalLM(LlamaConfig(**sizes))
    with torch.no_grad():
        model.lm_head.weight.mul_(20)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def classifying_decoder(folder: Path) -> str:
    """A causal language model with a classification head on its last token."""
    from transformers import LlamaConfig, LlamaForSequenceClassification

    tokenizer, sizes = _without_padding()
    torch.manual_seed(6)
    model = LlamaForSequenceClassification(LlamaConfig(num_labels=1, **sizes))
    with torch.no_grad():
        model.score.weight.mul_(20)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def _without_padding():
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    from tests.conftest import WORDS

    vocabulary = {word: i for i, word in enumerate(["<unk>", "<s>", "</s>", "yes", "no", *WORDS])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="<unk>", bos_token="<s>", eos_token="</s>", model_max_length=64
    )
    sizes = dict(
        vocab_size=len(vocabulary), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=128, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    return tokenizer, sizes
