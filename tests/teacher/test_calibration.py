"""Calibration against hand-computed lists, scipy's own z-scores and ranks, and parameters that are known beforehand."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import check_grad
from scipy.special import expit, log_softmax
from scipy.stats import rankdata, zscore

from retrieval_distill.data.run import Run
from retrieval_distill.errors import UserError
from retrieval_distill.objectives import CandidateLists
from retrieval_distill.objectives.margin_mse import MarginMSE
from retrieval_distill.teacher.calibration.calibration import (
    Calibration,
    Member,
    combine,
    fit_temperature,
    fit_weights,
    is_squashed,
    normalise,
    unsquash,
)
from retrieval_distill.teacher.calibration.fit_parameters import JudgedLists
from retrieval_distill.teacher.calibration.normalise import NORMALISATIONS
from retrieval_distill.training.groups import build_groups

scores_of_a_list = st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=12)
lists_of_scores = st.lists(scores_of_a_list, min_size=1, max_size=5)


def run_of(lists) -> Run:
    """Query ``qi`` with documents ``d0``, ``d1``, ... under these scores."""
    return Run.from_dict({f"q{q}": {f"d{d}": float(s) for d, s in enumerate(row)} for q, row in enumerate(lists)})


def lists_of(run: Run) -> list[list[float]]:
    """The reverse: scores by query and document number."""
    return [[docs[f"d{d}"] for d in range(len(docs))] for docs in run.as_dict().values()]


def drawn(scores: np.ndarray, seed: int):
    """One relevant document per query, drawn from softmax(scores) over its list."""
    chosen = (scores + np.random.default_rng(seed).gumbel(size=scores.shape)).argmax(axis=1)
    return {f"q{q}": {f"d{d}": 1} for q, d in enumerate(chosen)}


def likelihood(scores: np.ndarray, qrels) -> float:
    """Mean log-likelihood of the one relevant document per query, from scipy's softmax."""
    rows = log_softmax(scores, axis=1)
    return float(np.mean([rows[int(q[1:]), int(next(iter(docs))[1:])] for q, docs in qrels.items()]))


BY_HAND = [[4.0, 1.0, 1.0], [7.0, 7.0], [-3.0]]


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("none", BY_HAND),
        # mean 2, deviations 2, -1, -1, population variance 6 / 3
        ("z-score", [[math.sqrt(2), -math.sqrt(0.5), -math.sqrt(0.5)], [0.0, 0.0], [0.0]]),
        ("min-max", [[1.0, 0.0, 0.0], [0.5, 0.5], [0.5]]),
        # ranks 1, 2.5, 2.5 of 3
        ("rank", [[1.0, 0.25, 0.25], [0.5, 0.5], [0.5]]),
        ("temperature", [[2.0, 0.5, 0.5], [3.5, 3.5], [-1.5]]),
    ],
)
def test_normalise_by_hand(how, expected):
    for ours, theirs in zip(lists_of(normalise(run_of(BY_HAND), how, 2.0)), expected, strict=True):
        assert ours == pytest.approx(theirs)


@given(lists_of_scores)
def test_rank_equals_scipy(lists):
    for ours, row in zip(lists_of(normalise(run_of(lists), "rank")), lists, strict=True):
        expected = (len(row) - rankdata(-np.array(row))) / (len(row) - 1) if len(row) > 1 else [0.5]
        assert ours == pytest.approx(expected)


@given(lists_of_scores)
def test_z_score_equals_scipy(lists):
    for ours, row in zip(lists_of(normalise(run_of(lists), "z-score")), lists, strict=True):
        assert np.mean(ours) == pytest.approx(0, abs=1e-6)
        if len(set(row)) == 1:
            assert ours == [0.0] * len(row)
        elif np.ptp(row) > 1e-3 * np.abs(row).max():  # below, the two ways of summing part in their last digits
            assert ours == pytest.approx(zscore(row), abs=1e-6)


@pytest.mark.parametrize("how", NORMALISATIONS)
@given(lists=lists_of_scores)
def test_no_order_is_turned(how, lists):
    for ours, row in zip(lists_of(normalise(run_of(lists), how, 3.0)), lists, strict=True):
        assert np.isfinite(ours).all()
        assert (np.diff(np.array(ours)[np.argsort(row, kind="stable")]) >= 0).all()


@given(st.lists(st.lists(st.integers(-1000, 1000), min_size=1, max_size=12), min_size=1, max_size=5))
def test_rank_sees_the_order_only(lists):
    monotone = [[float(score) ** 3 / 7 + 5 for score in row] for row in lists]
    assert normalise(run_of(lists), "rank").as_dict() == normalise(run_of(monotone), "rank").as_dict()


