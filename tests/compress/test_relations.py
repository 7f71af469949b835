"""Relation transfer against loops over texts, heads and tokens in float64; its gradient; what it holds in memory."""

from __future__ import annotations

import math

import pytest
import torch

from retrieval_distill.compress import relations
from retrieval_distill.compress.relations import Relations, relation_kl
from retrieval_distill.compress.transfer import EncoderShape, ModelPair
from retrieval_distill.errors import UserError
from retrieval_distill.runtime import memory

LENGTHS = (5, 3, 1, 4)
MASK = torch.arange(5) < torch.tensor(LENGTHS)[:, None]


def projected(width: int, seed: int) -> torch.Tensor:
    return 2 * torch.randn(len(LENGTHS), 5, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def one_by_one(student, teacher, heads: int) -> float:
    """Text by text, head by head, token by token; padding is cut off rather than masked."""
    total = 0.0
    for own, other, length in zip(student, teacher, LENGTHS, strict=True):
        of_text = 0.0
        for head in range(heads):
            relation = []
            for side in (own, other):
                depth = side.shape[1] // heads
                x = side[:length, head * depth : (head + 1) * depth].tolist()
                rows = []
                for a in x:
                    e = [math.exp(sum(i * j for i, j in zip(a, b, strict=True)) / math.sqrt(depth)) for b in x]
                    rows.append([value / sum(e) for value in e])
                relation.append(rows)
            for q, p in zip(*relation, strict=True):
                of_text += sum(a * math.log(a / b) for a, b in zip(p, q, strict=True)) / (heads * length)
        total += of_text / len(LENGTHS)
    return total


@pytest.mark.parametrize("heads", [1, 2, 4])
@pytest.mark.parametrize("block", [1, 2 * 4 * 25, 1 << 22])
def test_it_is_the_sum_over_texts_heads_and_tokens(heads, block, monkeypatch):
    monkeypatch.setattr(relations, "BLOCK", block)
    student, teacher = projected(8, 0), projected(12, 1)
    assert float(relation_kl(student, teacher, MASK, heads)) == pytest.approx(one_by_one(student, teacher, heads))


@pytest.mark.parametrize("block", [1, 1 << 22])
def test_gradient(block, monkeypatch):
    monkeypatch.setattr(relations, "BLOCK", block)
    teacher = projected(12, 1)
    student = projected(8, 0).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: relation_kl(x, teacher, MASK, 4), student)


def test_padding_is_neither_seen_nor_moved():
    student, teacher = projected(8, 0), projected(8, 1)
    spoilt = [torch.where(MASK[..., None], x, 1e3) for x in (student, teacher)]
    spoilt[0].requires_grad_()
    value = relation_kl(*spoilt, MASK, 2)
    assert float(value.detach()) == pytest.approx(float(relation_kl(student, teacher, MASK, 2)))
    value.backward()
    assert (spoilt[0].grad[~MASK] == 0).all()
    assert (spoilt[0].grad[MASK].abs().sum(dim=-1) > 0).sum() == sum(LENGTHS) - 1  # a lone token relates to itself


def test_equal_projections_cost_nothing():
    x = projected(8, 0).requires_grad_()
    value = relation_kl(x, x.detach().clone(), MASK, 2)
    value.backward()
    assert float(value.detach()) == pytest.approx(0, abs=1e-12)
    assert x.grad.abs().max() < 1e-12


def test_long_texts_are_never_held_whole():
    """32 texts of 512 tokens under 12 heads: one matrix of all relations alone would be 384 MiB."""
    x = [torch.randn(32, 512, 96, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1)]
    x[0].requires_grad_()
    mask = torch.ones(32, 512, dtype=torch.bool)
    memory.release()
    memory.reset_peak()
    before = memory.peak_bytes()
    relation_kl(*x, mask, 12).backward()
    assert memory.peak_bytes() - before < 256 << 20


PAIR = ModelPair(EncoderShape(2, 24, 4, 24), EncoderShape(4, 36, 6, 36))


def test_what_it_asks_for():
    transfer = Relations(teacher_layer=2, of=("key", "value"))
    transfer.bind(PAIR)
    assert transfer.heads == 6
    assert transfer.student_keys == (("key", 1), ("value", 1))
    assert transfer.teacher_keys == (("key", 2), ("value", 2))


def test_heads_that_do_not_divide():
    with pytest.raises(
        UserError, match=r"5 relation heads .*student \(24\) and the teacher \(36\).*: 1, 2, 3, 4, 6, 12"
    ):
        Relations(heads=5).bind(PAIR)


def test_a_layer_that_is_not_there():
    with pytest.raises(UserError, match=r"relations\.teacher_layer=4: the layers are 0 to 3"):
        Relations(teacher_layer=4).bind(PAIR)
