"""Indexes and search against exact search, plain FAISS and sentence-transformers, on this machine.

    python scripts/bench_index.py --part quality --beir ../shared/beir --json runs/bench-index-quality.json
    python scripts/bench_index.py --part build   --beir ../shared/beir     # a million vectors and their indexes, kept
    python scripts/bench_index.py --part million --beir ../shared/beir --json runs/bench-index-million.json
    python scripts/bench_index.py --part single  --beir ../shared/beir --json runs/bench-index-single.json
    python scripts/bench_index.py --part start   --beir ../shared/beir --json runs/bench-index-start.json
    python scripts/bench_index.py --part ...  --quick                     # SciFact and 50,000 vectors

* ``quality``: nDCG@10 on the test queries of SciFact and MedQuAD, vectors by the packaged all-MiniLM-L6-v2 (384
  dimensions), of 8-bit and of binary vectors with rescoring from stored vectors, against exact search; and the memory of
  each index against float32's. The peer is sentence-transformers' ``semantic_search_faiss`` at the same precision with
  its own rescoring (4 times as many, from the quantised vectors).
* ``million``: a million vectors: those of MedQuAD's and SciFact's documents, drawn with replacement, each moved by half
  the difference of two others, so that they vary as real ones do; queries are vectors of real test queries. Each kind of
  index is asked as little thoroughly as reaches recall@10 0.99, and 0.95, and then timed: queries one by one (p50, p95)
  and all at once (queries/s), in rounds in which ``faiss.IndexFlatIP`` answers the same queries. Rows of one recall
  share a name.
* ``single``: milliseconds from a query's text to its documents, titles and snippets in a warm process, MedQuAD, against
  ``SentenceTransformer.encode_query`` with ``semantic_search`` or ``semantic_search_faiss`` (float32, exact), which give
  ids and scores. All answer the same queries, in rounds; of each query, ids and scores are compared.
* ``start``: seconds from starting the program to the first answer, against a script of a few lines.

``--work`` keeps vectors and indexes between calls. A ratio above 1 is ours better.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from retrieval_distill import models
from retrieval_distill.data.dataset import Dataset
from retrieval_distill.data.dataset_loader import load
from retrieval_distill.data.run import Run
from retrieval_distill.embedding import shards
from retrieval_distill.embedding.embed import SHARD, Embeddings, comparable, embed
from retrieval_distill.embedding.storage import Storage
from retrieval_distill.evaluation.measures import evaluate
from retrieval_distill.evaluation.significance import ratio_with_interval
from retrieval_distill.hardware import devices
from retrieval_distill.index import rescoring
from retrieval_distill.index.faiss_index import Index, index
from retrieval_distill.index.index import Setting
from retrieval_distill.index.kinds import KINDS, RESCORES
from retrieval_distill.models import PACKAGED
from retrieval_distill.retrieval import exact
from retrieval_distill.runtime import stages

NAMES = ("medquad", "scifact")
MILLION, QUICK = 1_000_000, 50_000
DIMENSIONS, DEPTH = 384, 10
ROUNDS, PER_ROUND, AT_ONCE, ASKED = 5, 12, 64, 200
"""Rounds, queries asked one by one and at once in each, and queries by which recall is measured."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=PARTS, required=True)
    parser.add_argument("--beir", type=Path, default=Path("../shared/beir"))
    parser.add_argument("--work", type=Path, default=Path("runs/bench-index"))
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--kinds", nargs="*", default=list(KINDS), choices=KINDS, help="for build and million")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    rows = []
    for row in PARTS[args.part](args):
        rows.append(row)
        print(line(row), flush=True)
        if args.json:
            stages.write_json(args.json, {"environment": devices.describe(), "comparisons": rows})


def line(row: dict[str, Any]) -> str:
    theirs = "" if row["theirs"] is None else f"; {row['peer']} {row['theirs']:.4g}, {row['ratio']:.3f}x"
    more = {
        key: value
        for key, value in row.items()
        if key in ("memory_ratio", "recall", "setting", "p50", "p95", "interval", "low", "high", "peer_p95")
        or key in ("same_ids", "max_abs_difference")
    }
    return f"{row['name']:34} {row['ours']:.4g} {row['unit']}{theirs} {more}"


