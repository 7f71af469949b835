"""Does the gate say the truth? Its verdict on a sample of queries against the measurement on all of them.

    python scripts/check_gate.py --dataset ../shared/beir/scifact --json runs/check_gate.json

For the shipped teacher and for the same teacher with the entries of every weight matrix shuffled. The gate asks 100
test queries; the full measurement reranks the best documents of BM25 and all-MiniLM-L6-v2 for all of them.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch

from retrieval_distill import api, models
from retrieval_distill.config import TeacherConfig
from retrieval_distill.data.dataset_loader import load
from retrieval_distill.runtime import stages
from retrieval_distill.teacher import cross_encoder, gate


def shuffled_starter(folder: str) -> str:
    """The shipped teacher with the entries of each weight matrix in random order."""
    torch.manual_seed(0)
    model = cross_encoder.load("starter", 512, "float32").model
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.copy_(parameter.flatten()[torch.randperm(parameter.numel())].view_as(parameter))
    model.save_pretrained(folder)
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="python-docs")
    parser.add_argument("--depth", type=int, default=20)
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--max-length", type=int, default=256)
    parser.add_argument("--work", type=Path, default=Path("runs/check-gate"))
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    dataset = load(args.dataset, args.work)
    queries, qrels = dataset.queries("test"), dataset.qrels("test")
    api.embed(dataset.documents, models.PACKAGED, out=args.work / f"{dataset.name}-vectors")
    api.index(args.work / f"{dataset.name}-vectors", out=args.work / f"{dataset.name}-index")
    baselines = {
        "bm25": api.retrieve(queries, dataset.documents, depth=args.depth),
        "start": api.search(queries, args.work / f"{dataset.name}-index", model=models.PACKAGED, depth=args.depth),
    }
    sample = sorted(np.random.default_rng(7).choice(queries.ids, min(args.queries, len(queries)), replace=False))
    results = {}
    with tempfile.TemporaryDirectory() as temporary:
        for name, model in {"starter": "starter", "shuffled": shuffled_starter(temporary)}.items():
            teacher = api.load_teacher(model, max_length=args.max_length)
            scored = api.score(gate.union(baselines), dataset, teacher=teacher, store=args.work / "scores")
            few = {system: run.select(sample) for system, run in baselines.items()}
            asked, _ = gate.decide(
                [teacher], [scored.select(sample)], few, {q: qrels[q] for q in sample}, TeacherConfig(), "nDCG@10"
            )
            full, _ = gate.decide([teacher], [scored], baselines, qrels, TeacherConfig(), "nDCG@10")
            results[name] = {"gate": asked, "full": full}
            print(f"{dataset.name}, {name}")
            for what, verdict in results[name].items():
                for baseline, found in verdict["against"].items():
                    print(
                        f"  {what:4} ({verdict['queries']} queries) {baseline:5} {found['baseline']:.3f} -> "
                        f"{found['teacher']:.3f}  {found['difference']:+.3f} ({found['low']:+.3f} to {found['high']:+.3f})"
                    )
                print(f"  {what:4} better: {verdict['better']}", flush=True)
    if args.json:
        stages.write_json(args.json, results)


if __name__ == "__main__":
    main()
