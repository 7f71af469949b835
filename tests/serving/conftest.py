"""A tiny finished run with metadata, and a real server over it on a free port."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import uvicorn

from retrieval_distill.config import parse_recipe
from retrieval_distill.data.formats import beir
from retrieval_distill.embedding.embed import embed
from retrieval_distill.index.faiss_index import index
from retrieval_distill.runtime import stages
from retrieval_distill.search.location import SearchLocation
from retrieval_distill.serving import running, server
from retrieval_distill.serving.app import create_app
from retrieval_distill.serving.mcp_server import create_mcp
from retrieval_distill.serving.service import Service


@pytest.fixture(scope="session")
def finished_run(dataset, encoders, tiny_recipe, tmp_path_factory):
    """What serving needs of a finished run: 60 documents with a year, a source and tags."""
    folder = tmp_path_factory.mktemp("served")
    beir.save(dataset, folder / "data")
    path = folder / "data" / "corpus.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for number, row in enumerate(rows):
        row |= {"year": 2000 + number % 10, "meta": {"source": "NIH" if number % 2 else "it's ours"}}
        row |= {"tags": ["even" if number % 2 == 0 else "odd", "all"]} | ({"price": number / 4} if number < 30 else {})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = parse_recipe(tiny_recipe | {"dataset": {"source": str(folder / "data")}})
    shutil.copytree(encoders["bert"], folder / "run" / "student")
    embed(encoders["bert"], dataset.documents, folder / "vectors", "float32")
    index(folder / "vectors", folder / "run" / "index-student", "flat")
    stages.write_json(folder / "run" / "recipe.json", recipe.model_dump(mode="json"))
    return folder / "run"


@dataclass
class Served:
    """A server in a thread of this process."""

    url: str
    service: Service
    folder: Path

    def client(self, **options) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=60, trust_env=False, **options)

    def post(self, path: str, body: object, **options) -> httpx.Response:
        with self.client() as client:
            return client.post(path, json=body, **options)


@contextmanager
def serving(folder: Path, *, token: str | None = None, mcp: bool = False, **options) -> Iterator[Served]:
    """A run served by a real uvicorn on a free port."""
    service = running.open_service(lambda: SearchLocation.of_run(folder), **options)
    at = server.bound("127.0.0.1", 0)
    app = create_app(service, token=token, mcp=create_mcp(service) if mcp else None)
    one = uvicorn.Server(server.configured(app, service.limits))
    thread = threading.Thread(target=one.run, kwargs={"sockets": [at]})
    thread.start()
    try:
        while not one.started:
            assert thread.is_alive()
            time.sleep(0.01)
        yield Served(f"http://127.0.0.1:{at.getsockname()[1]}", service, folder)
    finally:
        one.should_exit = True
        thread.join()


@pytest.fixture(scope="session")
def served(finished_run, cross_encoders, tmp_path_factory):
    """The run with a teacher, its feedback kept, and MCP."""
    log = tmp_path_factory.mktemp("log") / "feedback.db"
    with serving(finished_run, teacher=cross_encoders["bert"], feedback=log, mcp=True) as found:
        yield found