def lowest_and_highest(ours: np.ndarray, theirs: np.ndarray) -> dict[str, float]:
    """Of the ratios of each round's medians, times [rounds, queries] on both sides; above 1 is ours faster."""
    ratios = np.median(theirs, axis=1) / np.median(ours, axis=1)
    return {"low": round(float(ratios.min()), 2), "high": round(float(ratios.max()), 2)}


def middle_and_slow(times: np.ndarray) -> dict[str, float]:
    """Of milliseconds."""
    return {"p50": round(float(np.median(times)), 2), "p95": round(float(np.percentile(times, 95)), 2)}


def compared(name: str, peer: str, ours: float, theirs: float, unit: str, **more: Any) -> dict[str, Any]:
    """A row; of times less is better."""
    ratio = theirs / ours if unit in ("ms", "s") else ours / theirs
    return {"name": name, "peer": peer, "ours": ours, "theirs": theirs, "unit": unit, "ratio": ratio, **more}


def corpus(name: str, args: argparse.Namespace) -> tuple[Dataset, Embeddings]:
    """A collection and its documents' vectors."""
    dataset = load(str(args.beir / name), args.work / "cache")
    embed(PACKAGED, dataset.documents, args.work / name / "vectors")
    return dataset, Embeddings.open(args.work / name / "vectors")


def asked_of(name: str, args: argparse.Namespace, dataset: Dataset) -> np.ndarray:
    """Vectors of the test queries, float32 [queries, dimensions]; kept."""
    path = args.work / name / "test-queries.npy"
    if not path.is_file():
        from retrieval_distill.student import encoder

        np.save(path, encoder.encode(encoder.load(PACKAGED), dataset.queries("test").take(), "query"))
    return np.load(path)


