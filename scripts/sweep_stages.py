"""Every act that leaves files, over one tiny world: what is made, how it is made again, and how it is opened.

Knows the verbs; must not know what befalls them. All that an act needs is made once, in ``World``.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

os.environ.update(
    HF_HUB_OFFLINE="1", HF_DATASETS_DISABLE_PROGRESS_BARS="1", TOKENIZERS_PARALLELISM="false", OMP_NUM_THREADS="1"
)

import faiss  # noqa: F401  everything that an act imports, so that a child starts at once
import numpy as np
import sentence_transformers  # noqa: F401
import torch
import transformers  # noqa: F401

import retrieval_distill.compress.training
import retrieval_distill.data.formats
import retrieval_distill.embedding.embed
import retrieval_distill.generate.generate
import retrieval_distill.index.faiss_index
import retrieval_distill.mining.mine
import retrieval_distill.mining.retrievers
import retrieval_distill.pipeline
import retrieval_distill.teacher.ensemble
import retrieval_distill.teacher.fitting.fit
import retrieval_distill.teacher.gate
import retrieval_distill.teacher.rerank
import retrieval_distill.teacher.teacher_loader
import retrieval_distill.training.distillation  # noqa: F401
from retrieval_distill import api, pipeline
from retrieval_distill.config import parse_recipe
from retrieval_distill.data.dataset import Dataset
from retrieval_distill.data.dataset_loader import load
from retrieval_distill.data.formats import beir, texts
from retrieval_distill.data.run import Run
from retrieval_distill.embedding import embed as embedding
from retrieval_distill.embedding import workers
from retrieval_distill.embedding.embeddings import Embeddings
from retrieval_distill.generate import blocks, ways
from retrieval_distill.generate.query_generator import Query
from retrieval_distill.index.index import Index
from retrieval_distill.retrieval.bm25 import BM25
from retrieval_distill.runtime import manifests
from retrieval_distill.scores.store import ScoreStore
from retrieval_distill.student import encoder
from retrieval_distill.teacher import scoring

WORDS = "path file root split join read write open close array sort search index graph node edge tree list".split()


def small() -> None:
    """Commit after every piece of work, and cut work into small pieces, so that a kill falls between them."""
    embedding.SHARD, workers.SECONDS_PER_COMMIT = 8, 0.0
    scoring.SECONDS_PER_COMMIT = blocks.SECONDS_PER_COMMIT = 0.0
    blocks.BLOCK, texts.MAPPED_FROM_BYTES = 5, 64
    torch.set_num_threads(1)


@dataclass(frozen=True)
class World:
    """A folder with a data set, tiny models, and what stages make of them."""

    root: Path

    def __getattr__(self, name: str) -> str:
        return str(self.root / name)

    @property
    def dataset(self) -> Dataset:
        """24 documents and 16 queries."""
        return beir.load(self.data)

    def make(self) -> None:
        """Build it; once, in a child."""
        small()
        self.root.mkdir(parents=True, exist_ok=True)
        rng = random.Random(3)
        documents = [(f"d{i}", f"title {WORDS[i % 18]}", " ".join(rng.choices(WORDS, k=20)) + ".") for i in range(24)]
        queries = [(f"q{i}", " ".join(documents[i][2].rstrip(".").split()[3:7])) for i in range(16)]
        split = ["train"] * 8 + ["dev"] * 4 + ["test"] * 4
        judged: dict[str, list] = {"train": [], "dev": [], "test": []}
        for i, name in enumerate(split):
            judged[name].append((f"q{i}", f"d{i}", 1))
        beir.save(Dataset.from_records("tiny", documents, queries, judged), self.root / "data")
        models(self.root)
        dataset = self.dataset
        run = api.retrieve(dataset.queries("train"), dataset, depth=6)
        run.save(self.run)
        ids = dataset.documents.ids
        scored = {
            q: {d: float(rng.gauss(0, 2)) for d in [f"d{q[1:]}", *rng.sample(ids, 4)]} for q in dataset.qrels("train")
        }
        Run.from_dict(scored).save(self.scored)
        api.embed(dataset, self.bi, out=self.vectors)

    @property
    def run(self) -> str:
        """A run of the training queries."""
        return str(self.root / "first.parquet")

    @property
    def scored(self) -> str:
        """A run of them under a teacher's scores."""
        return str(self.root / "scored.parquet")

    @property
    def recipe(self) -> dict[str, Any]:
        """All of it as a recipe."""
        return {
            "name": "tiny", "dataset": {"source": self.data}, "retrieve": {"depth": 6, "keep": 4},
            "teacher": {"model": self.cross, "max_length": 32, "gate_queries": 10, "squashed": "keep"},
            "student": {"model": self.bi, "max_length": 32},
            "objectives": {"margin_mse": 0.05, "listwise_kl": 1.0},
            "training": {"steps": 4, "queries_per_step": 4, "candidates": 3, "save_steps": 2, "bf16": False},
            "evaluate": {"rerank_depth": 5, "depth": 10},
        }  # fmt: skip


