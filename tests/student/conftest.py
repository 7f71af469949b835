"""One tiny plain model of every family a student may come from, with weights that make every layer matter."""

from __future__ import annotations

import pytest
import torch

from tests.conftest import tiny_config

FAMILIES = ["bert", "roberta", "distilbert", "mpnet", "modernbert", "gpt2"]


def config_of(kind: str, tokenizer):
    from transformers import GPT2Config, MPNetConfig

    sizes = dict(vocab_size=len(tokenizer), num_hidden_layers=4, num_attention_heads=4, hidden_size=32)
    if kind == "mpnet":
        return MPNetConfig(intermediate_size=64, max_position_embeddings=66, pad_token_id=1, **sizes)
    if kind == "gpt2":
        eos = tokenizer.eos_token_id
        return GPT2Config(max_position_embeddings=64, bos_token_id=eos, eos_token_id=eos, **sizes)
    return tiny_config(kind, tokenizer)


def save(config, tokenizer, folder, seed: int = 1) -> str:
    """A plain model of random weights, far enough from zero that no layer is next to nothing."""
    from transformers import AutoModel

    torch.manual_seed(seed)
    model = AutoModel.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def gpt2_tokenizer():
    """GPT-2's own class: every byte a token, an end mark, no padding token, nothing put around a text."""
    import json

    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import GPT2Tokenizer

    from tests.conftest import WORDS

    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trained.train_from_iterator([" ".join(WORDS)] * 3, trainers.BpeTrainer(vocab_size=380, initial_alphabet=alphabet))
    model = json.loads(trained.to_str())["model"]
    vocab = {**model["vocab"], "<|endoftext|>": len(model["vocab"])}
    return GPT2Tokenizer(vocab=vocab, merges=[tuple(merge) for merge in model["merges"]])


@pytest.fixture(scope="session")
def families(tokenizers_by_kind, gpt2_tokenizer, tmp_path_factory) -> dict[str, str]:
    """Folders of tiny plain models by family."""
    tokenizers = {**tokenizers_by_kind, "mpnet": tokenizers_by_kind["roberta"], "gpt2": gpt2_tokenizer}
    return {
        kind: save(config_of(kind, tokenizers[kind]), tokenizers[kind], tmp_path_factory.mktemp(kind))
        for kind in FAMILIES
    }
