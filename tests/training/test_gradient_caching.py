"""Gradient caching changes what is kept in memory, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from retrieval_distill.config import StudentConfig
from retrieval_distill.objectives import Mix
from retrieval_distill.student import build, encoder
from retrieval_distill.training.distillation_model import DistillationModel

PARTS = {"margin_mse": 0.05, "listwise_kl": 1.0, "in_batch": 0.5}


def batch_of(lengths: list[int], queries: int, candidates: int) -> dict:
    """Random tokens; the first ``queries`` rows are queries, each with the next documents as its candidates."""
    rng = np.random.default_rng(0)
    rows = [rng.integers(5, 60, length).astype(np.int32) for length in lengths]
    documents = len(rows) - queries
    positions = (np.arange(queries)[:, None] * 2 + np.arange(candidates)) % documents
    labels = np.zeros((queries, candidates), np.float32)
    labels[:, 0] = 1
    in_batch_labels = np.zeros((queries, documents), np.float32)
    in_batch_labels[np.arange(queries), positions[:, 0]] = 1
    mask = np.ones((queries, candidates), bool)
    mask[0, -1] = False
    arrays = {
        "positions": positions, "teacher": rng.normal(0, 3, (queries, candidates)).astype(np.float32),
        "labels": labels, "mask": mask, "in_batch_labels": in_batch_labels,
    }  # fmt: skip
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    return {"query_ids": [], "queries": rows[:queries], "documents": rows[queries:], **tensors}


def step(folder: str, batch: dict, cache_texts: int | None, dropout: float, dtype: torch.dtype | None):
    """Loss, gradients, the random state afterwards, and the rows of every pass through the transformer."""
    student = build.build(StudentConfig(model=folder, max_length=40))
    build.set_dropout(student, dropout)
    model = DistillationModel(student, Mix(PARTS), 20.0, dtype, cache_texts).train()
    passes: list[int] = []
    student[0].register_forward_pre_hook(lambda module, args: passes.append(len(args[0]["input_ids"])))
    torch.manual_seed(3)
    outputs = model(**batch)
    before = len(passes)
    outputs["loss"].backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return outputs, gradients, torch.get_rng_state(), (passes[:before], passes[before:])


def assert_same(one, other, tolerance: float) -> None:
    """Up to float32 rounding: sums over a step are taken in another order."""
    assert one[0]["loss"].item() == pytest.approx(other[0]["loss"].item(), rel=tolerance)
    assert one[1].keys() == other[1].keys()
    flat, other_flat = (torch.cat([g.flatten() for g in result[1].values()]) for result in (one, other))
    assert (flat - other_flat).norm() <= tolerance * other_flat.norm()
    assert other_flat.norm() > 0
    assert torch.equal(one[2], other[2])


RAGGED = [3, 9, 5, 4, 14, 6, 20, 7, 7, 12, 11, 30, 8, 5]


@pytest.mark.parametrize("kind", ["bert", "roberta", "modernbert"])
@pytest.mark.parametrize("cache_texts", [1, 3, 100])
def test_loss_and_gradients_are_those_of_the_whole_step(encoders, kind, cache_texts):
    batch = batch_of(RAGGED, 4, 3)
    whole = step(encoders[kind], batch, None, 0.0, None)
    cached = step(encoders[kind], batch, cache_texts, 0.0, None)
    assert_same(cached, whole, 1e-5)


@pytest.mark.parametrize("kind", ["bert", "distilbert"])
@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_dropout_is_replayed(encoders, kind, dtype, monkeypatch):
    batch = batch_of([10] * 14, 4, 3)
    monkeypatch.setitem(encoder.TOKENS_PER_BATCH, "cpu", 20)  # both sides in pairs, so that dropout falls alike
    whole = step(encoders[kind], batch, None, 0.2, dtype)
    cached = step(encoders[kind], batch, 2, 0.2, dtype)
    assert_same(cached, whole, 1e-5)
    without = step(encoders[kind], batch, 2, 0.0, dtype)
    assert without[0]["loss"].item() != pytest.approx(cached[0]["loss"].item(), rel=1e-4)


def test_no_pass_holds_more_texts_and_backward_embeds_each_once_more(encoders):
    batch = batch_of(RAGGED, 4, 3)
    _, _, _, (forward, backward) = step(encoders["bert"], batch, 4, 0.0, None)
    assert max(forward) <= 4
    assert sum(forward) == sum(backward) == len(RAGGED)
    assert backward == forward[::-1]  # one after the other, the last first


def test_what_backward_needs_of_the_model_is_not_kept(encoders):
    """Counts what the graph holds after forward, by the bytes packed for backward."""
    batch, held = batch_of(RAGGED * 4, 4, 3), {}
    for cache_texts in (None, 4):
        student = build.build(StudentConfig(model=encoders["bert"], max_length=40))
        model = DistillationModel(student, Mix(PARTS), 20.0, None, cache_texts).train()
        packed = []
        weights = {p.data_ptr() for p in model.parameters()}

        def pack(tensor: torch.Tensor, packed=packed, weights=weights) -> torch.Tensor:
            packed.append(0 if tensor.data_ptr() in weights else tensor.nbytes)
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            model(**batch)
        held[cache_texts] = sum(packed)
    assert held[4] < 0.02 * held[None]


def test_tokens_are_counted_as_they_are_computed(encoders):
    batch = batch_of(RAGGED, 4, 3)
    outputs = step(encoders["bert"], batch, None, 0.0, None)[0]
    assert outputs["tokens"] == sum(RAGGED)
    assert outputs["padded"] == len(RAGGED) * max(RAGGED)  # all fit one pass
    assert step(encoders["bert"], batch, 1, 0.0, None)[0]["padded"] == sum(RAGGED)
