"""Everything that the OpenAPI document describes, asked with what it allows and what it does not: schemathesis.

No answer may be a server's error, have a status or a shape that is not described, or accept what is not allowed.
"""

from __future__ import annotations

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi import checks

EXAMPLES = 25
"""Requests of each operation and kind of data."""

CHECKS = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
    checks.negative_data_rejection,
    checks.unsupported_method,
]


@pytest.fixture(scope="module")
def described(served):
    return schemathesis.openapi.from_url(f"{served.url}/openapi.json")


schema = schemathesis.pytest.from_fixture("described")
counts: dict[str, int] = {}


@schema.parametrize()
@settings(
    max_examples=EXAMPLES, deadline=None, phases=[Phase.explicit, Phase.generate], derandomize=True,
    suppress_health_check=list(HealthCheck),
)  # fmt: skip
def test_everything_described(case):
    counts[case.operation.label] = counts.get(case.operation.label, 0) + 1
    response = case.call(timeout=60)
    if response.status_code == 501:  # a switch of this server, described as such
        return
    case.validate_response(response, checks=CHECKS)


def test_every_operation_was_asked(served, record_property):
    """Runs after the other of this file."""
    with served.client() as client:
        paths = client.get("/openapi.json").json()["paths"]
    described = {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods}
    record_property("requests", counts)
    assert set(counts) == described
