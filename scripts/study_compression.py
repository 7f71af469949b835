"""Which transfer makes the better small retriever of all-MiniLM-L6-v2? Every system below at an equal token budget.

    python scripts/study_compression.py --beir ../shared/beir --json runs/study-compression.json     # zero-shot
    python scripts/study_compression.py --beir ../shared/beir --after embedding relations            # and distilled
    python scripts/study_compression.py --beir ../shared/beir --table                                # what is there
    python scripts/study_compression.py --bench                                                      # what a step costs

A student is compressed once per seed, on the documents of all collections together, and then asked the test queries of
each without having seen one. Searched are ``--documents`` documents of a collection, all judged ones among them, drawn
once, so figures are higher than those of whole collections. ``--after`` names systems whose students then learn to
retrieve from the starter teacher, as in ``study_objectives.py``. What is done is kept, cell by cell, seed after seed:
the same command continues, and any part of it can be read with ``--table``.

The table says, per collection, the mean nDCG@10 over queries and seeds and its 95 % interval (bootstrap over both), and
the p-value of a paired randomisation test, over queries, against ``REFERENCE``; then the minutes a compression took.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import study_objectives as base
import torch

from retrieval_distill import artifacts, hardware, models, verbs
from retrieval_distill.config import parse_recipe
from retrieval_distill.data import load
from retrieval_distill.data.dataset import Dataset, Texts
from retrieval_distill.evaluation.seeds import summarise
from retrieval_distill.evaluation.significance import paired_p
from retrieval_distill.pipeline import Job
from retrieval_distill.retrieval.run import Run

START = {"layers": "spaced:3"}
NARROW = {"layers": "spaced:3", "width": 192}
UNTAUGHT: dict[str, dict[str, Any]] = {
    "spaced": START,
    "first": {"layers": "first:3"},
    "last": {"layers": "last:3"},
    "narrow": NARROW,
    "auto": {"layers": "auto:3"},
}
"""Where students begin, measured as they are."""
TAUGHT: dict[str, dict[str, Any]] = {
    "embedding": {**START, "transfers": {"embedding": 1.0}},
    "relations": {**START, "transfers": {"relations": 1.0}},
    "hidden uniform": {**START, "transfers": {"hidden_states": {"mapping": "uniform"}}},
    "hidden + embedding": {**START, "transfers": {"hidden_states": 1.0, "embedding": 1.0}},
    "relations + embedding": {**START, "transfers": {"relations": 1.0, "embedding": 1.0}},
    "hidden skip": {**START, "transfers": {"hidden_states": {"mapping": "skip"}}},
    "narrow, hidden + embedding": {**NARROW, "transfers": {"hidden_states": 1.0, "embedding": 1.0}},
    "hidden last": {**START, "transfers": {"hidden_states": {"mapping": "last"}}},
    "random, hidden + embedding": {
        **START, "weights": "random", "transfers": {"hidden_states": 1.0, "embedding": 1.0}
    },
    "first, embedding": {"layers": "first:3", "transfers": {"embedding": 1.0}},
    "last, embedding": {"layers": "last:3", "transfers": {"embedding": 1.0}},
    "auto, embedding": {"layers": "auto:3", "transfers": {"embedding": 1.0}},
    "hidden earth_mover": {**START, "transfers": {"hidden_states": {"mapping": "earth_mover"}}},
    "hidden first": {**START, "transfers": {"hidden_states": {"mapping": "first"}}},
    "relations + hidden + embedding": {
        **START, "transfers": {"relations": 1.0, "hidden_states": 1.0, "embedding": 1.0}
    },
}  # fmt: skip
"""Most telling first, so that a part of the study is of use."""
REFERENCE = "embedding"
MODEL = models.PACKAGED
TRAINING = {"max_length": 64, "tokens_per_step": 4096, "learning_rate": 3e-4}
COLLECTIONS = ("python-docs", "scifact", "medquad")
SEEDS = (1, 2, 3)


def collection(name: str, out: Path, beir: Path) -> Dataset:
    return load.load(name if name == "python-docs" else str(beir / name), out / "cache")


def plain(datasets: dict[str, Dataset]) -> Texts:
    """The documents of all collections, under ids of their own."""
    return Texts.from_records(
        (f"{name}/{id_}", title, text)
        for name, data in datasets.items()
        for id_, title, text in data.documents.records()
    )


def started(options: dict[str, Any], folder: Path, texts: Texts) -> str:
    """A student as it begins."""
    from retrieval_distill.compress import start
    from retrieval_distill.config import CompressConfig

    if not folder.is_dir():
        start.student(CompressConfig(**options), MODEL, texts, 1)[0].save_pretrained(str(folder))
    return str(folder)


def compressed(options: dict[str, Any], folder: Path, texts: Texts, tokens: int, seed: int) -> str:
    """A student taught; the seconds it took are kept beside it."""
    verbs.compress(texts, folder, seed=seed, model=MODEL, tokens=tokens, **TRAINING, **options)
    return str(folder)


class Study:
    """What is measured, where it is kept, and the table of it."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.out, self.args = args.out, args
        self.datasets = {name: collection(name, args.out, args.beir) for name in args.datasets}

    def measure(self, system: str, seed: int, make: Any) -> None:
        """Every collection's values of one student, which is made if one of them is missing."""
        for name, data in self.datasets.items():
            folder = self.cell(system, seed, name)
            if not (folder / "values.parquet").is_file():
                documents = base.searched(data, self.args.documents)
                values = base.measured(make(), data, documents, folder, self.args.max_length)
                print(f"{system}, seed {seed}, {name}: {values.mean():.4f}", flush=True)

    def cell(self, system: str, seed: int, name: str) -> Path:
        """Where one student's values on one collection are kept."""
        return self.out / "cells" / system.replace(" ", "") / str(seed) / name

    def student(self, system: str, seed: int) -> Path:
        """Where a student is kept."""
        return self.out / "students" / system.replace(" ", "") / str(seed)

    def zero_shot(self) -> None:
        """Every system on plain text alone."""
        texts = plain({name: collection(name, self.out, self.args.beir) for name in COLLECTIONS})
        self.measure("whole", 1, lambda: MODEL)
        for system, options in UNTAUGHT.items():
            self.measure(f"untaught {system}", 1, lambda s=system, o=options: started(o, self.student(f"untaught {s}", 1), texts))  # fmt: skip
        for seed in SEEDS[: self.args.seeds]:
            for system in self.args.systems or TAUGHT:
                self.measure(
                    system, seed,
                    lambda s=system, n=seed: compressed(TAUGHT[s], self.student(s, n), texts, self.args.tokens, n),
                )  # fmt: skip

    def distilled(self) -> None:
        """Students of the named systems after they have learnt to retrieve, on the collections that have a recipe."""
        for name in [name for name in self.datasets if name in base.LEARNING_RATES]:
            recipe = base.recipe_of(name, self.args.beir)
            job = Job(recipe, self.out / "teacher" / name)
            lists = base.scored(job)
            for seed in SEEDS[: self.args.seeds]:
                for system in self.args.after:
                    start = self.student(system, seed if system in TAUGHT else 1)
                    self.learn(f"{system}, distilled", seed, name, job, lists, start)

    def learn(self, system: str, seed: int, name: str, job: Job, lists: Run, start: Path) -> None:
        """One student after distillation, and its values."""
        folder = self.cell(system, seed, name)
        if (folder / "values.parquet").is_file():
            return
        values = job.recipe.model_dump(mode="json")
        training = {**base.TRAINING, "learning_rate": base.LEARNING_RATES[name]}
        values |= {"student": {**values["student"], "model": str(start)}, "seed": seed, "training": training}
        verbs.distill(lists, job.dataset, job.recipe.dataset.train, parse_recipe(values), folder / "student")
        documents = base.searched(job.dataset, self.args.documents)
        found = base.measured(str(folder / "student"), job.dataset, documents, folder, self.args.max_length)
        print(f"{system}, seed {seed}, {name}: {found.mean():.4f}", flush=True)

    def rows(self) -> list[dict[str, Any]]:
        """A row per system and collection that has been measured, over the seeds that have."""
        systems = ["whole", *(f"untaught {name}" for name in UNTAUGHT), *TAUGHT]
        systems += [f"{system}, distilled" for system in systems]
        found = {(system, name): self.values(system, name) for system in systems for name in self.datasets}
        rows = []
        for (system, name), seeds in found.items():
            if seeds:
                reference = found[REFERENCE, name]
                p = paired_p(np.mean(seeds, axis=0), np.mean(reference, axis=0)) if reference else None
                rows.append(
                    {
                        "system": system, "collection": name, **asdict(summarise(np.stack(seeds))),
                        "p_vs_reference": None if system == REFERENCE else p, "minutes": self.minutes(system),
                    }
                )  # fmt: skip
        return rows

    def values(self, system: str, name: str) -> list[pd.Series]:
        """By query, a series per seed that has been measured."""
        files = [self.cell(system, seed, name) / "values.parquet" for seed in SEEDS]
        return [pd.read_parquet(file)[base.MEASURE] for file in files if file.is_file()]

    def minutes(self, system: str) -> float | None:
        """Mean minutes of a compression."""
        manifests = [artifacts.read_manifest(self.student(system, seed)) for seed in SEEDS]
        taken = [manifest["seconds"] / 60 for manifest in manifests if manifest]
        return float(np.mean(taken)) if taken else None


