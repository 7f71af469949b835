"""The application: every API's routes, the page, and errors in each API's own shape.

Knows FastAPI; must not know how documents are found.
"""

from __future__ import annotations

from fastapi import FastAPI
from fastapi.responses import JSONResponse, Response
from starlette.requests import Request

from retrieval_distill.errors import UserError
from retrieval_distill.serving import search_api
from retrieval_distill.serving.page import page
from retrieval_distill.serving.service import Service

MAX_BODY = 4 << 20
"""Bytes of a request's body."""


def create_app(service: Service) -> FastAPI:
    """The application over a service."""
    app = FastAPI(title="retrieval-distill", docs_url=None, redoc_url=None, max_body_size=MAX_BODY)
    app.include_router(search_api.router(service))

    html, headers = page()

    @app.get("/", include_in_schema=False)
    async def root() -> Response:
        return Response(html, headers=headers)

    @app.exception_handler(UserError)
    async def refused(request: Request, error: UserError) -> JSONResponse:
        return JSONResponse({"error": str(error), "error_type": "validation"}, 400)

    return app
