"""Agreement with the teacher: by hand, against scipy's definitions and the objective that trains it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from retrieval_distill.data.run import Run
from retrieval_distill.errors import UserError
from retrieval_distill.evaluation import fidelity
from retrieval_distill.evaluation.significance import Mean
from retrieval_distill.objectives.contract import CandidateLists
from retrieval_distill.objectives.listwise_kl import ListwiseKL

DOCS = "abcde"


def run(**scores):
    """A run from one list of scores per query, over documents a, b, c, ..."""
    return Run.from_dict({q: dict(zip(DOCS, map(float, s), strict=False)) for q, s in scores.items()})


def test_by_hand():
    teacher, student = run(q=[3, 2, 1]), run(q=[0.5, 0.9, 0.1])
    row = fidelity.per_query(teacher, student, 1.0, 0.1).loc["q"]
    p, q = np.exp([3, 2, 1]) / np.exp([3, 2, 1]).sum(), np.exp([5, 9, 1]) / np.exp([5, 9, 1]).sum()
    assert row["kl"] == pytest.approx((p * np.log(p / q)).sum())
    assert row["spearman"] == pytest.approx(1 - 6 * (1 + 1) / (3 * 8))  # one pair of neighbours swapped
    assert row["kendall"] == pytest.approx((2 - 1) / 3)
    assert [row[f"overlap@{k}"] for k in (1, 3, 10)] == [0, 1, 1]


def test_perfect_and_reversed():
    teacher = run(u=[5, 4, 3, 2, 1], v=[1, 2, 3, 4, 5])
    same = fidelity.per_query(teacher, teacher, 2.0, 2.0)
    assert same["kl"].tolist() == pytest.approx([0, 0])
    np.testing.assert_allclose(same[["spearman", "kendall", "overlap@1"]], np.ones((2, 3)))
    turned = fidelity.per_query(teacher, run(u=[1, 2, 3, 4, 5], v=[5, 4, 3, 2, 1]), 2.0, 2.0)
    assert turned["kendall"].tolist() == pytest.approx([-1, -1])
    assert turned["overlap@3"].tolist() == pytest.approx([1 / 3, 1 / 3])


def test_the_divergence_is_the_one_that_trains():
    rng = np.random.default_rng(1)
    scores = {f"q{i}": rng.normal(size=(2, 5)) for i in range(8)}
    teacher, student = (run(**{q: both[side] for q, both in scores.items()}) for side in (0, 1))
    agreement = fidelity.per_query(teacher, student, 2.0, 0.05)
    both = torch.tensor(np.stack(list(scores.values())))
    none = torch.zeros(8, 5)
    lists = CandidateLists(both[:, 1], both[:, 0], none, torch.ones(8, 5, dtype=torch.bool), none, none)
    objective = ListwiseKL(teacher_temperature=2.0, student_temperature=0.05)
    assert agreement["kl"].mean() == pytest.approx(float(objective(lists)))


def test_queries_without_a_correlation_are_left_out_of_its_mean():
    teacher, student = run(flat=[1, 1, 1], single=[1], fine=[3, 2, 1]), run(flat=[3, 2, 1], single=[2], fine=[3, 2, 1])
    agreement = fidelity.per_query(teacher, student, 1.0, 1.0)
    assert np.isnan(agreement.loc[["flat", "single"], ["spearman", "kendall"]].to_numpy()).all()
    found = fidelity.summarise(agreement)
    assert found["queries"] == 3
    assert found["kendall"].mean == pytest.approx(1.0)
    assert found["overlap"]["1"] == Mean(1.0, 1.0, 1.0)  # equal scores keep the teacher's order
    assert set(found["overlap"]) == {"1", "3", "10"}
    assert fidelity.summarise(agreement.loc[["flat"]])["kendall"] is None


def test_worst_queries_first():
    teacher = run(near=[3, 2, 1], far=[3, 2, 1], middle=[3, 2, 1])
    student = run(near=[3, 2, 1], far=[1, 2, 3], middle=[2, 3, 1])
    assert fidelity.worst(fidelity.per_query(teacher, student, 1.0, 1.0), 2) == ["far", "middle"]


def test_other_pairs_are_refused():
    with pytest.raises(UserError, match="same pairs"):
        fidelity.per_query(run(q=[1, 2, 3]), run(q=[1, 2]), 1.0, 1.0)
    with pytest.raises(UserError, match="same pairs"):
        fidelity.per_query(run(q=[1, 2]), run(q=[1, 2, 3]), 1.0, 1.0)


def test_gain_and_its_interval():
    rng = np.random.default_rng(2)
    start = rng.random(300)
    teacher, student = start + rng.normal(0.2, 0.3, 300), start + rng.normal(0.15, 0.3, 300)
    found = fidelity.gain({"start": start, "teacher": teacher, "student": student})
    assert found["retention"].mean == pytest.approx(student.mean() / teacher.mean())
    assert found["gain_kept"].mean == pytest.approx((student - start).mean() / (teacher - start).mean())
    # Fieller's interval, by its quadratic, is what the bootstrap comes close to
    x, y = student - start, teacher - start
    cov = np.cov(x, y) / 300
    a, b, c = (
        y.mean() ** 2 - 3.8415 * cov[1, 1],
        x.mean() * y.mean() - 3.8415 * cov[0, 1],
        x.mean() ** 2 - 3.8415 * cov[0, 0],
    )
    low, high = ((b + sign * math.sqrt(b * b - a * c)) / a for sign in (-1, 1))
    assert list(found["gain_kept"].interval) == pytest.approx([low, high], abs=0.06 * (high - low))


def test_a_gain_that_may_be_none_has_no_share():
    rng = np.random.default_rng(3)
    start = rng.random(50)
    found = fidelity.gain({"start": start, "teacher": start + rng.normal(0, 0.3, 50), "student": start})
    assert found["gain_kept"] is None
    assert found["retention"].low < 1 < found["retention"].high
