"""What a report says first: the student against the best that needs no training, which to use, and what to do else."""

from __future__ import annotations

import json
import re

import pytest

from retrieval_distill.formatting import MINUS
from retrieval_distill.reporting import report as reports
from retrieval_distill.reporting import verdict
from retrieval_distill.reporting.publish import report
from retrieval_distill.reporting.report_distillation import Gate
from retrieval_distill.reporting.report_file import RunReport
from retrieval_distill.reporting.results import Report
from tests.reporting.conftest import GATE, QUERIES, RIVALS, write_run
from tests.reporting.reading import table, tree, words


@pytest.fixture
def told(rivals_folder) -> dict:
    """The report of a run whose student is not shown to be better than its start, though its fusion is."""
    return json.loads((rivals_folder / "report.json").read_text())


def said(page: str) -> list[str]:
    """What stands above the navigation: paragraphs and items."""
    [header] = tree(page).iter("header")
    return [words(element) for element in header.iter() if element.tag in ("p", "li") and element.find("a") is None]


def test_what_is_not_shown_is_said_first(rivals_folder):
    page = report(rivals_folder).read_text()
    _, first, *rest = said(page)
    assert first.startswith(
        "The student is not shown to be better than the model it started from, the best here that needs no training: "
        f"on {QUERIES} test queries of tiny it reaches RR@10 0.882"
    )
    assert re.search(rf"a difference of \+0\.340 \({MINUS}0\.\d+ to \+0\.\d+\), p = 0\.059\.", first)
    ways = " ".join(rest)
    assert "Use BM25 fused with the student: that is shown to be better than the model it started from." in ways
    assert "The teacher is shown to be better than the model it started from, so there is more to learn" in ways
    assert "Otherwise use the model it started from: it needs no training." in ways


def test_a_better_student_needs_no_way_out(tmp_path, source):
    page = report(write_run(tmp_path / "better", source, {**RIVALS, "student": [1] * QUERIES})).read_text()
    assert said(page)[1].startswith(f"On {QUERIES} test queries of tiny the student reaches RR@10 1.000")
    assert "What can be done" not in page


def test_a_worse_student_is_called_worse(tmp_path, source):
    page = report(write_run(tmp_path / "worse", source, {**RIVALS, "student": [7] * QUERIES})).read_text()
    assert said(page)[1].startswith("The student is worse than the model it started from")


def test_a_teacher_that_cannot_teach_is_named(told):
    told["systems"]["teacher"]["RR@10"]["p_holm_vs"]["start"] = 0.5
    report = RunReport.model_validate(told)
    ways = verdict.ways_out(report, report.distillation.best_untrained)
    assert any("The teacher, reordering the best 10 documents, is not shown to be better" in way for way in ways)


def test_the_report_says_which_to_use_and_who_decided(rivals_folder, told):
    use = verdict.use(RunReport.model_validate(told))
    assert use.startswith("Of the student and its fusion with BM25, use the fusion: on dev queries")
    assert "RR@10 0.800 and the student alone 0.700" in use
    assert " ".join(use.split()) in said(report(rivals_folder).read_text())
    told["distillation"]["use"] = None
    assert "judge some and name their split as dataset.dev" in verdict.use(RunReport.model_validate(told))


def test_every_interval_agrees_with_the_p_beside_it(rivals_folder):
    reached = {name: Report.open(rivals_folder)[name] for name in ("bm25", "start", "student")}
    texts = [report(rivals_folder).read_text(), (rivals_folder / "report.md").read_text(), str(
        Report(reached, ("RR@10",)))]  # fmt: skip
    number = rf"[+{MINUS}-]\d\.\d{{3}}"
    for text in texts:
        text = text if text.startswith(("#", "\u250f")) else words(tree(text))
        found = re.findall(rf"({number}) to ({number})\)?, p\s*([<=])\s*(\d\.\d+)", text)
        assert found
        for low, high, relation, p in found:
            low, high = (float(bound.replace(MINUS, "-")) for bound in (low, high))
            assert (low > 0 or high < 0) == (relation == "<" or float(p) < 0.05)


def test_what_is_corrected_and_what_is_left_out_is_said(rivals_folder):
    page = words(tree(report(rivals_folder).read_text()))
    assert "corrected together for the 15 comparisons of a measure" in page
    assert "one student, that of seed 7: how far another seed's would lie from it is not in any interval" in page
    assert "both corrected for 15 comparisons" in page


