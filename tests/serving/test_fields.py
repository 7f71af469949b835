"""Filters: equal to a plain reading of them in Python, and no text of theirs is ever SQL."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval_distill.data.dataset_loader import load
from retrieval_distill.errors import UserError
from retrieval_distill.serving.fields import Fields

ATTACKS = [
    "x' OR '1'='1", "'; DROP TABLE documents; --", '"; SELECT 1', "year) OR (1=1", "c0", "row", "read_csv('/etc/passwd')",
    "*", "\0", "$1", "?",
]  # fmt: skip


@pytest.fixture(scope="module")
def rows(finished_run) -> list[dict]:
    lines = (finished_run.parent / "data" / "corpus.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


@pytest.fixture(scope="module")
def fields(finished_run) -> Fields:
    return Fields.of(load(str(finished_run.parent / "data"), Path("unused")))


def meets(row: dict, where: dict) -> bool:
    """A plain reading of a filter."""
    if "and" in where:
        return all(meets(row, part) for part in where["and"])
    if "or" in where:
        return any(meets(row, part) for part in where["or"])
    if "not" in where:
        return not meets(row, where["not"])
    held, op, value = row, where["op"], where["value"]
    for name in where["field"].split("."):
        held = held.get(name) if isinstance(held, dict) else None
    if held is None:
        return op == "!="
    match op:
        case "in":
            return held in value
        case "contains":
            return value in held if isinstance(held, list) else value.lower() in held.lower()
        case "=":
            return held == value
        case "!=":
            return held != value
    return {"<": held < value, "<=": held <= value, ">": held > value, ">=": held >= value}[op]


COMPARISONS = ["=", "!=", "<", "<=", ">", ">="]
words = st.sampled_from(["NIH", "nih", "it's ours", "it", "", *ATTACKS])
leaves = st.one_of(
    st.builds(lambda op, v: {"field": "year", "op": op, "value": v}, st.sampled_from(COMPARISONS), st.integers(1998, 2011)),
    st.builds(lambda v: {"field": "year", "op": "in", "value": v}, st.lists(st.integers(1998, 2011), max_size=4)),
    st.builds(
        lambda op, v: {"field": "price", "op": op, "value": v}, st.sampled_from(COMPARISONS), st.floats(-1, 9).map(lambda x: round(4 * x) / 4)
    ),
    st.builds(lambda op, v: {"field": "meta.source", "op": op, "value": v}, st.sampled_from([*COMPARISONS, "contains"]), words),
    st.builds(lambda v: {"field": "tags", "op": "contains", "value": v}, st.sampled_from(["odd", "even", "all", "o", *ATTACKS])),
)  # fmt: skip
filters = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: {"and": parts}),
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: {"or": parts}),
        inner.map(lambda part: {"not": part}),
    ),
    max_leaves=8,
)


@settings(max_examples=150)
@given(where=filters)
def test_a_filter_means_what_a_plain_reading_of_it_means(fields, rows, where):
    expected = [meets(row, where) for row in rows]
    assert fields.allowed(where).tolist() == expected, where


def test_fields_and_their_types(fields):
    assert fields.types == {
        "year": "integer", "meta.source": "string", "tags": "list", "price": "number",
    }  # fmt: skip
    assert fields.values("d3") == {"year": 2003, "meta": {"source": "NIH"}, "tags": ["odd", "all"], "price": 0.75}
    assert fields.values("nothing") == {}


@pytest.mark.parametrize("text", ATTACKS)
def test_text_stays_text(fields, text):
    before = fields.allowed({"field": "year", "op": ">", "value": 0})
    assert before.all()
    assert not fields.allowed({"field": "meta.source", "op": "=", "value": text}).any()
    with pytest.raises(UserError, match="no field"):
        fields.allowed({"field": text, "op": "=", "value": text})
    assert np.array_equal(fields.allowed({"field": "year", "op": ">", "value": 0}), before)


@pytest.mark.parametrize(
    ("where", "told"),
    [
        ({"field": "yaer", "op": "=", "value": 1}, "did you mean 'year'"),
        ({"field": "year", "op": "=", "value": "2003"}, "'year' is of type integer; compare it with such values"),
        ({"field": "year", "op": "=", "value": True}, "compare it with such values"),
        ({"field": "year", "op": "contains", "value": 2}, "not 'contains'"),
        ({"field": "tags", "op": "=", "value": "odd"}, "for which there is contains"),
        ({"field": "year", "op": "in", "value": 2003}, "needs a list"),
        ({"field": "year", "op": "in", "value": list(range(1001))}, "at most 1,000"),
        ({"field": "meta.source", "op": "=", "value": "\ud800"}, "not valid Unicode"),
        ({"field": "year", "op": "=", "value": 10**400}, "too large"),
    ],
)
def test_what_does_not_fit_is_told(fields, where, told):
    with pytest.raises(UserError, match=told):
        fields.allowed(where)


def test_too_deep_is_told(fields):
    where: dict = {"field": "year", "op": "=", "value": 2003}
    for _ in range(20):
        where = {"not": where}
    with pytest.raises(UserError, match="at most 10 levels"):
        fields.allowed(where)


def test_the_table_cannot_be_left(fields):
    """Even SQL that should never get there reads no file, and changes no setting."""
    for statement in ("SELECT * FROM read_text('/etc/hostname')", "SET threads = 8", "ATTACH '/tmp/x.db'"):
        with pytest.raises(Exception, match=r"(?i)disabled|locked|not allowed|Permission"):
            fields.table.cursor().execute(statement).fetchall()
