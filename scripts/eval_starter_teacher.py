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
from retrieval_distill.data import dataset_loader
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
    teacher = api.load_teacher(args.teacher, max_length=args.max_length)
    results = {}
    for name in args.datasets:
        dataset = dataset_loader.load(name if name == "python-docs" else str(args.beir / name), args.work)
        queries = dataset.queries("test")
        api.embed(dataset.documents, models.PACKAGED, out=args.work / f"{name}-vectors")
        api.index(args.work / f"{name}-vectors", out=args.work / f"{name}-index")
        lexical = api.retrieve(queries, dataset.documents, depth=100)
        dense = api.search(queries, args.work / f"{name}-index", model=models.PACKAGED, depth=100)
        pool = reciprocal_rank_fusion([lexical.top(DEPTH), dense.top(DEPTH)])
        systems = {"bm25": lexical, "all-MiniLM-L6-v2": dense}
        with tempfile.TemporaryDirectory() as store:
            systems["teacher"] = api.rerank(pool, dataset, teacher=teacher, store=store, depth=2 * DEPTH)
            counts = systems["teacher"].facts
        report = api.evaluate(systems, dataset.qrels("test"), measures=["nDCG@10", "RR@10", "R@100"], dataset=dataset)
        results[name] = report.systems
        print(f"{name}: {len(queries)} queries, {counts['pairs']} pairs")
        print(report, flush=True)
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
