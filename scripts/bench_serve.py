"""Serving speed and memory: ``serve`` against a plain FastAPI + sentence-transformers endpoint, and against infinity-emb.

    python scripts/bench_serve.py --dataset ../shared/beir/medquad --infinity PYTHON --json runs/bench_serve.json
    python scripts/bench_serve.py --quick                                      # a smoke run
    python scripts/bench_serve.py --dataset FOLDER --requests 100000           # does memory grow?

Sixteen clients ask in a closed loop: each sends its next request when its last was answered. Every contender is a server
process of its own; each round asks all of them, one after another, the same share of the texts. Reported are requests a
second (the median over rounds; the median, lowest and highest ratio within a round), the latencies of all rounds, each
server's highest resident memory, and how far vectors differ.

* ``NAME/same-dtype/ACT``: both sides in float32; vectors must agree to 1e-5.
* ``NAME/default/ACT``: each side as its user would call it (ours: the dtype that is fast here; theirs: float32).
* ACT is ``search`` (a question to ten hits with titles and snippets, dense), ``embeddings`` (``/v1/embeddings``, one question
  a request) or ``passages`` (``/v1/embeddings``, one document of its natural length a request).
* The plain endpoint is what a user writes: ``encode`` in a function of FastAPI's thread pool, and for ``search`` a product
  with the documents' matrix. ``--infinity`` names the Python of an environment with ``infinity-emb[server,torch]``; it has no
  search. It is run with its own defaults but for engine torch on the CPU.
* ``equal_to_embed`` says whether our ``/v1/embeddings`` answers with the vectors that ``embed`` writes, to the bit, in the
  dtype of each of our servers.

The clients are threads with a connection of the standard library's ``http.client`` each. They share the machine with the
server, so they must be light: the script says what share of one core they took (``generator_cpu_share``). Locust and
clients on asyncio take several times as much, from both sides' servers.

``--requests N`` sends N searches and embeddings to our server alone, and follows the resident memory of its processes
(``/proc``): it must not grow by more than 2 % after the first tenth.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from retrieval_distill import models
from retrieval_distill.data.dataset_loader import load
from retrieval_distill.hardware import devices
from retrieval_distill.runtime import stages

CLIENTS, ROUNDS, REQUESTS = 16, 3, 2_000
DEPTH, COMPARED = 10, 64
"""Hits of a search, and vectors that are compared."""
STARTS_WITHIN = 900
"""Seconds."""
QUIET = {"HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1"}
"""For all servers: infinity-emb would send telemetry."""
GROWTH = 0.02
"""By what share memory may grow after the first tenth of the requests."""
PLAIN, INFINITY = "FastAPI + sentence-transformers", "infinity-emb"

PLAIN_SERVER = """
import json, sys
import numpy as np, uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
from sentence_transformers import SentenceTransformer

folder, documents, vectors, port = sys.argv[1:5]
model, app = SentenceTransformer(folder, device="cpu"), FastAPI()
with open(documents, encoding="utf-8") as lines:
    rows = [json.loads(line) for line in lines]
matrix = np.load(vectors)

class Texts(BaseModel):
    input: list[str]
    model: str = ""

class Question(BaseModel):
    query: str
    depth: int = 10

@app.get("/health")
def health(): return {}

@app.post("/v1/embeddings")
def embeddings(asked: Texts):
    found = model.encode_document(asked.input)
    return {"data": [{"index": n, "embedding": row.tolist()} for n, row in enumerate(found)], "model": asked.model}

@app.post("/search")
def search(asked: Question):
    scores = matrix @ model.encode_query(asked.query)
    best = np.argpartition(-scores, asked.depth)[: asked.depth]
    best = best[np.argsort(-scores[best])]
    return {"hits": [rows[n] | {"snippet": rows[n]["text"][:300], "text": "", "score": float(scores[n])} for n in best]}