def table(rows: list[dict[str, Any]]) -> str:
    collections = list(dict.fromkeys(row["collection"] for row in rows))
    lines = [f"{'':32}" + "".join(f"{name:^40}" for name in collections) + "minutes"]
    for system in dict.fromkeys(row["system"] for row in rows):
        own = {row["collection"]: row for row in rows if row["system"] == system}
        cells = [cell(own[name]) if name in own else "" for name in collections]
        minutes = next(iter(own.values()))["minutes"]
        lines.append(f"{system:32}" + "".join(f"{text:40}" for text in cells) + (f"{minutes:.1f}" if minutes else ""))
    return "\n".join(lines)


def cell(row: dict[str, Any]) -> str:
    p = "" if row["p_vs_reference"] is None else f"p {row['p_vs_reference']:.4f}"
    return f"{row['mean']:.4f} ({row['low']:.3f}-{row['high']:.3f}) x{row['seeds']} {p}"


def bench(length: int = 128, texts: int = 32, repeats: int = 7) -> None:
    """Seconds of a step: the teacher's forward, the student's forward and backward, and the whole under transfers."""
    from retrieval_distill.compress import start
    from retrieval_distill.compress.captures import Captures, anatomy
    from retrieval_distill.compress.contract import VECTOR, Pair
    from retrieval_distill.compress.model import CompressionModel
    from retrieval_distill.compress.transfers import Transfers
    from retrieval_distill.config import CompressConfig
    from retrieval_distill.student import encoder

    dtype = torch.bfloat16 if hardware.has_fast_bfloat16(hardware.device()) else None
    teacher = encoder.load(MODEL, "auto")
    student, _ = start.student(CompressConfig(**START), MODEL, Texts.from_records([]), 1)
    rows = [row.astype(np.int32) for row in np.random.default_rng(0).integers(1000, 30000, (texts, length))]
    see, look = Captures(student, [VECTOR]), Captures(teacher, [VECTOR])

    def weights() -> Any:
        return None if dtype is None else {n: w.to(dtype) for n, w in student[0].named_parameters()}

    def forward() -> None:
        with torch.no_grad():
            look(rows)

    acts = {"teacher forward": forward, "student": lambda: see(rows, weights())[VECTOR].sum().backward()}
    for name in ("relations", "hidden_states", "embedding"):
        pair = Pair(anatomy(student), anatomy(teacher))
        model = CompressionModel(student, teacher, Transfers({name: 1.0}, pair), dtype)
        acts[name] = lambda model=model: model(rows, rows, 0)["loss"].backward()
    taken: dict[str, list[float]] = {name: [] for name in acts}
    for _ in range(repeats):
        for name, act in acts.items():  # in turn, so that whatever else the machine does hits all alike
            begin = time.perf_counter()
            act()
            taken[name].append(time.perf_counter() - begin)
            student.zero_grad()
    middle = {name: float(np.median(values[1:])) for name, values in taken.items()}
    print(f"{texts} texts of {length} tokens, {hardware.name()}, {dtype or torch.float32}")
    for name, seconds in middle.items():
        share = (seconds - middle["teacher forward"]) / middle["student"]
        print(f"{name:16} {seconds:7.3f} s" + (f"   {share:.2f} x student + teacher" if name not in ("teacher forward", "student") else ""))  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/study-compression"))
    parser.add_argument("--beir", type=Path, default=Path("../shared/beir"), help="folder that holds scifact, medquad")
    parser.add_argument("--datasets", nargs="+", default=list(COLLECTIONS), choices=COLLECTIONS)
    parser.add_argument("--systems", nargs="*", help="of the taught ones; all if not given")
    parser.add_argument("--seeds", type=int, default=len(SEEDS))
    parser.add_argument("--tokens", type=int, default=500_000, help="budget of a compression")
    parser.add_argument("--documents", type=int, default=3000, help="searched per collection")
    parser.add_argument("--max-length", type=int, default=128, help="tokens of a document that are embedded")
    parser.add_argument("--after", nargs="*", default=[], help="systems to distil afterwards")
    parser.add_argument("--table", action="store_true", help="read what there is, make nothing")
    parser.add_argument("--bench", action="store_true")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    if args.bench:
        bench()
        bench(length=512, texts=8)
        return
    study = Study(args)
    if not args.table:
        study.zero_shot()
        if args.after:
            study.distilled()
    rows = study.rows()
    print(f"\n{table(rows)}")
    if args.json:
        shown = json.loads(json.dumps(vars(args), default=str))
        artifacts.write_json(args.json, {"environment": hardware.describe(), "arguments": shown, "rows": rows})


if __name__ == "__main__":
    main()
