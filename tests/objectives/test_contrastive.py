"""In-batch objectives against torch's cross-entropy and by hand."""

from __future__ import annotations

import math

import pytest
import torch

from retrieval_distill.objectives.in_batch import InBatchContrastive
from retrieval_distill.objectives.list_net import ListNet
from retrieval_distill.objectives.soft_contrastive import SoftContrastive
from tests.objectives.helpers import lists, ragged

POSITIONS = [[0, 1, 2], [3, 4, 0]]
"""Two queries' candidates among five documents; document 0 stands in both lists."""


def shared(seed=0, labels=((1, 0, 0), (1, 0, 0)), teacher=((5.0, 4.5, 1.0), (3.0, -2.0, 3.5)), in_batch_labels=None):
    """Two queries over five documents."""
    in_batch = torch.randn(2, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    positions, labels = torch.tensor(POSITIONS), torch.tensor(labels, dtype=torch.float64)
    if in_batch_labels is None:
        in_batch_labels = torch.zeros(2, 5, dtype=torch.float64).scatter(1, positions, labels)
    return lists(in_batch.gather(1, positions), teacher, labels, None, in_batch, in_batch_labels, positions=positions)


def info_nce(scores, relevant, negatives):
    return -math.log(math.exp(scores[relevant]) / sum(math.exp(scores[i]) for i in (relevant, *negatives)))


def test_false_negatives_leave_the_denominator():
    batch = shared()
    rows = batch.in_batch.tolist()
    # query 0: 4.5 is within 1 of 5.0, document 1 leaves; query 1: 3.5 is above 3.0, document 0 leaves
    expected = (info_nce(rows[0], 0, [2, 3, 4]) + info_nce(rows[1], 3, [1, 2, 4])) / 2
    assert InBatchContrastive(false_negative_margin=1.0)(batch).item() == pytest.approx(expected)
    # a margin of 0.1 keeps document 1 of query 0
    expected = (info_nce(rows[0], 0, [1, 2, 3, 4]) + info_nce(rows[1], 3, [1, 2, 4])) / 2
    assert InBatchContrastive(false_negative_margin=0.1)(batch).item() == pytest.approx(expected)
    # off: all stay
    expected = (info_nce(rows[0], 0, [1, 2, 3, 4]) + info_nce(rows[1], 3, [0, 1, 2, 4])) / 2
    assert InBatchContrastive()(batch).item() == pytest.approx(expected)


def test_false_negatives_do_not_learn():
    batch = shared()
    in_batch = batch.in_batch.clone().requires_grad_()
    batch = lists(batch.student, batch.teacher, batch.labels, None, in_batch, batch.in_batch_labels, POSITIONS)
    InBatchContrastive(false_negative_margin=1.0)(batch).backward()
    assert (in_batch.grad == 0).nonzero().tolist() == [[0, 1], [1, 0]]


def test_with_several_relevant_the_lowest_decides():
    batch = shared(labels=((1, 0, 1), (1, 0, 0)))  # query 0: relevant at 5.0 and 1.0; 4.5 lies above the lower one
    rows = batch.in_batch.tolist()
    expected = (info_nce(rows[0], 0, [3, 4]) + info_nce(rows[0], 2, [3, 4]) + info_nce(rows[1], 3, [1, 2, 4])) / 3
    assert InBatchContrastive(false_negative_margin=0.0)(batch).item() == pytest.approx(expected)


def test_a_relevant_document_outside_the_list_masks_nothing():
    """Its teacher score is not known, so there is nothing to compare with."""
    in_batch_labels = torch.tensor([[0, 0, 0, 0, 1.0], [0, 0, 0, 0, 0]])
    batch = shared(labels=((0, 0, 0), (0, 0, 0)), in_batch_labels=in_batch_labels)
    expected = info_nce(batch.in_batch[0].tolist(), 4, [0, 1, 2, 3])
    assert InBatchContrastive(false_negative_margin=99.0)(batch).item() == pytest.approx(expected)


def test_padding_is_no_false_negative():
    batch = shared()
    masked = lists(
        batch.student, batch.teacher, batch.labels, [[True, False, True]] * 2, batch.in_batch, batch.in_batch_labels,
        POSITIONS,
    )  # fmt: skip
    rows = batch.in_batch.tolist()
    expected = (info_nce(rows[0], 0, [1, 2, 3, 4]) + info_nce(rows[1], 3, [1, 2, 4])) / 2
    assert InBatchContrastive(false_negative_margin=1.0)(masked).item() == pytest.approx(expected)


def test_a_query_without_any_negative_left_adds_nothing():
    scores = torch.tensor([[1.0, 2.0]], dtype=torch.float64, requires_grad=True)
    value = InBatchContrastive(false_negative_margin=9.0)(lists(scores, [[3.0, 3.0]], [[1, 0]]))
    value.backward()
    assert value.item() == 0
    assert scores.grad.tolist() == [[0, 0]]


def test_false_negatives_need_positions():
    batch = shared()
    without = type(batch)(batch.student, batch.teacher, batch.labels, batch.mask, batch.in_batch, batch.in_batch_labels)
    InBatchContrastive()(without)
    with pytest.raises(ValueError, match="positions"):
        InBatchContrastive(false_negative_margin=1.0)(without)


def test_hard_targets_alone_are_info_nce():
    batch = shared()
    for temperature in (1.0, 0.5):
        ours = SoftContrastive(hard=1.0, student_temperature=temperature)(batch)
        assert ours.item() == pytest.approx(InBatchContrastive(temperature)(batch).item())


def test_soft_targets_alone_are_list_net_when_the_list_is_the_step():
    student, teacher, _ = ragged(0, sizes=(5,))
    batch = lists(student, teacher, [[0, 0, 1, 0, 0]])
    assert SoftContrastive(0.0, 2.0, 3.0)(batch).item() == pytest.approx(ListNet(2.0, 3.0)(batch).item())


def test_soft_contrastive_is_cross_entropy_with_mixed_targets():
    batch = shared()
    soft = torch.softmax(batch.teacher / 2.0, dim=1)
    targets = 0.3 * batch.in_batch_labels + 0.7 * torch.zeros(2, 5).double().scatter(1, batch.positions, soft)
    expected = torch.nn.functional.cross_entropy(batch.in_batch / 0.5, targets)
    assert SoftContrastive(0.3, 2.0, 0.5)(batch).item() == pytest.approx(expected.item())


def test_soft_contrastive_without_a_relevant_candidate_learns_from_the_teacher():
    batch = shared(labels=((0, 0, 0), (0, 0, 0)))
    assert SoftContrastive(0.25)(batch).item() == pytest.approx(0.75 * SoftContrastive(0.0)(batch).item())


def test_soft_contrastive_keeps_relevant_documents_of_other_lists_out_of_the_denominator():
    relevant_elsewhere = torch.tensor([[1.0, 0, 0, 0, 1], [0, 0, 0, 1, 0]])
    batch = shared(in_batch_labels=relevant_elsewhere)
    rows = batch.in_batch.tolist()
    expected = (info_nce(rows[0], 0, [1, 2, 3]) + info_nce(rows[1], 3, [0, 1, 2, 4])) / 2
    assert SoftContrastive(hard=1.0)(batch).item() == pytest.approx(expected)