def test_constant_lists_of_inexact_mean_stay_constant():
    # three times 0.1 sum to a little more than 0.3; scaled by their spread, that would look like information
    assert lists_of(normalise(run_of([[0.1] * 3]), "z-score")) == [[0.0] * 3]


def test_unknown_names_and_bad_temperatures():
    with pytest.raises(UserError, match="did you mean 'z-score'"):
        normalise(run_of(BY_HAND), "zscore")
    with pytest.raises(UserError, match="must be above 0"):
        normalise(run_of(BY_HAND), "temperature", 0.0)
    with pytest.raises(UserError, match="must be above 0"):
        Member("temperature", temperature=-1.0)


def test_an_empty_run():
    empty = Run.from_columns([], [], [])
    assert all(len(normalise(empty, how)) == 0 for how in NORMALISATIONS)
    assert not is_squashed(empty)


@pytest.mark.parametrize("true_temperature", [0.25, 1.0, 8.0])
def test_the_temperature_that_drew_the_judgements_is_found(true_temperature):
    scores = np.random.default_rng(0).normal(0, 3 * true_temperature, (6000, 8))
    qrels = drawn(scores / true_temperature, 1)
    # the error of a maximum-likelihood estimate of 1/T is about 1 / (spread of scores / T * sqrt(queries))
    assert fit_temperature(run_of(scores), qrels) == pytest.approx(true_temperature, rel=0.05)


def test_logits_k_times_as_large_have_a_temperature_k_times_as_large():
    scores = np.random.default_rng(0).normal(0, 2, (300, 6))
    qrels = drawn(scores / 1.5, 1)
    temperature = fit_temperature(run_of(scores), qrels)
    assert fit_temperature(run_of(scores * 1024), qrels) == temperature * 1024  # a power of 2 rounds nothing
    assert fit_temperature(run_of(scores * 1e-4), qrels) == pytest.approx(temperature * 1e-4, rel=1e-6)
    assert fit_temperature(run_of(scores + 50), qrels) == pytest.approx(temperature, rel=1e-6)


def test_temperature_by_hand():
    # scores 1 and 0, the first relevant in two queries of three: its probability is 2 / 3 where 1 / T = log 2
    run = run_of([[1.0, 0.0]] * 3)
    qrels = {"q0": {"d0": 1}, "q1": {"d0": 2}, "q2": {"d1": 1, "d0": 0}}
    assert fit_temperature(run, qrels) == pytest.approx(1 / math.log(2), rel=1e-3)


def test_several_relevant_documents_share_the_target():
    # half of the target on a score of 2, half on 0: the likelihood's gradient in 1/T is 1 - sum p s, p over 2, 0 and -1
    run, qrels = run_of([[2.0, 0.0, -1.0]]), {"q0": {"d0": 1, "d1": 1}}
    odds = np.exp(np.array([2.0, 0.0, -1.0]) / fit_temperature(run, qrels))
    assert odds @ [2.0, 0.0, -1.0] / odds.sum() == pytest.approx(1.0, abs=1e-3)


def test_queries_that_say_nothing_are_left_out():
    useless = [[5.0, 1.0], [9.0, 2.0], [3.0, 0.0]]
    qrels = {"q0": {"d0": 1}, "q1": {"d0": 1}, "q2": {"d1": 1}}
    run = run_of([[1.0, 0.0]] * 3 + useless)
    everything, nothing = {"q3": {"d0": 1, "d1": 1}}, {"q4": {"d0": 0}, "q5": {"elsewhere": 1}}
    assert fit_temperature(run, {**qrels, **everything, **nothing}) == pytest.approx(1 / math.log(2), rel=1e-3)
    for unusable in ({}, everything, nothing):
        with pytest.raises(UserError, match="no judged query has both"):
            fit_temperature(run, unusable)


def test_a_perfect_teacher_gets_a_moderate_temperature():
    # the likelihood alone would go on rising as T falls to 0
    run, qrels = run_of([[20.0, 10.0]] * 4), {f"q{q}": {"d0": 1} for q in range(4)}
    temperature = fit_temperature(run, qrels)
    assert 0.5 < temperature < 5
    assert fit_weights([run], qrels) == pytest.approx([1 / temperature], rel=1e-3)


