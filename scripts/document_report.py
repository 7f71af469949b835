"""Write what documents the JSON files that are results: ``docs/report.md``, ``docs/files.md`` and their JSON Schemas.

    python scripts/document_report.py

All are made from the types in the package; a test fails where they differ.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from retrieval_distill.data.prepare.data_report_file import DataReport
from retrieval_distill.index.index_tuning_file import IndexTuning
from retrieval_distill.reporting.benchmark import BenchmarkReport
from retrieval_distill.reporting.report_file import RunReport
from retrieval_distill.reporting.tuning_file import TuningReport
from retrieval_distill.retrieval.hybrid import FusionTuning
from retrieval_distill.runtime.documents import Document

DOCS = Path(__file__).resolve().parents[1] / "docs"

REPORT = """# report.json

`retrieval-distill run` writes it into the run's folder. It is made of the parts below; [report.schema.json](report.schema.json)
says the same as a JSON Schema. Reports of an earlier version, which lack some parts, can still be opened. In Python,
`rd.Report.open("runs/demo")` reads it, and its `details` are these values.

This page is made by `python scripts/document_report.py`.
"""

OTHERS = """# Other result files

The JSON files that other commands write. Each has a `version`; files of an earlier version can still be read, and files
of a later one are refused. [report.json](report.md) has a page of its own.

This page is made by `python scripts/document_report.py`.
"""

FILES: dict[str, tuple[str, type[Document]]] = {
    "tuning": ("`tune` writes `tuning.json`; `rd.Tuning.open(folder)` reads it.", TuningReport),
    "index-tuning": ("`index --kind auto` writes `tuning.json` into the index's folder.", IndexTuning),
    "benchmark": ("`benchmark` writes `benchmark.json`, and `rd.benchmark` returns it.", BenchmarkReport),
    "data-report": ("`prepare` writes `report.json`.", DataReport),
    "fusion": ("`search --tune`, and a run for its student, write `fusion.json`.", FusionTuning),
}
"""Name of the schema -> where the file comes from, and its type."""


def schema(document: type[Document] = RunReport) -> dict[str, Any]:
    """The JSON Schema of a file."""
    return document.model_json_schema(by_alias=True)


def pages() -> dict[str, str]:
    """Every file to write, by its name in the docs."""
    schemas = {"report": RunReport, **{name: document for name, (_, document) in FILES.items()}}
    written: set[str] = set()
    others = "".join(
        f"\n## {document.__name__}\n\n{origin} JSON Schema: [{name}.schema.json]({name}.schema.json).\n"
        + _sections(document, "###", written)
        for name, (origin, document) in FILES.items()
    )
    return {
        "report.md": REPORT + _sections(RunReport, "##", set()),
        "files.md": OTHERS + others,
        **{f"{name}.schema.json": json.dumps(schema(own), indent=2) + "\n" for name, own in schemas.items()},
    }


def _sections(document: type[Document], level: str, written: set[str]) -> str:
    """A table of keys for every part that is not written yet, in the order in which the file comes to them."""
    whole = schema(document)
    name = "The report" if document is RunReport else "The file"
    parts = {name: {key: value for key, value in whole.items() if key != "$defs"}}
    while missing := [name for part in parts.values() for name in _named(part) if name not in parts]:
        parts[missing[0]] = whole["$defs"][missing[0]]
    new = {title: part for title, part in parts.items() if title not in written}
    written.update(new.keys() - {name})
    return "".join(_section(title, part, level) for title, part in new.items())


def _named(part: Any) -> list[str]:
    return re.findall(r'"#/\$defs/(\w+)"', json.dumps(part))


def _section(name: str, part: dict[str, Any], level: str) -> str:
    said, _, arguments = part.get("description", "").partition("\n\nArgs:\n")
    about = dict(re.findall(r"^    (\w+): (.*(?:\n     .*)*)", arguments, re.M))
    rows = [
        f"| `{key}` | {_type(value)} | {_line(value.get('description', about.get(key, '')))} |"
        for key, value in part["properties"].items()
    ]
    if isinstance(others := part.get("additionalProperties"), dict):
        rows.append(f"| *a measure's name* | {_type(others)} | |")
    return f"\n{level} {name}\n\n{_line(said)}\n\n| key | value | |\n|---|---|---|\n" + "\n".join(rows) + "\n"


def _line(text: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r":\w+:`~?[\w.]+\.(\w+)`|``", lambda found: found[1] or "`", text))


def _type(value: dict[str, Any]) -> str:
    """A value's type in words; parts are links."""
    if "$ref" in value:
        name = value["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in value:
        return " or ".join(_type(choice) for choice in value["anyOf"])
    if value.get("type") == "array":
        return f"list of {_type(value['items'])}"
    if value.get("type") == "object":
        inner = value.get("additionalProperties")
        return f"by name, {_type(inner)}" if isinstance(inner, dict) else "object"
    return str(value.get("type", "any"))


if __name__ == "__main__":
    for name, text in pages().items():
        (DOCS / name).write_text(text, encoding="utf-8")
