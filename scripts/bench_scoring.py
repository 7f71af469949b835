"""Scoring speed against sentence-transformers (and FlagEmbedding): same weights, same pairs, same threads.

    python scripts/bench_scoring.py --beir ../shared/beir --json runs/bench_scoring.json
    python scripts/bench_scoring.py --quick                              # a two-minute smoke run
    python scripts/bench_scoring.py --beir ../shared/beir --int8         # 8 bits: speed, rank agreement, nDCG@10
    python scripts/bench_scoring.py --beir ../shared/beir --datasets scifact medquad --models modular-17m,modular-32m
    OMP_NUM_THREADS=1 python scripts/bench_scoring.py ... --clock cpu    # on a machine that does other work too
    python scripts/bench_scoring.py --flag-python /tmp/flag/bin/python   # a venv with FlagEmbedding in it

Pairs are the queries of a test split with BM25's best documents, in random order. Each round takes its own share of
them and runs every contender on it, one after another; reported are medians over the rounds, and the median, lowest
and highest ratio within a round.

* ``NAME/same-dtype``: both sides in float32, up to the same 512 tokens; scores must agree to 1e-5 of their size (at
  least 1). Logits of 10 carry float32 errors of 1e-5 on either side: ``--exact 160`` measures both against float64.
* ``NAME/default``: each side as its user would call it (ours: the dtype that is fast here; theirs: float32).
* ``NAME/MODEL/...``: the same of a model of ``--models``: rerankers of today's sizes with random weights, see
  ``random_rerankers.py``; and ``bfloat16``, both sides in bfloat16, where it is fast. Scores must agree to 2e-5 in
  the same sense, those of decoders to 5e-5.
* With ``--int8`` only ``NAME/int8``: our 8-bit teacher against float32 and the default, over the best 20 documents of as many queries as the pairs
  are for; with the rank agreement of both with float32, and what reranking by them has of float32's nDCG@10.

A warm-up run of each side on a few pairs is not counted. Loading is not counted; tokenising is, on both sides.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median

import numpy as np
import random_rerankers
import torch
from scipy.stats import kendalltau
from sentence_transformers import CrossEncoder
from transformers.utils import logging

from retrieval_distill import api
from retrieval_distill.data.dataset_loader import load
from retrieval_distill.data.run import Run
from retrieval_distill.evaluation.measures import evaluate
from retrieval_distill.hardware import devices
from retrieval_distill.runtime import stages
from retrieval_distill.scores.teacher_contract import Pairs
from retrieval_distill.teacher import cross_encoder, modules
from retrieval_distill.teacher.scoring import pairs_of

Scorer = Callable[[Pairs], np.ndarray]

FLAG_WORKER = """
import json, sys, time, torch
torch.set_num_threads(int(sys.argv[2]))
from FlagEmbedding import FlagReranker
reranker = FlagReranker(sys.argv[1], use_fp16=False, devices=["cpu"], normalize=False)
for line in sys.stdin:
    pairs = json.loads(line)
    start = time.perf_counter()
    scores = reranker.compute_score(pairs, max_length=512)
    print("RESULT" + json.dumps([time.perf_counter() - start, [float(score) for score in scores]]), flush=True)
"""


def ours(folder: str, dtype: str) -> Scorer:
    teacher = cross_encoder.load(folder, 512, dtype)

    def score(pairs: Pairs) -> np.ndarray:
        scores = np.full(len(pairs), np.nan, np.float32)
        for positions, values in teacher.score(pairs):
            scores[positions] = values
        return scores

    return score


def library(folder: str, dtype: torch.dtype = torch.float32) -> Scorer:
    model = CrossEncoder(folder, activation_fn=torch.nn.Identity(), model_kwargs={"dtype": dtype})
    model.max_seq_length = 512
    return lambda pairs: model.predict([pairs.texts(i) for i in range(len(pairs))], show_progress_bar=False)


class Flag:
    """FlagEmbedding's reranker in a process of another environment; it times itself."""

    def __init__(self, python: str, folder: str) -> None:
        threads = str(torch.get_num_threads())
        command = [python, "-c", FLAG_WORKER, folder, threads]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.seconds = 0.0

    def __call__(self, pairs: Pairs) -> np.ndarray:
        """Send the pairs over and wait for their scores."""
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(json.dumps([pairs.texts(i) for i in range(len(pairs))]) + "\n")
        self.process.stdin.flush()
        for line in self.process.stdout:
            if line.startswith("RESULT"):
                self.seconds, scores = json.loads(line.removeprefix("RESULT"))
                return np.array(scores)
        raise SystemExit("FlagEmbedding's process ended; its message is above")


