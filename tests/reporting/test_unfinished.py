"""A run under way shows what there is, and names what is still to come."""

from __future__ import annotations

import json
import shutil

import pytest

from retrieval_distill.errors import UserError
from retrieval_distill.reporting.publish import report
from retrieval_distill.runtime.stages import write_json
from tests.reporting.conftest import LOG, STAGES
from tests.reporting.reading import tree, words


def undo(run_folder, first: str) -> None:
    """Take away what the stages from ``first`` on left."""
    (run_folder / "report.json").unlink()
    (run_folder / "per_query.parquet").unlink()
    for stage in list(STAGES)[list(STAGES).index(first) :]:
        shutil.rmtree(run_folder / STAGES[stage])


def test_a_run_that_has_just_begun(run_folder):
    undo(run_folder, "embed-start")
    page = report(run_folder).read_text()
    assert f"This run is not finished: still to come are {', '.join(STAGES)}." in page
    headings = [words(element) for element in tree(page).iter("h2")]
    assert headings == ["Data and environment", "Do it again", "Still to come"]  # nothing empty before what there is
    [absent] = [section for section in tree(page).iter("section") if section.get("aria-labelledby") == "absent"]
    assert [words(item).partition(":")[0] for item in absent.iter("li")] == [
        "Systems", "Quality against cost", "Won and lost", "Teacher", "Faithful to the teacher?", "Training",
        "What it cost",
    ]  # fmt: skip
    assert not (run_folder / "student").exists()


def test_a_run_in_training_shows_its_curves_so_far(run_folder):
    undo(run_folder, "distill")
    checkpoints = run_folder / "student.partial" / "checkpoints"
    for step, log, whole in ((5, LOG[:1], True), (10, LOG[:2], True), (15, LOG, False)):
        write_json(checkpoints / f"checkpoint-{step}" / "trainer_state.json", {"log_history": log})
        if whole:
            (checkpoints / f"checkpoint-{step}" / "whole").touch()
    page = report(run_folder).read_text()
    assert "still to come are distill, embed-student, index-student, search; training has reached step 10." in page
    assert [words(element) for element in tree(page).iter("h2")][:2] == ["Teacher", "Training"]
    assert "loss, weighted sum" in page and "4 relevant, 8 other candidates" in page
    assert "Time, 3 min 30 s in all" in page  # of the six stages that are done


def test_a_run_with_a_changed_recipe_does_not_show_the_old_numbers(run_folder):
    recipe = json.loads((run_folder / "recipe.json").read_text())
    recipe["training"]["steps"] = 99
    write_json(run_folder / "recipe.json", recipe)
    (run_folder / "student.partial").mkdir()
    page = report(run_folder).read_text()
    assert "still to come are distill, embed-student, index-student, search." in page
    assert "0.882" not in page


def test_a_gate_that_is_off_is_not_missed(run_folder):
    undo(run_folder, "gate")
    recipe = json.loads((run_folder / "recipe.json").read_text())
    recipe["teacher"]["gate"] = "off"
    write_json(run_folder / "recipe.json", recipe)
    assert "still to come are retrieve, score, filter, distill, embed-student" in report(run_folder).read_text()


def test_what_is_no_run_is_refused(tmp_path, run_folder):
    with pytest.raises(UserError, match="no run there"):
        report(tmp_path)
    with pytest.raises(UserError, match=r"name it .*page\.html"):
        report(run_folder, tmp_path / "page.pdf")


def test_a_report_says_how_many_texts_the_student_cuts(run_folder):
    report_file = run_folder / "report.json"
    finished = json.loads(report_file.read_text())
    finished["stages"]["embed-student"]["counts"]["truncated"] = {"share": 0.38, "sample": 1000, "max_length": 64}
    learnt = {"query": {"share": 0.0, "sample": 24, "max_length": 64}, "document": None}
    finished["stages"]["distill"]["counts"]["truncated"] = learnt
    write_json(report_file, finished)
    text = " ".join((report(run_folder).with_suffix(".md")).read_text().replace("\u00a0", " ").split())
    assert "| passages longer than 64 tokens, which are cut | 38 % |" in text
    assert "| training queries longer than 64 tokens, which are cut | 0 % |" in text