def test_several_seeds_are_told_in_words(told):
    reached = {"mean": 0.745, "low": 0.7, "high": 0.79, "standard_deviation": 0.004, "means": [0.741, 0.749]}
    won = {"mean": 0.06, "low": 0.03, "high": 0.08, "p": 0.0002}
    told["seeds"] = {
        "seeds": [7, 8], "queries": QUERIES,
        "systems": {name: {"RR@10": reached, "nDCG@10": reached} for name in ("student", "hybrid-student")},
        "against": {name: {"hybrid-start": won} for name in ("student", "hybrid-student")},
    }  # fmt: skip
    report = RunReport.model_validate(told)
    said = " ".join(verdict.doubts(report))
    assert "2 students, of seeds 7 and 8, learnt from the same lists; all else here is about the first of them" in said
    each = (
        "RR@10 0.745 (0.700\u20130.790), standard deviation between seeds 0.004: +0.060 (+0.030 to +0.080), "
        "p\u00a0<\u00a00.001, against BM25 fused with the model it started from"
    )
    assert f"the student has {each}. BM25 fused with the student has {each}. " in said
    assert "corrected for 2 comparisons" in said and "evaluate.seeds" not in said
    del told["seeds"]
    assert "--set evaluate.seeds=3" in " ".join(verdict.doubts(RunReport.model_validate(told)))


def test_the_length_at_which_the_start_model_is_a_rival_is_said(told):
    for name, length in (("start", 256), ("student", 128)):
        told["systems"][name]["max_length"] = length
    said = verdict.doubts(RunReport.model_validate(told))[-1]
    assert "reads 256 tokens of a document, as it does by itself" in said and "student reads 128" in said
    told["recipe"]["evaluate"]["start_length"] = "student"
    assert "as the student does" in verdict.doubts(RunReport.model_validate(told))[-1]


def test_both_fusions_stand_with_and_without_tuning(rivals_folder):
    rows = table(report(rivals_folder).read_text(), "Fused with BM25")
    assert [row[0] for row in rows] == ["system", "hybrid-start", "hybrid-student"]
    assert rows[1][1] == "0.7 of the scores from 0 to 1, on dev" and rows[1][3].startswith("0.600")


@pytest.mark.parametrize("better", [True, False])
def test_gate_and_table_are_reconciled_where_they_seem_to_differ(told, better):
    """On the test queries the teacher is better than BM25, which the gate asked about."""
    text = verdict.reconciled(RunReport.model_validate(told), Gate.model_validate({**GATE, "better": better}))
    assert text == "" if better else "The two do not contradict each other" in text
    if not better:
        assert (
            "it is shown to be better than BM25" in text and "9 on dev" in text and "best 10 documents of both" in text
        )


def test_the_text_says_the_same_first(told):
    told["datasets"] = {}
    text = reports.table(RunReport.model_validate(told))
    first = " ".join(text.split("\n\u250f")[0].split())
    assert first.startswith("The student is not shown to be better than the model it started from")
    assert "b,s" in text and "S = better than hybrid-start" in text.replace("\n", " ")


def test_systems_that_share_a_clock_are_named(rivals_folder, told):
    page = words(tree(report(rivals_folder).read_text()))
    assert "Systems that do the same work were timed once: start and student; hybrid-start and hybrid-student." in page
    told["systems"]["start"]["latency_ms"] |= {"low": 19.0, "high": 21.5}
    (rivals_folder / "report.json").write_text(json.dumps(told))
    assert table(report(rivals_folder).read_text(), "Speed and size")[2][3] == "20.0 (19.0\u201321.5)"


def test_rates_of_another_run_say_so(rivals_folder, told):
    told["stages"]["embed-start"]["skipped"] = True
    (rivals_folder / "report.json").write_text(json.dumps(told))
    rows = {row[0]: row[3] for row in table(report(rivals_folder).read_text(), "Stages")}
    assert rows["embed-start"] == "5.5 documents/s (in an earlier run)" and rows["index-start"] == "5.5 documents/s"


def test_what_would_act_on_a_terminal_or_a_reader_shows(rivals_folder, told):
    told["recipe"]["name"] = "evil\x1b[31m\u202ename"
    for name, values in (("report.json", told), ("recipe.json", told["recipe"])):
        (rivals_folder / name).write_text(json.dumps(values))
    report(rivals_folder)
    for file in ("report.html", "report.md", "student/README.md"):
        text = (rivals_folder / file).read_text()
        assert "\x1b" not in text and "\u202e" not in text and "evil" in text
