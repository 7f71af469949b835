"""The gate says what the full measurement would say, and admits what it cannot know."""

from __future__ import annotations

import numpy as np
import pytest

from retrieval_distill.config import TeacherConfig
from retrieval_distill.data.run import Run
from retrieval_distill.errors import UserError
from retrieval_distill.teacher import gate

QRELS = {f"q{i}": {"good": 1} for i in range(30)}
GOOD = Run.from_dict({q: {"good": 2.0, "bad": 1.0} for q in QRELS})
BAD = Run.from_dict({q: {"good": 1.0, "bad": 2.0} for q in QRELS})


class Named:
    description = {"kind": "cross-encoder", "model": "t"}  # noqa: RUF012


def test_a_better_teacher_passes(caplog):
    verdict = gate.judge(GOOD, {"bm25": BAD, "start": BAD}, QRELS, "RR@10")
    against = verdict["against"]["start"]
    assert verdict["better"]
    assert (against["teacher"], against["baseline"], against["difference"]) == (1.0, 0.5, 0.5)
    assert against["p"] < 0.001
    gate.enforce(verdict, "stop", "t")


def test_a_small_sample_says_what_it_could_have_shown():
    rng = np.random.default_rng(1)
    mixed = Run.from_dict({q: {"good": rng.normal(), "bad": rng.normal()} for q in QRELS})
    verdict = gate.judge(mixed, {"start": BAD}, {**QRELS}, "RR@10")
    values = np.array([0.5 if scores["good"] > scores["bad"] else 0.0 for scores in mixed.as_dict().values()])
    expected = (1.959964 + 0.841621) * values.std(ddof=1) / np.sqrt(len(values))
    assert verdict["against"]["start"]["detectable"] == pytest.approx(expected, rel=1e-4)


def test_it_has_to_beat_both():
    verdict = gate.judge(GOOD, {"bm25": GOOD, "start": BAD}, QRELS, "RR@10")
    assert verdict["against"]["start"]["low"] > 0
    assert not verdict["better"]


def test_its_intervals_and_p_values_agree():
    rng = np.random.default_rng(0)
    for _ in range(30):
        ours, theirs = (
            Run.from_dict({q: {"good": rng.normal(shift), "bad": rng.normal()} for q in QRELS}) for shift in (0.9, 0.0)
        )
        found = gate.judge(ours, {"start": theirs}, QRELS, "RR@10")["against"]["start"]
        assert (found["low"] > 0 or found["high"] < 0) == (found["p"] < 0.05)


def test_a_worse_teacher_stops_or_warns(caplog):
    verdict = gate.judge(BAD, {"start": GOOD}, QRELS, "RR@10")
    with pytest.raises(UserError, match=r"start 1\.000 -> 0\.500 .*not shown to be better.*, so nothing is trained"):
        gate.enforce(verdict, "stop", "t")
    gate.enforce(verdict, "warn", "t")
    assert "may learn little" in caplog.text


def test_only_the_order_of_a_baselines_own_documents_is_compared():
    baseline = Run.from_dict({"q0": {"a": 3.0, "b": 2.0}})
    teacher = Run.from_dict({"q0": {"elsewhere": 9.0, "b": 1.0, "a": 0.0}})
    verdict = gate.judge(teacher, {"start": baseline}, {"q0": {"b": 1, "elsewhere": 1}}, "RR@10")
    assert verdict["against"]["start"]["teacher"] == 1.0  # b first, not third, and "elsewhere" is not its affair


def test_union_holds_each_pair_once():
    pairs = gate.union({"x": GOOD, "y": BAD, "z": Run.from_dict({"q0": {"new": 0.1}})}).pairs
    assert len(pairs) == len(set(pairs)) == 61


def test_without_judgements_it_reports_agreement_only(caplog):
    raw = Run.from_dict({f"q{i}": {"a": 1.0, "b": 2.0, "c": 3.0} for i in range(4)})
    same = Run.from_dict({q: {"a": 0.1, "b": 0.2, "c": 0.3} for q in raw.query_ids})
    turned = Run.from_dict({q: {"a": 0.3, "b": 0.2, "c": 0.1} for q in raw.query_ids})
    verdict, _ = gate.decide([Named()], [raw], {"start": same, "bm25": turned}, None, TeacherConfig(), "nDCG@10")
    assert verdict["better"] is None
    assert verdict["against"]["start"] == {"same_first": 1.0, "spearman": pytest.approx(1.0)}
    assert verdict["against"]["bm25"] == {"same_first": 0.0, "spearman": pytest.approx(-1.0)}
    gate.enforce(verdict, "stop", "t")  # not known is no reason to stop
    assert "better here is unknown" in caplog.text


def test_what_is_fitted_is_judged_on_other_queries():
    rng = np.random.default_rng(0)
    raw = Run.from_dict({q: {"good": rng.normal(1), "bad": rng.normal()} for q in QRELS})
    config = TeacherConfig(normalise="temperature")
    verdict, calibration = gate.decide([Named()], [raw], {"start": BAD}, QRELS, config, "RR@10")
    halves = list(QRELS)[::2], list(QRELS)[1::2]
    assert verdict["queries"] == len(halves[1])
    fitted = gate.calibrate([Named()], [raw.select(halves[0])], {q: QRELS[q] for q in halves[0]}, config)
    assert calibration == fitted
    assert calibration.members[0].temperature != 1.0


def test_fitting_without_judgements_is_refused():
    raw = Run.from_dict({"q0": {"a": 1.0, "b": 2.0}})
    with pytest.raises(UserError, match="dev"):
        gate.decide([Named()], [raw], {"start": raw}, None, TeacherConfig(normalise="temperature"), "nDCG@10")