def models(root: Path) -> None:
    """A tiny encoder (``bi``) and a tiny cross-encoder (``cross``)."""
    from tokenizers import Tokenizer, pre_tokenizers, processors
    from tokenizers.models import WordPiece
    from transformers import AutoModel, AutoModelForSequenceClassification, BertConfig, PreTrainedTokenizerFast

    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    made = Tokenizer(WordPiece({word: number for number, word in enumerate([*specials, *WORDS])}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    names = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), specials, strict=True))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, model_max_length=64, **names)
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=64, num_labels=1, initializer_range=0.2,
    )  # fmt: skip
    for name, kind in (("bi", AutoModel), ("cross", AutoModelForSequenceClassification)):
        torch.manual_seed(1)
        kind.from_config(config).save_pretrained(root / name)
        tokenizer.save_pretrained(root / name)


@dataclass(frozen=True)
class Act:
    """An act that leaves files in a place.

    Args:
        make: (world, place, log): does it, also again; ``log`` is a file that is told of everything paid for.
        open: (world, place): what the place says to those who use it, as a value to be compared.
        weight: How often it is drawn.
        batch: How much of what is paid for may be on its way to the disk at a kill.
        alone: Whether one process at a time may work there; ``False``: any number share it.
    """

    make: Callable[[World, Path, Path], Any]
    open: Callable[[World, Path], Any]
    weight: float = 1.0
    batch: int = 0
    alone: bool = True


class Paid:
    """A teacher that notes every pair that it is asked for."""

    fingerprint = "paid"
    description: dict[str, Any] = {"model": "paid"}  # noqa: RUF012

    def __init__(self, log: Path) -> None:
        self.log = log

    def score(self, pairs: Any) -> Any:
        """Lengths of texts, seven pairs at a time."""
        for start in range(0, len(pairs.positions), 7):
            batch = pairs.positions[start : start + 7]
            note(self.log, (" ".join(pairs.ids(position)) for position in batch))
            yield batch, np.array([len(" ".join(pairs.texts(position))) for position in batch], np.float32)


class Asked:
    """A way to make queries that notes every document that it is asked about."""

    def __init__(self, log: Path) -> None:
        self.log = log

    def make(self, documents: Any, counts: Any, done: Any) -> Any:
        """Queries of the documents that are not done, one by one."""
        for row, (id_, title, text) in enumerate(documents):
            if not done[row]:
                note(self.log, [id_])
                yield {row: [Query(f"{title} {n} of {text[:30]}") for n in range(counts[row])]}


def note(log: Path, lines: Any) -> None:
    with log.open("a") as out:
        out.writelines(f"{line}\n" for line in lines)


def generate(world: World, out: Path, log: Path) -> None:
    ways._WAYS["llm"] = lambda *_: Asked(log)
    dataset = world.dataset
    few = replace(dataset, documents=dataset.documents.select(dataset.documents.ids[:8]), qrels={})
    api.generate(
        few, out=out, ways={"llm": 1.5, "titles": 1, "sentences": 1}, llm={"model": "m", "endpoint": "http://x"}
    )


def score(world: World, out: Path, log: Path) -> None:
    api.score(Run.load(world.run), world.dataset, teacher=Paid(log), store=out)


def stored(world: World, out: Path) -> list:
    run = api.score(Run.load(world.run), world.dataset, teacher=Paid(Path(os.devnull)), store=out)
    return [
        run.frame.values.tolist(),
        [(teacher["fingerprint"], teacher["pairs"]) for teacher in ScoreStore(out).teachers()],
    ]