uvicorn.run(app, port=int(port), log_level="warning", access_log=False)
"""


# -- servers ---------------------------------------------------------------------------------------------------------


@dataclass
class Server:
    """A running contender; ``model`` is its name for the model, ``highest`` its largest resident memory so far."""

    name: str
    process: subprocess.Popen[bytes]
    port: int
    model: str
    searches: bool = True
    highest: int = field(default=0)

    def resident(self) -> int:
        """Bytes that its processes hold in memory now."""
        now = sum(_resident(pid) for pid in _family(self.process.pid))
        self.highest = max(self.highest, now)
        return now


def _family(pid: int) -> list[int]:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [pid, *itertools.chain.from_iterable(_family(int(child)) for child in children)]


def _resident(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextlib.contextmanager
def serving(name: str, command: Callable[[int], list[str]], model: str, searches: bool = True) -> Iterator[Server]:
    """A contender that answers; its process ends with the block.

    ``command`` takes the port.
    """
    port = free_port()
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(command(port), stdout=said, stderr=said, env=os.environ | QUIET)
        try:
            end = time.monotonic() + STARTS_WITHIN
            while not healthy(port):
                if process.poll() is not None or time.monotonic() > end:
                    said.seek(0)
                    raise SystemExit(f"{name} does not answer; it said:\n{said.read().decode()[-4000:]}")
                time.sleep(0.25)
            print(f"  {name} answers", flush=True)
            yield Server(name, process, port, model, searches)
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def healthy(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


# -- requests --------------------------------------------------------------------------------------------------------


def search_body(server: Server, text: str) -> tuple[str, dict[str, Any]]:
    return "/search", {"query": text, "depth": DEPTH}


def embedding_body(server: Server, text: str) -> tuple[str, dict[str, Any]]:
    return "/v1/embeddings", {"input": [text], "model": server.model}


BODIES = {"search": search_body, "embeddings": embedding_body, "passages": embedding_body}


@dataclass(frozen=True)
class Load:
    """What the clients saw: seconds of each request and of all together, and the processor time of the clients."""

    latencies: list[float]
    seconds: float
    generator: float

    @property
    def rate(self) -> float:
        """Requests a second."""
        return len(self.latencies) / self.seconds


def asked(connection: http.client.HTTPConnection, path: str, body: dict[str, Any]) -> bytes:
    connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    content = answer.read()
    if answer.status != 200:
        raise SystemExit(f"{path} answered {answer.status}: {content[:500].decode(errors='replace')}")
    return content


def closed_loop(
    server: Server, requests: Sequence[tuple[str, str]], clients: int, after: Callable[[int], None] | None = None
) -> Load:
    """All requests (act, text), each client's next one when its last was answered; ``after`` is told how many were."""
    waiting, lock = iter(requests), threading.Lock()
    latencies: list[float] = []
    wrong: list[BaseException] = []

    def client() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=120)
        try:
            while not wrong:
                with lock:
                    request = next(waiting, None)
                if request is None:
                    return
                path, body = BODIES[request[0]](server, request[1])
                start = time.perf_counter()
                asked(connection, path, body)
                latencies.append(time.perf_counter() - start)
                if after is not None:
                    after(len(latencies))
        except BaseException as error:
            wrong.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=client) for _ in range(clients)]
    begun, busy = time.perf_counter(), time.process_time()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds, busy = time.perf_counter() - begun, time.process_time() - busy
    if wrong:
        raise SystemExit(f"{server.name}: {wrong[0]}")
    return Load(latencies, seconds, busy)


