"""The application: every API's routes, the page, and errors in each API's own shape.

Knows FastAPI; must not know how documents are found.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from retrieval_distill.errors import UserError
from retrieval_distill.serving import cohere_api, errors, openai_api, search_api, status_api, tei_api
from retrieval_distill.serving.batching import QueueFullError
from retrieval_distill.serving.errors import RefusedError
from retrieval_distill.serving.guard import Guard
from retrieval_distill.serving.page import page
from retrieval_distill.serving.service import Service

REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"description": told}
    for status, told in {
        400: "Something in the request cannot be used.",
        401: "A token is needed.",
        404: "There is no such thing.",
        408: "The body came too slowly.",
        413: "Too much at once.",
        422: "The body has another shape.",
        429: "Too many requests wait; `Retry-After` says when to come back.",
        501: "This server was started without that.",
    }.items()
}


def create_app(service: Service, *, token: str | None = None, mcp: Any = None, host: str = "127.0.0.1") -> Guard:
    """The application over a service, an ASGI callable.

    Args:
        service: What answers.
        token: What clients send as ``Authorization: Bearer TOKEN``; ``None``: anyone may ask.
        mcp: The MCP server that is offered under ``/mcp``; ``None``: none.
        host: Where the server listens; at this machine's own address MCP takes no requests for other hosts' names.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(service.running())
            if mcp is not None:
                await stack.enter_async_context(mcp.session_manager.run())
            yield

    app = FastAPI(
        title="retrieval-distill",
        description="Search, embeddings and reranking by a distilled student.",
        version=version("retrieval-distill"),
        docs_url=None,  # its scripts come from elsewhere
        redoc_url=None,
        responses=REFUSALS,
        lifespan=lifespan,
        exception_handlers={
            RefusedError: _refused, UserError: _refused, QueueFullError: _refused, RequestValidationError: _refused,
            HTTPException: _refused, Exception: _refused,
        },
    )  # fmt: skip
    for api in (search_api, openai_api, tei_api, cohere_api, status_api):
        app.include_router(api.router(service))

    html, headers = page()

    @app.get("/", include_in_schema=False)
    async def root() -> Response:
        return Response(html, headers=headers)

    if mcp is not None:
        app.router.routes.extend(mcp.streamable_http_app(json_response=True, stateless_http=True, host=host).routes)
    return Guard(app, service.limits, service.metrics, token)


async def _refused(request: Request, error: Exception) -> Response:
    """The answer to a request that fails."""
    return errors.response(request.url.path, _refusal(request.url.path, error))


def _refusal(path: str, error: Exception) -> RefusedError:
    openai = errors.is_openai(path)
    match error:
        case RefusedError():
            return error
        case QueueFullError():
            return RefusedError(429, str(error), headers={"Retry-After": str(error.seconds)})
        case UserError():
            return RefusedError(400, str(error))
        case RequestValidationError():
            param, told = _fault(error)
            return RefusedError(400 if openai else 422, told, param=param)
        case HTTPException():
            return RefusedError(error.status_code, str(error.detail), headers=error.headers)
        case _:
            return RefusedError(500, "the server failed; its log says where")


def _fault(error: RequestValidationError) -> tuple[str | None, str]:
    """The parameter at fault, and what is wrong with it; never its value."""
    first = error.errors()[0]
    place = [str(part) for part in first["loc"] if part != "body"]
    if first["type"] == "json_invalid":
        return None, "the body is not valid JSON"
    name = ".".join(place)
    return (place[0] if place else None), f"{name}: {first['msg']}" if name else str(first["msg"])
