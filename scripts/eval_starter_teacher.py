"""Measure a teacher: what it makes of BM25's and the start model's best 30 on python-docs and SciFact test.

    python scripts/eval_starter_teacher.py --teacher starter --beir ../shared/beir --json runs/teacher.json

Prints nDCG@10 with 95 % intervals and paired p-values of the teacher against BM25 and all-MiniLM-L6-v2.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from retrieval_distill import api, models
from retrieval_distill.data import load
from retrieval_distill.reporting.report import comparison
from retrieval_distill.retrieval.fusion import reciprocal_rank_fusion

DEPTH = 30


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", default="starter")
    parser.add_argument("--beir", type=Path, default=Path("../shared/beir"))
    parser.add_argument("--max-length", type=int, default=256)
    parser.add_argument("--work", type=Path, default=Path("runs/eval-teacher"), help="keeps vectors and scores")
    parser.add_argument("--datasets", nargs="+", default=["python-docs", "scifact"])
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    teacher = api.load_teacher(args.teacher, args.max_length)
    results = {}
    for name in args.datasets:
        dataset = load.load(name if name == "python-docs" else str(args.beir / name), args.work)
        queries = dataset.queries_of("test")
        api.embed(models.PACKAGED, dataset.documents, args.work / f"{name}-vectors")
        api.index(args.work / f"{name}-vectors", args.work / f"{name}-index")
        lexical = api.retrieve(dataset.documents, queries, 100)
        dense = api.search(args.work / f"{name}-index", models.PACKAGED, queries, 100)
        pool = reciprocal_rank_fusion([lexical.top(DEPTH), dense.top(DEPTH)])
        systems = {"bm25": lexical, "all-MiniLM-L6-v2": dense}
        with tempfile.TemporaryDirectory() as store:
            systems["teacher"], counts = api.rerank(pool, queries, dataset.documents, teacher, store, 2 * DEPTH)
        results[name] = api.evaluate(systems, dataset, "test", ["nDCG@10", "RR@10", "R@100"])
        print(f"{name}: {len(queries)} queries, {counts['pairs']} pairs")
        print(comparison(results[name], ["nDCG@10", "RR@10", "R@100"]), flush=True)
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
