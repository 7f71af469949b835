"""Rerankers of today's sizes with random weights, for measuring speed where no weights can be had.

How long a forward pass takes depends on the sizes and on the texts' numbers of tokens, not on what the weights say: the
tokenizer is trained on the texts that are scored, to as many tokens as the real one has.

* ``modular-17m`` to ``modular-150m``: the five modules of ``cross-encoder/ettin-reranker-*``, over a ModernBERT.
* ``decoder-60m``, ``decoder-600m``: a Qwen3 that is asked in a chat and answers yes or no; the larger one has the sizes
  of Qwen3-Reranker-0.6B.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import CrossEncoder
from sentence_transformers.base.modules import Dense, Transformer
from sentence_transformers.sentence_transformer.modules import LayerNorm, Pooling
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
from transformers import ModernBertConfig, ModernBertModel, PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

VOCABULARY = 50_368

MODULAR = {
    "modular-17m": (7, 256, 384, 4),
    "modular-32m": (10, 384, 576, 6),
    "modular-68m": (19, 512, 768, 8),
    "modular-150m": (22, 768, 1152, 12),
}
"""Layers, width, inner width, heads."""

DECODERS = {"decoder-60m": (8, 512, 1536, 8, 4, 64), "decoder-600m": (28, 1024, 3072, 16, 8, 128)}
"""Layers, width, inner width, heads, heads of keys, size of a head."""

INSTRUCTION = "Given a web search query, retrieve relevant passages that answer the query"

TEMPLATE = (
    "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct provided. "
    'Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n<Instruct>: '
    "{{ messages | selectattr('role', 'eq', 'system') | map(attribute='content') | join }}\n"
    "<Query>: {{ messages | selectattr('role', 'eq', 'query') | map(attribute='content') | join }}\n"
    "<Document>: {{ messages | selectattr('role', 'eq', 'document') | map(attribute='content') | join }}"
    "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
)


def build(name: str, texts: Iterable[str], folder: Path) -> str:
    """A reranker's folder.

    Args:
        name: See the module.
        texts: What its tokenizer learns its tokens from.
        folder: An existing folder.
    """
    torch.manual_seed(0)
    trained = _tokenizer(texts)
    model = _modular(name, trained, folder) if name in MODULAR else _decoder(name, trained, folder)
    model.save_pretrained(str(folder / name))
    return str(folder / name)


def _tokenizer(texts: Iterable[str]) -> Tokenizer:
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )  # fmt: skip
    trained.train_from_iterator([*texts, *["yes", "no"] * 10_000], trainer)
    return trained


def _modular(name: str, trained: Tokenizer, folder: Path) -> CrossEncoder:
    layers, width, inner, heads = MODULAR[name]
    trained.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:0 [SEP]:0", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    backbone = ModernBertModel(
        ModernBertConfig(
            vocab_size=VOCABULARY, hidden_size=width, num_hidden_layers=layers, num_attention_heads=heads,
            intermediate_size=inner, max_position_embeddings=7999, pad_token_id=0, bos_token_id=2, cls_token_id=2,
            eos_token_id=3, sep_token_id=3, initializer_range=0.05,
        )
    )  # fmt: skip
    encoder = _save(backbone, trained, folder / f"{name}-encoder", model_max_length=7999, cls_token="[CLS]")
    last = Dense(width, 1, activation_function=torch.nn.Identity(), module_output_name="scores")
    torch.nn.init.normal_(last.linear.weight, std=0.25)
    parts = [
        Transformer(encoder, transformer_task="feature-extraction"), Pooling(width, "cls"),
        Dense(width, width, activation_function=torch.nn.GELU()), LayerNorm(width), last,
    ]  # fmt: skip
    return CrossEncoder(modules=parts, activation_fn=torch.nn.Identity(), device="cpu")


def _decoder(name: str, trained: Tokenizer, folder: Path) -> CrossEncoder:
    layers, width, inner, heads, keys, size = DECODERS[name]
    backbone = Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=VOCABULARY, hidden_size=width, num_hidden_layers=layers, num_attention_heads=heads,
            num_key_value_heads=keys, head_dim=size, intermediate_size=inner, max_position_embeddings=40960,
            pad_token_id=0, bos_token_id=2, eos_token_id=5, tie_word_embeddings=True, initializer_range=0.05,
        )
    )  # fmt: skip
    language_model = _save(backbone, trained, folder / f"{name}-lm", model_max_length=32768, chat_template=TEMPLATE)
    return CrossEncoder(language_model, prompts={"web": INSTRUCTION}, default_prompt_name="web", device="cpu")


def _save(backbone: Any, trained: Tokenizer, folder: Path, **settings: Any) -> str:
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=trained, pad_token="[PAD]", unk_token="[UNK]", sep_token="[SEP]",
        model_input_names=["input_ids", "attention_mask"], **settings,
    )  # fmt: skip
    backbone.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)
