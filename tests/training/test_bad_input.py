"""Groups that teach nothing are named; candidates without a score are settled as the recipe says."""

from __future__ import annotations

import logging
import math
import re

import pytest

from retrieval_distill.data.run import Run
from retrieval_distill.errors import UserError
from retrieval_distill.training.groups import Group, build_groups, summarize_ids, uniformly_scored
from retrieval_distill.training.missing_scores import resolve
from tests.training.driver import teacher_run, train
from tests.training.test_distillation import with_training

NAN = math.nan
SCORES = {"q1": {"a": 3.0, "b": NAN, "c": 1.0, "d": -2.0}, "q2": {"e": NAN, "f": NAN}, "q3": {"g": 0.0, "h": 5.0}}


def run() -> Run:
    return Run.from_dict(SCORES)


def test_refused_by_name():
    expected = (
        r"3 of 8 candidates have no teacher score \(query/document: q1/b, q2/f, q2/e\); "
        r"score them, or set training.missing_scores=drop or training.missing_scores=lowest"
    )
    with pytest.raises(UserError, match=expected):
        resolve(run(), "refuse")


def test_dropped(caplog):
    assert resolve(run(), "drop").as_dict() == {"q1": {"a": 3.0, "c": 1.0, "d": -2.0}, "q3": {"g": 0.0, "h": 5.0}}
    assert "3 of 8 candidates have no teacher score" in caplog.text


def test_the_lowest_of_the_list():
    settled = resolve(run(), "lowest")
    assert settled.as_dict() == {
        "q1": {"a": 3.0, "c": 1.0, "d": -2.0, "b": -2.0}, "q3": {"h": 5.0, "g": 0.0},
    }  # fmt: skip
    for _, _, scores in settled:
        assert scores.tolist() == sorted(scores, reverse=True)


@pytest.mark.parametrize("how", ["refuse", "drop", "lowest"])
def test_nothing_missing_nothing_done(how, caplog):
    whole = Run.from_dict({"q": {"a": 1.0, "b": -math.inf}})
    assert resolve(whole, how) is whole
    assert not caplog.text


def test_a_training_does_as_the_recipe_says(tiny_recipe, dataset, tmp_path, caplog):
    scores = teacher_run(dataset).as_dict()
    query = sorted(scores)[0]
    scores[query] = {doc: NAN if doc not in dataset.qrels("train")[query] else 1.0 for doc in scores[query]}
    with pytest.raises(UserError, match="5 of 144 candidates have no teacher score"):
        train(tiny_recipe, tmp_path / "student", Run.from_dict(scores))
    train(with_training(tiny_recipe, steps=1, missing_scores="drop"), tmp_path / "drop", Run.from_dict(scores))
    assert f"training queries left out because they have only one candidate: 1 ({query})" in caplog.text
    caplog.clear()
    train(with_training(tiny_recipe, steps=1, missing_scores="lowest"), tmp_path / "lowest", Run.from_dict(scores))
    assert f"training queries whose candidates all have the same teacher score: 1 ({query})" in caplog.text


def test_groups_that_teach_nothing_are_counted_and_named(caplog):
    scores = {f"{kind}{i}": {"a": 2.0, "b": 1.0} for kind in ("none", "good", "all") for i in range(4)}
    scores["single"] = {"a": 1.0}
    qrels = {query: {"a": 1} for query in ("good0", "good1", "good2", "good3", "single")}
    qrels |= {f"all{i}": {"a": 1, "b": 2} for i in range(4)} | {"none1": {"b": 0}}
    with caplog.at_level(logging.WARNING, "retrieval_distill"):
        groups = build_groups(Run.from_dict(scores), qrels)
    assert [group.query_id for group in groups] == ["good0", "good1", "good2", "good3"]
    assert [record.getMessage() for record in caplog.records] == [
        "training queries left out because none of their candidates is judged relevant: 4 (none0, none1, none2, ...)",
        "training queries left out because all their candidates are judged relevant: 4 (all0, all1, all2, ...)",
        "training queries left out because they have only one candidate: 1 (single)",
    ]


def test_indifferent_lists():
    scores = [(1.0, 1.0, 1.0), (1.0, 1.0, 1.1), (0.0, 0.0, 0.0)]
    groups = [Group(f"q{i}", ("a", "b", "c"), row, (1, 0, 0)) for i, row in enumerate(scores)]
    assert uniformly_scored(groups) == ["q0", "q2"]
    assert summarize_ids(["a", "b", "c"]) == "3 (a, b, c)"


@pytest.mark.parametrize("bf16", [True, False])
def test_scores_too_large_to_be_of_relevance_are_refused_by_name(tiny_recipe, dataset, tmp_path, bf16):
    scores = teacher_run(dataset).as_dict()
    query = sorted(scores)[0]
    document = sorted(scores[query])[0]
    for absurd in (1e30, -1e18):
        scores[query][document] = absurd
        found = f"1 of 144 teacher scores are larger than 1e+06, the first is {absurd:g} of {query}/{document} "
        with pytest.raises(UserError, match=re.escape(found)):
            train(with_training(tiny_recipe, bf16=bf16), tmp_path / "student", Run.from_dict(scores))
