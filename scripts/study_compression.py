"""Which transfer makes the better small retriever of all-MiniLM-L6-v2? Every system below at an equal token budget.

    python scripts/study_compression.py --beir ../shared/beir --rates                # learning rates, on dev queries
    python scripts/study_compression.py --beir ../shared/beir --json runs/study-compression.json
    python scripts/study_compression.py --beir ../shared/beir --table                # what there is so far
    python scripts/study_compression.py --bench                                      # what a step costs

A student is compressed once per seed, on documents of all collections together, and then asked the test queries of each
without having seen one. The systems of ``AFTER`` then learn to retrieve from the starter teacher and are asked again.
Of a collection are used ``--documents`` documents, all judged ones of the test queries among them, and those that are
judged for the training queries of distillation: figures are higher than those of whole collections. What is done is
kept, cell by cell, seed after seed: the same command continues, ``--systems`` shares the work among processes.

The table says, per collection, the mean nDCG@10 over queries and seeds and its 95 % interval (bootstrap over both), and
the p-value of a paired randomisation test, over queries, against ``REFERENCE`` (of distilled students: against it
distilled), both with the seeds that both have. Costs are told by ``--bench``: a step's time over that of the teacher's forward and the student's forward and
backward without any transfer.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import study_objectives as base
import torch

from retrieval_distill import api, models
from retrieval_distill.config import Recipe, load_recipe
from retrieval_distill.data import dataset_loader
from retrieval_distill.data.dataset import Dataset, Texts
from retrieval_distill.data.formats import beir
from retrieval_distill.evaluation.seed_summary import summarise
from retrieval_distill.evaluation.significance import paired_p
from retrieval_distill.hardware import devices
from retrieval_distill.pipeline.data import open_job
from retrieval_distill.runtime import memory, stages

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
BOTH = {"hidden_states": 1.0, "embedding": 1.0}
TAUGHT: dict[str, dict[str, Any]] = {
    "embedding": {**START, "transfers": {"embedding": 1.0}},
    "relations": {**START, "transfers": {"relations": 1.0}},
    "hidden uniform": {**START, "transfers": {"hidden_states": {"mapping": "uniform"}}},
    "hidden + embedding": {**START, "transfers": BOTH},
    "relations + embedding": {**START, "transfers": {"relations": 1.0, "embedding": 1.0}},
    "hidden skip": {**START, "transfers": {"hidden_states": {"mapping": "skip"}}},
    "hidden last": {**START, "transfers": {"hidden_states": {"mapping": "last"}}},
    "hidden first": {**START, "transfers": {"hidden_states": {"mapping": "first"}}},
    "hidden earth_mover": {**START, "transfers": {"hidden_states": {"mapping": "earth_mover"}}},
    "all three": {**START, "transfers": {"relations": 1.0, **BOTH}},
    "first, embedding": {"layers": "first:3", "transfers": {"embedding": 1.0}},
    "last, embedding": {"layers": "last:3", "transfers": {"embedding": 1.0}},
    "random, hidden + embedding": {**START, "weights": "random", "transfers": BOTH},
    "narrow, embedding": {**NARROW, "transfers": {"embedding": 1.0}},
    "narrow, hidden + embedding": {**NARROW, "transfers": BOTH},
}
AFTER = ("untaught spaced", "untaught narrow", *TAUGHT)
"""Distilled too."""
REFERENCE = "embedding"
MODEL = models.PACKAGED
TRAINING = {"max_length": 64, "tokens_per_step": 2048, "learning_rate": 3e-4}
RATES = (1e-4, 3e-4, 1e-3)
"""Tried with the first three systems of ``TAUGHT``."""
COLLECTIONS = {"python-docs": "python-docs", "scifact": "SciFact", "medquad": "MedQuAD"}
"""Name -> what the table calls it."""
DISTILLED = {"steps": 24, "queries_per_step": 32, "candidates": 3, "max_length": 64}
DISTILLED_RATES = {"python-docs": 3e-4, "scifact": 1e-4, "medquad": 1.5e-4}
"""Twice those of ``study_objectives.py``, for students of half the layers; MedQuAD's lies between."""
SEEDS = (1, 2, 3)
DEV_QUERIES = 600


