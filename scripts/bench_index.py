"""Indexes and search against exact search, plain FAISS and sentence-transformers, on this machine.

    python scripts/bench_index.py --part quality --beir ../shared/beir --json runs/bench-index-quality.json
    python scripts/bench_index.py --part build   --beir ../shared/beir     # a million vectors and their indexes, kept
    python scripts/bench_index.py --part million --beir ../shared/beir --json runs/bench-index-million.json
    python scripts/bench_index.py --part single  --beir ../shared/beir --json runs/bench-index-single.json
    python scripts/bench_index.py --part ...  --quick                     # SciFact and 50,000 vectors

* ``quality``: nDCG@10 on the test queries of SciFact and MedQuAD, vectors by the packaged all-MiniLM-L6-v2 (384
  dimensions), of 8-bit and of binary vectors with rescoring from stored vectors, against exact search; and the memory of
  each index against float32's. The peer is sentence-transformers' ``semantic_search_faiss`` at the same precision with
  its own rescoring (4 times as many, from the quantised vectors).
* ``million``: a million vectors: those of MedQuAD's and SciFact's documents, drawn with replacement, each moved by half
  the difference of two others, so that they vary as real ones do; queries are vectors of real test queries. Each kind of
  index is asked as little thoroughly as reaches recall@10 0.99, and 0.95, and then timed: queries one by one (p50, p95)
  and all at once (queries/s). The peer is ``faiss.IndexFlatIP``. Rows of one recall share a name.
* ``single``: milliseconds from a query's text to its documents, titles and snippets in a warm process, MedQuAD, against
  ``SentenceTransformer.encode_query`` with ``semantic_search`` or ``semantic_search_faiss`` (float32, exact), which give
  ids and scores.

``--work`` keeps vectors and indexes between calls. A ratio above 1 is ours better.
"""

from __future__ import annotations

import argparse
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

from retrieval_distill import artifacts, hardware
from retrieval_distill.data.dataset import Dataset
from retrieval_distill.data.load import load
from retrieval_distill.evaluation.measures import evaluate
from retrieval_distill.evaluation.significance import ratio_with_interval
from retrieval_distill.indexing import exact, rescoring, shards
from retrieval_distill.indexing.embed import SHARD, Embeddings, comparable, embed
from retrieval_distill.indexing.faiss_index import Index, index
from retrieval_distill.indexing.kinds import KINDS, RESCORES
from retrieval_distill.indexing.opened import Setting
from retrieval_distill.indexing.storage import Storage
from retrieval_distill.models import PACKAGED
from retrieval_distill.retrieval.run import Run

NAMES = ("medquad", "scifact")
MILLION, QUICK = 1_000_000, 50_000
DIMENSIONS, DEPTH = 384, 10
TIMED, ASKED = 60, 200
"""Queries asked one by one, and queries by which recall is measured and that are asked at once."""


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
            artifacts.write_json(args.json, {"environment": hardware.describe(), "comparisons": rows})


def line(row: dict[str, Any]) -> str:
    theirs = "" if row["theirs"] is None else f"; {row['peer']} {row['theirs']:.4g}, {row['ratio']:.3f}x"
    more = {
        key: value
        for key, value in row.items()
        if key in ("memory_ratio", "recall", "setting", "p50", "p95", "interval")
    }
    return f"{row['name']:34} {row['ours']:.4g} {row['unit']}{theirs} {more}"


def compared(name: str, peer: str, ours: float, theirs: float, unit: str, **more: Any) -> dict[str, Any]:
    """A row; of milliseconds fewer are better."""
    ratio = theirs / ours if unit == "ms" else ours / theirs
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

        np.save(path, encoder.encode(encoder.load(PACKAGED), dataset.queries_of("test").take(), "query"))
    return np.load(path)