def embedded(server: Server, texts: Sequence[str]) -> np.ndarray:
    """The vectors that a server answers with, one request for each text."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=120)
    found = [json.loads(asked(connection, *embedding_body(server, text)))["data"][0]["embedding"] for text in texts]
    connection.close()
    return np.asarray(found, np.float32)


# -- what is asked, of what ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Prepared:
    """A file of documents with its index, and the texts to ask with."""

    name: str
    source: Path
    index: Path
    matrix: Path
    questions: list[str]
    passages: list[str]


def prepared(args: argparse.Namespace) -> Prepared:
    """The first documents of a data set, embedded and indexed once; later calls find them."""
    from retrieval_distill.embedding.embed import Embeddings, embed
    from retrieval_distill.index.faiss_index import index

    whole = load(args.dataset, args.work / "cache")
    rng = np.random.default_rng(0)
    count = len(whole.documents) if args.documents is None else min(args.documents, len(whole.documents))
    documents = whole.documents.at(np.arange(count))
    work: Path = args.work / f"{Path(args.dataset).name}-{count}"
    work.mkdir(parents=True, exist_ok=True)
    with (work / "corpus.jsonl").open("w", encoding="utf-8") as out:
        for id_, title, text in documents.records():
            out.write(json.dumps({"_id": id_, "title": title, "text": text}) + "\n")
    embed(args.model, load(str(work / "corpus.jsonl"), work / "cache").documents, work / "vectors", "float32")
    index(work / "vectors", work / "index", "flat")
    np.save(work / "matrix.npy", np.concatenate(list(Embeddings.open(work / "vectors").shards())))
    questions, passages = whole.queries.take(), documents.take()
    return Prepared(
        Path(args.dataset).name, work / "corpus.jsonl", work / "index", work / "matrix.npy",
        [questions[n] for n in rng.permutation(len(questions))], [passages[n] for n in rng.permutation(count)],
    )  # fmt: skip


def contenders(args: argparse.Namespace, data: Prepared, opened: contextlib.ExitStack) -> dict[str, Server]:
    folder = str(models.resolve(args.model))

    def ours(dtype: str) -> Callable[[int], list[str]]:
        parts = ["--model", args.model, "--dataset", str(data.source), "--dtype", dtype]
        return lambda port: [*_ours(), "serve", str(data.index), *parts, "--port", str(port)]

    def plain(port: int) -> list[str]:
        return [sys.executable, "-c", PLAIN_SERVER, folder, str(data.source), str(data.matrix), str(port)]

    def infinity(port: int) -> list[str]:
        options = ["--model-id", folder, "--url-prefix", "/v1", "--engine", "torch", "--device", "cpu"]
        return [str(Path(args.infinity).with_name("infinity_emb")), "v2", *options, "--port", str(port)]

    found = [serving(f"ours, {dtype}", ours(dtype), args.model) for dtype in ("float32", "auto")]
    found.append(serving(PLAIN, plain, args.model))
    if args.infinity:
        found.append(serving(INFINITY, infinity, Path(folder).name, searches=False))
    servers = [opened.enter_context(one) for one in found]
    return {server.name: server for server in servers}


def _ours() -> list[str]:
    return [sys.executable, "-m", "retrieval_distill"]


# -- figures ---------------------------------------------------------------------------------------------------------


def compare(args: argparse.Namespace, data: Prepared, requests: int, rounds: int) -> dict[str, Any]:
    texts = {"search": data.questions, "embeddings": data.questions, "passages": data.passages}
    loads: dict[tuple[str, str], list[Load]] = {}
    with contextlib.ExitStack() as opened:
        servers = contenders(args, data, opened)
        for act, server in itertools.product(texts, servers.values()):
            if act != "search" or server.searches:
                closed_loop(server, [(act, text) for text in data.questions[: 2 * CLIENTS]], args.clients)  # warm-up
        for number, act in itertools.product(range(rounds), texts):
            share = list(itertools.islice(itertools.cycle(texts[act]), number * requests, (number + 1) * requests))
            for server in servers.values():
                if act == "search" and not server.searches:
                    continue
                load_ = closed_loop(server, [(act, text) for text in share], args.clients)
                server.resident()
                loads.setdefault((act, server.name), []).append(load_)
                print(f"  {act}, {server.name}: {load_.rate:.1f} requests/s, p95 {1000 * percentile([load_], 95):.0f} ms, "
                      f"clients {load_.generator / load_.seconds:.0%} of a core", flush=True)  # fmt: skip
        vectors = {name: embedded(server, data.passages[:COMPARED]) for name, server in servers.items()}
    peers = [name for name in servers if not name.startswith("ours")]
    rows = [
        comparison(f"{data.name}/{kind}/{act}", us, them, act, loads, vectors, servers)
        for act in texts
        for them in peers
        for kind, us in (("same-dtype", "ours, float32"), ("default", "ours, auto"))
        if (act, them) in loads
    ]
    equal = {dtype: bool(np.array_equal(vectors[f"ours, {dtype}"], by_embed(args.model, dtype, data.passages[:COMPARED])))
             for dtype in ("float32", "auto")}  # fmt: skip
    return {"comparisons": rows, "equal_to_embed": equal}


def by_embed(model: str, dtype: str, texts: list[str]) -> np.ndarray:
    from retrieval_distill.student import encoder

    return np.asarray(encoder.encode(encoder.load(model, dtype), texts, "document"), np.float32)


def percentile(loads: Sequence[Load], at: float) -> float:
    return float(np.percentile(np.concatenate([load_.latencies for load_ in loads]), at))


def comparison(
    name: str, us: str, them: str, act: str, loads: dict[tuple[str, str], list[Load]],
    vectors: dict[str, np.ndarray], servers: dict[str, Server],
) -> dict[str, Any]:  # fmt: skip
    sides = {"ours": loads[act, us], "theirs": loads[act, them]}
    ratios = [our.rate / their.rate for our, their in zip(*sides.values(), strict=True)]
    return {
        "name": name if them == PLAIN else f"{name}/{them}", "peer": them, "unit": "requests/s",
        "ours": median(one.rate for one in sides["ours"]), "theirs": median(one.rate for one in sides["theirs"]),
        "ratio": median(ratios), "low": min(ratios), "high": max(ratios),
        "latency_ms": {side: {f"p{at}": 1000 * percentile(of, at) for at in (50, 95, 99)} for side, of in sides.items()},
        "generator_cpu_share": {side: sum(one.generator for one in of) / sum(one.seconds for one in of) for side, of in sides.items()},
        "max_abs_difference": float(np.abs(vectors[us] - vectors[them]).max()),
        "peak_memory_bytes": {"ours": servers[us].highest, "theirs": servers[them].highest},
    }  # fmt: skip


def show(rows: Sequence[dict[str, Any]]) -> None:
    print(
        f"\n{'comparison':46} {'ours':>7} {'theirs':>7} {'ratio':>6}  {'low-high':>11}  {'p50 ms':>11}  {'p95 ms':>11}  max diff"
    )
    for row in rows:
        ours, theirs = row["latency_ms"]["ours"], row["latency_ms"]["theirs"]
        p50, p95 = (f"{ours[at]:.0f}/{theirs[at]:.0f}" for at in ("p50", "p95"))
        print(f"{row['name']:46} {row['ours']:7.1f} {row['theirs']:7.1f} {row['ratio']:6.2f}  {row['low']:5.2f}-{row['high']:5.2f}"
              f"  {p50:>11}  {p95:>11}  {row['max_abs_difference']:.1e}")  # fmt: skip


def memory(args: argparse.Namespace, data: Prepared) -> dict[str, Any]:
    """Resident memory of our server over many requests, after each hundredth of them."""
    with contextlib.ExitStack() as opened:
        parts = ["--model", args.model, "--dataset", str(data.source), "--dtype", "auto"]
        command = [*_ours(), "serve", str(data.index), *parts]
        server = opened.enter_context(serving("ours, auto", lambda port: [*command, "--port", str(port)], args.model))
        every = max(1, args.requests // 100)
        sizes: list[tuple[int, int]] = []

        def follow(answered: int) -> None:
            if answered % every == 0:
                sizes.append((answered, server.resident()))
                if answered % (10 * every) == 0:
                    print(f"  {answered:,} requests: {sizes[-1][1] / 2**20:,.1f} MiB", flush=True)

        acts = itertools.cycle(
            [("search", data.questions), ("embeddings", data.questions), ("passages", data.passages)]
        )
        texts = {id(of): itertools.cycle(of) for of in (data.questions, data.passages)}
        requests = [(act, next(texts[id(of)])) for act, of in itertools.islice(acts, args.requests)]
        found = closed_loop(server, requests, args.clients, follow)
    settled = max(size for answered, size in sizes if answered <= max(args.requests // 10, every))
    last = median(size for _, size in sizes[-5:])
    return {
        "requests": args.requests, "requests_per_second": found.rate, "bytes_after_a_tenth": settled, "bytes_at_the_end": last,
        "growth": last / settled - 1, "followed": sizes,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="python-docs", help="a folder, or python-docs (default)")
    parser.add_argument("--documents", type=int, help="the first so many of them (default: all)")
    parser.add_argument("--model", default=models.PACKAGED)
    parser.add_argument("--clients", type=int, default=CLIENTS)
    parser.add_argument("--per-round", type=int, default=REQUESTS, help="requests of an act in a round")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--infinity", help="the Python of an environment with infinity-emb[server,torch]")
    parser.add_argument("--requests", type=int, help="follow memory over so many requests instead")
    parser.add_argument("--work", type=Path, default=Path("runs/bench_serve"))
    parser.add_argument(
        "--quick", action="store_true", help="500 documents, two rounds of 48 requests; 1,000 for memory"
    )
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))  # the servers end with it
    if args.quick:
        args.documents, args.per_round, args.rounds = args.documents or 500, 48, 2
        args.requests = args.requests and 1_000
    data, found = prepared(args), {"environment": devices.describe()}
    if args.requests:
        found["memory"] = memory(args, data)
        print(f"memory grew by {found['memory']['growth']:.2%} over {args.requests:,} requests")
    else:
        found |= compare(args, data, args.per_round, args.rounds)
        show(found["comparisons"])
        print(f"vectors of /v1/embeddings equal to embed's to the bit: {found['equal_to_embed']}")
    if args.json:
        stages.write_json(args.json, found)
    if args.requests and found["memory"]["growth"] > GROWTH:
        raise SystemExit(f"memory grew by more than {GROWTH:.0%}")
    differing = [
        row["name"]
        for row in found.get("comparisons", [])
        if "/same-dtype" in row["name"] and row["max_abs_difference"] > 1e-5
    ]
    if differing:
        raise SystemExit(f"vectors differ by more than 1e-5: {', '.join(differing)}")


if __name__ == "__main__":
    main()
