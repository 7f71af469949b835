"""Which teachers score best together, and how to weigh them: the results are in ``study_ensembles.md``.

    python scripts/study_ensembles.py --dataset python-docs --out runs/ensembles

The teachers score the best documents of BM25, of the start model and of the two fused (tuned on all dev queries) for
some dev queries. Weights are fitted on every second of these and judged on the others, then the other way round, so that
each query is judged by weights that do not know it. ``likelihood`` is what ``teacher.weights: fitted`` does; ``grid``
takes the weights of z-scores, in steps of a tenth, that have the best nDCG@10 on the fitting half.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np

from retrieval_distill import api
from retrieval_distill.data.dataset import Qrels
from retrieval_distill.data.run import Run
from retrieval_distill.evaluation.measures import evaluate
from retrieval_distill.evaluation.significance import mean_with_interval, paired_p
from retrieval_distill.retrieval import hybrid
from retrieval_distill.teacher.calibration.calibration import combine, fit_weights, normalise
from retrieval_distill.teacher.gate import union

MEASURE, TENTHS = "nDCG@10", 10

Fit = Callable[[Sequence[Run], Qrels], Sequence[float]]


def grid(runs: Sequence[Run], qrels: Qrels) -> Sequence[float]:
    shares = [(a, b, TENTHS - a - b) for a in range(TENTHS + 1) for b in range(TENTHS + 1 - a)]
    return max(shares, key=lambda weights: values(combine(runs, weights), qrels).mean())


def values(run: Run, qrels: Qrels) -> np.ndarray:
    return evaluate(run, qrels, [MEASURE])[MEASURE].reindex(list(qrels)).to_numpy()


def cross_fitted(runs: Sequence[Run], qrels: Qrels, fit: Fit) -> np.ndarray:
    """The measure of every query, under weights that were fitted on the half that it is not in."""
    ids, found = list(qrels), np.empty(len(qrels))
    for own, other in ((0, 1), (1, 0)):
        fitting, judging = ({id_: qrels[id_] for id_ in ids[half::2]} for half in (other, own))
        weights = fit([run.select(list(fitting)) for run in runs], fitting)
        found[own::2] = values(combine([run.select(list(judging)) for run in runs], weights), judging)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="python-docs")
    parser.add_argument("--teacher", default="starter")
    parser.add_argument("--start", default="packaged:all-MiniLM-L6-v2")
    parser.add_argument("--max-length", type=int, default=128)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--depth", type=int, default=10)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    data = api.load_dataset(args.dataset, cache=args.out / "dataset")
    dev, grades, store = data.queries("dev"), data.qrels("dev"), args.out / "scores"
    vectors = api.embed(data, args.start, out=args.out / "vectors", max_length=args.max_length)
    lexical, dense = api.retrieve(dev, data, depth=100), api.search(
        dev, api.index(vectors, out=args.out / "index"), model=args.start, documents=data, depth=100
    )  # fmt: skip
    fusion = hybrid.tune(lexical, dense, grades).chosen
    asked = dev.sample(args.queries, 7)
    qrels = {id_: grades[id_] for id_ in asked}
    rivals = {"bm25": lexical, "start": dense, f"hybrid-start, {fusion}": fusion.fuse(lexical, dense)}
    rivals = {name: run.select(asked.ids).top(args.depth) for name, run in rivals.items()}
    teachers = {
        "teacher": api.load_teacher(args.teacher, max_length=args.max_length),
        "start": api.load_teacher(f"bi-encoder:{args.start}", max_length=args.max_length),
        "bm25": api.load_teacher("bm25", documents=data),
    }
    pool = union(rivals)
    raw = {name: api.score(pool, data, teacher=teacher, store=store) for name, teacher in teachers.items()}
    systems = {name: values(run, qrels) for name, run in rivals.items()}
    for count in range(1, len(raw) + 1):
        for names in combinations(raw, count):
            systems[" + ".join(names) + ", likelihood"] = cross_fitted(
                [raw[name] for name in names], qrels, fit_weights
            )
    systems[" + ".join(raw) + ", grid"] = cross_fitted([normalise(run, "z-score") for run in raw.values()], qrels, grid)
    print(f"{len(pool):,} pairs of {len(qrels)} dev queries; {MEASURE}, and less that of the teacher alone\n")
    print("| system | mean (95 %) | less the teacher's (95 %) | p |\n|---|---|---|---|")
    alone = systems["teacher, likelihood"]
    for name, found in systems.items():
        mean, less = mean_with_interval(found), mean_with_interval(found - alone)
        shown = f"{mean.mean:.3f} ({mean.low:.3f} to {mean.high:.3f}) | {less.mean:+.3f} ({less.low:+.3f} to {less.high:+.3f})"
        print(f"| {name} | {shown} | {paired_p(found, alone):.4f} |")


if __name__ == "__main__":
    main()
