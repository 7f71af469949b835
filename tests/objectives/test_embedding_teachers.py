"""Objectives of embedding teachers and of the student's own whole vectors: against the library's and by hand."""

from __future__ import annotations

import dataclasses
import math
from types import SimpleNamespace

import pytest
import torch
from sentence_transformers.sentence_transformer.losses import EmbedDistillLoss

from retrieval_distill.objectives import Vectors
from retrieval_distill.objectives.embedding import EmbeddingDistillation
from retrieval_distill.objectives.in_batch_kl import InBatchKL
from retrieval_distill.objectives.self_distillation import SelfDistillation
from tests.objectives.helpers import lists


def with_vectors(student: Vectors | None = None, teacher: Vectors | None = None, in_batch=((0.0, 0.0, 0.0),), **more):
    batch = lists([[0.0, 0.0]], [[0.0, 0.0]], [[1, 0]], in_batch=in_batch, in_batch_labels=[[1, 0, 0]])
    return dataclasses.replace(batch, vectors=student, teacher_vectors=teacher, **more)


def vectors(queries, documents) -> Vectors:
    return Vectors(torch.tensor(queries, dtype=torch.float64), torch.tensor(documents, dtype=torch.float64))


@pytest.mark.parametrize(("ours", "theirs"), [("cosine", "cosine"), ("euclidean", "l2"), ("mse", "mse")])
def test_distances_are_the_librarys(ours, theirs):
    generator = torch.Generator().manual_seed(0)
    student, teacher = (
        Vectors(*(torch.randn(rows, 5, generator=generator, dtype=torch.float64) for rows in (3, 7))) for _ in range(2)
    )
    library = EmbedDistillLoss(SimpleNamespace(), distance_metric=theirs)
    value = EmbeddingDistillation(ours)(with_vectors(student, teacher))
    expected = library.compute_loss_from_embeddings(
        [student.queries, student.documents], [teacher.queries, teacher.documents]
    )
    assert value.item() == pytest.approx(expected.item(), rel=1e-12)


def test_one_side_alone():
    student, teacher = vectors([[3.0, 0.0]], [[0.0, 2.0]]), vectors([[0.0, 4.0]], [[0.0, 1.0]])
    batch = with_vectors(student, teacher)
    assert EmbeddingDistillation("euclidean", "queries")(batch).item() == pytest.approx(5.0)
    assert EmbeddingDistillation("euclidean", "documents")(batch).item() == pytest.approx(1.0)
    assert EmbeddingDistillation("cosine")(batch).item() == pytest.approx((1 - 0 + 1 - 1) / 2)


def test_dual_supervision_by_hand():
    teacher = vectors([[1.0, 0.0]], [[2.0, 0.0], [0.0, 5.0], [-1.0, 0.0]])  # cosines 1, 0, -1; products 2, 0, -1
    batch = with_vectors(teacher=teacher, in_batch=[[1.0, 0.0, 0.0]])
    for similarity, values in (("cosine", (1, 0, -1)), ("dot", (2, 0, -1))):
        p = [math.exp(value / 0.5) for value in values]
        q = [math.exp(value / 2.0) for value in (1, 0, 0)]
        expected = sum(a / sum(p) * math.log((a / sum(p)) / (b / sum(q))) for a, b in zip(p, q, strict=True))
        value = InBatchKL(teacher_temperature=0.5, student_temperature=2.0, similarity=similarity)(batch)
        assert value.item() == pytest.approx(expected, rel=1e-12)


def test_a_view_learns_from_the_whole_by_hand():
    batch = with_vectors(in_batch=[[0.0, 0.0, 0.0]], whole=torch.tensor([[math.log(4), 0.0, 0.0]], dtype=torch.float64))
    p = [4 / 6, 1 / 6, 1 / 6]
    assert SelfDistillation()(batch).item() == pytest.approx(sum(a * math.log(3 * a) for a in p), rel=1e-12)
    p = [2 / 4, 1 / 4, 1 / 4]  # the square root of 4 at temperature 2
    assert SelfDistillation(2.0)(batch).item() == pytest.approx(sum(a * math.log(3 * a) for a in p), rel=1e-12)


@pytest.mark.parametrize("objective", [InBatchKL(0.5, 1.0), SelfDistillation(0.5)])
def test_the_teacher_is_the_minimum(objective):
    teacher = vectors([[1.0, 0.0]], [[1.0, 0.0], [0.6, 0.8], [-1.0, 0.0]])
    similarities = torch.tensor([[1.0, 0.6, -1.0]], dtype=torch.float64)
    reached = similarities / 0.5 if isinstance(objective, InBatchKL) else similarities
    at_goal = with_vectors(teacher=teacher, in_batch=reached + 3.0, whole=similarities)
    assert objective(at_goal).item() == pytest.approx(0, abs=1e-12)
    assert objective(dataclasses.replace(at_goal, in_batch=-reached)).item() > 0.1
