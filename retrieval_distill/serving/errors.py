"""Errors in the shape of the API that was asked: OpenAI's, Cohere's, or this server's own, which is TEI's.

Knows paths and shapes; must not know what went wrong.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

KINDS = {
    400: "Validation", 401: "Unauthorized", 404: "NotFound", 405: "NotFound", 408: "Timeout", 409: "Backend",
    413: "Validation", 422: "Validation", 424: "Backend", 429: "Overloaded", 500: "Backend", 501: "NotFound",
    503: "Unhealthy",
}  # fmt: skip
"""Status -> ``error_type``, as TEI names them."""

OPENAI_KINDS = {401: "authentication_error", 429: "rate_limit_error", 500: "server_error", 503: "server_error"}
"""Status -> ``type``; others are ``invalid_request_error``."""

OPENAI_CODES = {401: "invalid_api_key", 429: "rate_limit_exceeded"}


class RefusedError(Exception):
    """A request that is not answered.

    Args:
        status: HTTP's.
        message: For the client.
        param: The parameter at fault; ``None``: none in particular.
        code: For programs, such as ``model_not_found``; ``None``: none.
        headers: Further ones of the answer.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code, self.headers = status, message, param, code, headers


def is_openai(path: str) -> bool:
    """Whether a path is of OpenAI's or Cohere's API."""
    return path.startswith(("/v1/", "/v2/"))


def response(path: str, error: RefusedError) -> Response:
    """The answer to a request that is refused, in the shape of its path's API."""
    body: dict[str, Any]
    if is_openai(path):
        kind = OPENAI_KINDS.get(error.status, "invalid_request_error")
        code = error.code or OPENAI_CODES.get(error.status)
        body = {"error": {"message": error.message, "type": kind, "param": error.param, "code": code}}
        if path.endswith("/rerank"):
            body = {"message": error.message, **body}  # Cohere's clients read this one
    else:
        body = {"error": error.message, "error_type": KINDS.get(error.status, "Validation")}
    headers = dict(error.headers or {})
    return Response(json.dumps(body), error.status, headers, media_type="application/json")
