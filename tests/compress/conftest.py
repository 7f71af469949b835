"""Tiny encoders of every family that is known."""

from __future__ import annotations

import pytest
import torch

FAMILIES = ("bert", "roberta", "distilbert", "mpnet", "modernbert")


@pytest.fixture(scope="session")
def every_encoder(encoders, tokenizers_by_kind, tmp_path_factory) -> dict[str, str]:
    """Folders by family."""
    from transformers import MPNetConfig, MPNetModel

    tokenizer = tokenizers_by_kind["roberta"]
    torch.manual_seed(1)
    config = MPNetConfig(
        vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id, hidden_size=32, num_hidden_layers=4,
        num_attention_heads=4, intermediate_size=64, max_position_embeddings=66,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("encoder-mpnet")
    MPNetModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return {**encoders, "mpnet": str(folder)}


@pytest.fixture(scope="session")
def texts(dataset):
    return dataset.documents
