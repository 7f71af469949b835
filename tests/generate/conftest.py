"""A tiny T5 with random weights, and documents with sentences and titles."""

from __future__ import annotations

import random

import pytest
import torch

from retrieval_distill.data.dataset import Dataset
from tests.conftest import sentence


@pytest.fixture(scope="session")
def t5(tokenizers_by_kind, tmp_path_factory) -> str:
    """Folder of a tiny T5 whose tokens are not equally likely, and none is certain."""
    from transformers import T5Config, T5ForConditionalGeneration

    tokenizer = tokenizers_by_kind["roberta"]
    torch.manual_seed(5)
    config = T5Config(
        vocab_size=len(tokenizer), d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4, tie_word_embeddings=False,
        pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id,
        decoder_start_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    model = T5ForConditionalGeneration(config)
    with torch.no_grad():
        model.lm_head.weight.mul_(0.3)
    folder = tmp_path_factory.mktemp("t5")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def corpus() -> Dataset:
    """40 documents of a title and four sentences; no queries, no judgements."""
    rng = random.Random(11)
    documents = []
    for number in range(40):
        text = " ".join(f"{sentence(rng, rng.randint(5, 9)).capitalize()}." for _ in range(4))
        documents.append((f"d{number}", f"{sentence(rng, 4)} {number}", text))
    return Dataset.from_records("bare", documents, [], {})
