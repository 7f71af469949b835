"""Requests and answers as JSON: bodies whose unknown keys are refused, answers written in one go.

Knows pydantic and JSON; must not know any API.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, StringConstraints
from pydantic_core import to_json
from starlette.responses import Response

Name = Annotated[str, StringConstraints(min_length=1, max_length=512)]


class Body(BaseModel):
    """A request's body. Unknown keys are refused, since they are most often misspelled ones."""

    model_config = ConfigDict(extra="forbid", strict=True)


class LooseBody(BaseModel):
    """A request's body in another's API, which has keys that mean nothing here."""

    model_config = ConfigDict(extra="ignore", strict=True)


def json(value: Any, status: int = 200) -> Response:
    """An answer."""
    return Response(to_json(value), status, media_type="application/json")
