"""Runs that do not fit their judgements: named and counted, or refused."""

from __future__ import annotations

import pytest

from retrieval_distill.data.run import Run
from retrieval_distill.errors import UserError
from retrieval_distill.evaluation.checks import check_run
from retrieval_distill.evaluation.compare import per_query
from retrieval_distill.evaluation.measures import DEFAULT_MEASURES, evaluate

QRELS = {"q1": {"a": 1, "b": 0}, "q2": {"b": 2}, "unused": {}}
FITTING = Run.from_dict({"q1": {"a": 2.0, "b": 1.0}, "q2": {"b": 1.0}})


def test_a_fitting_run_says_nothing(caplog):
    assert set(check_run("mine", FITTING, QRELS, {"a", "b"}).values()) == {0}
    assert not caplog.records


def test_mismatches_are_counted_and_named(caplog):
    run = Run.from_dict({"q1": {"a": 2.0, "elsewhere": 1.0}, "other": {"a": 1.0}, "third": {"b": 1.0}})
    found = check_run("mine", run, {**QRELS, "q3": {"a": -1}}, {"a", "b"})
    assert found == {"unjudged_queries": 2, "missing_queries": 2, "unknown_documents": 1, "negative_grades": 1}
    text = caplog.text
    assert "run 'mine': 2 queries have no judgements: left out (first 'other')" in text
    assert "2 judged queries have no results: counted as 0 (first 'q2')" in text
    assert "1 document is not in the corpus: ranks are kept (first 'elsewhere')" in text
    assert "1 query has negative grades, which count as not relevant (first 'q3')" in text


def test_a_run_of_another_dataset_is_refused():
    foreign = Run.from_dict({"x1": {"a": 1.0}, "x2": {"b": 1.0}})
    with pytest.raises(
        UserError, match=r"'mine' answers none of the 2 judged queries \(its first is 'x1', theirs 'q1'"
    ):
        check_run("mine", foreign, QRELS)
    with pytest.raises(UserError, match="answers none"):
        per_query({"fitting": FITTING, "foreign": foreign}, QRELS, ["nDCG@10"])
    with pytest.raises(UserError, match="'mine' names no document of the corpus, first 'a'"):
        check_run("mine", FITTING, QRELS, {"c"})


def test_a_system_may_find_nothing():
    assert check_run("mine", Run.from_dict({}), QRELS, {"a"})["missing_queries"] == 2


def test_documents_outside_the_corpus_keep_their_ranks():
    run = Run.from_dict({"q1": {"elsewhere": 3.0, "a": 2.0}, "q2": {"b": 1.0}})
    values = per_query({"mine": run}, QRELS, ["RR@10"], {"a", "b"})
    assert values["RR@10"].tolist() == [0.5, 1.0]


def test_negative_grades_count_as_zero():
    run = Run.from_dict({"q": {"spam": 3.0, "good": 2.0, "other": 1.0}})
    negative, zero = ({"q": {"spam": grade, "good": 2, "other": 1, "missed": grade}} for grade in (-2, 0))
    names = [*DEFAULT_MEASURES, "P@2", "Rprec"]
    assert evaluate(run, negative, names).equals(evaluate(run, zero, names))
    only = evaluate(run, {"q": {"good": -1}}, DEFAULT_MEASURES)
    assert only.to_numpy().tolist() == [[0.0] * 5]
