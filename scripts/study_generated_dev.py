"""Can generated dev queries choose fusion weights and a teacher's weights, as people's queries do?

    python scripts/study_generated_dev.py --source FOLDER/scifact --out runs/study-generated-dev/scifact

Of one collection with test queries, and with dev or training queries of people's. Three ways to choose how BM25 and the
start model are fused, and how much each member of the demo's teacher counts: not at all (reciprocal ranks, both sides
alike; standard scores, all alike), on dev queries of people's, and on dev queries that were generated from the documents
without a model (the ways of the recipe ``zoo/cranfield``; every one is asked over documents without its own words). The
table says nDCG@10 on the test queries for each, the teacher reordering the first 20 documents of the two fused by ranks,
and a paired randomisation test against not choosing.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd

from retrieval_distill import api
from retrieval_distill.config import load_recipe
from retrieval_distill.data.dataset import Dataset
from retrieval_distill.data.run import Run
from retrieval_distill.evaluation.measures import evaluate
from retrieval_distill.evaluation.significance import paired_p
from retrieval_distill.pipeline.data import generate, open_job
from retrieval_distill.pipeline.fusing import tuned
from retrieval_distill.pipeline import dev_search
from retrieval_distill.pipeline.job import Job
from retrieval_distill.pipeline.teachers import ask_gate
from retrieval_distill.pipeline.vectors import embed_start
from retrieval_distill.retrieval.hybrid import FUSION_DEPTH, Fusion
from retrieval_distill.teacher.calibration.calibration import Calibration, Member
from retrieval_distill.teacher.ensemble import Ensemble
from retrieval_distill.teacher.gate import Gate

MEASURE, DEPTH = "nDCG@10", 20
UNCHOSEN = "not chosen"


def chosen(job: Job) -> tuple[Fusion, Calibration]:
    """How the dev queries of a job, which has the start model's index, fuse and weigh."""
    split = job.judged_dev
    assert split is not None
    queries = job.dataset.queries(split)
    ask_gate(job)
    runs = dev_search.lexical(job, queries, FUSION_DEPTH), dev_search.dense(job, "start", queries, FUSION_DEPTH)
    return tuned(job, split, *runs).chosen, Gate.open(job.out / "gate").calibration


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", default="python-docs")
    parser.add_argument("--documents", type=int, help="documents of the collection that are used; all")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    keys = [f"dataset.source={args.source}", f"dataset.documents={args.documents or 'null'}"]
    people = open_job(load_recipe("zoo/scifact", keys), args.out)
    args.out.mkdir(parents=True, exist_ok=True)
    embed_start(people)
    ways = {UNCHOSEN: (Fusion(), Calibration(tuple(Member("z-score") for _ in people.members)))}
    if people.judged_dev:
        ways["people's queries"] = chosen(people)
    test = people.recipe.dataset.measured
    alone: Dataset = people.dataset.replace(qrels={test: people.dataset.qrels(test)})
    made = Job(load_recipe("zoo/cranfield", keys), args.out / "generated-dev", alone)
    made.out.mkdir(exist_ok=True)
    embed_start(made)
    generate(made)
    ways["generated queries"] = chosen(made)
    print((tables := table(people, test, ways)).to_markdown(index=False, floatfmt=".4f"))
    tables.to_json(args.out / "found.json", orient="records", indent=1)


def table(job: Job, test: str, ways: dict[str, tuple[Fusion, Calibration]]) -> pd.DataFrame:
    """A row per way: what it chose, and what that reaches on test."""
    queries = job.dataset.queries(test)
    lexical = job.lexical(queries, FUSION_DEPTH)
    dense = job.dense("start", job.model("start"), queries, FUSION_DEPTH)
    pool = Fusion().fuse(lexical, dense)
    found: dict[str, tuple[pd.Series, pd.Series]] = {}
    rows = []
    for way, (fusion, calibration) in ways.items():
        teacher = Ensemble(job.teachers, calibration)
        reranked = api.rerank(pool, job.dataset, teacher=teacher, store=job.store, depth=DEPTH)
        found[way] = asked(job, test, fusion.fuse(lexical, dense)), asked(job, test, reranked)
        row = {"chosen on": way, "fusion": str(fusion)}
        row["teacher's weights"] = " : ".join(f"{member.weight:.2g}" for member in calibration.members)
        for name, values, least in zip(("hybrid-start", "teacher"), found[way], found[UNCHOSEN], strict=True):
            row |= {name: values.mean(), f"p of {name}": paired_p(values.to_numpy(), least.to_numpy())}
        rows.append(row)
    return pd.DataFrame(rows)


def asked(job: Job, split: str, run: Run) -> pd.Series:
    """The measure by query."""
    return evaluate(run, job.dataset.qrels(split), [MEASURE])[MEASURE].sort_index()


if __name__ == "__main__":
    main()