def exact(folder: str, pairs: Pairs) -> np.ndarray:
    """The scores in float64."""
    model = CrossEncoder(folder, activation_fn=torch.nn.Identity(), model_kwargs={"dtype": torch.float64})
    model.max_seq_length = 512
    texts = [pairs.texts(i) for i in range(len(pairs))]
    with torch.inference_mode():
        prompt = modules.prompt(model)
        return torch.cat([model(model.preprocess([pair], prompt=prompt))["scores"][:, 0] for pair in texts]).numpy()


def say_errors(
    name: str, folder: str, pairs: Pairs, count: int, contenders: dict[str, Scorer], sides: Sequence[str]
) -> None:
    """Print how far some scores are from those in float64."""
    some = pairs_of_share(pairs, np.random.default_rng(1).permutation(len(pairs))[:count])
    truth = exact(folder, some)
    for side in sides:
        errors = np.abs(contenders[side](some) - truth)
        print(f"{name}, {side}: error against float64 {errors.mean():.1e} on average, {errors.max():.1e} at most")


def merged_starter(folder: str) -> str:
    """The shipped teacher as a plain cross-encoder, which every contender can load."""
    cross_encoder.load("starter", 512, "float32").model.save_pretrained(folder)
    return folder


def texts_of(sources: Sequence[str], cache: Path) -> Iterator[str]:
    """What the random rerankers' tokenizers learn from."""
    for source in sources:
        documents = load(source, cache).documents
        yield from documents.take(list(documents))


