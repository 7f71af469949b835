"""Exact evaluation of given vectors against sentence-transformers' evaluator and BEIR's exact search.

    python scripts/bench_evaluation.py --json runs/bench-evaluation.json
    python scripts/bench_evaluation.py --quick            # a smoke run
    python scripts/bench_evaluation.py --marco            # 7,000 queries x 8.8 million documents, ours alone

Every contender runs in a process of its own, one after another in each round, so that the peak memory is its own (the
vectors, 4 bytes a number, are part of it). Timed is everything from the vectors to the measures: search, ranking and
nDCG@10, RR@10, R@100, AP@100 and Success@5 of every query. Reported are medians over the rounds, and the median,
lowest and highest ratio within a round. All contenders rank by float32 products with the same threads (ours
looks first, in eight bits where the CPU has AVX2, for the documents that can be among the best); the measures of their
results must agree to 1e-9. sentence-transformers is asked for the same cut-offs in its own set of measures, BEIR
for its own measures at 10 and 100; BEIR rounds to five decimals, so trec_eval is asked for its results' exact values.

A small evaluation of each side before is not counted, nor is the making of the vectors, which are random directions; a
query is the sum of its relevant documents' vectors and noise. With --marco they are too many to hold: they are made
anew each time they are read, block by block, and what that takes is counted and named. Its budget is for the peak of
the process's resident memory, libraries included.
"""

from __future__ import annotations

import argparse
import json
import logging
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

import numpy as np

from retrieval_distill.runtime import memory, stages

QUERIES, DOCUMENTS, DIMENSIONS = 1_000, 200_000, 384
QUICK_DOCUMENTS = 40_000
MARCO_QUERIES, MARCO_DOCUMENTS = 7_000, 8_800_000
MARCO_BUDGET = 1_000_000_000
"""Bytes that the large evaluation may take, libraries included."""
WARM_UP = (20, 1_000)
"""Queries and documents of an evaluation before the one that is timed."""
BLOCK = 8_192
RELEVANT, NOISE = 5, 4.0
DEPTH = 100

Qrels = dict[str, dict[str, int]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queries", type=int)
    parser.add_argument("--documents", type=int)
    parser.add_argument("--dimensions", type=int, default=DIMENSIONS)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_DOCUMENTS:,} documents, two rounds")
    parser.add_argument("--marco", action="store_true", help="ours alone, as large as MS MARCO, within its budget")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--contender", choices=CONTENDERS, help=argparse.SUPPRESS)  # how the script calls itself
    args = parser.parse_args()
    queries = args.queries or (MARCO_QUERIES if args.marco else QUERIES)
    documents = args.documents or (MARCO_DOCUMENTS if args.marco else QUICK_DOCUMENTS if args.quick else DOCUMENTS)
    if args.contender:
        CONTENDERS[args.contender](*WARM_UP, args.dimensions)
        print(json.dumps(CONTENDERS[args.contender](queries, documents, args.dimensions)))
        return
    names = ["ours, streamed"] if args.marco else ["ours", "sentence-transformers", "BEIR"]
    rounds = 1 if args.marco else 2 if args.quick else args.rounds
    size = ["--queries", str(queries), "--documents", str(documents), "--dimensions", str(args.dimensions)]
    found: dict[str, list[dict]] = {name: [] for name in names}
    for _ in range(rounds):
        for name in names:
            command = [sys.executable, __file__, "--contender", name, *size]
            answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            found[name].append(json.loads(answer.splitlines()[-1]))
            last = found[name][-1]
            print(f"  {name}: {last['seconds']:.2f} s, {last['peak_memory_bytes'] / 1e9:.2f} GB", flush=True)
    comparisons = compared(found, f"{queries}-x-{documents}-x-{args.dimensions}")
    for row in comparisons:
        print(line(row))
    if args.json:
        from retrieval_distill.hardware import devices

        stages.write_json(args.json, {"environment": devices.describe(), "comparisons": comparisons})
    refuse(comparisons, args.marco)


