"""How should BM25 and a bi-encoder be fused, and teachers be weighed, where no dev query or only generated ones are there?

    python scripts/study_fusion.py --source FOLDER/scifact --out runs/study-fusion/scifact

Of one collection with test queries, and with dev or training queries of people's. BM25 and the start model are fused, and
the members of the demo's teacher weighed, without choosing (by reciprocal ranks, or by scores; both sides alike, and the
members' standard scores too), as dev queries of people's choose, and as dev queries choose that were generated from the
documents without a model (the ways of the recipe ``zoo/cranfield``; every one is asked over documents without its own
words). The first table says what both ways without choosing reach on dev, so that dev can choose between them; the second
nDCG@10 on the test queries, the teacher reordering the first 20 documents, with a paired randomisation test against not
choosing.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pandas as pd

from retrieval_distill import api
from retrieval_distill.config import load_recipe
from retrieval_distill.data.dataset import Dataset
from retrieval_distill.data.run import Run
from retrieval_distill.evaluation.measures import evaluate
from retrieval_distill.evaluation.significance import paired_p
from retrieval_distill.pipeline import dev_search
from retrieval_distill.pipeline.data import generate, open_job
from retrieval_distill.pipeline.fusing import tuned
from retrieval_distill.pipeline.job import Job
from retrieval_distill.pipeline.vectors import embed_start
from retrieval_distill.retrieval.hybrid import FUSION_DEPTH, Fusion, FusionTuning
from retrieval_distill.teacher.calibration.calibration import Calibration, Member
from retrieval_distill.teacher.ensemble import Ensemble

MEASURE, DEPTH = "nDCG@10", 20
SCORES, RANKS = "not chosen, by scores", "not chosen, by ranks"
UNCHOSEN = {SCORES: Fusion("score", 0.5), RANKS: Fusion("rank", 0.5)}

Way = tuple[Fusion, Calibration]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", default="python-docs")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    keys = [f"dataset.source={args.source}", "dataset.documents=null", "dataset.on_bad=skip"]
    people = open_job(load_recipe("zoo/scifact", keys), args.out)
    args.out.mkdir(parents=True, exist_ok=True)
    embed_start(people)
    alike = Calibration(tuple(Member("z-score") for _ in people.members))
    ways: dict[str, Way] = {name: (fusion, alike) for name, fusion in UNCHOSEN.items()}
    if people.judged_dev:
        tuning, ways["people's queries"] = chosen(people)
        dev = {str(Fusion(tried.method, tried.dense)): tried.mean for tried in tuning.tried}
        print(f"on {tuning.queries} dev queries:", {name: round(dev[str(way)], 4) for name, way in UNCHOSEN.items()})
    test = people.recipe.dataset.measured
    made = Job(load_recipe("zoo/cranfield", keys), args.out / "generated-dev", without_people(people.dataset, test))
    made.out.mkdir(exist_ok=True)
    embed_start(made)
    generate(made)
    _, ways["generated queries"] = chosen(made)
    print((rows := table(people, test, ways)).to_markdown(index=False, floatfmt=".4f"))
    rows.to_json(args.out / "found.json", orient="records", indent=1)


def without_people(dataset: Dataset, test: str) -> Dataset:
    """The dataset with its test queries alone."""
    return dataset.replace(qrels={test: dataset.qrels(test)})


def chosen(job: Job) -> tuple[FusionTuning, Way]:
    """How the dev queries of a job, which has the start model's index, fuse and weigh."""
    split, teacher = job.judged_dev, job.recipe.teacher
    assert split is not None
    queries = job.dataset.queries(split)
    asked = queries.sample(teacher.gate_queries, job.recipe.seed).ids
    lexical = dev_search.lexical(job, queries, FUSION_DEPTH)
    dense = dev_search.dense(job, "start", queries, FUSION_DEPTH)
    tuning = tuned(job, split, lexical, dense)
    rivals = {"bm25": lexical, "start": dense, "hybrid-start": tuning.chosen.fuse(lexical, dense)}
    reranked = {name: run.select(asked).top(teacher.gate_depth) for name, run in rivals.items()}
    gate = api.gate(job.dataset, teacher=job.teachers, baselines=reranked, store=job.store, split=split, config=teacher)
    return tuning, (tuning.chosen, gate.calibration)


def table(job: Job, test: str, ways: dict[str, Way]) -> pd.DataFrame:
    """A row per way: what it chose, and what that reaches on test."""
    queries = job.dataset.queries(test)
    lexical = job.lexical(queries, FUSION_DEPTH)
    dense = job.dense("start", job.model("start"), queries, FUSION_DEPTH)
    pool = UNCHOSEN[SCORES].fuse(lexical, dense)
    found: dict[str, tuple[pd.Series, pd.Series]] = {}
    rows = []
    for way, (fusion, calibration) in ways.items():
        teacher = Ensemble(job.teachers, calibration)
        reranked = api.rerank(pool, job.dataset, teacher=teacher, store=job.store, depth=DEPTH)
        found[way] = asked(job, test, fusion.fuse(lexical, dense)), asked(job, test, reranked)
        row: dict[str, Any] = {"chosen on": way, "fusion": str(fusion)}
        row["teacher's weights"] = " : ".join(f"{member.weight:.2g}" for member in calibration.members)
        for name, values, least in zip(("hybrid-start", "teacher"), found[way], found[SCORES], strict=True):
            row |= {name: values.mean(), f"p of {name}": paired_p(values.to_numpy(), least.to_numpy())}
        rows.append(row)
    return pd.DataFrame(rows)


def asked(job: Job, split: str, run: Run) -> pd.Series:
    """The measure by query."""
    return evaluate(run, job.dataset.qrels(split), [MEASURE])[MEASURE].sort_index()


if __name__ == "__main__":
    main()