def distill(world: World, out: Path, log: Path) -> None:
    recipe = parse_recipe(world.recipe)
    api.distill(Run.load(world.scored, missing_scores=True), world.dataset, out=out, recipe=recipe)


def compress(world: World, out: Path, log: Path) -> None:
    api.compress(
        world.dataset.documents, out=out, model=world.bi, layers="first:1", steps=4, tokens_per_step=256, max_length=32,
        bf16=False, transfers={"relations": 1.0}, save_steps=2,
    )  # fmt: skip


def fit_teacher(world: World, out: Path, log: Path) -> None:
    api.fit_teacher(
        world.dataset, out=out, model=world.cross, steps=4, evaluate_every=2, bf16=False, dev_depth=5, dev_queries=4,
        queries_per_step=4,
    )  # fmt: skip


def mine(world: World, out: Path, log: Path) -> None:
    dataset = world.dataset
    api.mine(dataset, retrievers=["bm25", world.bi], depth=6, keep=4, vectors=out).save(out / "mined.parquet")


def write_runs(world: World, out: Path, log: Path) -> None:
    out.mkdir(exist_ok=True)
    run = Run.load(world.run)
    run.save(out / "run.trec")
    run.save(out / "run.parquet")


def texts_cache(world: World, out: Path, log: Path) -> None:
    load(world.data, out)


def recipe(world: World, out: Path, log: Path) -> None:
    pipeline.run(parse_recipe(world.recipe), out=out)


def as_values(dataset: Dataset) -> list:
    qrels = {name: dict(dataset.qrels(name)) for name in sorted(dataset.qrels)}
    return [list(dataset.documents.records()), list(dataset.queries.records()), qrels]


def vectors(world: World, out: Path) -> list:
    opened = Embeddings.open(out)
    return [opened.ids, [shard.tobytes() for shard in opened.shards()]]


def found(world: World, out: Path) -> list:
    run = api.search({"q": "path file root"}, out, model=world.bi, depth=5)
    Index.open(out).verify()
    return run.frame.values.tolist()


def student(world: World, out: Path) -> bytes:
    return encoder.encode(encoder.load(str(out)), ["path file"], "query").tobytes()


def teacher(world: World, out: Path) -> list:
    pairs = {"q": {"d": 0.0}}
    texts_ = {"queries": {"q": "path file"}, "documents": {"d": "read write"}}
    taught = api.load_teacher(str(out))
    return api.score(pairs, texts_, teacher=taught, store=Path(f"{out}-opened-{os.getpid()}")).frame.values.tolist()


def read_runs(world: World, out: Path) -> list:
    return [Run.load(out / name).frame.values.tolist() for name in ("run.trec", "run.parquet")]


def bm25(world: World, out: Path, log: Path | None = None) -> list:
    dataset = world.dataset
    return BM25.cached(out, dataset.documents).search(dataset.queries, 5).frame.values.tolist()


def report(world: World, out: Path) -> list:
    manifests.verified_manifest(out / "student")
    return sorted(json.loads((out / "report.json").read_text()))


ACTS: dict[str, Act] = {
    "prepare": Act(
        lambda w, out, _: api.prepare(w.dataset, out=out, duplicates="near"),
        lambda w, out: as_values(load(str(out), w.cache)),
    ),
    "convert": Act(
        lambda w, out, _: api.convert(w.dataset, out=out, to="parquet"),
        lambda w, out: as_values(load(str(out), w.cache)),
    ),
    "generate": Act(generate, lambda w, out: as_values(load(str(out), w.cache)), 2, batch=1),
    "embed": Act(lambda w, out, _: api.embed(w.dataset, w.bi, out=out), vectors, 1.5),
    "index": Act(lambda w, out, _: api.index(w.vectors, out=out, kind="hnsw"), found),
    "score": Act(score, stored, 2, batch=7, alone=False),
    "mine": Act(mine, lambda w, out: Run.load(out / "mined.parquet").frame.values.tolist()),
    "distill": Act(distill, student, 0.7),
    "compress": Act(compress, student, 0.7),
    "fit-teacher": Act(fit_teacher, teacher, 0.7),
    "bm25": Act(bm25, bm25),
    "texts": Act(texts_cache, lambda w, out: as_values(load(w.data, out))),
    "run files": Act(write_runs, read_runs, alone=False),
    "run": Act(recipe, report, 0.4),
}
