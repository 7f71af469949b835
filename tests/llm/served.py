"""A real HTTP server that embeds and reranks as OpenAI, Cohere, Jina and text-embeddings-inference do, and misbehaves
when it is told to.
"""

from __future__ import annotations

import base64
import json
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np

from retrieval_distill.data.hashes import text_hash

DIMENSIONS = 24


def vector(text: str) -> np.ndarray:
    """A bag of words, each in a direction of its own, float32 [DIMENSIONS] of length 1."""
    draws = [np.random.default_rng(text_hash(word)).normal(size=DIMENSIONS) for word in text.split() or ["nothing"]]
    total = np.sum(draws, axis=0)
    return (total / np.linalg.norm(total)).astype(np.float32)


def overlap(query: str, document: str) -> float:
    """A score that is no probability: shared words, and a little for the document's length."""
    return float(len({*query.split()} & {*document.split()}) + len(document) / 1000)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self):
        told, path = self.server.told, self.path
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with told.lock:
            told.requests.append((path, body, self.headers.get("Authorization")))
            told.texts.update(told.texts_of(body))
            fault = told.faults.pop(0) if told.faults else told.always
        time.sleep(told.seconds)
        status, value, headers = fault(body) if fault else (200, told.answer(path, body), {})
        content = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        for name, header in {"Content-Length": len(content), **headers}.items():
            self.send_header(name, str(header))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args):
        pass


class Server(ThreadingHTTPServer):
    def handle_error(self, *args):  # a client that gave up
        pass


class Told:
    """What the server is told, and what it saw."""

    def __init__(self, port: int):
        self.root = f"http://127.0.0.1:{port}"
        self.v1 = f"{self.root}/v1"
        self.lock = threading.Lock()
        self.requests: list[tuple] = []
        self.texts: Counter = Counter()
        self.faults: list = []
        self.always = None
        self.seconds = 0.0
        self.vectors = lambda texts: [vector(text) for text in texts]
        self.floats = self.reversed = self.no_base64 = False

    def texts_of(self, body: dict) -> list:
        """What was asked: a text, or a query with a document."""
        if "query" in body:
            return [(body["query"], text) for text in body.get("documents") or body["texts"]]
        return body.get("input") or body["inputs"]

    def answer(self, path: str, body: dict):
        if path.endswith("/rerank"):
            documents = body.get("documents") or body["texts"]
            name = "score" if path == "/rerank" else "relevance_score"
            found = [{"index": i, name: overlap(body["query"], text)} for i, text in enumerate(documents)]
            found.sort(key=lambda result: -result[name])  # as all of them do
            return found if path == "/rerank" else {"results": found, "usage": {"total_tokens": 10 * len(found)}}
        found = self.vectors(body.get("input") or body["inputs"])
        if path == "/embed":
            return [row.tolist() for row in found]
        as_text = body.get("encoding_format") == "base64" and not self.floats
        values = [base64.b64encode(row.tobytes()).decode() if as_text else row.tolist() for row in found]
        data = [{"index": i, "embedding": value} for i, value in enumerate(values)]
        return {"data": data[::-1] if self.reversed else data, "usage": {"total_tokens": 7 * len(data)}}


def serve():
    """A server that runs, and what it is told."""
    server = Server(("127.0.0.1", 0), Handler)
    server.told = Told(server.server_address[1])
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    return server


def error(status: int, message: str, **headers):
    """A fault that refuses."""
    return lambda body: (status, {"error": {"message": message}}, {k.replace("_", "-"): v for k, v in headers.items()})


def value(made):
    """A fault that answers something else."""
    return lambda body: (200, made, {})