def compared(found: dict[str, list[dict]], size: str) -> list[dict]:
    us, *peers = found
    seconds = {name: [answer["seconds"] for answer in answers] for name, answers in found.items()}
    peak = {name: max(answer["peak_memory_bytes"] for answer in answers) for name, answers in found.items()}
    alone = {"name": f"{size}/same-dtype", "unit": "s", "ours": median(seconds[us])}
    if not peers:
        alone |= {"making_seconds": found[us][0]["making_seconds"]}
        nobody = {"peer": None, "theirs": None, "ratio": None}
        return [alone | nobody | {"peak_memory_bytes": {"ours": peak[us], "theirs": None}}]
    rows = []
    for peer in peers:
        ratios = [theirs / ours for ours, theirs in zip(seconds[us], seconds[peer], strict=True)]
        shared = found[peer][0]["measures"]
        differences = [abs(value - found[us][0]["measures"][name]) for name, value in shared.items()]
        rows.append(
            alone
            | {
                "peer": peer, "theirs": median(seconds[peer]), "ratio": median(ratios), "low": min(ratios),
                "high": max(ratios), "max_abs_difference": max(differences),
                "peak_memory_bytes": {"ours": peak[us], "theirs": peak[peer]},
            }
        )  # fmt: skip
    return rows


def line(row: dict) -> str:
    ours = f"{row['name']:32} ours {row['ours']:8.2f} s, {row['peak_memory_bytes']['ours'] / 1e9:.2f} GB"
    if row["peer"] is None:
        return f"{ours}; {row['making_seconds']:.2f} s of it making the vectors"
    return (
        f"{ours}; {row['peer']:22} {row['theirs']:8.2f} s, {row['peak_memory_bytes']['theirs'] / 1e9:.2f} GB; "
        f"{row['ratio']:.1f}x ({row['low']:.1f}-{row['high']:.1f}), measures differ by {row['max_abs_difference']:.0e}"
    )


def refuse(comparisons: list[dict], marco: bool) -> None:
    """End with an error where a promise is broken that does not depend on the machine."""
    if any(row.get("max_abs_difference", 0) > 1e-9 for row in comparisons):
        raise SystemExit("the measures differ by more than 1e-9")
    if marco and comparisons[0]["peak_memory_bytes"]["ours"] > MARCO_BUDGET:
        raise SystemExit(f"more memory than the budget of {MARCO_BUDGET / 1e9:.0f} GB")


def blocks(documents: int, dimensions: int) -> Iterator[np.ndarray]:
    """Random unit vectors, the same on every call."""
    for start in range(0, documents, BLOCK):
        rng = np.random.default_rng(start)
        vectors = rng.random((min(BLOCK, documents - start), dimensions), np.float32) - np.float32(0.5)
        yield vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def asked(queries: int, documents: int, dimensions: int) -> tuple[np.ndarray, Qrels]:
    """Query vectors and which documents are relevant to them."""
    rng = np.random.default_rng(1)
    relevant = rng.integers(documents, size=(queries, RELEVANT))
    noise = rng.normal(size=(queries, dimensions))
    vectors = NOISE * noise / np.linalg.norm(noise, axis=1, keepdims=True)
    for number, block in enumerate(blocks(documents, dimensions)):
        rows = relevant - number * BLOCK
        query, place = np.nonzero((rows >= 0) & (rows < len(block)))
        np.add.at(vectors, query, block[rows[query, place]])
    qrels = {f"q{q}": {f"d{row}": 1 for row in rows} for q, rows in enumerate(relevant)}
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32), qrels


def measured(work: Callable[[], dict[str, float]]) -> dict:
    memory.release()
    memory.reset_peak()
    start = time.perf_counter()
    measures = work()
    return {
        "seconds": time.perf_counter() - start,
        "peak_memory_bytes": memory.peak_bytes(),
        "measures": measures,
    }