def quality(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    for name in ("scifact",) if args.quick else NAMES:
        dataset, embeddings = corpus(name, args)
        queries = asked_of(name, args, dataset)
        # MedQuAD's queries have the ids of their answers, which evaluation would take for a query that finds itself
        judged = {f"q-{id_}": docs for id_, docs in dataset.qrels("test").items()}
        ids = [f"q-{id_}" for id_ in dataset.queries("test").ids]

        def measured(scores: np.ndarray, found: np.ndarray, judged: Any = judged, ids: list[str] = ids) -> np.ndarray:
            return evaluate(Run.from_best(ids, found, scores), judged, ["nDCG@10"])["nDCG@10"].to_numpy()

        def ours(kind: str, rescore: int, args: Any = args, name: str = name, embeddings: Any = embeddings,
                 queries: np.ndarray = queries) -> tuple[np.ndarray, np.ndarray, int]:  # fmt: skip
            folder = args.work / name / f"{kind}-{rescore}"
            index(embeddings.folder, folder, kind, rescore=rescore)
            opened = Index.open(folder)
            return *opened.search(queries, DEPTH), opened.manifest["counts"]["bytes"]

        scores, found, flat_bytes = ours("flat", 0)
        best = measured(scores, found)
        for kind, peer_precision, rescores in (("sq8", "uint8", (0, 2, 4)), ("binary", "ubinary", (0, 4, 8, 16))):
            theirs = measured(*_sentence_transformers(embeddings, queries, peer_precision))
            for rescore in rescores:
                scores, found, taken = ours(kind, rescore)
                values = measured(scores, found)
                kept = ratio_with_interval(values, best)
                more = {"memory_ratio": round(flat_bytes / taken, 2), "bytes": {"ours": taken, "float32": flat_bytes},
                        "interval": [round(kept.low, 4), round(kept.high, 4)] if kept else None}  # fmt: skip
                label = f"{name}/{kind}/rescore-{rescore}"
                yield compared(label, "exact float32", values.mean(), best.mean(), "nDCG@10", **more)
                better = ratio_with_interval(values, theirs)
                yield compared(
                    label, f"sentence-transformers {peer_precision}", values.mean(), theirs.mean(), "nDCG@10",
                    interval=[round(better.low, 4), round(better.high, 4)] if better else None,
                )  # fmt: skip


def _sentence_transformers(
    embeddings: Embeddings, queries: np.ndarray, precision: str
) -> tuple[np.ndarray, np.ndarray]:
    """Scores and ids by the library's quantised search, rescoring four times as many (the multiplier it suggests)."""
    from sentence_transformers.util.quantization import quantize_embeddings, semantic_search_faiss

    documents = np.concatenate(list(embeddings.shards()))
    results, _ = semantic_search_faiss(
        queries, corpus_embeddings=quantize_embeddings(documents, precision, calibration_embeddings=documents),
        corpus_precision=precision, top_k=DEPTH, calibration_embeddings=documents, rescore_multiplier=4,
    )  # fmt: skip
    rows = np.array([[hit["corpus_id"] for hit in hits] for hits in results])
    return np.array([[hit["score"] for hit in hits] for hits in results]), embeddings.ids_of(rows)


def crowd(args: argparse.Namespace) -> tuple[Path, np.ndarray]:
    """A folder with many vectors like real ones, and vectors of real queries; both kept."""
    count, parts = QUICK if args.quick else MILLION, [corpus(name, args) for name in NAMES]
    folder = args.work / f"crowd-{count}"
    real = np.concatenate([shard for _, embeddings in parts for shard in embeddings.shards()])
    queries = np.concatenate([asked_of(name, args, data) for name, (data, _) in zip(NAMES, parts, strict=True)])
    _write_crowd(folder, comparable(real, "cosine"), count)
    rng = np.random.default_rng(2)
    return folder, queries[rng.permutation(len(queries))[:ASKED]]


def _write_crowd(folder: Path, real: np.ndarray, count: int) -> None:
    """As ``embed`` would have left them."""
    if (folder / "manifest.json").is_file():
        return
    folder.mkdir(parents=True, exist_ok=True)
    Storage.fit("float32", real).save(folder)
    numbers = pa.array(np.arange(count, dtype=np.uint64))
    pq.write_table(pa.table({"id": pc.binary_join_element_wise("d", numbers.cast(pa.string()), ""), "hash": numbers}),
                   folder / "ids.parquet")  # fmt: skip
    written = []
    for number, start in enumerate(range(0, count, SHARD)):
        own, there, here = np.random.default_rng(number).integers(len(real), size=(3, min(SHARD, count - start)))
        moved = comparable(real[own] + 0.5 * (real[there] - real[here]), "cosine")
        written.append(shards.write(folder, number, moved))
    stages.write_json(folder / "shards.json", shards.describe(iter(written)))
    stages.write_json(folder / "manifest.json", {
        "stage": "embed", "fingerprint": f"crowd-{count}", "inputs": {"model": "moved vectors", "max_length": None},
        "counts": {"documents": count, "dimensions": DIMENSIONS},
    })  # fmt: skip


def build(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Indexes without rescoring; those that lose something share one file of stored vectors."""
    folder, _ = crowd(args)
    stored = folder.parent / f"{folder.name}-{rescoring.FILE}"
    if not stored.is_file() and any(KINDS[kind].loses for kind in args.kinds):
        embeddings = Embeddings.open(folder)
        count = embeddings.manifest["counts"]["documents"]
        rescoring.write(stored, embeddings.shards(), count, DIMENSIONS, "cosine")
    for kind in args.kinds:
        made = index(folder, folder.parent / f"{folder.name}-{kind}", kind, rescore=0)
        yield {"name": f"build/{kind}", "peer": None, "ours": made["seconds"], "theirs": None, "unit": "s",
               "ratio": None, "bytes": made["counts"]["bytes"]}  # fmt: skip


def million(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    folder, queries = crowd(args)
    embeddings = Embeddings.open(folder)
    _, rows = exact.best(comparable(queries, "cosine"), embeddings.shards, DEPTH, "cosine")
    flat = _plain_faiss(embeddings)
    normal = comparable(queries, "cosine")
    for kind in args.kinds:
        opened = Index.open(folder.parent / f"{folder.name}-{kind}")
        if KINDS[kind].loses:
            opened = replace(opened, stored=rescoring.open_stored(folder.parent / f"{folder.name}-{rescoring.FILE}"))
        measured: dict[Setting, list[dict[str, Any]]] = {}
        for target in (0.95, 0.99):
            found = quickest(opened, queries, rows, target)
            if found is None:
                print(f"recall-{target}/{kind}: not reached")
                continue
            setting, recall = found
            ways = (
                (partial(opened.best_rows, depth=DEPTH, setting=setting), queries),
                (partial(flat.search, k=DEPTH), normal),
            )
            if setting not in measured:
                measured[setting] = list(side_by_side(*ways))
            more = {"recall": recall, "setting": [setting.setting, setting.rescore],
                    "memory_ratio": round(4 * DIMENSIONS * flat.ntotal / opened.manifest["counts"]["bytes"], 2)}  # fmt: skip
            for row in measured[setting]:
                yield compared(f"recall-{target}/{kind}", "faiss.IndexFlatIP", **row, **more)


def _plain_faiss(embeddings: Embeddings) -> Any:
    """All vectors in memory."""
    flat: Any = faiss.IndexFlatIP(DIMENSIONS)
    for shard in embeddings.shards():
        flat.add(np.ascontiguousarray(shard))
    return flat


Way = tuple[Callable[[np.ndarray], Any], np.ndarray]
"""What answers query vectors, and the vectors as it takes them."""


def side_by_side(ours: Way, theirs: Way) -> Iterator[dict[str, Any]]:
    """Milliseconds of queries one by one, and queries a second of all at once; both sides in turn."""
    times = {side: np.empty((ROUNDS, PER_ROUND)) for side in ("ours", "theirs")}
    rates = {side: np.empty(ROUNDS) for side in times}
    for number in range(ROUNDS):
        for side, (ask, queries) in zip(times, (ours, theirs), strict=True):
            ask(queries[:1])
            part = queries[number * PER_ROUND : (number + 1) * PER_ROUND]
            times[side][number] = [1000 * _seconds(ask, query[None]) for query in part]
            rates[side][number] = AT_ONCE / _seconds(ask, queries[:AT_ONCE])
    here, there = middle_and_slow(times["ours"]), middle_and_slow(times["theirs"])
    yield {"unit": "ms", "ours": here["p50"], "theirs": there["p50"], **here, "peer_p95": there["p95"],
           **lowest_and_highest(times["ours"], times["theirs"])}  # fmt: skip
    ratios = rates["ours"] / rates["theirs"]
    yield {"unit": "queries/s", **{side: round(float(np.median(rate)), 1) for side, rate in rates.items()},
           "low": round(float(ratios.min()), 2), "high": round(float(ratios.max()), 2)}  # fmt: skip


def quickest(opened: Index, queries: np.ndarray, truth: np.ndarray, target: float) -> tuple[Setting, float] | None:
    """Of the settings that reach a recall, the one that answers queries alone in the least time."""
    reached = []
    for setting in opened.kind.settings or (None,):
        for rescore in RESCORES if opened.kind.loses else (0,):
            way = Setting(setting, rescore)
            _, rows = opened.best_rows(queries, DEPTH, way)
            recall = float(np.mean([len(set(a) & set(b)) / DEPTH for a, b in zip(rows, truth, strict=True)]))
            if recall >= target:
                alone = [_seconds(lambda q: opened.best_rows(q, DEPTH, way), q[None]) for q in queries[:20]]  # noqa: B023
                reached.append((float(np.median(alone)), way, recall))
                break
        if len(reached) > 2:
            break
    return min(reached, key=lambda entry: entry[0])[1:] if reached else None


def single(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    from retrieval_distill.retrieval.bm25 import BM25
    from retrieval_distill.search.hits import hits
    from retrieval_distill.search.questions import questions
    from retrieval_distill.search.searcher import Searcher

    name = "scifact" if args.quick else "medquad"
    dataset, embeddings = corpus(name, args)
    texts = dataset.queries("test").take()[: ROUNDS * PER_ROUND]
    index(embeddings.folder, args.work / name / "flat", "flat")
    dense = Searcher.open(args.work / name / "flat", PACKAGED, dataset)
    hybrid = replace(dense, lexical=BM25.cached(args.work / name / "bm25", dataset.documents))
    peers = _libraries(embeddings)

    def answers(searcher: Searcher) -> Callable[[str], Any]:
        return lambda text: hits(searcher.search(questions([("q", text)]), DEPTH), dataset, text)

    ways = {"dense": answers(dense), "hybrid": answers(hybrid), **peers}
    times = {label: np.empty((ROUNDS, PER_ROUND)) for label in ways}
    found: dict[str, list[Any]] = {label: [] for label in ways}
    for number in range(ROUNDS):
        part = texts[number * PER_ROUND : (number + 1) * PER_ROUND]
        for label, ask in ways.items():
            for text in texts[:4]:  # threads of the one before may still be waiting for work
                ask(text)
            times[label][number] = [1000 * _seconds(lambda text: found[label].append(ask(text)), t) for t in part]  # noqa: B023
    for label in ("dense", "hybrid"):
        for peer in peers:
            here, there = middle_and_slow(times[label]), middle_and_slow(times[peer])
            more = {**here, "peer_p95": there["p95"], **lowest_and_highest(times[label], times[peer])}
            if label == "dense":
                more |= _agreement(found[label], found[peer], embeddings)
            yield compared(f"{name}/single/{label}", peer, here["p50"], there["p50"], "ms", **more)


def _agreement(ours: list[Any], theirs: list[Any], embeddings: Embeddings) -> dict[str, float]:
    """The share of queries with the same documents in the same order, and how far scores of one rank differ at most."""
    rows = np.array([[hit["corpus_id"] for hit in hits] for hits in theirs])
    same = embeddings.ids_of(rows) == np.array([[hit.passage for hit in hits] for hits in ours], dtype=object)
    apart = np.subtract(
        [[hit.score for hit in hits] for hits in ours], [[hit["score"] for hit in hits] for hits in theirs]
    )
    return {"same_ids": float(same.all(axis=1).mean()), "max_abs_difference": float(np.abs(apart).max())}


def _libraries(embeddings: Embeddings) -> dict[str, Callable[[str], Any]]:
    """sentence-transformers' two exact searches, their documents' vectors in memory."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.util import semantic_search
    from sentence_transformers.util.quantization import semantic_search_faiss

    model = SentenceTransformer(str(models.resolve(PACKAGED)), model_kwargs={"dtype": torch.float32})
    documents = np.concatenate(list(embeddings.shards()))
    tensor = torch.from_numpy(documents)
    _, _, built = semantic_search_faiss(documents[:1], documents, rescore=False, output_index=True)

    def with_faiss(text: str) -> Any:
        asked = model.encode_query([text], show_progress_bar=False)
        return semantic_search_faiss(asked, corpus_index=built, rescore=False, top_k=DEPTH)[0][0]

    def with_torch(text: str) -> Any:
        asked = model.encode_query([text], convert_to_tensor=True, show_progress_bar=False)
        return semantic_search(asked, tensor, top_k=DEPTH)[0]

    return {"sentence-transformers semantic_search": with_torch, "semantic_search_faiss": with_faiss}


SCRIPT = """
import json, sys
import numpy as np
from sentence_transformers import SentenceTransformer, util
model, vectors, corpus, query = sys.argv[1:]
documents = [json.loads(line) for line in open(corpus, encoding="utf-8")]
found = util.semantic_search(SentenceTransformer(model).encode_query([query]), np.load(vectors), top_k=5)[0]
for hit in found:
    print(hit["score"], documents[hit["corpus_id"]]["title"], documents[hit["corpus_id"]]["text"][:200])
"""
"""What a user of sentence-transformers would write to search vectors of a corpus."""


def start(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    name = "scifact" if args.quick else "medquad"
    dataset, embeddings = corpus(name, args)
    folder, query = args.work / name, dataset.queries("test").take()[0]
    index(embeddings.folder, folder / "flat", "flat")
    np.save(folder / "vectors.npy", np.concatenate(list(embeddings.shards())))
    source = args.beir / name
    ours = [sys.executable, "-m", "retrieval_distill", "search", query, "--index", folder / "flat", "--model", PACKAGED,
            "--dataset", source, "--cache", args.work / "cache"]  # fmt: skip
    theirs = [
        sys.executable,
        "-c",
        SCRIPT,
        models.resolve(PACKAGED),
        folder / "vectors.npy",
        source / "corpus.jsonl",
        query,
    ]
    run = partial(subprocess.run, check=True, capture_output=True)
    run(ours)  # what a first search keeps for the next
    times = np.array([[_seconds(run, ours), _seconds(run, theirs)] for _ in range(2 if args.quick else ROUNDS)])
    here, there = np.median(times, axis=0)
    yield compared(f"{name}/start", "a script with sentence-transformers", here, there, "s",
                   **lowest_and_highest(times[:, :1], times[:, 1:]))  # fmt: skip


def _seconds(work: Callable[[Any], Any], argument: Any) -> float:
    start = time.perf_counter()
    work(argument)
    return time.perf_counter() - start


PARTS: dict[str, Callable[[argparse.Namespace], Iterator[dict[str, Any]]]] = {
    "quality": quality, "build": build, "million": million, "single": single, "start": start,
}  # fmt: skip


if __name__ == "__main__":
    main()
