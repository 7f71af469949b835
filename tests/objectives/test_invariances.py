"""What holds for every objective: padding and places mean nothing, gradients are right, the teacher is the goal."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval_distill.objectives import OBJECTIVES, CandidateLists, Vectors
from retrieval_distill.objectives.adr_mse import ADRMSE
from retrieval_distill.objectives.approx_ndcg import ApproxNDCG
from retrieval_distill.objectives.list_mle import ListMLE
from retrieval_distill.objectives.list_net import ListNet
from retrieval_distill.objectives.listwise_kl import ListwiseKL
from retrieval_distill.objectives.margin_mse import MarginMSE
from retrieval_distill.objectives.rank_net import RankNet
from retrieval_distill.objectives.score_mse import ScoreMSE
from retrieval_distill.objectives.soft_contrastive import SoftContrastive
from tests.objectives.helpers import beyond_scores, lists, ragged

VARIANTS = [
    ("margin_mse", {}),
    ("margin_mse", {"pairs": "all", "teacher_scale": 0.5}),
    ("score_mse", {"teacher_scale": 0.5}),
    ("listwise_kl", {"teacher_temperature": 2.0}),
    ("listwise_kl", {"direction": "reverse", "student_temperature": 2.0}),
    ("listwise_kl", {"direction": "jensen-shannon"}),
    ("list_net", {"teacher_temperature": 2.0, "student_temperature": 0.5}),
    ("list_mle", {}),
    ("list_mle", {"order_by": "labels", "position_weight": "exponential", "temperature": 2.0}),
    ("list_mle", {"position_weight": "logarithmic"}),
    ("rank_net", {"temperature": 2.0}),
    ("rank_net", {"weighting": "lambda"}),
    ("adr_mse", {"temperature": 0.5}),
    ("approx_ndcg", {}),
    ("approx_ndcg", {"gain": "labels", "temperature": 0.5}),
    ("in_batch", {"temperature": 2.0}),
    ("in_batch", {"false_negative_margin": 1.0}),
    ("soft_contrastive", {"hard": 0.3, "teacher_temperature": 2.0, "student_temperature": 0.5}),
    ("in_batch_kl", {"teacher_temperature": 0.5}),
    ("in_batch_kl", {"similarity": "dot", "student_temperature": 2.0}),
    ("embedding", {}),
    ("embedding", {"distance": "euclidean", "of": "queries"}),
    ("embedding", {"distance": "mse", "of": "documents"}),
    ("self_distillation", {"temperature": 2.0}),
]
every_objective = pytest.mark.parametrize(("name", "options"), VARIANTS, ids=lambda value: str(value) or "defaults")

DOCUMENTS = 6
halves = st.integers(-8, 8).map(lambda i: i / 2)  # equal scores are common


@st.composite
def batches(draw) -> CandidateLists:
    """Lists of 1 to 5 candidates out of six documents, grades and scores often equal."""
    queries = draw(st.integers(1, 3))
    sizes = [draw(st.integers(1, 5)) for _ in range(queries)]
    width = max(sizes)

    def numbers(values, columns):
        return torch.tensor([[draw(values) for _ in range(columns)] for _ in range(queries)], dtype=torch.float64)

    positions = torch.tensor([draw(st.permutations(range(DOCUMENTS)))[:width] for _ in range(queries)])
    in_batch, grades = numbers(halves, DOCUMENTS), numbers(st.integers(0, 2), DOCUMENTS)
    mask = torch.arange(width) < torch.tensor(sizes)[:, None]
    student, labels = in_batch.gather(1, positions), grades.gather(1, positions) * mask
    teacher, beyond = numbers(halves, width) * mask, beyond_scores(queries, DOCUMENTS)
    return CandidateLists(student, teacher, labels, mask, in_batch, grades, positions, *beyond)


def rearranged(batch: CandidateLists, order: torch.Tensor, padding: int, rubbish: float) -> CandidateLists:
    """The same lists with their places permuted and columns of padding added that hold rubbish."""
    fill = {
        "student": rubbish,
        "teacher": -rubbish,
        "labels": 3.0,
        "mask": False,
        "positions": 0,
    }
    changed = {
        name: torch.nn.functional.pad(getattr(batch, name).gather(1, order), (0, padding), value=value)
        for name, value in fill.items()
    }
    return dataclasses.replace(batch, **changed)


@every_objective
@settings(max_examples=40)
@given(data=st.data())
def test_padding_and_places_mean_nothing(name, options, data):
    batch = data.draw(batches())
    width = batch.mask.shape[1]
    order = torch.tensor([data.draw(st.permutations(range(width))) for _ in batch.mask])
    other = rearranged(batch, order, data.draw(st.integers(0, 2)), data.draw(st.sampled_from([50.0, -50.0])))
    objective = OBJECTIVES[name](**options)
    assert objective(other).item() == pytest.approx(objective(batch).item(), rel=1e-9, abs=1e-12)


@every_objective
@settings(max_examples=25)
@given(batch=batches(), shift=halves)
def test_the_teachers_level_means_nothing(name, options, batch, shift):
    objective = OBJECTIVES[name](**options)
    shifted = dataclasses.replace(batch, teacher=batch.teacher + shift)
    if name != "score_mse":  # the one that asks for it
        assert objective(shifted).item() == pytest.approx(objective(batch).item(), rel=1e-9, abs=1e-12)


@every_objective
@settings(max_examples=25)
@given(batch=batches())
def test_always_finite_and_padding_never_learns(name, options, batch):
    student, in_batch = batch.student.clone().requires_grad_(), batch.in_batch.clone().requires_grad_()
    value = OBJECTIVES[name](**options)(dataclasses.replace(batch, student=student, in_batch=in_batch))
    (value + 0 * (student.sum() + in_batch.sum())).backward()
    assert value.isfinite()
    assert student.grad.isfinite().all()
    assert in_batch.grad.isfinite().all()
    assert (student.grad[~batch.mask] == 0).all()


@every_objective
def test_gradients(name, options):
    student, teacher, mask = ragged(11, sizes=(5, 3, 4, 1))
    labels = torch.tensor([[1, 0, 2, 0, 0], [0, 1, 0, 0, 0], [0] * 5, [0] * 5], dtype=torch.float64)
    teacher[2, :] = 3.0  # a list of equal scores
    generator = torch.Generator().manual_seed(12)
    in_batch = torch.randn(4, 7, dtype=torch.float64, generator=generator)
    grades = (torch.rand(4, 7, generator=generator) < 0.2).double()
    positions = torch.stack([torch.randperm(7, generator=generator)[:5] for _ in range(4)])

    vectors, teacher_vectors, whole = beyond_scores(4, 7)

    def value(student, in_batch, queries, documents):
        beyond = Vectors(queries, documents), teacher_vectors, whole
        return objective(CandidateLists(student, teacher, labels, mask, in_batch, grades, positions, *beyond))

    objective = OBJECTIVES[name](**options)
    inputs = tuple(t.requires_grad_() for t in (student, in_batch, vectors.queries, vectors.documents))
    assert torch.autograd.gradcheck(value, inputs)
    gradients = torch.autograd.grad(value(*inputs), inputs, allow_unused=True)
    assert sum(gradient.abs().sum() for gradient in gradients if gradient is not None) > 0


@every_objective
def test_equal_teacher_scores_and_empty_rows_are_finite(name, options):
    student = torch.tensor([[1.0, -2.0, 0.5], [3.0, 1.0, 9.0]], dtype=torch.float64, requires_grad=True)
    mask = [[True, True, True], [False, False, False]]
    batch = lists(student, [[2.0] * 3] * 2, [[1, 0, 0], [0] * 3], mask, student.detach())
    value = OBJECTIVES[name](**options)(batch)
    (value + 0 * student.sum()).backward()
    assert value.isfinite()
    assert student.grad.isfinite().all()
    assert student.grad[1].tolist() == [0, 0, 0]


@every_objective
def test_bfloat16_and_float32_students_are_taken(name, options):
    student, teacher, mask = ragged(13)
    labels = torch.zeros_like(teacher)
    labels[:, 1] = 1
    exact = OBJECTIVES[name](**options)(lists(student, teacher, labels, mask)).item()
    single = lists(student, teacher, labels, mask, dtype=torch.float32)
    assert OBJECTIVES[name](**options)(single).item() == pytest.approx(exact, rel=1e-4)
    halved = dataclasses.replace(single, student=single.student.bfloat16(), in_batch=single.in_batch.bfloat16())
    assert OBJECTIVES[name](**options)(halved).item() == pytest.approx(exact, rel=0.1)


# The goal: a student that says what the teacher says.


def gradient(objective, student, teacher, mask, labels=None) -> tuple[float, float]:
    """Value, and the gradient's greatest component."""
    student = student.clone().requires_grad_()
    labels = torch.zeros_like(teacher) if labels is None else labels
    value = objective(lists(student, teacher, labels, mask))
    value.backward()
    return value.item(), student.grad.abs().max().item()


