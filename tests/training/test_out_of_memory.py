"""A step that does not fit in memory is taken again with reduce_cache_texts texts held, and is the same step."""

from __future__ import annotations

import logging
import re

import pytest
import torch

from retrieval_distill.errors import UserError
from retrieval_distill.student import encoder
from retrieval_distill.training import out_of_memory
from tests.training.driver import train
from tests.training.test_distillation import assert_one_training, with_training


@pytest.mark.parametrize(("accumulation", "failing"), [(1, {1, 5}), (2, {2, 6})])
def test_the_same_step_with_less_held(tiny_recipe, tmp_path, monkeypatch, caplog, accumulation, failing):
    """Passes through the student fail: one of the first attempt, then one in backward, after others left gradients."""
    values = with_training(
        tiny_recipe, steps=3, queries_per_step=8 // accumulation, gradient_accumulation=accumulation, save_steps=1,
        agreement_queries=0,
    )  # fmt: skip
    whole = train(values, tmp_path / "whole")
    passes, real = [], encoder._vectors

    def scarce(model, *args):
        if model[0].training:  # a model that was loaded is tried too
            passes.append(model)
        if model[0].training and len(passes) in failing:
            raise torch.OutOfMemoryError("no memory left")
        return real(model, *args)

    monkeypatch.setattr(encoder, "_vectors", scarce)
    with caplog.at_level(logging.WARNING, "retrieval_distill"):
        found = train(values, tmp_path / "scarce")
    tried = [int(re.search(r"=(\d+)", record.getMessage())[1]) for record in caplog.records]
    assert len(tried) == 2 and tried[1] == tried[0] // 2  # and it stays so for the steps to come
    for row, other in zip(found, whole, strict=True):
        for key in ("step", "loss", "grad_norm", "margin_mse", "listwise_kl", "in_batch"):
            assert row[key] == pytest.approx(other[key], rel=2e-5), key
    assert_one_training(values, tmp_path / "whole", tmp_path / "scarce")


def test_the_random_state_is_that_of_the_first_attempt():
    torch.manual_seed(5)
    begun = out_of_memory.BatchSnapshot({"queries": [1], "documents": [1, 2]})
    first = torch.rand(3)
    torch.rand(7)
    begun.restore()
    assert torch.equal(torch.rand(3), first)
    assert begun.texts == 3


def test_halving():
    error = torch.OutOfMemoryError("no memory left")
    assert out_of_memory.reduce_cache_texts(error, None, 41) == 20
    assert out_of_memory.reduce_cache_texts(error, 1000, 41) == 20  # more than there are texts is no limit
    assert out_of_memory.reduce_cache_texts(error, 3, 41) == 1
    with pytest.raises(UserError, match="not enough memory to train on a single text"):
        out_of_memory.reduce_cache_texts(error, 1, 41)
    other = RuntimeError("shapes differ")
    with pytest.raises(RuntimeError, match="shapes differ"):
        out_of_memory.reduce_cache_texts(other, None, 41)


def test_several_processes_cannot_go_back(monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match=r"set training\.cache_texts=20 or lower"):
        out_of_memory.reduce_cache_texts(torch.OutOfMemoryError("no memory left"), None, 41)