def test_a_reversed_or_constant_teacher_has_no_temperature(caplog):
    qrels = {"q0": {"d0": 1}}
    assert fit_temperature(run_of([[1.0, 2.0]]), qrels) > 100
    assert "do not score higher" in caplog.text
    with pytest.raises(UserError, match="the same score"):
        fit_temperature(run_of([[0.1, 0.1, 0.1]]), qrels)


def test_one_weight_is_one_over_the_temperature():
    scores, qrels = members(10, 300, [0.7])
    assert fit_weights([run_of(scores[0])], qrels) == pytest.approx(
        [1 / fit_temperature(run_of(scores[0]), qrels)], rel=1e-4
    )


def members(seed: int, queries: int, true_weights) -> tuple[list[np.ndarray], dict]:
    """Independent members, and judgements drawn from their weighted sum."""
    rng = np.random.default_rng(seed)
    scores = [rng.normal(size=(queries, 8)) for _ in true_weights]
    return scores, drawn(sum(w * s for w, s in zip(true_weights, scores, strict=True)), seed + 1)


def test_known_weights_are_found():
    scores, qrels = members(0, 6000, [2.0, 0.5, 0.0])
    # standard errors are about 1 / sqrt(queries), a good 0.02 with softmax's variance
    assert fit_weights([run_of(s) for s in scores], qrels) == pytest.approx([2.0, 0.5, 0.0], abs=0.08)


def test_weights_on_other_scales_are_scaled():
    scores, qrels = members(0, 400, [2.0, 0.5])
    plain = fit_weights([run_of(s) for s in scores], qrels)
    scaled = fit_weights([run_of(scores[0] * 1000), run_of(scores[1] / 60 + 3)], qrels)
    assert scaled * [1000, 1 / 60] == pytest.approx(plain, rel=1e-4)


@pytest.mark.parametrize("seed", range(5))
def test_fitted_weights_beat_equal_ones_and_every_member_alone(seed):
    scores, qrels = members(seed, 60, [1.0, 0.3, 0.0])
    weights = fit_weights([run_of(s) for s in scores], qrels)

    def value(w):
        return likelihood(sum(x * s for x, s in zip(w, scores, strict=True)), qrels)

    others = [[scale / 3] * 3 for scale in (0.5, 1, 2, 4)]
    others += [[scale * (i == j) for j in range(3)] for i in range(3) for scale in (0.5, 1, 2, 4)]
    assert (weights >= 0).all()
    assert value(weights) >= max(map(value, others)) - 1e-3  # the ridge may cost this much


def test_the_gradient():
    scores, qrels = members(3, 40, [1.0, 0.5, 0.2])
    qrels["q0"] = {"d0": 1, "d3": 2, "d7": 0}
    lists = JudgedLists.of([run_of(s * 5) for s in scores], qrels)
    for point in np.random.default_rng(0).normal(size=(5, 3)):
        for function in (lists.loss, lists.penalised_loss):
            assert check_grad(lambda w, f=function: f(w)[0], lambda w, f=function: f(w)[1], point) < 1e-6


def test_the_loss_is_the_likelihood():
    scores, qrels = members(4, 30, [1.0, 0.5])
    lists = JudgedLists.of([run_of(s) for s in scores], qrels)
    weights = np.array([0.7, 1.3])
    expected = -likelihood(0.7 * scores[0] + 1.3 * scores[1], qrels)
    assert lists.loss(weights * lists.units)[0] == pytest.approx(expected)
    far = lists.loss(weights * 1e6)  # odds far beyond what a float holds
    assert np.isfinite(far[0]) and np.isfinite(far[1]).all()


def test_equal_members_share_evenly():
    scores, qrels = members(5, 300, [1.0])
    alone = fit_weights([run_of(scores[0])], qrels)
    both = fit_weights([run_of(scores[0])] * 2, qrels)
    assert both[0] == pytest.approx(both[1], rel=1e-6)
    assert both.sum() == pytest.approx(alone[0], rel=1e-2)


def test_members_that_say_nothing(caplog):
    scores, qrels = members(6, 200, [2.0])
    useful, constant, reverse = run_of(scores[0]), run_of(np.full((200, 8), 0.1)), run_of(-scores[0])
    weights = fit_weights([useful, constant, reverse], qrels)
    assert weights[0] > 1 and weights[1] == 0 and weights[2] == 0
    assert fit_weights([constant, reverse], qrels).tolist() == [0.5, 0.5]
    assert "equal weights" in caplog.text


def test_a_perfect_ranking_gets_no_infinite_weight():
    weights = fit_weights(
        [run_of([[1.0, 0.0]] * 4), run_of([[0.0, 1.0], [1.0, 0.0]] * 2)], {"q0": {"d0": 1}, "q1": {"d0": 1}}
    )
    assert 1 < weights[0] < 100