def ours(queries: int, documents: int, dimensions: int, streamed: bool = False) -> dict:
    from retrieval_distill.data.run import Run
    from retrieval_distill.evaluation.measures import evaluate
    from retrieval_distill.retrieval import exact
    from retrieval_distill.runtime.progress import progress

    logging.basicConfig(level=logging.INFO, format="  %(message)s")
    vectors, qrels = asked(queries, documents, dimensions)
    corpus = None if streamed else np.concatenate(list(blocks(documents, dimensions)))
    ids = None if streamed else np.array([f"d{row}" for row in range(documents)], object)
    making: list[float] = []

    def made() -> Iterator[np.ndarray]:
        with progress("reading vectors", documents, "document") as advance:
            start = time.perf_counter()
            for block in blocks(documents, dimensions):
                making.append(time.perf_counter() - start)
                yield block
                advance(len(block))
                start = time.perf_counter()

    def work() -> dict[str, float]:
        scores, rows = exact.best(vectors, made if corpus is None else lambda: [corpus], DEPTH)
        found = np.array([[f"d{row}" for row in best] for best in rows], object) if ids is None else ids[rows]
        return evaluate(Run.from_best(list(qrels), found, scores), qrels).mean().to_dict()

    return measured(work) | {"making_seconds": sum(making)}


def sentence_transformers(queries: int, documents: int, dimensions: int) -> dict:
    import torch
    from sentence_transformers.sentence_transformer.evaluation import InformationRetrievalEvaluator
    from sentence_transformers.util import dot_score

    vectors, qrels = asked(queries, documents, dimensions)
    corpus = torch.from_numpy(np.concatenate(list(blocks(documents, dimensions))))
    evaluator = InformationRetrievalEvaluator(
        dict.fromkeys(qrels, ""), {f"d{row}": "" for row in range(documents)},
        {query: set(docs) for query, docs in qrels.items()}, precision_recall_at_k=[100], accuracy_at_k=[5],
        score_functions={"dot": dot_score}, write_csv=False,
    )  # fmt: skip

    class Given:
        """A model whose query vectors are known."""

        def encode_query(self, inputs: list[str], **_: object) -> torch.Tensor:
            return torch.from_numpy(vectors)

    def work() -> dict[str, float]:
        found = evaluator.compute_all_metrics(Given(), corpus_embeddings=corpus)["dot"]
        return {
            "nDCG@10": float(found["ndcg@k"][10]), "RR@10": float(found["mrr@k"][10]),
            "R@100": float(found["recall@k"][100]), "AP@100": float(found["map@k"][100]),
            "Success@5": float(found["accuracy@k"][5]),
        }  # fmt: skip

    return measured(work)


def beir(queries: int, documents: int, dimensions: int) -> dict:
    import pytrec_eval
    import torch
    from beir.retrieval.evaluation import EvaluateRetrieval
    from beir.retrieval.search.dense import DenseRetrievalExactSearch

    vectors, qrels = asked(queries, documents, dimensions)
    whole = torch.from_numpy(np.concatenate(list(blocks(documents, dimensions))))
    corpus = {f"d{row}": {"title": "", "text": ""} for row in range(documents)}

    class Given:
        """A model whose vectors are known; the corpus comes in order, for all its texts are of one length."""

        done = 0

        def encode_queries(self, texts: list[str], **_: object) -> torch.Tensor:
            return torch.from_numpy(vectors)

        def encode_corpus(self, texts: list[dict], **_: object) -> torch.Tensor:
            self.done += len(texts)
            return whole[self.done - len(texts) : self.done]

    results: dict[str, dict[str, float]] = {}

    def work() -> dict[str, float]:
        searcher = DenseRetrievalExactSearch(Given(), show_progress_bar=False)
        results.update(searcher.search(corpus, dict.fromkeys(qrels, ""), DEPTH, "dot"))
        EvaluateRetrieval.evaluate(qrels, results, [10, 100])
        return {}

    answer = measured(work)
    names = {"nDCG@10": "ndcg_cut_10", "R@100": "recall_100", "AP@100": "map_cut_100"}
    exact_values = pytrec_eval.RelevanceEvaluator(qrels, set(names.values())).evaluate(results).values()
    means = {name: float(np.mean([row[theirs] for row in exact_values])) for name, theirs in names.items()}
    return answer | {"measures": means}


def streamed(queries: int, documents: int, dimensions: int) -> dict:
    return ours(queries, documents, dimensions, streamed=True)


CONTENDERS = {
    "ours": ours,
    "ours, streamed": streamed,
    "sentence-transformers": sentence_transformers,
    "BEIR": beir,
}


if __name__ == "__main__":
    main()
