"""The page and its Markdown twin say what was measured, need nothing from elsewhere, and show texts as texts."""

from __future__ import annotations

import itertools
import json
import re
import shutil
import subprocess
import sys

import pytest
import yaml

from retrieval_distill.formatting import MINUS
from retrieval_distill.reporting.publish import report
from tests.reporting.conftest import EVIL, GATE, LOG, QUERIES
from tests.reporting.reading import table, tree, words


@pytest.fixture
def page(run_folder) -> str:
    return report(run_folder).read_text(encoding="utf-8")


@pytest.fixture
def twin(run_folder) -> str:
    report(run_folder)
    return (run_folder / "report.md").read_text(encoding="utf-8")


def test_the_table_holds_the_reports_numbers_and_letters(page, finished):
    header, *rows = table(page, "Systems and their measures")
    assert header == ["system", "RR@10", "nDCG@10"]
    for row, (name, system) in zip(rows, finished["systems"].items(), strict=True):
        assert row[0].split()[1] == name
        for cell, measure in zip(row[1:], ("RR@10", "nDCG@10"), strict=True):
            value = system[measure]
            assert cell.startswith(f"{value['mean']:.3f}")
            assert cell.endswith(f"{value['low']:.3f}\u2013{value['high']:.3f}")
    # hand-computed: the student's reciprocal rank is (10 + 1/3 + 1/4) / 12, the start model's 6.5 / 12
    by_name = {row[0].split()[1]: dict(zip(header, row, strict=True)) for row in rows}
    assert by_name["student"]["RR@10"].startswith("0.882better than b, s")
    assert by_name["start"]["RR@10"].startswith("0.542better than b")
    assert by_name["bm25"]["RR@10"].startswith("0.333") and "better" not in by_name["bm25"]["RR@10"]


def test_speed_and_size_stand_where_they_were_measured(page, twin):
    header, *rows = table(page, "Speed and size")
    assert header == [
        "system", "parameters", "dimensions", "ms per query, median", "95th percentile", "with cold caches",
        "index alone", "documents per second", "model", "index",
    ]  # fmt: skip
    assert rows == [
        ["bm25", "", "", "2.0", "3.0", "", "", "", "", "1.0 MB"],
        ["start", "22.7 M", "384", "20.0", "40.0", "", "", "150", "45.4 MB", "4.6 MB"],
        ["student", "22.7 M", "384", "10.0", "20.0", "30.0", "0.4", "150", "45.4 MB", "4.6 MB"],
    ]
    assert "| student | 22.7 M | 384 | 10.0 | 20.0 | 30.0 | 0.4 | 150 | 45.4 MB | 4.6 MB |" in twin
    assert table(page, "Documents encoded per second") == [
        ["system", "short", "medium", "long"],
        ["student", "1,500 (10 tokens)", "300 (50 tokens)", "99.5 (120 tokens)"],
    ]


def test_letters_follow_the_corrected_p_values(run_folder, finished):
    for name in ("bm25", "start"):
        finished["systems"]["student"]["RR@10"]["p_holm_vs"][name] = 0.2
    (run_folder / "report.json").write_text(json.dumps(finished))
    rows = table(report(run_folder).read_text(), "Systems and their measures")
    [student] = [row for row in rows if row[0].endswith("student")]
    assert "better" not in student[1] and "better than b, s" in student[2]
    for system in finished["systems"].values():  # a report from before the correction
        for measure in ("RR@10", "nDCG@10"):
            del system[measure]["p_holm_vs"]
    (run_folder / "report.json").write_text(json.dumps(finished))
    page = report(run_folder).read_text()
    assert "better than b, s" in table(page, "Systems and their measures")[3][1]
    assert "Holm" not in page


def test_the_headline_is_two_sentences_with_intervals(page, finished):
    lead = words(next(e for e in tree(page).iter("p") if e.get("class") == "lead"))
    value = finished["systems"]["student"]["RR@10"]
    assert f"On {QUERIES} test queries of tiny the student reaches RR@10 {value['mean']:.3f}" in lead
    assert f"(95 % interval {value['low']:.3f}\u2013{value['high']:.3f})" in lead
    assert re.search(
        r": \+0\.340 \(\+0\.\d{3} to \+0\.\d{3}\), p [<=] 0\.\d{3}, against the model it started from, "
        r"the best here that needs no training\.",
        lead,
    )
    assert lead.endswith(". The student's RR@10 is 88 % (71 % to 99 %) of the teacher's.") and lead.count(". ") == 1


