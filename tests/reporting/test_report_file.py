"""``report.json``: what its page in the docs and its JSON Schema say is what is written and read, older reports too."""

from __future__ import annotations

import json

import jsonschema
import pytest

from retrieval_distill.errors import UserError
from retrieval_distill.reporting.publish import report
from retrieval_distill.reporting.report_file import RunReport
from retrieval_distill.reporting.results import Report
from scripts import document_report


@pytest.fixture
def told(rivals_folder) -> dict:
    return json.loads((rivals_folder / "report.json").read_text())


def test_the_docs_say_what_the_types_say():
    for name, text in document_report.pages().items():
        assert (document_report.DOCS / name).read_text() == text, "run python scripts/document_report.py"


def test_what_is_written_keeps_to_the_schema_and_is_read_again(told, tmp_path):
    """The schema is read by another implementation."""
    written = RunReport.model_validate({**told, "version": RunReport.current})
    written.write(tmp_path)
    values = json.loads((tmp_path / "report.json").read_text())
    jsonschema.validate(values, document_report.schema())
    assert values["systems"] == told["systems"] and values["distillation"] == told["distillation"]
    assert values["fidelity"] == told["fidelity"]
    assert RunReport.read(tmp_path) == written and Report.open(tmp_path).details == values
    values["systems"]["student"]["RR@10"]["mean"] = "high"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(values, document_report.schema())


def test_a_report_from_before_most_parts_still_opens(rivals_folder, told):
    """No version, no correction, no differences, no fusion, no fidelity."""
    lacking = ("fidelity", "minimum_detectable", "datasets")
    old = {key: value for key, value in told.items() if key not in lacking}
    old["distillation"] = {key: told["distillation"][key] for key in ("retention", "gain_kept")}
    old["systems"] = {
        name: {
            measure: {key: value[key] for key in ("mean", "low", "high", "p_vs")}
            for measure, value in system.items()
            if measure in ("RR@10", "nDCG@10")
        }
        for name, system in told["systems"].items()
        if not name.startswith("hybrid")
    }
    (rivals_folder / "report.json").write_text(json.dumps(old))
    opened = Report.open(rivals_folder)
    assert opened["student"]["RR@10"].p == told["systems"]["student"]["RR@10"]["p_vs"]
    assert "0.882" in str(opened) and "0.882" in report(rivals_folder).read_text()


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"version": 99}, "a later version of retrieval-distill wrote this report"),
        ({"systems": []}, r"no report of a run \(systems: "),  # as a benchmark of rerankers lists them
        ({"distillation": None}, r"no report of a run \(distillation: "),
    ],
)
def test_a_report_that_is_none_is_refused(rivals_folder, told, values, said):
    (rivals_folder / "report.json").write_text(json.dumps({**told, **values}))
    with pytest.raises(UserError, match=said):
        Report.open(rivals_folder)
    with pytest.raises(UserError, match=said):
        report(rivals_folder)


def test_a_list_is_no_report(rivals_folder):
    (rivals_folder / "report.json").write_text("[]")
    with pytest.raises(UserError, match=r"no report of a run \(the whole: "):
        Report.open(rivals_folder)
