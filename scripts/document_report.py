"""Write what documents ``report.json``: ``docs/report.md`` and the JSON Schema ``docs/report.schema.json``.

    python scripts/document_report.py

Both are made from the types in ``retrieval_distill/reporting/report_file.py``; a test tells where they differ.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from retrieval_distill.reporting.report_file import RunReport

DOCS = Path(__file__).resolve().parents[1] / "docs"

OPENING = """# report.json

`retrieval-distill run` writes it into the run's folder. It is made of the parts below; [report.schema.json](report.schema.json)
says the same as a JSON Schema. Reports of an earlier version, which lack some parts, can still be opened. In Python,
`rd.Report.open("runs/demo")` reads it, and its `details` are these values.

This page is made by `python scripts/document_report.py`.
"""


def schema() -> dict[str, Any]:
    """The JSON Schema of a report."""
    return RunReport.model_json_schema(by_alias=True)


def page() -> str:
    """A table of keys for every part, in the order in which the report comes to them."""
    whole = schema()
    parts = {"The report": {key: value for key, value in whole.items() if key != "$defs"}}
    while missing := [name for part in parts.values() for name in _named(part) if name not in parts]:
        parts[missing[0]] = whole["$defs"][missing[0]]
    return OPENING + "".join(_section(name, part) for name, part in parts.items())


def _named(part: Any) -> list[str]:
    return re.findall(r'"#/\$defs/(\w+)"', json.dumps(part))


def _section(name: str, part: dict[str, Any]) -> str:
    said, _, arguments = part["description"].partition("\n\nArgs:\n")
    about = dict(re.findall(r"^    (\w+): (.*(?:\n     .*)*)", arguments, re.M))
    rows = [
        f"| `{key}` | {_type(value)} | {_line(value.get('description', about.get(key, '')))} |"
        for key, value in part["properties"].items()
    ]
    if isinstance(others := part.get("additionalProperties"), dict):
        rows.append(f"| *a measure's name* | {_type(others)} | |")
    return f"\n## {name}\n\n{_line(said)}\n\n| key | value | |\n|---|---|---|\n" + "\n".join(rows) + "\n"


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
    (DOCS / "report.md").write_text(page(), encoding="utf-8")
    (DOCS / "report.schema.json").write_text(json.dumps(schema(), indent=2) + "\n", encoding="utf-8")
