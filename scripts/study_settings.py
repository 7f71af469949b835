"""Which of the usual settings matter, and are the ranges right that are usually recommended?

    python scripts/study_settings.py --source python-docs --out runs/study-settings/python-docs
    python scripts/study_settings.py --source ../shared/beir/medquad --out runs/study-settings/medquad

A search (``tune``) with settings drawn at random, so that every part of a range is tried as often: learning rate (also
above the recommended 1e-5 to 5e-5), queries per step 16 to 64, the teacher's temperature 1 to 4, epochs 3 to 10. The
student has every other layer of the packaged six-layer model, so that there is something to learn; the teacher is the
demo's. A killed search goes on with the same command; a finished one is only read.

The table splits each range into thirds and says the mean nDCG@10 on dev of the trials in each, the share of all
differences that the key explains (PED-ANOVA), and what a seed alone changes: the standard deviation of the finalists' and
the recipe's own seeds. The verdict is ``tune``'s, on test queries, which chose nothing.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np
import pandas as pd

import retrieval_distill as rd
from retrieval_distill.runtime.stages import write_json

SPACE = {
    "training.learning_rate": "1e-5..4e-4 log",
    "training.queries_per_step": "16..64 step 16",
    "training.epochs": "3..10",
    "objectives.soft_contrastive.teacher_temperature": "1.0..4.0",
}

THIRDS = ("lower third", "middle", "upper third")


def settings(args: argparse.Namespace) -> list[str]:
    """What differs from the demo: small trainings, a student with something to learn."""
    return [
        f"dataset.source={args.source}", f"dataset.documents={args.documents}",
        f"dataset.train_queries={args.queries}", "student.layers=spaced:3", "training.steps=null", "training.epochs=5",
        "training.candidates=2", "training.max_length=64", "training.agreement_queries=0",
        f"tune.dev_documents={args.dev_documents}",
    ]  # fmt: skip


def third(value: float, knob: str) -> str:
    """The part of a range, by logarithms if it is drawn by them, in which a value lies."""
    ends, *how = knob.split(" ", 1)
    low, high = map(float, ends.split(".."))
    if how == ["log"]:
        low, high, value = math.log(low), math.log(high), math.log(value)
    return THIRDS[min(2, int(3 * (value - low) / (high - low)))]


def sensitivity(found: rd.Tuning) -> pd.DataFrame:
    """A row per key: the mean of the trials in each third of its range, with their number, and its importance."""
    trials = [trial for trial in found.report.trials if trial.state == "complete"]
    rows = []
    for key, knob in found.report.space.items():
        values: dict[str, list[float]] = {name: [] for name in THIRDS}
        for trial in trials:
            values[third(trial.settings[key], knob)].append(trial.value or 0.0)
        means = {name: f"{np.mean(seen):.3f} ({len(seen)})" if seen else "-" for name, seen in values.items()}
        explained = found.report.importance.get(key, float("nan"))
        rows.append({"key": key.rpartition(".")[2], "range": knob, **means, "explains": f"{explained:.0%}"})
    return pd.DataFrame(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", default="python-docs")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--trials", type=int, default=30)
    parser.add_argument("--queries", type=int, default=400, help="of training")
    parser.add_argument("--documents", type=int, default=3000)
    parser.add_argument("--dev-documents", type=int, default=1000)
    args = parser.parse_args()
    found = rd.tune(
        "demo", out=args.out, overrides=settings(args), space=SPACE, sampler="random", pruning="none",
        budget=f"{args.trials} trials", finalists=2, seeds=3,
    )  # fmt: skip
    print(found)
    print(f"\n{sensitivity(found).to_markdown(index=False)}\n")
    spread = [seeds.standard_deviation for seeds in found.report.finalists]
    print(f"One seed to the next: a standard deviation of {max(spread):.4f} at most.")
    facts = [trial.facts for trial in found.report.trials if trial.state == "complete"]
    whole, useful = (sum(fact[key] for fact in facts for key in keys) for keys in (["seconds"], ["training", "dev"]))
    print(f"{len(facts)} trials in {whole / 60:.0f} min, {1 - useful / whole:.1%} of it neither training nor dev.")
    write_json(args.out / "sensitivity.json", sensitivity(found).to_dict("records"))


if __name__ == "__main__":
    main()