def test_wins_and_losses_by_query_with_examples(page):
    text = words(tree(page))
    assert "10 won by student" in text and "2 won by start" in text and "12 queries, 0 equal" in text
    rows = table(page, f"What each system ranked first for query 11 {EVIL}")
    assert rows[0] == ["system", "ranked first", "judged", "first relevant", "RR@10"]
    found = {row[0]: row[1:] for row in rows[1:]}
    assert found["student"] == ["title 20Text 20. It splits a path.", "not judged", "4", "0.250"]
    assert found["start"] == ["title 11Text 11. It splits a path.", "relevant (1)", "1", "1.000"]
    headings = [words(line) for line in tree(page).iter("summary") if line.find("h4") is not None]
    assert headings[:3] == [f"query {i} q{i}, +0.500" for i in (0, 1, 2)]  # equal wins stand by their ids: q0, q1, q2
    assert headings[3:5] == [f"query 11 {EVIL} q11, {MINUS}0.750", f"query 10 q10, {MINUS}0.167"]


def test_texts_are_shown_not_run(page, twin):
    assert "<script" not in page and EVIL in words(tree(page))
    assert "<script" not in twin
    assert r"&lt;script&gt;alert('x')&lt;/script&gt; \| \*pipe\*" in twin


def test_nothing_is_loaded_from_elsewhere(page):
    root = tree(page)
    loading = {"script", "link", "img", "iframe", "object", "embed", "source", "video", "audio", "use", "image"}
    assert not loading & {element.tag.rpartition("}")[2] for element in root.iter()}
    assert all(e.get("href", "#").startswith("#") and e.get("src") is None for e in root.iter())
    style = re.search(r"<style>(.*)</style>", page, re.S).group(1)
    assert "url(" not in style and "@import" not in style and "@font-face" not in style
    assert set(re.findall(r"https?://[^\s\"'<]+", page)) <= {"http://www.w3.org/2000/svg"}