def test_combine_goes_by_id():
    first = Run.from_dict({"q1": {"a": 1.0, "b": 2.0}, "q0": {"a": 3.0, "c": 4.0}})
    second = Run.from_columns(["q0", "q1", "q0", "q1"], ["c", "b", "a", "a"], [10.0, 20.0, 30.0, 40.0])
    both = combine([first, second], [1.0, 0.5])
    assert both.as_dict() == {"q1": {"a": 21.0, "b": 12.0}, "q0": {"a": 18.0, "c": 9.0}}
    assert both.query_ids == first.query_ids
    assert combine([second, first], [0.5, 1.0]).as_dict() == both.as_dict()
    shuffled = Run(second.frame.iloc[[2, 0, 3, 1]])
    assert combine([first, shuffled], [1.0, 0.5]).frame.equals(both.frame)


@pytest.mark.parametrize(
    "other", [{"q0": {"a": 1.0}}, {"q0": {"a": 1.0, "c": 1.0}}, {"q0": {"a": 1.0, "b": 1.0, "c": 1.0}}]
)
def test_different_pairs(other):
    run = Run.from_dict({"q0": {"a": 1.0, "b": 2.0}})
    with pytest.raises(UserError, match="different pairs"):
        combine([run, Run.from_dict(other)], [1.0, 1.0])
    with pytest.raises(UserError, match="different pairs"):
        fit_weights([run, Run.from_dict(other)], {"q0": {"a": 1}})


def test_what_looks_squashed():
    logits = np.random.default_rng(0).normal(0, 4, (10, 10))
    assert is_squashed(run_of(expit(logits)))
    assert not is_squashed(run_of(logits))
    assert not is_squashed(run_of(expit(logits[:1])))  # 10 pairs
    assert not is_squashed(run_of(logits > 0))  # grades
    assert not is_squashed(run_of(np.round(expit(logits), 1)))  # 11 grades


@given(st.lists(st.floats(-8, 8), min_size=1, max_size=60, unique=True))
def test_undoing_a_sigmoid(logits):
    # the store keeps float32: near 1 that is 6e-8 apart, which is 2e-4 of a logit of 8
    squeezed = expit(np.array(logits)).astype(np.float32)
    if np.unique(squeezed, return_counts=True)[1].max() <= 2:
        assert lists_of(unsquash(run_of([squeezed])))[0] == pytest.approx(logits, abs=1e-3)


def test_a_lost_order_cannot_be_restored():
    logits = np.random.default_rng(0).normal(0, 4, 1000)
    scores = expit(logits)
    few = np.where(np.arange(1000) < 10, 1.0, scores)
    assert np.isfinite(unsquash(run_of([few])).frame["score"]).all()
    for many in (np.where(np.arange(1000) < 11, 1.0, scores), np.where(np.arange(1000) < 11, 0.0, scores)):
        with pytest.raises(UserError, match=r"11 of 1,000 are 0 or 1 .* raw logits"):
            unsquash(run_of([many]))
    with pytest.raises(UserError, match="share one value"):
        unsquash(run_of([np.round(expit(logits / 4), 2)]))
    with pytest.raises(UserError, match="outside 0 to 1"):
        unsquash(run_of([logits]))


def test_two_copies_of_a_text_lose_no_order():
    unsquash(run_of([[0.9, 0.9, 0.1, 0.2]]))


def test_squashed_scores_are_undone_kept_or_refused(caplog):
    logits = np.random.default_rng(0).normal(0, 3, (20, 5))
    raw, squeezed = run_of(logits), run_of(expit(logits))
    undone = Calibration.fit([squeezed], None, ["none"], None, "undo")
    assert undone.members == (Member(unsquash=True),)
    assert np.abs(undone.apply([squeezed]).frame["score"] - raw.frame["score"]).max() < 1e-3
    assert "which is undone" in caplog.text
    assert Calibration.fit([squeezed], None, ["none"], None, "keep").apply([squeezed]).frame.equals(squeezed.frame)
    with pytest.raises(UserError, match=r"squashed by a sigmoid.*identity activation"):
        Calibration.fit([squeezed], None, ["none"], None, "refuse")
    assert Calibration.fit([raw], None, ["none"], None, "refuse").apply([raw]).frame.equals(raw.frame)
    mixed = Calibration.fit([squeezed, squeezed], None, ["rank", "rank"], [1, 1], ["keep", "undo"])
    assert [member.unsquash for member in mixed.members] == [False, True]
    with pytest.raises(UserError, match="did you mean 'undo'"):
        Calibration.fit(None, None, ["none"], None, "undone")


