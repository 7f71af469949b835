"""The templates and how they print values; HTML is escaped by itself, Markdown by the filter ``md``.

Knows Jinja and wording; must not know runs.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from retrieval_distill import formatting
from retrieval_distill.reporting.systems import Cell
from retrieval_distill.runtime.progress import clock


def render(template: str, **values: Any) -> str:
    """A template of ``reporting/templates`` filled in; a name it lacks is an error."""
    return _environment().get_template(template).render(**values)


def grade(value: int | None) -> str:
    """A judgement in words; ``None`` is a document that nobody judged."""
    return "not judged" if value is None else f"relevant ({value})" if value > 0 else f"not relevant ({value})"


def cell_range(cell: Cell) -> str:
    """A cell's interval."""
    return formatting.interval(cell.low, cell.high)


@lru_cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("retrieval_distill.reporting"),
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    words = (
        formatting.md,
        formatting.code,
        formatting.counted,
        formatting.fenced,
        grade,
        clock,
        formatting.number,
        formatting.signed,
        formatting.p_value,
        formatting.probability,
        formatting.short,
        formatting.size,
    )
    environment.filters |= {word.__name__: word for word in words} | {"range": cell_range, "zip": zip}
    return environment
