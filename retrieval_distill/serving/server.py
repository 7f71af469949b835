"""Runs the application under uvicorn until it is told to stop: addresses, tokens and signals.

SIGTERM and Ctrl-C let requests under way end; SIGHUP opens what is new in the folders. Knows sockets and signals; must
not know what is served.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import uvicorn

from retrieval_distill.errors import UserError
from retrieval_distill.serving.guard import Guard
from retrieval_distill.serving.limits import Limits
from retrieval_distill.serving.service import Service

logger = logging.getLogger("retrieval_distill")

TOKEN = "RETRIEVAL_DISTILL_TOKEN"
"""Environment variable of the token."""

MOST_CONNECTIONS, KEEP_ALIVE = 1000, 30
"""Connections beyond which the server answers 503, and seconds for which an idle one is kept."""


def bound(host: str, port: int) -> socket.socket:
    """A socket at an address; not listening yet. Port 0: a free one.

    Raises:
        UserError: The address is in use, or not this machine's.
    """
    try:
        family, kind, proto, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        found = socket.socket(family, kind, proto)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(address)
    except (OSError, OverflowError) as error:
        raise UserError(
            f"cannot listen at {host}, port {port}: {error}; choose others with --host and --port"
        ) from None
    return found


def read_token(file: Path | None) -> str | None:
    """The token of a file, or of the environment; ``None``: there is none.

    Raises:
        UserError: The file cannot be read, or holds no token.
    """
    try:
        given = os.environ.get(TOKEN) if file is None else file.read_text(encoding="utf-8")
    except (OSError, UnicodeError) as error:
        raise UserError(f"--token-file {file}: {error}") from None
    if given is None:
        return None
    token, place = given.strip(), TOKEN if file is None else f"--token-file {file}"
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise UserError(f"{place} holds no token: one line of ASCII letters and digits is needed")
    return token


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class _Server(uvicorn.Server):
    """uvicorn, which reloads on SIGHUP and says when it listens."""

    def __init__(self, config: uvicorn.Config, service: Service, started: Callable[[], None]) -> None:
        super().__init__(config)
        self._service, self._said = service, started
        self._reloads: set[asyncio.Task[None]] = set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen."""
        await super().startup(sockets)
        if hasattr(signal, "SIGHUP"):
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._reload)
        self._said()

    def _reload(self) -> None:
        task = asyncio.ensure_future(_reloaded(self._service))
        self._reloads.add(task)  # a task that nothing refers to may be collected
        task.add_done_callback(self._reloads.discard)


async def _reloaded(service: Service) -> None:
    try:
        await service.reload()
    except UserError as error:
        logger.warning("what is new cannot be served, what was there before still is: %s", error)


def configured(app: Guard, limits: Limits) -> uvicorn.Config:
    """The settings of uvicorn: no log of requests, whose lines name who asked what.

    Nor a configuration of logging, which would close the handlers of whatever program serves from within itself.
    """
    return uvicorn.Config(
        app, access_log=False, log_config=None, log_level="warning", server_header=False, lifespan="on",
        proxy_headers=False, ws="none", limit_concurrency=MOST_CONNECTIONS, timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=limits.stop_seconds,
    )  # fmt: skip


def run(app: Guard, service: Service, at: socket.socket, started: Callable[[], None]) -> None:
    """Serve at a bound socket until SIGTERM or Ctrl-C.

    Args:
        app: The application.
        service: Reloads on SIGHUP.
        at: The socket.
        started: Called once it listens.
    """
    # uvicorn raises these again once it has stopped
    before = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        _Server(configured(app, service.limits), service, started).run(sockets=[at])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