def collection(name: str, args: argparse.Namespace) -> Path:
    """A folder with a part of a collection: the documents that are searched, and what distillation learns from."""
    folder = args.out / "collections" / name
    if not folder.is_dir():
        whole = dataset_loader.load(name if name == "python-docs" else str(args.beir / name), args.out / "cache")
        if "dev" not in whole.qrels:  # SciFact's
            whole.qrels["dev"] = {}
        limits = {"train": DISTILLED["steps"] * DISTILLED["queries_per_step"], "dev": DEV_QUERIES}
        ids = {split: whole.queries(split).sample(limits.get(split), 0).ids for split in ("train", "dev", "test")}
        qrels = {split: {query: whole.qrels(split)[query] for query in ids[split]} for split in ids if ids[split]}
        documents = base.searched(whole, args.documents).ids
        judged = (doc for split in qrels.values() for docs in split.values() for doc in docs)
        texts = whole.documents.select(list(dict.fromkeys([*documents, *judged])))
        queries = whole.queries.select(list(dict.fromkeys(query for split in qrels.values() for query in split)))
        beir.save(Dataset(name, texts, queries, qrels), folder.with_suffix(".partial"))
        folder.with_suffix(".partial").rename(folder)
    return folder


def plain(datasets: dict[str, Dataset], budget: int) -> Texts:
    """Documents of all collections, a like number of each, under ids of their own; about a budget of tokens."""
    count = budget // (len(datasets) * 55)  # tokens of a text that is cut at 64, on average
    return Texts.from_records(
        (f"{name}/{id_}", title, text)
        for name, data in datasets.items()
        for id_, title, text in data.documents.sample(count, 0).records()
    )


class Study:
    """What is measured, where it is kept, and the table of it."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.out, self.args = args.out, args
        self.datasets = {
            name: dataset_loader.load(str(collection(name, args)), args.out / "cache") for name in COLLECTIONS
        }
        self.texts = plain(self.datasets, args.tokens)

    def run(self) -> None:
        """Every cell that is missing, seed after seed."""
        self.measure("whole", 1, lambda: MODEL)
        for system in UNTAUGHT:
            self.measure(f"untaught {system}", 1, lambda s=system: self.started(s))
        for seed in SEEDS[: self.args.seeds]:
            for system in self.args.systems or TAUGHT:
                if system in TAUGHT:
                    self.measure(system, seed, lambda s=system, n=seed: self.compressed(s, n))
            for system in self.args.systems or AFTER:
                if system in AFTER:
                    for name in self.datasets:
                        self.distil(system, seed, name)

    def measure(self, system: str, seed: int, make: Any, split: str = "test") -> None:
        """Every collection's values of one student, which is made if one of them is missing."""
        for name, data in self.datasets.items():
            folder = self.cell(system, seed, name)
            if not (folder / "values.parquet").is_file() and split in data.qrels:
                asked = Dataset(name, data.documents, data.queries, {"test": data.qrels(split)})
                values = base.measured(make(), asked, self.searched(name), folder, TRAINING["max_length"])
                print(f"{system}, seed {seed}, {name}: {values.mean():.4f}", flush=True)

    def searched(self, name: str) -> Texts:
        """The documents that are searched."""
        return self.datasets[name].documents

    def cell(self, system: str, seed: int, name: str) -> Path:
        """Where one student's values on one collection are kept."""
        return self.out / "cells" / system.replace(" ", "") / str(seed) / name

    def student(self, system: str, seed: int) -> Path:
        """Where a student is kept."""
        return self.out / "students" / system.replace(" ", "") / str(seed)

    def started(self, system: str) -> str:
        """A student as it begins."""
        from retrieval_distill.compress import student_setup
        from retrieval_distill.config import CompressConfig

        folder = self.student(f"untaught {system}", 1)
        if not folder.is_dir():
            student_setup.student(CompressConfig(**UNTAUGHT[system]), MODEL, self.texts, 1)[0].save_pretrained(
                str(folder)
            )
        return str(folder)

    def compressed(self, system: str, seed: int, **training: Any) -> str:
        """A student taught."""
        name = " ".join([system, *map(str, training.values())])
        options = {**TRAINING, **TAUGHT[system], **training, "tokens": self.args.tokens}
        folder, cache = self.student(name, seed), str(self.out / "teacher")
        api.compress(self.texts, out=folder, seed=seed, model=MODEL, teacher_cache=cache, **options)
        return str(folder)

    def rates(self) -> None:
        """Learning rates, asked dev queries."""
        for system in list(TAUGHT)[:3]:
            for rate in RATES:
                self.measure(f"{system}, rate {rate}", 1,
                             lambda s=system, r=rate: self.compressed(s, 1, learning_rate=r), "dev")  # fmt: skip

    def distil(self, system: str, seed: int, name: str) -> None:
        """One student after distillation, and its values."""
        folder = self.cell(f"{system}, distilled", seed, name)
        if (folder / "values.parquet").is_file():
            return
        start = self.student(system, seed if system in TAUGHT else 1)
        job = open_job(self.recipe(name, str(start), seed), self.out / "teacher-scores" / name)
        lists = self.lists(name)
        api.distill(lists, job.dataset, split="train", recipe=job.recipe, out=folder / "student")
        found = base.measured(str(folder / "student"), job.dataset, self.searched(name), folder, TRAINING["max_length"])
        print(f"{system}, distilled, seed {seed}, {name}: {found.mean():.4f}", flush=True)

    def lists(self, name: str) -> Any:
        """The teacher's scores of the whole model's and BM25's candidates: the same for all."""
        return base.scored(open_job(self.recipe(name, MODEL, 1), self.out / "teacher-scores" / name))

    def recipe(self, name: str, model: str, seed: int) -> Recipe:
        """Of distillation."""
        training = {**DISTILLED, "learning_rate": DISTILLED_RATES[name]}
        options = {
            "dataset.source": self.out / "collections" / name, "student.model": model, "seed": seed,
            "student.max_length": 64, "teacher.max_length": 128, "retrieve.keep": 4,
            **{f"training.{key}": value for key, value in training.items()},
        }  # fmt: skip
        return load_recipe("starter-scifact", [f"{key}={value}" for key, value in options.items()])

    def rows(self) -> list[dict[str, Any]]:
        """A row per system and collection that has been measured, over the seeds that have."""
        systems = ["whole", *(f"untaught {name}" for name in UNTAUGHT), *TAUGHT]
        tried = [f"{system}, rate {rate}" for system in list(TAUGHT)[:3] for rate in RATES]
        systems += [*(f"{system}, distilled" for system in AFTER), *tried]
        found = {(system, name): self.values(system, name) for system in systems for name in self.datasets}
        return [self.row(system, name, found) for (system, name), seeds in found.items() if seeds]

    def row(self, system: str, name: str, found: dict[tuple[str, str], dict[int, pd.Series]]) -> dict[str, Any]:
        """One system on one collection, and how it stands against the reference."""
        seeds, p = found[system, name], None
        other = f"{REFERENCE}, distilled" if system.endswith("distilled") else REFERENCE
        if system != other and found[other, name] and "rate" not in system:
            theirs = found[other, name]
            both = sorted(seeds.keys() & theirs.keys()) if drawn(system) else sorted(theirs)
            own = [seeds[seed] for seed in both] if drawn(system) else list(seeds.values())
            p = paired_p(np.mean(own, axis=0), np.mean([theirs[seed] for seed in both], axis=0))
        summary = asdict(summarise(np.stack(list(seeds.values()))))
        return {"system": system, "collection": name, **summary, "p_vs_reference": p}

    def values(self, system: str, name: str) -> dict[int, pd.Series]:
        """Seeds that have been measured, and their values by query."""
        files = {seed: self.cell(system, seed, name) / "values.parquet" for seed in SEEDS}
        return {seed: pd.read_parquet(file)[base.MEASURE] for seed, file in files.items() if file.is_file()}


