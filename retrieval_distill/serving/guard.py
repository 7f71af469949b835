"""What every request passes first: the token, the size and pace of its body, and a look at whether its client waits.

A request whose client has gone is cancelled, and what it had waiting is taken out of the queues. Only numbers are
logged and counted, never what was asked. Knows ASGI; must not know any API.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import time
import traceback
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from retrieval_distill.serving import errors
from retrieval_distill.serving.errors import RefusedError
from retrieval_distill.serving.limits import Limits
from retrieval_distill.serving.metrics import Metrics

logger = logging.getLogger("retrieval_distill")

OPEN = frozenset(("/", "/health", "/ready"))
"""Paths that need no token: they tell nothing of the documents."""

CLIENT_GONE = 499


@dataclass(eq=False)
class Guard:
    """The application behind a guard.

    Args:
        app: The application.
        limits: Of bodies.
        metrics: Where requests are counted.
        token: What clients send as ``Authorization: Bearer TOKEN``; ``None``: anyone may ask.
    """

    app: ASGIApp
    limits: Limits
    metrics: Metrics
    token: str | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begun, status = time.perf_counter(), CLIENT_GONE

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        self.metrics.in_flight.inc()
        try:
            await self._answer(scope, receive, noting)
        except RefusedError as refused:
            await errors.response(scope["path"], refused)(scope, receive, noting)
        finally:
            self.metrics.in_flight.dec()
            route = getattr(scope.get("route"), "path", "other")
            self.metrics.requests.labels(route, str(status)).inc()
            self.metrics.request_seconds.labels(route).observe(time.perf_counter() - begun)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        self._check_token(scope["path"], headers)
        body = await self._body(headers, receive)
        if body is None:
            return
        gone, given = asyncio.Event(), False

        async def replay() -> Message:
            nonlocal given
            if not given:
                given = True
                return {"type": "http.request", "body": body, "more_body": False}
            await gone.wait()
            return {"type": "http.disconnect"}

        answering = asyncio.ensure_future(self._app(scope, replay, send))
        leaving = asyncio.ensure_future(receive())
        try:
            await asyncio.wait({answering, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if not answering.done():
                gone.set()
                answering.cancel()
            await answering
        except asyncio.CancelledError:
            if not gone.is_set():
                raise
        finally:
            leaving.cancel()
            answering.cancel()

    async def _app(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The application; of an error of ours only the place is logged, since its message may quote a client."""
        try:
            await self.app(scope, receive, send)
        except RefusedError:
            raise
        except Exception as error:
            self.metrics.errors.labels(type(error).__name__).inc()
            where = "".join(traceback.format_tb(error.__traceback__)[-3:])
            logger.error("%s while answering %s\n%s", type(error).__name__, scope["path"], where)

    def _check_token(self, path: str, headers: Headers) -> None:
        if self.token is None or path in OPEN:
            return
        kind, _, given = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), self.token.encode()):
            return
        told = {"WWW-Authenticate": "Bearer", "Connection": "close"}
        raise RefusedError(401, "this server needs a token: Authorization: Bearer TOKEN", headers=told)

    async def _body(self, headers: Headers, receive: Receive) -> bytes | None:
        """The whole body; ``None``: the client has gone."""
        length = headers.get("content-length", "0")
        if length.isdecimal() and int(length) > self.limits.body:
            raise self._large()
        reading = asyncio.ensure_future(self._read(receive))
        try:
            # unlike a timeout around the reading, this takes a body that came in time while the server itself was busy
            await asyncio.wait({reading}, timeout=self.limits.body_seconds)
            if reading.done():
                return reading.result()
        finally:
            reading.cancel()
        told = f"the body took longer than {self.limits.body_seconds:g} s"
        raise RefusedError(408, told, headers={"Connection": "close"})

    async def _read(self, receive: Receive) -> bytes | None:
        """The whole body, however long it takes; ``None``: the client has gone."""
        parts, size = [], 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > self.limits.body:
                raise self._large()
            if not message.get("more_body", False):
                return b"".join(parts)

    def _large(self) -> RefusedError:
        told = f"the body has more than {self.limits.body:,} bytes; send less at once"
        return RefusedError(413, told, headers={"Connection": "close"})
