"""What a model computes does not depend on where its weights lie in memory."""

from __future__ import annotations

import copy

import numpy as np
import pytest

from retrieval_distill import hardware
from retrieval_distill.student import encoder
from retrieval_distill.teacher import cross_encoder


@pytest.mark.parametrize("cpu", ["this one", "one whose products are left to PyTorch"])
def test_a_copy_of_a_model_gives_the_same_bytes(cpu, cross_encoders, encoders, monkeypatch):
    """Read from files and copied in memory, as a model is that travels to another machine."""
    if cpu != "this one":
        monkeypatch.setattr(hardware, "_cpu_info", dict)
    teacher, student = cross_encoder.load(cross_encoders["bert"], 48, "float32"), encoder.load(encoders["bert"])
    rng = np.random.default_rng(0)
    for pairs, tokens in ((85, 48), (100, 40), (50, 47), (7, 33)):
        ids = rng.integers(5, 150, (pairs, tokens))
        features = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
        found = [
            cross_encoder.forward(model, features, None) for model in (teacher.model, copy.deepcopy(teacher.model))
        ]
        assert np.array_equal(*found)
    texts = ["path file " * n for n in range(1, 30)]
    assert np.array_equal(*(encoder.encode(model, texts, "document") for model in (student, copy.deepcopy(student))))