def test_saturation_is_said_when_fitting():
    scores = np.where(np.arange(100) < 60, 1.0, np.linspace(0.1, 0.9, 100))
    with pytest.raises(UserError, match=r"teacher 2 of 2: .* 60 of 100"):
        Calibration.fit([run_of([np.arange(100)]), run_of([scores])], None, ["none", "none"], [1, 1], "undo")


def test_fitting_settles_what_is_asked_for():
    scores, qrels = members(7, 400, [2.0, 1.0])
    runs = [run_of(scores[0] * 10), run_of(scores[1])]
    fitted = Calibration.fit(runs, qrels, ["temperature", "z-score"], None, "undo")
    first, second = fitted.members
    assert first.temperature == fit_temperature(runs[0], qrels)
    assert second.temperature == 1.0
    normalised = [normalise(runs[0], "temperature", first.temperature), normalise(runs[1], "z-score")]
    weights = fit_weights(normalised, qrels)
    assert [first.weight, second.weight] == weights.tolist()
    assert fitted.apply(runs).frame.equals(combine(normalised, weights).frame)
    given_weights = Calibration.fit(runs, qrels, ["temperature", "z-score"], [3, 1], "undo")
    assert [member.weight for member in given_weights.members] == [3.0, 1.0]
    assert given_weights.members[0].temperature == first.temperature


def test_one_member_alone_weighs_one():
    scores, qrels = members(8, 50, [2.0])
    run = run_of(scores[0])
    assert Calibration.fit([run], qrels, ["none"], None, "undo") == Calibration((Member(),))
    assert Calibration((Member(),)).apply([run]).frame.equals(run.frame)


def test_calibration_is_a_json_value():
    calibration = Calibration((Member("temperature", 2.5, 0.75, True), Member("rank", weight=0.25)))
    assert Calibration.from_json(json.loads(json.dumps(calibration.to_json()))) == calibration
    scores, qrels = members(9, 50, [2.0, 1.0])
    fitted = Calibration.fit([run_of(s) for s in scores], qrels, ["temperature", "none"], None, "undo")
    assert Calibration.from_json(json.loads(json.dumps(fitted.to_json()))) == fitted


@pytest.mark.parametrize(
    ("normalise_", "weights"), [(["temperature"], None), (["none", "none"], None), (["none", "temperature"], [1, 1])]
)
def test_fitting_needs_a_dev_split(normalise_, weights):
    run = run_of(BY_HAND)
    for runs, qrels in ((None, None), ([], {}), ([run] * len(normalise_), {}), ([run] * len(normalise_), None)):
        with pytest.raises(UserError, match="dev split"):
            Calibration.fit(runs, qrels, normalise_, weights, "undo")


def test_nothing_to_fit_needs_nothing():
    calibration = Calibration.fit(None, None, ["z-score", "rank"], [1.0, 2.0], "refuse")
    assert calibration == Calibration((Member("z-score"), Member("rank", weight=2.0)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((["none"], [1.0, 2.0], "undo"), "weights: 2 given for 1"),
        ((["none", "none"], [1.0, 2.0], ["undo"]), "squashed: 1 given for 2"),
        ((["none", "none"], [0.0, 0.0], "undo"), "at least one must be above 0"),
        ((["none", "none"], [1.0, -1.0], "undo"), "weight -1.0 at least 0"),
        ((["none", "min-mix"], [1.0, 1.0], "undo"), "did you mean 'min-max'"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(UserError, match=message):
        Calibration.fit(None, None, *options)


def test_objectives_see_the_calibrated_score():
    raw = [Run.from_dict({"q0": {"good": 6.0, "bad": 2.0}}), Run.from_dict({"q0": {"bad": 0.25, "good": 0.5}})]
    calibrated = Calibration((Member("temperature", 4.0), Member(weight=2.0))).apply(raw)
    (group,) = build_groups(calibrated, {"q0": {"good": 1}})
    assert dict(zip(group.doc_ids, group.scores, strict=True)) == {"good": 6 / 4 + 2 * 0.5, "bad": 2 / 4 + 2 * 0.25}
    student, labels = torch.zeros(1, 2), torch.tensor([group.grades], dtype=torch.float32)
    lists = CandidateLists(student, torch.tensor([group.scores]), labels, student == 0, student, labels)
    assert MarginMSE()(lists).item() == pytest.approx((2.5 - 1.0) ** 2)  # raw margins are 4 and 0.25