def test_a_screen_reader_finds_its_way(page):
    root = tree(page)
    levels = [int(e.tag[1]) for e in root.iter() if re.fullmatch(r"h[1-6]", e.tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    ids = [e.get("id") for e in root.iter() if e.get("id")]
    assert len(ids) == len(set(ids))
    for link in root.iter("a"):
        assert link.get("href").removeprefix("#") in ids
    for section in root.iter("section"):
        assert section.get("aria-labelledby") in ids
    for picture in root.iter("{http://www.w3.org/2000/svg}svg"):
        assert picture.get("role") == "img" and all(id_ in ids for id_ in picture.get("aria-labelledby").split())
    for found in root.iter("table"):
        assert found.find("caption") is not None and any(e.get("scope") for e in found.iter("th"))


def test_training_curves_and_their_numbers(page):
    names = [
        words(text) for text in tree(page).iter("{http://www.w3.org/2000/svg}text") if "name" in text.get("class", "")
    ]
    curves = dict(zip(names[::2], names[1::2], strict=True))
    assert curves == {
        "loss, weighted sum": "1.5", "margin_mse": "6", "learning rate": "0", "tokens per second": "1,000",
        "dev queries, nDCG@10": "0.7",
    }  # fmt: skip
    header, *rows = table(page, "Training log")
    assert header[:3] == ["step", "loss, weighted sum", "margin_mse"]
    assert [row[:3] for row in rows] == [["5", "3", "12"], ["10", "2", "8"], ["15", "1.5", "6"]]
    assert rows[0][-1] == "" and len(rows) == len(LOG)
    assert "The student has the weights of step 15." in words(tree(page))
    assert table(page, "Agreement with the teacher")[1] == ["KL from the teacher, nats", "0.9", "0.25"]


def test_the_teacher_the_costs_and_fidelity(page):
    text = words(tree(page))
    assert table(page, "The gate") == [
        ["bm25", "RR@10 0.400 becomes 0.600 on 9 dev queries: +0.200 (+0.100 to +0.300), p = 0.004"]
    ]
    assert GATE["better"] and "4 relevant, 8 other candidates" in text
    stages = table(page, "Stages")
    assert stages[1] == ["embed-start", "10.0 s", "1.0 GB", "5.5 documents/s"] and len(stages) == 11
    assert "Time, 9 min 10 s in all" in text
    assert table(page, "Fidelity to the teacher")[1] == [
        "KL divergence from the teacher, nats",
        "0.400",
        "0.300 to 0.500",
    ]
    assert [row[0] for row in table(page, "Fidelity to the teacher")[1:]] == [
        "KL divergence from the teacher, nats", "rank correlation, Kendall", "share of the teacher's quality",
        "teacher's best 1 among the student's best 1",
    ]  # fmt: skip
    assert table(page, "Two rankings for query 11")[1] == ["1", f"{EVIL}relevant (2)", f"{EVIL}relevant (2)"]
    assert "a true difference in RR@10 of 0.123 is found four times in five" in text


def test_costs_without_a_measurement_leave_the_plot_as_a_line(page):
    rows = table(page, "Quality and latency")
    assert [row[:2] for row in rows[1:]] == [
        ["bm25", "2 ms"], ["start", "20 ms"], ["student", "10 ms"], ["teacher", "not measured"],
    ]  # fmt: skip
    memory = {row[0]: row[1] for row in table(page, "Quality and memory")[1:]}
    assert memory == {"bm25": "1 MB", "start": "50 MB", "student": "50 MB", "teacher": "not measured"}


def test_the_recipe_on_the_page_is_the_runs(page, run_folder):
    blocks = ["".join(pre.itertext()) for pre in tree(page).iter("pre")]
    assert blocks[0] == "retrieval-distill run tiny.yaml --out runs/first"
    assert yaml.safe_load(blocks[1]) == json.loads((run_folder / "recipe.json").read_text())


def test_the_twin_holds_the_same_numbers(twin, finished):
    lines = twin.split("## Systems")[1].split("\n\n")[1].splitlines()
    rows = [line.split("|")[1:-1] for line in lines[2:]]
    by_name = {row[0].split()[-1]: [cell.strip() for cell in row] for row in rows}
    for name, system in finished["systems"].items():
        value = system["RR@10"]
        cell = re.sub(r"<sup>.*</sup>", "", by_name[name][1])
        assert cell == f"{value['mean']:.3f} ({value['low']:.3f}\u2013{value['high']:.3f})"
    assert "<sup>b, s</sup>" in by_name["student"][1]
    assert "10 of 12 queries won, 2 lost, 0 equal" in twin
    assert yaml.safe_load(re.search(r"```yaml\n(.*?)```", twin, re.S).group(1)) == finished["recipe"]
    assert len({line.count("|") for line in lines}) == 1  # every row of the table has as many cells


def test_values_are_computed_where_they_were_not_kept(run_folder, page):
    (run_folder / "per_query.parquet").unlink()
    assert report(run_folder).read_text() == page


def test_without_its_data_set_a_page_says_so_and_keeps_the_numbers(run_folder, finished):
    finished["recipe"]["dataset"]["source"] = "/gone"
    for name, values in (("report.json", finished), ("recipe.json", finished["recipe"])):
        (run_folder / name).write_text(json.dumps(values))
    page = report(run_folder).read_text()
    assert "The data set /gone is no longer there" in page
    assert "10 won by student" in page and "What each system ranked first for" not in page


def test_of_a_report_alone_the_table_is_left(run_folder, finished, page, tmp_path):
    """Somebody hands on two files."""
    for name in ("report.json", "recipe.json"):
        (tmp_path / "alone").mkdir(exist_ok=True)
        shutil.copy(run_folder / name, tmp_path / "alone")
    label = "Systems and their measures"
    assert table(report(tmp_path / "alone").read_text(), label) == table(page, label)


def test_a_page_is_written_without_loading_torch(run_folder):
    code = (
        "import sys; from retrieval_distill.reporting import publish; publish.report(sys.argv[1]); print(*sys.modules)"
    )
    loaded = subprocess.run([sys.executable, "-c", code, run_folder], capture_output=True, text=True, check=True).stdout
    assert (run_folder / "report.html").is_file()
    assert not {"torch", "transformers", "matplotlib"} & set(loaded.split())
