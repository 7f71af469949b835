"""Everything that the OpenAPI document describes, asked with what it allows and what it does not: schemathesis.

No answer may be a server's error, have a status or a shape that is not described, or accept what is not allowed.
"""

from __future__ import annotations

import logging
from collections import Counter

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi import checks

logger = logging.getLogger(__name__)

EXAMPLES = 30
"""Requests of each operation, as many of what it allows as of what it does not."""

CHECKS = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
    checks.negative_data_rejection,
]


def test_everything_described(served):
    asked: Counter[str] = Counter()
    answered: Counter[int] = Counter()
    schema = schemathesis.openapi.from_url(f"{served.url}/openapi.json")
    for operation in (found.ok() for found in schema.get_all_operations()):
        for mode in GenerationMode:
            if mode is GenerationMode.NEGATIVE and not list(operation.body):
                continue  # nothing that could be wrong

            @settings(
                max_examples=EXAMPLES, deadline=None, phases=[Phase.explicit, Phase.generate], derandomize=True,
                database=None, suppress_health_check=list(HealthCheck),
            )  # fmt: skip
            @given(case=operation.as_strategy(generation_mode=mode))
            def ask(case):
                response = case.call(timeout=60)
                asked[case.operation.label] += 1
                answered[response.status_code] += 1
                case.validate_response(response, checks=CHECKS)

            ask()
    logger.info("%d requests, %s, answered %s", asked.total(), dict(asked), dict(answered))
    described = {
        f"{method.upper()} {path}" for path, methods in schema.raw_schema["paths"].items() for method in methods
    }
    assert set(asked) == described and answered[200] and answered[422] and answered[400]
    assert not [status for status in answered if status >= 500 and status != 501]


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "TRACE"])
def test_other_methods_are_refused(served, method):
    with served.client() as client:
        assert {client.request(method, path).status_code for path in ("/search", "/v1/embeddings", "/health")} == {405}
