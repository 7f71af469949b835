"""Every objective against a hand calculation or an independent implementation, and its gradient."""

from __future__ import annotations

import math

import pytest
import torch
from sentence_transformers.sentence_transformer.losses import DistillKLDivLoss, MarginMSELoss

from retrieval_distill.errors import UserError
from retrieval_distill.objectives import OBJECTIVES, CandidateLists, Mix
from retrieval_distill.objectives.in_batch import InBatchContrastive
from retrieval_distill.objectives.listwise_kl import ListwiseKL
from retrieval_distill.objectives.margin_mse import MarginMSE


def lists(student, teacher, labels, mask=None, in_batch=None, in_batch_labels=None) -> CandidateLists:
    student = torch.as_tensor(student, dtype=torch.float64)
    in_batch = student if in_batch is None else torch.as_tensor(in_batch, dtype=torch.float64)
    labels = torch.as_tensor(labels, dtype=torch.float64)
    return CandidateLists(
        student,
        torch.as_tensor(teacher, dtype=torch.float64),
        labels,
        torch.ones_like(student, dtype=torch.bool) if mask is None else torch.tensor(mask),
        in_batch,
        labels if in_batch_labels is None else torch.as_tensor(in_batch_labels, dtype=torch.float64),
    )


def test_margin_mse_by_hand():
    # margins of the relevant over the two others: student 2 and 3, teacher 5 and 1 -> ((2-5)^2 + (3-1)^2) / 2
    value = MarginMSE()(lists([[3.0, 1.0, 0.0]], [[4.0, -1.0, 3.0]], [[1, 0, 0]]))
    assert value.item() == pytest.approx((9 + 4) / 2)


def test_margin_mse_does_not_care_where_the_relevant_one_stands():
    first = MarginMSE()(lists([[3.0, 1.0, 0.0]], [[4.0, -1.0, 3.0]], [[1, 0, 0]]))
    last = MarginMSE()(lists([[1.0, 0.0, 3.0]], [[-1.0, 3.0, 4.0]], [[0, 0, 1]]))
    assert first.item() == pytest.approx(last.item())


def test_margin_mse_weighs_every_pair_alike_and_ignores_padding():
    value = MarginMSE()(
        lists(
            [[2.0, 0.0, 99.0], [1.0, 5.0, 0.0]],
            [[1.0, 0.0, -99.0], [0.0, 2.0, 0.0]],
            [[1, 0, 0], [1, 2, 0]],
            [[True, True, False], [True, True, True]],
        )
    )
    # row 1: (2-1)^2; row 2, two relevant over one other: (1-0)^2 and (5-2)^2
    assert value.item() == pytest.approx((1 + 1 + 9) / 3)


def test_margin_mse_equals_the_library():
    torch.manual_seed(0)
    queries, documents = torch.randn(5, 8), [torch.randn(5, 8) for _ in range(4)]
    teacher = torch.randn(5, 4)
    labels = (teacher[:, :1] - teacher[:, 1:]).float()
    expected = MarginMSELoss(torch.nn.Identity()).compute_loss_from_embeddings([queries, *documents], labels)
    student = torch.stack([(queries * document).sum(-1) for document in documents], dim=1)
    ours = MarginMSE()(lists(student, teacher, [[1, 0, 0, 0]] * 5))
    assert ours.item() == pytest.approx(expected.item(), rel=1e-5)


def test_listwise_kl_by_hand():
    teacher, student = [math.log(0.7), math.log(0.2), math.log(0.1)], [math.log(0.5), math.log(0.25), math.log(0.25)]
    expected = 0.7 * math.log(0.7 / 0.5) + 0.2 * math.log(0.2 / 0.25) + 0.1 * math.log(0.1 / 0.25)
    assert ListwiseKL()(lists([student], [teacher], [[1, 0, 0]])).item() == pytest.approx(expected)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_listwise_kl_equals_the_library(temperature):
    torch.manual_seed(0)
    queries, documents = torch.randn(5, 8), [torch.randn(5, 8) for _ in range(4)]
    teacher = torch.randn(5, 4)
    peer = DistillKLDivLoss(torch.nn.Identity(), temperature=temperature)
    expected = peer.compute_loss_from_embeddings([queries, *documents], teacher) / temperature**2
    student = torch.stack([(queries * document).sum(-1) for document in documents], dim=1)
    ours = ListwiseKL(temperature, temperature)(lists(student, teacher, [[1, 0, 0, 0]] * 5))
    assert ours.item() == pytest.approx(expected.item(), rel=1e-5)


def test_listwise_kl_ignores_padding():
    padded = ListwiseKL()(lists([[1.0, 2.0, 50.0]], [[0.5, 0.1, -7.0]], [[1, 0, 0]], [[True, True, False]]))
    assert padded.item() == pytest.approx(ListwiseKL()(lists([[1.0, 2.0]], [[0.5, 0.1]], [[1, 0]])).item())


def test_in_batch_is_cross_entropy_when_each_query_has_one_relevant():
    torch.manual_seed(0)
    scores = torch.randn(4, 6, dtype=torch.float64)
    labels = torch.zeros(4, 6, dtype=torch.float64)
    labels[torch.arange(4), torch.tensor([0, 3, 5, 1])] = 1
    expected = torch.nn.functional.cross_entropy(scores / 0.5, torch.tensor([0, 3, 5, 1]))
    ours = InBatchContrastive(temperature=0.5)(lists(scores, scores, labels, in_batch=scores, in_batch_labels=labels))
    assert ours.item() == pytest.approx(expected.item())


def test_in_batch_takes_other_relevant_ones_out_of_the_denominator():
    value = InBatchContrastive()(lists([[1.0, 2.0, 0.0]], [[0.0] * 3], [[1, 1, 0]]))
    expected = (math.log1p(math.exp(0 - 1.0)) + math.log1p(math.exp(0 - 2.0))) / 2
    assert value.item() == pytest.approx(expected)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_gradients(name):
    torch.manual_seed(0)
    teacher, labels = torch.randn(3, 4), torch.tensor([[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]])
    mask = torch.tensor([[True] * 4, [True] * 4, [True, True, True, False]])
    objective = OBJECTIVES[name]()
    student = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda s: objective(lists_of(s, teacher, labels, mask)), student)
    objective(lists_of(student, teacher, labels, mask)).backward()
    assert student.grad is not None and student.grad.abs().sum() > 0
    if name != "in_batch":
        assert student.grad[2, 3] == 0  # padding never learns


def lists_of(student, teacher, labels, mask) -> CandidateLists:
    return CandidateLists(student, teacher.double(), labels.double(), mask, student, labels.double())


def test_mix_is_the_weighted_sum():
    batch = lists([[3.0, 1.0, 0.0]], [[4.0, -1.0, 3.0]], [[1, 0, 0]])
    total, parts = Mix({"margin_mse": 0.5, "listwise_kl": {"weight": 2.0, "teacher_temperature": 3.0}})(batch)
    assert total.item() == pytest.approx(0.5 * MarginMSE()(batch).item() + 2.0 * ListwiseKL(3.0)(batch).item())
    assert set(parts) == {"margin_mse", "listwise_kl"}


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"margin_mes": 1.0}, "did you mean 'margin_mse'"),
        ({"listwise_kl": {"temperature": 2.0}}, "'temperature' is unknown"),
        ({"margin_mse": 0.0}, "at least one objective"),
    ],
)
def test_bad_mixes(parts, message):
    with pytest.raises(UserError, match=message):
        Mix(parts)