def real_pairs(source: str, count: int, cache: Path, depth: int | None = None) -> Pairs:
    dataset = load(source, cache)
    queries = dataset.queries("test")
    run = api.retrieve(queries, dataset.documents, depth=depth or max(4, -(-count // len(queries))))
    return pairs_of(Run(run.frame.head(count)), dataset.queries, dataset.documents)


def pairs_of_share(pairs: Pairs, share: np.ndarray) -> Pairs:
    wanted = np.ones(len(share), bool)
    return Pairs(pairs.query_ids, pairs.queries, pairs.document_ids, pairs.documents, pairs.rows[share], wanted)


def timed(
    contenders: dict[str, Scorer], pairs: Pairs, rounds: int, clock: Callable[[], float] = time.perf_counter
) -> tuple[dict[str, list[float]], dict[str, np.ndarray]]:
    warm = Pairs(
        pairs.query_ids, pairs.queries, pairs.document_ids, pairs.documents, pairs.rows[:64], np.ones(64, bool)
    )
    for contender in contenders.values():
        contender(warm)
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    scores: dict[str, np.ndarray] = {}
    for share in np.array_split(np.random.default_rng(0).permutation(len(pairs)), rounds):
        part = pairs_of_share(pairs, share)
        for name, contender in contenders.items():
            start = clock()
            scores.setdefault(name, np.full(len(pairs), np.nan))[share] = contender(part)
            passed = contender.seconds if isinstance(contender, Flag) else clock() - start
            seconds[name].append(passed / len(share))
            print(f"  {name}: {len(share) / passed:.1f} pairs/s", flush=True)
    return seconds, scores


def within_query_tau(pairs: Pairs, a: np.ndarray, b: np.ndarray) -> float:
    groups = (np.flatnonzero(pairs.rows[:, 0] == query) for query in np.unique(pairs.rows[:, 0]))
    return float(np.nanmean([kendalltau(a[rows], b[rows]).statistic for rows in groups if len(rows) > 1]))


def comparison(
    name: str,
    peer: str,
    pairs: Pairs,
    seconds: dict[str, list[float]],
    scores: dict[str, np.ndarray],
    us: str,
    them: str,
) -> dict[str, object]:
    ratios = [b / a for a, b in zip(seconds[us], seconds[them], strict=True)]
    return {
        "name": name, "peer": peer, "unit": "pairs/s",
        "ours": 1 / median(seconds[us]), "theirs": 1 / median(seconds[them]),
        "ratio": median(ratios), "low": min(ratios), "high": max(ratios),
        "max_abs_difference": float(np.abs(scores[us] - scores[them]).max()),
        "max_difference": float((np.abs(scores[us] - scores[them]) / np.maximum(1, np.abs(scores[them]))).max()),
        "kendall_tau": within_query_tau(pairs, scores[us], scores[them]),
    }  # fmt: skip


def ndcg(source: str, cache: Path, pairs: Pairs, scores: np.ndarray) -> float:
    """nDCG@10 of the pairs' queries by these scores."""
    ids = (pairs.query_ids, pairs.document_ids)
    run = Run.from_columns(*(np.array(of)[rows] for of, rows in zip(ids, pairs.rows.T, strict=True)), scores)
    qrels = load(source, cache).qrels("test")
    asked = {query: qrels[query] for query in run.frame["query_id"].unique()}
    return float(evaluate(run, asked, ["nDCG@10"])["nDCG@10"].mean())


def eight_bits(
    args: argparse.Namespace, sources: dict[str, str], count: int, rounds: int, clock: Callable[[], float]
) -> list[dict[str, object]]:
    """Comparisons of ``--int8``."""
    comparisons = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = merged_starter(temporary) if args.model == "starter" else args.model
        contenders = {f"ours, {dtype}": ours(folder, dtype) for dtype in ("float32", "auto", "int8")}
        for name, source in sources.items():
            pairs = real_pairs(source, count, args.cache, depth=20)
            print(f"{name}: {len(pairs)} pairs", flush=True)
            seconds, scores = timed(contenders, pairs, rounds, clock)
            values = {side: ndcg(source, args.cache, pairs, of) for side, of in scores.items()}
            for side, value in values.items():
                tau = within_query_tau(pairs, scores[side], scores["ours, float32"])
                share = value / values["ours, float32"]
                print(f"{name}, {side}: tau {tau:.3f} with float32, nDCG@10 {value:.4f}, {share:.2%} of float32's")
            for peer in ("ours, float32", "ours, auto"):
                row = comparison(f"{name}/int8", peer, pairs, seconds, scores, "ours, int8", peer)
                comparisons.append(row | {"ndcg": values})
    return comparisons


def random_models(
    args: argparse.Namespace, sources: dict[str, str], count: int, rounds: int, clock: Callable[[], float]
) -> list[dict[str, object]]:
    """Comparisons of rerankers with random weights."""
    comparisons = []
    pairs = {name: real_pairs(source, count, args.cache) for name, source in sources.items()}
    for model in args.models:
        with tempfile.TemporaryDirectory() as temporary:
            folder = random_rerankers.build(model, texts_of(list(sources.values()), args.cache), Path(temporary))
            contenders = {"ours, float32": ours(folder, "float32"), "theirs, float32": library(folder)}
            if devices.has_fast_bfloat16(devices.device()):
                contenders |= {"ours, bfloat16": ours(folder, "bfloat16")}
                contenders |= {"theirs, bfloat16": library(folder, torch.bfloat16)}
            for name, asked in pairs.items():
                if args.exact:
                    row = f"{name}/{model}"
                    say_errors(row, folder, asked, args.exact, contenders, ("ours, float32", "theirs, float32"))
                    continue
                print(f"{name}, {model}: {len(asked)} pairs", flush=True)
                seconds, scores = timed(contenders, asked, rounds, clock)
                kinds = {"same-dtype": ("float32", "float32"), "bfloat16": ("bfloat16", "bfloat16"),
                         "default": ("bfloat16", "float32")}  # fmt: skip
                for kind, (us, them) in kinds.items():
                    sides = f"ours, {us}", f"theirs, {them}"
                    if sides[0] in contenders:
                        row = f"{name}/{model}/{kind}"
                        comparisons.append(comparison(row, "sentence-transformers", asked, seconds, scores, *sides))
    return comparisons


def one_model(
    args: argparse.Namespace, sources: dict[str, str], count: int, rounds: int, clock: Callable[[], float]
) -> list[dict[str, object]]:
    """Comparisons of ``--model``."""
    comparisons = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = merged_starter(temporary) if args.model == "starter" else args.model
        contenders: dict[str, Scorer] = {
            "ours, float32": ours(folder, "float32"), "sentence-transformers": library(folder),
            "ours, default": ours(folder, "auto"),
        }  # fmt: skip
        if args.flag_python:
            contenders["FlagEmbedding"] = Flag(args.flag_python, folder)
        for name, source in sources.items():
            pairs = real_pairs(source, count, args.cache)
            if args.exact:
                say_errors(name, folder, pairs, args.exact, contenders, ("ours, float32", "sentence-transformers"))
                continue
            print(f"{name}: {len(pairs)} pairs", flush=True)
            seconds, scores = timed(contenders, pairs, rounds, clock)
            for peer in ("sentence-transformers", "FlagEmbedding"):
                if peer in contenders:
                    comparisons.append(
                        comparison(f"{name}/same-dtype", peer, pairs, seconds, scores, "ours, float32", peer)
                    )
                    comparisons.append(
                        comparison(f"{name}/default", peer, pairs, seconds, scores, "ours, default", peer)
                    )
    return comparisons


def allowed(name: str) -> float:
    """The largest difference of two float32 scores in a comparison, in units of their size (at least 1).

    Against float64 either side's decoder is off by up to 2e-5 (``--exact``), and the two errors may add up.
    """
    kind = name.split("/")[1]
    return 5e-5 if kind in random_rerankers.DECODERS else 2e-5 if kind in random_rerankers.MODULAR else 1e-5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=3000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", default="starter", help="cross-encoder folder, or starter")
    parser.add_argument("--models", type=lambda names: names.split(","), default=[], help="only these, such as "
                        f"{', '.join([*random_rerankers.MODULAR, *random_rerankers.DECODERS])}")  # fmt: skip
    parser.add_argument("--int8", action="store_true", help="only 8 bits against float32 and the default")
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall", help="seconds of the clock or of the CPU")
    parser.add_argument("--beir", type=Path, help="folder with scifact and medquad in BEIR layout")
    parser.add_argument("--datasets", nargs="+", help="python-docs, or folders below --beir")
    parser.add_argument("--flag-python", help="Python of an environment with FlagEmbedding")
    parser.add_argument("--cache", type=Path, default=Path("runs/bench"))
    parser.add_argument("--exact", type=int, default=0, help="only compare this many scores with float64")
    parser.add_argument("--quick", action="store_true", help="200 pairs, two rounds")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    logging.set_verbosity_error()
    names = args.datasets or ["python-docs", *(["scifact", "medquad"] if args.beir else [])]
    count, rounds = (200, 2) if args.quick else (args.pairs, args.rounds)
    clock = {"wall": time.perf_counter, "cpu": time.process_time}[args.clock]
    sources = {name: name if name == "python-docs" else str(args.beir / name) for name in names}
    compared = random_models if args.models else eight_bits if args.int8 else one_model
    comparisons = compared(args, sources, count, rounds, clock)
    print(
        f"\n{'comparison':34} {'against':22} {'ours':>8} {'theirs':>8} {'ratio':>6}  {'low-high':>11}  {'max diff':>9}  tau"
    )
    for row in comparisons:
        print(f"{row['name']:34} {row['peer']:22} {row['ours']:8.1f} {row['theirs']:8.1f} {row['ratio']:6.2f}  "
              f"{row['low']:5.2f}-{row['high']:5.2f}  {row['max_abs_difference']:9.1e}  {row['kendall_tau']:.3f}")  # fmt: skip
    differing = [
        str(row["name"])
        for row in comparisons
        if str(row["name"]).endswith("same-dtype") and float(str(row["max_difference"])) > allowed(str(row["name"]))
    ]
    if args.json:
        stages.write_json(
            args.json, {"environment": {**devices.describe(), "clock": args.clock}, "comparisons": comparisons}
        )
    if differing:
        raise SystemExit(f"scores differ by more than they may: {', '.join(differing)}")


if __name__ == "__main__":
    main()