@pytest.mark.parametrize(
    ("objective", "student_of", "minimum"),
    [
        (MarginMSE(0.5), lambda t: 0.5 * t + 3, 0),
        (MarginMSE(0.5, "all"), lambda t: 0.5 * t + 3, 0),
        (ScoreMSE(0.5), lambda t: 0.5 * t, 0),
        (ListwiseKL(2.0, 0.5), lambda t: t / 4 + 3, 0),
        (ListwiseKL(2.0, 0.5, "reverse"), lambda t: t / 4 + 3, 0),
        (ListwiseKL(2.0, 0.5, "jensen-shannon"), lambda t: t / 4 + 3, 0),
        (ListNet(2.0, 0.5), lambda t: t / 4 + 3, None),  # the teacher's entropy, not 0
        (SoftContrastive(0.0, 2.0, 0.5), lambda t: t / 4 + 3, None),
    ],
)
def test_the_teacher_is_the_minimum(objective, student_of, minimum):
    _, teacher, mask = ragged(14, sizes=(5, 5))
    labels = torch.zeros_like(teacher)
    labels[:, 2] = 1
    value, steepest = gradient(objective, student_of(teacher), teacher, mask, labels)
    assert steepest == pytest.approx(0, abs=1e-9)
    if minimum is not None:
        assert value == pytest.approx(minimum, abs=1e-9)
    elsewhere, slope = gradient(objective, -teacher, teacher, mask, labels)
    assert elsewhere > value
    assert slope > 1e-3