def quality(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    for name in ("scifact",) if args.quick else NAMES:
        dataset, embeddings = corpus(name, args)
        queries = asked_of(name, args, dataset)
        # MedQuAD's queries have the ids of their answers, which evaluation would take for a query that finds itself
        judged = {f"q-{id_}": docs for id_, docs in dataset.split("test").items()}
        ids = [f"q-{id_}" for id_ in dataset.queries_of("test").ids]

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
                yield compared(
                    label, f"sentence-transformers {peer_precision}", values.mean(), theirs.mean(), "nDCG@10"
                )


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
    artifacts.write_json(folder / "shards.json", shards.record(iter(written)))
    artifacts.write_json(folder / "manifest.json", {
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
    plain, taken = _plain_faiss(embeddings, queries)
    for kind in args.kinds:
        opened = Index.open(folder.parent / f"{folder.name}-{kind}")
        if KINDS[kind].loses:
            opened = replace(opened, stored=rescoring.open_stored(folder.parent / f"{folder.name}-{rescoring.FILE}"))
        times: dict[Setting, dict[str, float]] = {}
        for target in (0.95, 0.99):
            found = quickest(opened, queries, rows, target)
            if found is None:
                print(f"recall-{target}/{kind}: not reached")
                continue
            setting, recall = found
            ask = partial(opened.best_rows, depth=DEPTH, setting=setting)
            ours = times[setting] = times.get(setting) or timed(ask, queries)
            more = {"recall": recall, "setting": [setting.setting, setting.rescore], "p50": ours["p50"], "p95": ours["p95"],
                    "peer_p50": plain["p50"], "peer_p95": plain["p95"],
                    "memory_ratio": round(taken / opened.manifest["counts"]["bytes"], 2)}  # fmt: skip
            label = f"recall-{target}/{kind}"
            yield compared(label, "faiss.IndexFlatIP", ours["p50"], plain["p50"], "ms", **more)
            yield compared(label, "faiss.IndexFlatIP", ours["per_second"], plain["per_second"], "queries/s", **more)


def _plain_faiss(embeddings: Embeddings, queries: np.ndarray) -> tuple[dict[str, float], int]:
    """How fast ``IndexFlatIP`` answers, all vectors in memory, and the bytes of these."""
    flat = faiss.IndexFlatIP(DIMENSIONS)
    for shard in embeddings.shards():
        flat.add(np.ascontiguousarray(shard))
    return timed(lambda asked: flat.search(asked, DEPTH), comparable(queries, "cosine")), flat.ntotal * DIMENSIONS * 4


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


def timed(ask: Callable[[np.ndarray], Any], queries: np.ndarray) -> dict[str, float]:
    """Milliseconds of queries one by one, and queries a second of all at once."""
    ask(queries[:2])
    alone = 1000 * np.array([_seconds(ask, query[None]) for query in queries[:TIMED]])
    return {"p50": round(float(np.percentile(alone, 50)), 3), "p95": round(float(np.percentile(alone, 95)), 3),
            "per_second": round(len(queries) / _seconds(ask, queries), 1)}  # fmt: skip


def single(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    from retrieval_distill.reporting.hits import hits
    from retrieval_distill.retrieval.bm25 import BM25
    from retrieval_distill.searching.questions import questions
    from retrieval_distill.searching.searcher import Searcher

    name = "scifact" if args.quick else "medquad"
    dataset, embeddings = corpus(name, args)
    texts = dataset.queries_of("test").take()[: TIMED + 5]
    index(embeddings.folder, args.work / name / "flat", "flat")
    dense = Searcher.open(args.work / name / "flat", PACKAGED, dataset)
    hybrid = replace(dense, lexical=BM25.kept(args.work / name / "bm25", dataset.documents))
    peers = _libraries(embeddings)
    found: dict[str, dict[str, float]] = {}
    for label, ask in {
        "dense": lambda text: hits(dense.search(questions([("q", text)]), DEPTH), dataset, text),
        "hybrid": lambda text: hits(hybrid.search(questions([("q", text)]), DEPTH), dataset, text), **peers,
    }.items():  # fmt: skip
        for text in texts[:5]:
            ask(text)
        spent = 1000 * np.array([_seconds(ask, text) for text in texts[5:]])
        found[label] = {
            "p50": round(float(np.percentile(spent, 50)), 2),
            "p95": round(float(np.percentile(spent, 95)), 2),
        }
    for label in ("dense", "hybrid"):
        for peer in peers:
            mine, theirs = found[label], found[peer]
            more = {"p50": mine["p50"], "p95": mine["p95"], "peer_p95": theirs["p95"]}
            yield compared(f"{name}/single/{label}", peer, mine["p50"], theirs["p50"], "ms", **more)


def _libraries(embeddings: Embeddings) -> dict[str, Callable[[str], Any]]:
    """sentence-transformers' two exact searches, their documents' vectors in memory."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.util import semantic_search
    from sentence_transformers.util.quantization import semantic_search_faiss

    from retrieval_distill import models

    model = SentenceTransformer(str(models.resolve(PACKAGED)), model_kwargs={"dtype": torch.float32})
    documents = np.concatenate(list(embeddings.shards()))
    tensor = torch.from_numpy(documents)
    _, _, built = semantic_search_faiss(documents[:1], documents, rescore=False, output_index=True)

    def with_faiss(text: str) -> Any:
        asked = model.encode_query([text], show_progress_bar=False)
        return semantic_search_faiss(asked, corpus_index=built, rescore=False, top_k=DEPTH)

    def with_torch(text: str) -> Any:
        asked = model.encode_query([text], convert_to_tensor=True, show_progress_bar=False)
        return semantic_search(asked, tensor, top_k=DEPTH)

    return {"sentence-transformers semantic_search": with_torch, "semantic_search_faiss": with_faiss}


def _seconds(work: Callable[[Any], Any], argument: Any) -> float:
    start = time.perf_counter()
    work(argument)
    return time.perf_counter() - start


PARTS: dict[str, Callable[[argparse.Namespace], Iterator[dict[str, Any]]]] = {
    "quality": quality, "build": build, "million": million, "single": single,
}  # fmt: skip


if __name__ == "__main__":
    main()
