"""A small server that answers as `serve` promises to, over documents of its own, and keeps what it was asked."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse

from retrieval_distill.serving.page import page

ATTACK = '<img src=x onerror="window.attacked = true"> lock & key'
"""A title that would run a script if it were read as HTML."""

TEXTS = [
    ("d1", "How a write-ahead log survives a power failure",
     "Changes are written to a log before they are made. After a power failure the database reads the log from its last checkpoint, "
     "makes the changes again that were lost, and undoes those of transactions that never ended.",
     {"year": 2021, "language": "English", "free": True}),
    ("d2", ATTACK, "A <b>lock</b> keeps two writers from one page of the database at the same time.", {"year": 2019, "language": "English", "free": False}),
    ("d3", "Sicherung einer Datenbank 🗄️", "🗄️🔐 Eine Datenbank wird gesichert, bevor etwas verloren geht: database backup before a failure.", {"year": 2023, "language": "German", "free": True}),
    ("d4", "Replication", "Each change is sent to a second database, which takes over after a failure of the first.", {"year": 2024, "language": "English", "free": True, "url": "https://example.org/replication"}),
    ("d5", "", "A document without a title: what a checkpoint of a database is for.", {"year": 2016, "language": "English", "free": False}),
    *((f"n{number}", f"Note {number} on storage", f"Note {number}: how long a database waits for a disk, measured on {number + 2} machines.",
       {"year": 2000 + number, "language": "French" if number % 2 else "English", "free": number % 3 == 0}) for number in range(19)),
]  # fmt: skip

SYSTEMS = [
    {"name": "start", "label": "start model", "trained": False, "hybrid": False},
    {"name": "student", "label": "student", "trained": True, "hybrid": False},
    {"name": "hybrid-student", "label": "student and BM25", "trained": True, "hybrid": True},
]
FIELDS = [
    {"name": "year", "type": "integer"},
    {"name": "language", "type": "string"},
    {"name": "free", "type": "boolean"},
]
OPERATIONS = {
    "=": lambda a, b: a == b, "!=": lambda a, b: a != b, "<": lambda a, b: a < b, "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b, ">=": lambda a, b: a >= b, "in": lambda a, b: a in b, "contains": lambda a, b: b in a,
}  # fmt: skip


@dataclass
class StandIn:
    """The server's address, and what it received: (path, body)."""

    url: str = ""
    received: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    refuse: list[Response] = field(default_factory=list)
    """Answers that the next requests but for the page and /systems get instead."""
    delay: float = 0.0
    token: str | None = None
    swapped: bool = False
    searches: dict[str, str] = field(default_factory=dict)

    def bodies(self, path: str) -> list[dict[str, Any]]:
        return [body for at, body in self.received if at == path]


def meets(metadata: dict[str, Any], where: dict[str, Any] | None) -> bool:
    if where is None:
        return True
    for key, combine in (("and", all), ("or", any)):
        if key in where:
            return combine(meets(metadata, part) for part in where[key])
    return OPERATIONS[where["op"]](metadata[where["field"]], where["value"])


def found(server: StandIn, system: str, body: dict[str, Any]) -> dict[str, Any]:
    query = next(text for id_, _, text, _ in TEXTS if id_ == body["like"]) if body.get("like") else body["query"]
    words = set(re.findall(r"\w{3,}", query.lower()))
    overlap = {id_: len(words & set(re.findall(r"\w{3,}", f"{title} {text}".lower()))) for id_, title, text, _ in TEXTS}
    rows = [row for row in TEXTS if overlap[row[0]] and row[0] != body.get("like") and meets(row[3], body.get("where"))]
    rows.sort(key=lambda row: -overlap[row[0]] if system != "start" else overlap[row[0]])
    start, depth = body.get("offset", 0), body["depth"]
    hits = []
    for rank, (id_, title, text, metadata) in enumerate(rows[start : start + depth], start + 1):
        spans = [[m.start(), m.end()] for m in re.finditer(r"\w{3,}", text) if m[0].lower() in words]
        parts = {"dense": {"score": 0.9 - rank / 100, "rank": rank}, "bm25": None, "teacher": None}
        if system == "hybrid-student":
            parts["bm25"] = {"score": 12.5 - rank, "rank": rank + 1}
        if body.get("rerank"):
            parts["teacher"] = {"score": 7.25, "rank": rank}
        hits.append({"id": id_, "rank": rank, "score": 1 / rank, "title": title, "snippet": text, "highlights": spans,
                     "passage": f"{id_}#2" if id_ == "d1" else None, "metadata": metadata, "parts": parts})  # fmt: skip
    search_id = f"s{len(server.searches)}"
    server.searches[search_id] = system
    return {"search_id": search_id, "query": body.get("query") or "", "system": system, "total": len(rows), "hits": hits,
            "milliseconds": {"encode": 9.4, "search": 3.1, "rerank": 0.0, "total": 13.2}}  # fmt: skip


def application(server: StandIn) -> FastAPI:
    app = FastAPI()
    html, headers = page()

    @app.middleware("http")
    async def watch(request: Request, answer: Any) -> Response:
        path = request.url.path
        if path != "/" and server.token and request.headers.get("authorization") != f"Bearer {server.token}":
            return JSONResponse({"error": "a token is needed", "error_type": "unauthorized"}, 401)
        if path not in ("/", "/systems") and server.refuse:
            return server.refuse.pop(0)
        if path == "/search":
            time.sleep(server.delay)
        return await answer(request)

    async def taken(request: Request) -> dict[str, Any]:
        body = await request.json()
        server.received.append((request.url.path, body))
        return body

    @app.get("/")
    async def root() -> Response:
        return Response(html, headers=headers)

    @app.get("/systems")
    async def systems() -> dict[str, Any]:
        return {
            "systems": SYSTEMS,
            "default": "hybrid-student",
            "rerank": True,
            "fields": FIELDS,
            "feedback": True,
            "docs": 4421,
        }

    @app.post("/search")
    async def search(request: Request) -> dict[str, Any]:
        body = await taken(request)
        return found(server, body.get("system") or "hybrid-student", body)

    @app.post("/compare")
    async def compare(request: Request) -> dict[str, Any]:
        body = await taken(request)
        sides = [found(server, name, body) for name in body["systems"][:: -1 if server.swapped else 1]]
        for side in sides:
            del side["system"]
        return dict(zip(("left", "right"), sides, strict=True))

    @app.post("/feedback", status_code=204)
    async def feedback(request: Request) -> Response:
        await taken(request)
        return Response(status_code=204)

    @app.post("/preference")
    async def preference(request: Request) -> dict[str, Any]:
        body = await taken(request)
        return {side: server.searches[body[side]] for side in ("left", "right")}

    return app


@contextlib.contextmanager
def running(app: FastAPI) -> Iterator[str]:
    """The address of an application that runs in a thread, on a port of its own."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False))
        thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        server.should_exit = True
        thread.join()


if __name__ == "__main__":  # to look at the page by hand: python -m tests.serving.page.stand_in
    uvicorn.run(application(StandIn()), port=8011)
