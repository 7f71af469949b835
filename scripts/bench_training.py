"""Training speed against sentence-transformers: same weights, same steps, same dtype, same threads.

    python scripts/bench_training.py --json runs/bench_training.json
    python scripts/bench_training.py --quick                        # a smoke run of the same code
    python scripts/bench_training.py --only paths --seconds 300

A step is 32 queries with 8 candidates each (BM25's, one of them relevant, under fixed synthetic teacher scores), on
the packaged all-MiniLM-L6-v2 without dropout, with AdamW. Each side trains in a process of its own, through its own
trainer and on its own data path (``distill``; ``SentenceTransformerTrainer`` with ``MarginMSELoss`` or
``DistillKLDivLoss``), and the sides take turns step by step: one computes while the others wait. Reported are medians
over the steps, and the median, lowest and highest ratio of a pair of steps.

Passages are of mixed length: each is cut to a number of words drawn from a log-normal distribution (median 52, sigma
0.4, as short as 8 and as long as 200): an assumption, meant to resemble web passages of some fifty words.
``--lengths natural`` takes them as python-docs has them: half of them fill the model's 256 tokens, little is padded,
and the ratios show what is left of the gain.

* ``NAME/same-dtype``: both in float32. Losses of all steps (20, unless ``--steps`` says otherwise) must agree to 1e-5
  (relative above 1), the first gradient to 1e-4 of its norm.
* ``NAME/bf16``: both in bfloat16: ours from rounded weights, theirs with ``bf16=True``.
* ``NAME/default``: each side as its user would call it on such a CPU (ours: bfloat16; theirs: float32).
* ``NAME/gradient-caching``: the memory of our step of 1,024 queries with ``cache_texts`` against 32 queries without,
  in the dtype that is fast here. The vectors of the large step and their gradients are part of it.

``--only paths`` measures the ways of training that are off by default, each beside the usual way (objective
``soft_contrastive``, the starter's scores), and then together (a step's shape stays the usual one): seconds per step,
turn by turn as above, and nDCG@10 on 300 test queries after equal time. A budget of ``--seconds`` buys each as many steps
as it can take in it; what it prepares beyond the usual way (the outputs of frozen layers) is paid out of the budget.
Ranked are 2,000 documents: relevant ones, BM25's and others; ``fused`` is the student with BM25 by weights tuned on dev
queries, as a run serves it.

Batch milliseconds are the collator's: what turns the rows of a step into tensors; peak memory is each process's during
training, libraries and data included. The first step of each side warms it up and is not counted; loading is not counted. ``computed`` is
what a side sends through the model per step: tokens, padding and repeated texts included.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from datasets import Dataset as Rows
from datasets import disable_progress_bars
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.base.sampler import DefaultBatchSampler
from sentence_transformers.sentence_transformer.losses import DistillKLDivLoss, MarginMSELoss
from sentence_transformers.util import pairwise_dot_score
from torch.utils.data import SequentialSampler
from transformers import PrinterCallback, TrainerCallback
from transformers.utils import logging

from retrieval_distill import api, models
from retrieval_distill.config import Recipe, parse_recipe
from retrieval_distill.data.dataset import Dataset, Texts
from retrieval_distill.data.dataset_loader import load
from retrieval_distill.data.relevance import with_relevant
from retrieval_distill.data.run import Run
from retrieval_distill.data.training_set import TrainingSet
from retrieval_distill.evaluation.measures import evaluate
from retrieval_distill.hardware import devices
from retrieval_distill.retrieval import hybrid
from retrieval_distill.retrieval.bm25 import BM25
from retrieval_distill.runtime import memory, stages
from retrieval_distill.student import build
from retrieval_distill.training import dev_retrieval, distillation
from retrieval_distill.training.groups import build_groups, schedule

SOURCE = "python-docs"
CANDIDATES = 8
LEARNING_RATE, WARMUP_STEPS, WEIGHT_DECAY, MAX_NORM, SEED = 5e-5, 2, 0.01, 1.0, 7
SCALE = 20.0
LOSSES = {"MarginMSELoss": ("margin_mse", MarginMSELoss), "DistillKLDivLoss": ("listwise_kl", DistillKLDivLoss)}
PATHS: dict[str, dict[str, Any]] = {
    "frozen_layers": {"frozen_layers": 3},
    "memory": {"memory": 2048},
    "many queries, 2 candidates": {"queries_per_step": 96, "candidates": 2},
    "draw=stratified": {"draw": "stratified"},
    "ema": {"ema": 0.9},
    "lexical_weight": {"lexical_weight": 2.0},
}
"""Options of ``training`` by name; a step of 96 queries with 2 candidates has as many texts as one of 32 with 8."""
PATHS["together"] = {key: value for path in PATHS.values() if "candidates" not in path for key, value in path.items()}
LOSSES_AGREE, GRADIENTS_AGREE = 1e-5, 1e-4


def passages(cache: Path, lengths: str) -> Dataset:
    """The collection, its passages as they are or cut to mixed lengths."""
    dataset = load(SOURCE, cache)
    if lengths == "natural":
        return dataset
    words = np.exp(np.random.default_rng(SEED).normal(np.log(52), 0.4, len(dataset.documents))).clip(8, 200)
    cut = [" ".join(text.split()[: int(count)]) for text, count in zip(dataset.documents.take(), words, strict=True)]
    documents = Texts.from_records((id_, "", text) for id_, text in zip(dataset.documents, cut, strict=True))
    return replace(dataset, documents=documents)


def candidates(dataset: Dataset, queries: int) -> Run:
    """BM25's candidates of training queries that have enough of them, under a generator's scores."""
    asked = dataset.queries("train")
    asked = asked.select(list(asked)[:queries])
    qrels = {query: dataset.qrels("train")[query] for query in asked}
    found = with_relevant(api.retrieve(asked, dataset.documents, depth=20), qrels).as_dict()
    rng = np.random.default_rng(SEED)
    full = {
        query: {doc: float(rng.normal(4.0 if qrels[query].get(doc, 0) > 0 else 0.0, 2.0)) for doc in docs}
        for query, docs in found.items()
        if sum(qrels[query].get(doc, 0) <= 0 for doc in docs) >= CANDIDATES - 1
    }
    return Run.from_dict(full)


@dataclass
class Record:
    """What a side tells of itself in the end."""

    losses: list[float] = field(default_factory=list)
    batch_seconds: list[float] = field(default_factory=list)
    peak_memory_bytes: int = 0
    prepared_seconds: float = 0.0
    computed_tokens: list[int] = field(default_factory=list)


class Turns(TrainerCallback):
    """Trains a step each time it is told to go on, and tells how long it took."""

    def __init__(self, record: Record) -> None:
        self.record = record
        self.start = 0.0

    def _wait(self) -> None:
        sys.stdin.readline()
        self.start = time.perf_counter()

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Called by the trainer before the first step."""
        memory.reset_peak()
        self.record.prepared_seconds += time.perf_counter()
        answer("ready")
        self._wait()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Called by the trainer after every step."""
        self.record.peak_memory_bytes = memory.peak_bytes()
        answer(time.perf_counter() - self.start)
        if state.global_step < state.max_steps:
            self._wait()


class Timed:
    """A collator that keeps a record of its seconds; all else it leaves to the collator."""

    def __init__(self, collate: Any, record: Record) -> None:
        self.collate = collate
        self.record = record

    def __call__(self, rows: Any) -> Any:
        """What the collator gives."""
        start = time.perf_counter()
        batch = self.collate(rows)
        self.record.batch_seconds.append(time.perf_counter() - start)
        return batch

    def __getattr__(self, name: str) -> Any:
        return getattr(self.collate, name)


def measured(base: type, spec: dict[str, Any], record: Record) -> type:
    """A trainer that takes turns and keeps a record; the gradient of its first step goes to a file."""

    class Measured(base):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.add_callback(Turns(record))
            self.data_collator = Timed(self.data_collator, record)

        def training_step(self, model: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
            student = next(module for module in model.modules() if isinstance(module, SentenceTransformer))
            tokens: list[int] = []
            counter = student[0].register_forward_pre_hook(lambda _, args: tokens.append(args[0]["input_ids"].numel()))
            loss = super().training_step(model, *args, **kwargs)
            counter.remove()
            record.computed_tokens.append(sum(tokens))
            if not record.losses:
                slopes = [p.grad.flatten() for p in student.parameters() if p.grad is not None]
                torch.save(torch.cat(slopes).cpu(), spec["gradient"])
            record.losses.append(float(loss))
            return loss

    return Measured


def recipe_of(spec: dict[str, Any]) -> Recipe:
    training = {
        "steps": spec["steps"], "queries_per_step": spec["queries"], "candidates": CANDIDATES, "bf16": spec["bf16"],
        "learning_rate": LEARNING_RATE, "warmup": min(1.0, WARMUP_STEPS / spec["steps"]), "weight_decay": WEIGHT_DECAY,
        "max_grad_norm": MAX_NORM, "save_steps": 1 << 20, "dropout": 0.0, "agreement_queries": 0,
    }  # fmt: skip
    student = {"model": models.PACKAGED, "similarity": "cosine", "scale": SCALE}
    objectives = {LOSSES[spec["loss"]][0]: 1.0} if "options" not in spec else Recipe(name="bench").objectives
    values = {
        "name": "bench",
        "seed": SEED,
        "student": student,
        "objectives": objectives,
        "training": {**training, "cache_texts": spec["cache_texts"], **spec.get("options", {})},
    }
    return parse_recipe(values)


def train_ours(spec: dict[str, Any], record: Record, folder: Path) -> None:
    """``distill`` as it stands, with a trainer that measures itself."""
    dataset = passages(spec["cache"], spec["lengths"])
    distillation.DistillationTrainer = measured(distillation.DistillationTrainer, spec, record)
    record.prepared_seconds -= time.perf_counter()
    distilled(spec, dataset, folder / "student")


def distilled(spec: dict[str, Any], dataset: Dataset, folder: Path) -> None:
    learnt = TrainingSet(Run.load(spec["run"]), dataset.qrels("train"), dataset.queries, dataset.documents)
    bm25 = BM25(dataset.documents).score_matrix if "lexical_weight" in spec.get("options", {}) else None
    distillation.distill(learnt, recipe_of(spec), folder, bm25=bm25)


def train_theirs(spec: dict[str, Any], record: Record, folder: Path) -> None:
    """The library's trainer over the same steps, as columns of texts and a list of scores."""
    dataset, recipe = passages(spec["cache"], spec["lengths"]), recipe_of(spec)
    groups = build_groups(Run.load(spec["run"]), dataset.qrels("train"))
    torch.manual_seed(SEED)
    student = build.build(recipe.student)
    build.set_dropout(student, 0.0)
    draws = schedule(groups, spec["steps"], spec["queries"], CANDIDATES, SEED)
    drawn = [(groups[draw.group], draw.candidates) for draw in draws]
    columns = {"query": dataset.queries.take([group.query_id for group, _ in drawn])}
    for place in range(CANDIDATES):
        columns[f"document_{place}"] = dataset.documents.take([group.doc_ids[kept[place]] for group, kept in drawn])
    columns["label"] = [[group.scores[c] for c in kept] for group, kept in drawn]
    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(folder / "theirs"),
        max_steps=spec["steps"],
        per_device_train_batch_size=spec["queries"],
        learning_rate=LEARNING_RATE,
        warmup_steps=WARMUP_STEPS,
        weight_decay=WEIGHT_DECAY,
        max_grad_norm=MAX_NORM,
        bf16=bool(spec["bf16"]),
        save_strategy="no",
        logging_steps=5,
        report_to=[],
        disable_tqdm=True,
        use_cpu=devices.device() == "cpu",
        dataloader_pin_memory=False,
        seed=SEED,
        batch_sampler=in_order,
    )
    own = measured(SentenceTransformerTrainer, spec, record)(
        model=student,
        args=arguments,
        train_dataset=Rows.from_dict(columns),
        loss=LOSSES[spec["loss"]][1](student, similarity_fct=lambda a, b: SCALE * pairwise_dot_score(a, b)),
    )
    own.pop_callback(PrinterCallback)
    own.train()