def drawn(system: str) -> bool:
    """Whether a system knows a seed; it is compared with the reference over the seeds that both have."""
    return system.removesuffix(", distilled") in TAUGHT or system.endswith("distilled")


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown: a line per system, a column per collection."""
    collections = list(dict.fromkeys(row["collection"] for row in rows))
    lines = [
        f"| {' | '.join(['', *(COLLECTIONS[name] for name in collections)])} |",
        "|---" * (len(collections) + 1) + "|",
    ]
    for system in dict.fromkeys(row["system"] for row in rows):
        own = {row["collection"]: row for row in rows if row["system"] == system}
        cells = [cell(own[name]) if name in own else "" for name in collections]
        lines.append(f"| {' | '.join([system, *cells])} |")
    return "\n".join(lines)


def cell(row: dict[str, Any]) -> str:
    seeds = f", seeds {row['seeds']}" if drawn(row["system"]) and row["seeds"] < len(SEEDS) else ""
    value = row["p_vs_reference"]
    p = "" if value is None else ", p < 0.001" if value < 0.001 else f", p {value:.3f}"
    return f"{row['mean']:.3f} ({row['low']:.3f}-{row['high']:.3f}{p}{seeds})"


def bench(length: int = 128, texts: int = 32, repeats: int = 7) -> Iterator[dict[str, Any]]:
    """Seconds of a step: the teacher's forward, the student's forward and backward, and the whole under transfers."""
    from retrieval_distill.compress import student_setup
    from retrieval_distill.compress.captures import Captures, shape_of
    from retrieval_distill.compress.compression_model import CompressionModel
    from retrieval_distill.compress.transfer import VECTOR, ModelPair
    from retrieval_distill.compress.transfer_mix import Transfers
    from retrieval_distill.config import CompressConfig
    from retrieval_distill.student import encoder

    dtype = torch.bfloat16 if devices.has_fast_bfloat16(devices.device()) else None
    teacher = encoder.load(MODEL, "auto")
    student, _ = student_setup.student(CompressConfig(**START), MODEL, Texts.from_records([]), 1)
    rows = [row.astype(np.int32) for row in np.random.default_rng(0).integers(1000, 30000, (texts, length))]
    see, look = Captures(student, [VECTOR]), Captures(teacher, [VECTOR])

    def weights() -> Any:
        return None if dtype is None else {n: w.to(dtype) for n, w in student[0].named_parameters()}

    def forward() -> None:
        with torch.no_grad():
            look(rows)

    acts = {"teacher": forward, "student": lambda: see(rows, weights())[VECTOR].sum().backward()}
    pair = ModelPair(shape_of(student), shape_of(teacher))
    for name, options in TAUGHT.items():
        if {key: value for key, value in options.items() if key != "transfers"} == START:
            model = CompressionModel(student, teacher, Transfers(options["transfers"], pair), dtype)
            acts[name] = lambda model=model: model(rows, rows, 0)["loss"].backward()
    taken: dict[str, list[float]] = {name: [] for name in acts}
    for _ in range(repeats):
        for name, act in acts.items():  # in turn, so that whatever else the machine does hits all alike
            begin = time.perf_counter()
            act()
            taken[name].append(time.perf_counter() - begin)
            student.zero_grad()
    rounds = {name: np.array(values[1:]) for name, values in taken.items()}
    plain_step = rounds["student"] + rounds["teacher"]
    print(f"{texts} texts of {length} tokens, {devices.name()}, {dtype or torch.float32}")
    for name, seconds in rounds.items():
        ratio = seconds / plain_step
        row = {"name": f"{name}/{texts}x{length}", "seconds": float(np.median(seconds)), "ratio": float(np.median(ratio)),
               "low": float(ratio.min()), "high": float(ratio.max())}  # fmt: skip
        print(f"{name:24} {row['seconds']:7.3f} s   {row['ratio']:.2f} x teacher and student ({row['low']:.2f}-{row['high']:.2f})")  # fmt: skip
        yield row


def bench_memory(texts: int = 32, length: int = 512, heads: int = 12, width: int = 768) -> dict[str, Any]:
    """Most memory that relations take above the projections that they compare, gradient included."""
    from retrieval_distill.compress.relations import relation_kl

    rng = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(texts, length, width, generator=rng) for _ in range(2))
    mask = torch.ones(texts, length, dtype=torch.bool)
    relation_kl(student[:1, :64].requires_grad_(), teacher[:1, :64], mask[:1, :64], heads).backward()
    memory.release()
    memory.reset_peak()
    before = memory.peak_bytes()
    relation_kl(student.requires_grad_(), teacher, mask, heads).backward()
    taken = memory.peak_bytes() - before
    maps = texts * heads * length * length * 4
    print(f"relations of {texts} x {length} tokens, {heads} heads: {taken / 2**30:.2f} GiB; one map of all: {maps / 2**30:.2f} GiB")  # fmt: skip
    return {"name": f"relations-memory/{texts}x{length}", "bytes": taken, "bytes_of_one_map": maps}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/study-compression"))
    parser.add_argument("--beir", type=Path, default=Path("../shared/beir"), help="folder that holds scifact, medquad")
    parser.add_argument("--systems", nargs="+", help="of TAUGHT and AFTER; all if not given")
    parser.add_argument("--seeds", type=int, default=len(SEEDS))
    parser.add_argument("--tokens", type=int, default=250_000, help="budget of a compression")
    parser.add_argument("--documents", type=int, default=2000, help="per collection")
    parser.add_argument("--rates", action="store_true", help="compare learning rates on dev queries, nothing else")
    parser.add_argument("--table", action="store_true", help="read what there is, make nothing")
    parser.add_argument("--bench", action="store_true")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    if args.bench:
        rows = [bench_memory(), *bench(), *bench(length=512, texts=8)]
    else:
        study = Study(args)
        if not args.table:
            (study.rates if args.rates else study.run)()
        rows = study.rows()
        print(f"\n{table(rows)}")
    if args.json:
        shown = json.loads(json.dumps(vars(args), default=str))
        stages.write_json(args.json, {"environment": devices.describe(), "arguments": shown, "rows": rows})


if __name__ == "__main__":
    main()