@pytest.mark.parametrize(
    "objective",
    [ListMLE(), ListMLE(position_weight="exponential"), RankNet(), RankNet("lambda"), ADRMSE(), ApproxNDCG()],
)
def test_the_teachers_order_is_the_limit(objective):
    """What takes only the order falls towards 0 as a student that agrees grows surer, and rises for one that differs."""
    _, teacher, mask = ragged(15)
    agreeing = [gradient(objective, factor * teacher, teacher, mask)[0] for factor in (0.5, 1, 4, 64, 1024)]
    assert agreeing == sorted(agreeing, reverse=True)
    assert agreeing[-1] == pytest.approx(0, abs=1e-3)
    assert gradient(objective, -teacher, teacher, mask)[0] > gradient(objective, teacher, teacher, mask)[0]


@every_objective
def test_descending_the_gradient_descends_the_objective(name, options):
    student, teacher, mask = ragged(16)
    labels = torch.zeros_like(teacher)
    labels[:, 0] = 1
    objective = OBJECTIVES[name](**options)
    vectors = beyond_scores(*student.shape)[0]

    def value(student, queries, documents):
        return objective(
            dataclasses.replace(lists(student, teacher, labels, mask), vectors=Vectors(queries, documents))
        )

    places = [tensor.requires_grad_() for tensor in (student, vectors.queries, vectors.documents)]
    before = value(*places)
    slopes = torch.autograd.grad(before, places, allow_unused=True)
    moved = [place if slope is None else place - 1e-3 * slope for place, slope in zip(places, slopes, strict=True)]
    assert value(*moved) < before
