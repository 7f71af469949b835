"""Puts a service together and runs it: over HTTP, or over standard streams for an agent.

Knows locations and options; must not know the command line.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from retrieval_distill.config import TeacherConfig, parse
from retrieval_distill.feedback.log import FeedbackLog
from retrieval_distill.formatting import counted
from retrieval_distill.search.location import SearchLocation
from retrieval_distill.serving import app, server
from retrieval_distill.serving.engine import Engine, state
from retrieval_distill.serving.limits import Limits
from retrieval_distill.serving.mcp_server import create_mcp
from retrieval_distill.serving.service import Service
from retrieval_distill.teacher import teacher_loader

logger = logging.getLogger("retrieval_distill")

Locate = Callable[[], SearchLocation]
"""The location as it is now: its dataset is read anew."""


def open_service(
    locate: Locate,
    *,
    dtype: str = "float32",
    teacher: str | None = None,
    start: bool = False,
    feedback: Path | None = None,
    limits: Limits | None = None,
) -> Service:
    """A service over a location, loaded and ready to run.

    Args:
        locate: What is served.
        dtype: What models compute in: ``"float32"``, ``"bfloat16"``, ``"float16"`` or ``"auto"``.
        teacher: Reranks; as ``search --rerank``. ``None``: no reranking.
        start: Whether to serve a run's start model too.
        feedback: File that keeps searches and feedback; ``None``: none are kept.
        limits: Of requests; ``None``: the usual ones.

    Raises:
        UserError: Something cannot be opened.
    """
    place = locate()
    scorer = None
    if teacher is not None:
        config = parse(TeacherConfig, {"model": teacher, "bm25": place.bm25}, "teacher")
        scorer = teacher_loader.load(config, teacher_loader.Corpus(place.dataset.documents))
    log = None if feedback is None else FeedbackLog.open(feedback)

    def open_engine() -> Engine:
        return Engine.open(locate(), dtype=dtype, teacher=scorer, start=start)

    seen = state(place)
    engine = Engine.open(place, dtype=dtype, teacher=scorer, start=start)
    return Service(engine, open_engine, lambda: state(locate()), seen, limits or Limits(), log, teacher)


def over_http(
    opening: Callable[[], Service],
    host: str,
    port: int,
    token_file: Path | None,
    *,
    mcp: bool,
    say: Callable[[str], None],
) -> None:
    """Serve until SIGTERM or Ctrl-C. The service is opened once the address is known to be free.

    Raises:
        UserError: The address is in use, there is no token where one should be, or something cannot be opened.
    """
    token, at = server.read_token(token_file), server.bound(host, port)
    service = opening()
    if token is None and not server.is_loopback(host):
        logger.warning("anyone who reaches %s may ask: set a token with --token-file", host)
    shown = f"[{host}]" if ":" in host else host
    address = f"http://{shown}:{at.getsockname()[1]}"
    what = f"{counted(service.engine.documents, 'document')} of {service.engine.dataset.name!r}"
    tool = create_mcp(service) if mcp else None
    application = app.create_app(service, token=token, mcp=tool, host=host)
    server.run(application, service, at, lambda: say(f"serving {what} at {address}; Ctrl-C stops"))


def over_stdio(service: Service) -> None:
    """Answer an agent over standard input and output until it closes them."""

    async def answer() -> None:
        async with service.running():
            await create_mcp(service).run_stdio_async()

    asyncio.run(answer())
