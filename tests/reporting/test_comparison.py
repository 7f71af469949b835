"""Several runs on one page: students tested against each other where that is possible, and what sets them apart."""

from __future__ import annotations

import json

import numpy as np
import pytest

from retrieval_distill.errors import UserError
from retrieval_distill.evaluation.significance import holm, paired_p
from retrieval_distill.reporting.comparison import names_of, recipe_differences
from retrieval_distill.reporting.publish import report
from tests.reporting.conftest import QUERIES, RANKS, write_run
from tests.reporting.reading import table, tree, words


@pytest.fixture
def runs(tmp_path, source, run_folder):
    better = write_run(tmp_path / "second", source, {**RANKS, "student": [1] * QUERIES}, steps=30)
    worse = write_run(tmp_path / "third", source, {**RANKS, "student": [5] * QUERIES})
    return [run_folder, better, worse]


def test_students_are_tested_against_each_other(runs, tmp_path):
    page = report(runs, tmp_path / "all.html").read_text()
    rows = table(page, "Differences between the students")
    assert [row[:3] for row in rows[1:]] == [
        ["second", "first", "+0.118"],  # 1 - (10 + 1/3 + 1/4) / 12
        ["second", "third", "+0.800"],  # 1 - 1/5
        ["first", "third", "+0.682"],
    ]
    first, second, third = np.array([1.0] * 10 + [1 / 3, 1 / 4]), np.ones(QUERIES), np.full(QUERIES, 0.2)
    p = holm({"a": paired_p(second, first), "b": paired_p(second, third), "c": paired_p(first, third)})
    assert [row[4] for row in rows[1:]] == [f"{v:.3f}" if v >= 0.001 else "< 0.001" for v in p.values()]
    assert rows[1][5:] == ["2", "0", "10"]
    body = words(tree(page))
    assert "The student of second has the highest RR@10, 1.000" in body
    assert "shown to be better than third." in body


def test_what_is_the_same_in_several_runs_stands_once(runs, tmp_path, source):
    page = report(runs, tmp_path / "all.html").read_text()
    header, *rows = table(page, "All systems")
    assert header == ["system", "run", "RR@10", "nDCG@10"]
    assert [row[:2] for row in rows] == [
        ["b bm25", "every run"], ["s start", "every run"],
        ["d student", "first"], ["d student", "second"], ["d student", "third"],
        ["t teacher", "every run"],
    ]  # fmt: skip
    assert rows[0][2].startswith("0.333") and rows[3][2].startswith("1.000better than b, s")
    assert rows[5][2].startswith(
        "1.000better than b, s1.000"
    )  # of the students it beats the third alone, so none in all


def test_what_sets_the_recipes_apart(runs, tmp_path):
    page = report(runs, tmp_path / "all.html").read_text()
    assert table(page, "Where the recipes differ") == [
        ["option", "first", "second", "third"], ["training.steps", "15", "30", "15"],
    ]  # fmt: skip
    times = table(page, "Time of each stage")
    assert times[0] == ["stage", "first", "second", "third"] and times[-1] == ["in all"] + ["9 min 10 s"] * 3


def test_recipes_are_compared_option_by_option():
    found = recipe_differences({
        "a": {"name": "a", "teacher": {"model": "x", "llm": {"mode": "graded"}}, "objectives": {"margin_mse": 1.0}},
        "b": {"name": "b", "teacher": {"model": "x", "llm": {"mode": "log-odds"}}, "objectives": {}},
    })  # fmt: skip
    assert found == [
        ["teacher.llm.mode", "graded", "log-odds"], ["objectives.margin_mse", "1.0", ""], ["objectives", "", "{}"],
    ]  # fmt: skip


def test_other_test_queries_are_not_tested(runs, tmp_path):
    other = json.loads((runs[1] / "report.json").read_text())
    other["dataset"]["docs"] = 31
    (runs[1] / "report.json").write_text(json.dumps(other))
    page = report(runs[:2], tmp_path / "all.html").read_text()
    assert "were not measured on the same test queries" in page and "no paired test is possible" in page
    assert "Differences between the students" not in page


def test_what_cannot_be_compared_is_refused(runs, tmp_path):
    changed = json.loads((runs[1] / "report.json").read_text())
    changed["recipe"]["evaluate"]["measures"] = ["P@1"]
    for name, values in (("report.json", changed), ("recipe.json", changed["recipe"])):
        (runs[1] / name).write_text(json.dumps(values))
    with pytest.raises(UserError, match="no measure in common"):
        report(runs[:2], tmp_path / "all.html")
    (runs[2] / "report.json").unlink()
    with pytest.raises(UserError, match="third: this run is not finished"):
        report([runs[0], runs[2]], tmp_path / "all.html")
    assert not (tmp_path / "all.html").exists()


def test_runs_of_the_same_name_are_told_apart(tmp_path):
    assert names_of([tmp_path / "a" / "demo", tmp_path / "b"]) == ["demo", "b"]
    same = [tmp_path / "a" / "demo", tmp_path / "b" / "demo"]
    assert names_of(same) == [str(path) for path in same]


def test_a_comparison_goes_where_one_works(runs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert report(runs).resolve() == tmp_path / "comparison.html"
    assert not any((run / "report.html").exists() for run in runs)