def in_order(dataset: Rows, batch_size: int, drop_last: bool, **_: Any) -> DefaultBatchSampler:
    return DefaultBatchSampler(SequentialSampler(dataset), batch_size, drop_last)


def answer(value: Any) -> None:
    print("RESULT" + json.dumps(value), flush=True)


def work(spec: dict[str, Any]) -> None:
    """One side, in a process of its own."""
    logging.set_verbosity_error()
    disable_progress_bars()
    torch.set_num_threads(spec["threads"])
    record = Record()
    with tempfile.TemporaryDirectory() as folder:
        (train_ours if spec["side"] == "ours" else train_theirs)(spec, record, Path(folder))
    answer(asdict(record))


class Side:
    """A side at work in its process."""

    def __init__(self, **spec: Any) -> None:
        command = [sys.executable, __file__, "--work", json.dumps(spec)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.receive()

    def receive(self) -> Any:
        """What it tells next."""
        assert self.process.stdout
        for line in self.process.stdout:
            if line.startswith("RESULT"):
                return json.loads(line.removeprefix("RESULT"))
        raise SystemExit("a side's process ended; its message is above")

    def turn(self) -> float:
        """Let it train its next step; its seconds."""
        assert self.process.stdin
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self.receive()


@contextmanager
def sides(**specs: dict[str, Any]) -> Iterator[dict[str, Side]]:
    started: dict[str, Side] = {}
    try:
        for name, spec in specs.items():
            started[name] = Side(**spec)
        yield started
    finally:
        for side in started.values():
            side.process.kill()
            side.process.wait()


def trained(**specs: dict[str, Any]) -> tuple[dict[str, list[float]], dict[str, Any]]:
    """Seconds of each side's steps, and what each tells in the end."""
    seconds: dict[str, list[float]] = {name: [] for name in specs}
    with sides(**specs) as started:
        for step in range(max(spec["steps"] for spec in specs.values())):
            for name in [name for name, spec in specs.items() if step < spec["steps"]]:
                seconds[name].append(started[name].turn())
        told = {name: side.receive() for name, side in started.items()}
    for name, spec in specs.items():
        told[name]["gradient"] = torch.load(spec["gradient"], weights_only=True).double()
        told[name]["batch_ms"] = 1000 * median(told[name]["batch_seconds"][1:] or told[name]["batch_seconds"])
    return {name: values[1:] or values for name, values in seconds.items()}, told


def comparison(
    name: str, loss: str, seconds: dict[str, list[float]], told: dict[str, Any], us: str, them: str
) -> dict[str, Any]:
    both = min(len(seconds[us]), len(seconds[them]))
    ratios = [b / a for a, b in zip(seconds[us][:both], seconds[them][:both], strict=True)]
    ours, theirs = (np.array(told[side]["losses"][: both + 1]) for side in (us, them))
    a, b = told[us]["gradient"], told[them]["gradient"]
    return {
        "name": f"{SOURCE}/{name}", "peer": f"sentence-transformers {loss}", "unit": "steps/s",
        "ours": 1 / median(seconds[us][:both]), "theirs": 1 / median(seconds[them][:both]),
        "ratio": median(ratios), "low": min(ratios), "high": max(ratios),
        "max_abs_difference": float((np.abs(ours - theirs) / np.maximum(1, np.abs(theirs))).max()),
        "gradient_difference": float((a - b).norm() / b.norm()),
        "batch_milliseconds": {"ours": told[us]["batch_ms"], "theirs": told[them]["batch_ms"]},
        "computed_tokens": {
            side: int(median(told[key]["computed_tokens"])) for side, key in (("ours", us), ("theirs", them))
        },
        "peak_memory_bytes": {side: told[key]["peak_memory_bytes"] for side, key in (("ours", us), ("theirs", them))},
    }  # fmt: skip


def caching(spec: dict[str, Any], queries: int) -> dict[str, Any]:
    """Peak memory of one large step with gradient caching against the usual one without, in the fast dtype."""
    spec = {**spec, "steps": 1, "bf16": devices.has_fast_bfloat16(devices.device())}
    small = trained(ours=spec)
    large = trained(ours={**spec, "queries": queries, "cache_texts": 32})
    with_it, without = (told["ours"]["peak_memory_bytes"] for _, told in (large, small))
    gib = 1 << 30
    return {
        "name": f"{SOURCE}/{spec['lengths']}/gradient-caching", "peer": f"ours, {spec['queries']} queries (against {queries:,})",
        "unit": "GiB", "ours": with_it / gib, "theirs": without / gib, "ratio": without / with_it,
        "low": without / with_it, "high": without / with_it, "max_abs_difference": 0.0, "gradient_difference": 0.0,
        "batch_milliseconds": {"ours": large[1]["ours"]["batch_ms"], "theirs": small[1]["ours"]["batch_ms"]},
        "computed_tokens": {
            "ours": large[1]["ours"]["computed_tokens"][0], "theirs": small[1]["ours"]["computed_tokens"][0]
        },
        "peak_memory_bytes": {"ours": with_it, "theirs": without},
    }  # fmt: skip


def paths(
    spec: dict[str, Any],
    names: list[str],
    dataset: Dataset,
    seconds: float,
    asked: dict[str, dev_retrieval.DevSet],
    folder: Path,
) -> list[dict[str, Any]]:
    """Each way of training beside the usual one: steps per second, and nDCG@10 after equal time."""
    rows: list[dict[str, Any]] = []
    usual: dict[str, float] = {}
    for name, options in {"usual": {}, **{name: PATHS[name] for name in names}}.items():
        scaled = {**options, "queries_per_step": options.get("queries_per_step", 32) * spec["queries"] // 32}
        own = {**spec, "options": scaled, "gradient": f"{folder}/own.pt"}
        taken, told = trained(ours=own, usual={**spec, "options": {}, "gradient": f"{folder}/usual.pt"})
        extra = max(0.0, told["ours"]["prepared_seconds"] - told["usual"]["prepared_seconds"])
        steps = max(1, int((seconds - extra) / median(taken["ours"])))
        student = folder / "students" / name
        distilled({**own, "steps": steps}, dataset, student)
        found = quality(student, asked)
        usual = usual or found
        ratios = [theirs / ours for ours, theirs in zip(taken["ours"], taken["usual"], strict=True)]
        shared = {
            "peer": "the usual way", "max_abs_difference": 0.0, "steps": steps, "seconds": seconds,
            "extra_seconds": extra,
            "peak_memory_bytes": {"ours": told["ours"]["peak_memory_bytes"], "theirs": told["usual"]["peak_memory_bytes"]},
        }  # fmt: skip
        rows.append({
            "name": f"{SOURCE}/{spec['lengths']}/paths/{name}", "unit": "steps/s", "ratio": median(ratios),
            "ours": 1 / median(taken["ours"]), "theirs": 1 / median(taken["usual"]),
            "low": min(ratios), "high": max(ratios), **shared,
        })  # fmt: skip
        for system, value in found.items():
            ratio = value / usual[system]
            rows.append({
                "name": f"{SOURCE}/{spec['lengths']}/paths/{name}/{system}", "unit": "nDCG@10", "ours": value,
                "theirs": usual[system], "ratio": ratio, "low": ratio, "high": ratio, **shared,
            })  # fmt: skip
        print(
            f"{name:27} {median(taken['ours']):6.2f} s/step ({median(ratios):4.2f} times as fast), {extra:5.1f} s before, "
            f"{steps:4d} steps in {seconds:g} s: nDCG@10 " + ", ".join(f"{k} {v:.4f}" for k, v in found.items()),
            flush=True,
        )
    return rows


def pool(dataset: Dataset, split: str, queries: int, documents: int) -> dev_retrieval.DevSet:
    asked = dataset.queries(split).sample(queries, SEED)
    return dev_retrieval.DevSet.pool(api.retrieve(asked, dataset.documents, depth=20), split, dataset, documents, SEED)


def quality(student: Path, asked: dict[str, dev_retrieval.DevSet]) -> dict[str, float]:
    """nDCG@10 of a student on test queries, alone and fused with BM25 as dev queries say."""
    model = SentenceTransformer(str(student), device=devices.device())
    lexical = {split: BM25(own.documents).search(own.queries, 100) for split, own in asked.items()}
    dense = {split: dev_retrieval.retrieve(model, own, 100) for split, own in asked.items()}
    chosen = hybrid.tune(lexical["dev"], dense["dev"], asked["dev"].qrels).chosen
    runs = {"student": dense["test"], "fused": chosen.fuse(lexical["test"], dense["test"])}
    return {
        name: float(evaluate(run, asked["test"].qrels, ["nDCG@10"])["nDCG@10"].mean()) for name, run in runs.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queries", type=int, default=32, help="queries of a step")
    parser.add_argument("--steps", type=int, default=20, help="steps in float32, the first of them not counted")
    parser.add_argument("--bf16-steps", type=int, default=6, help="steps in bfloat16, the first of them not counted")
    parser.add_argument("--losses", nargs="+", choices=list(LOSSES), default=list(LOSSES))
    parser.add_argument("--lengths", choices=["mixed", "natural"], default="mixed")
    parser.add_argument("--only", choices=["speed", "caching", "paths"], help="a part of it")
    parser.add_argument("--cached-queries", type=int, default=1024, help="queries of the step with gradient caching")
    parser.add_argument("--paths", nargs="+", choices=list(PATHS), default=list(PATHS), help="with --only paths: which")
    parser.add_argument("--seconds", type=float, default=300, help="with --only paths: of training, for each")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--cache", type=Path, default=Path("runs/bench"))
    parser.add_argument("--quick", action="store_true", help="8 queries, three steps")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--work", help=argparse.SUPPRESS)  # how the script calls itself
    args = parser.parse_args()
    if args.work:
        work(json.loads(args.work))
        return
    if args.quick:
        args.queries, args.steps, args.bf16_steps, args.cached_queries, args.seconds = 8, 3, 3, 32, 5.0
    rows, differing = [], []
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run.parquet"
        dataset = passages(args.cache, args.lengths)
        candidates(dataset, max(args.cached_queries, args.queries * args.steps)).save(run)
        shared = {
            "run": str(run), "cache": str(args.cache), "lengths": args.lengths, "threads": args.threads, "queries": args.queries,
            "steps": args.steps, "cache_texts": None, "loss": "MarginMSELoss", "bf16": False,
        }  # fmt: skip
        if args.only == "paths":
            pairs = candidates(dataset, 64 if args.quick else 1024)
            api.score(pairs, dataset, teacher=api.load_teacher("starter"), store=args.cache / "scores").save(run)
            sizes = (50, 300) if args.quick else (300, 2000)
            asked = {split: pool(dataset, split, *sizes) for split in ("dev", "test")}
            fast = devices.has_fast_bfloat16(devices.device())
            rows = paths(
                {**shared, "side": "ours", "bf16": fast}, args.paths, dataset, args.seconds, asked, Path(folder)
            )
            if args.json:
                stages.write_json(args.json, {"environment": devices.describe(), "comparisons": rows})
            return
        for loss in args.losses if args.only != "caching" else ():
            specs = {
                f"{side}, {'bf16' if bf16 else 'float32'}": {
                    **shared, "side": side, "loss": loss, "bf16": bf16, "gradient": f"{folder}/{side}{int(bf16)}.pt",
                    "steps": args.bf16_steps if bf16 else args.steps,
                }
                for bf16 in (False, True) for side in ("ours", "theirs")
            }  # fmt: skip
            last = specs.pop("theirs, bf16")  # its turn comes when the others have given their memory back
            seconds, told = trained(**specs)
            rows += [
                comparison(f"{args.lengths}/same-dtype", loss, seconds, told, "ours, float32", "theirs, float32"),
                comparison(f"{args.lengths}/default", loss, seconds, told, "ours, bf16", "theirs, float32"),
            ]
            seconds, told = trained(**{"ours, bf16": specs["ours, bf16"], "theirs, bf16": last})
            rows.append(comparison(f"{args.lengths}/bf16", loss, seconds, told, "ours, bf16", "theirs, bf16"))
            print(*rows[-3:], sep="\n", flush=True)
            if rows[-3]["max_abs_difference"] > LOSSES_AGREE or rows[-3]["gradient_difference"] > GRADIENTS_AGREE:
                differing.append(loss)
        if args.only != "speed":
            rows.append(caching({**shared, "side": "ours", "gradient": f"{folder}/caching.pt"}, args.cached_queries))
    print(
        f"\n{'comparison':35} {'against':38} {'ours':>7} {'theirs':>7} {'unit':7} {'ratio':>5}  {'low-high':>11}  "
        f"{'loss diff':>9}  {'grad diff':>9}  {'batch ms':>13}  {'computed':>15}  {'peak GiB':>11}"
    )
    for row in rows:
        batch, peak = row["batch_milliseconds"], row["peak_memory_bytes"]
        print(f"{row['name']:35} {row['peer']:38} {row['ours']:7.3f} {row['theirs']:7.3f} {row['unit']:7} "
              f"{row['ratio']:5.2f}  {row['low']:5.2f}-{row['high']:5.2f}  {row['max_abs_difference']:9.1e}  "
              f"{row['gradient_difference']:9.1e}  {batch['ours']:5.2f}, {batch['theirs']:6.1f}  "
              f"{row['computed_tokens']['ours']:7,}/{row['computed_tokens']['theirs']:7,}  "
              f"{peak['ours'] / (1 << 30):4.2f}, {peak['theirs'] / (1 << 30):5.2f}")  # fmt: skip
    if args.json:
        stages.write_json(args.json, {"environment": devices.describe(), "comparisons": rows})
    if differing:
        raise SystemExit(f"losses or gradients differ in float32: {', '.join(differing)}")


if __name__ == "__main__":
    main()
