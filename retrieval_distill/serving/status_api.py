"""How the service is: ``/health``, ``/ready``, ``/metrics``, ``/version``, and ``/reload``.

Knows the service; must not know what it serves.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from fastapi import APIRouter, Response
from fastapi.responses import PlainTextResponse

from retrieval_distill.errors import UserError
from retrieval_distill.serving.answers import json
from retrieval_distill.serving.errors import RefusedError
from retrieval_distill.serving.service import Service


def router(service: Service) -> APIRouter:
    """The routes."""
    routes = APIRouter(tags=["status"])

    @routes.get("/health", response_model=dict[str, str])
    async def health() -> Response:
        """Whether the process answers."""
        return json({"status": "ok"})

    @routes.get("/ready", response_model=dict[str, str])
    async def ready() -> Response:
        """Whether it takes further requests: not when it is stopping, or a queue is full."""
        full = [stage for stage, batcher in service.batchers.items() if batcher.length >= service.limits.waiting]
        if service.stopping or full:
            raise RefusedError(503, "stopping" if service.stopping else f"busy: {', '.join(full)}")
        return json({"status": "ready"})

    @routes.get("/metrics", response_class=PlainTextResponse)
    async def metrics() -> Response:
        """Counts and times, for Prometheus."""
        return Response(service.metrics.text(), headers={"Content-Type": service.metrics.content_type})

    @routes.get("/version", response_model=dict[str, Any])
    async def versions() -> Response:
        """Fingerprints of the model, the index and the corpus that answer now."""
        return json({"version": version("retrieval-distill"), **service.engine.versions})

    @routes.post("/reload", response_model=dict[str, Any])
    async def reload() -> Response:
        """Let what the folders hold now answer from here on; requests under way end with what they began with."""
        try:
            changed = await service.reload()
        except UserError as error:
            raise RefusedError(409, f"what was there before still answers: {error}") from None
        return json({"changed": changed, **service.engine.versions})

    return routes
