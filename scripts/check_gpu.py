"""Everything that a GPU has a part in, run once on this machine's device: what breaks, what differs, how fast it is.

    python scripts/check_gpu.py --json runs/check_gpu.json        # at most eight minutes on one modern GPU, offline
    python scripts/check_gpu.py --quick                           # tiny models, on a CPU too: a smoke run
    python scripts/check_gpu.py --only score embed                # checks whose names begin so

A check runs an act of the package on the device and again on the CPU in float32, and compares. It fails if an act
raises, if its process dies or takes longer than --limit, or if results differ by more than TOLERANCES: for scores,
vectors and losses the largest difference in units of the CPU's standard deviation, or of 1 if that is less; for
weights after a training the largest difference. A failure is a row with its message, and the other checks still run:
all of them share one process, and after a failure the rest get a new one, since an error on a GPU may leave nothing
usable behind. What cannot be run here (several GPUs, a GPU at all, FAISS for GPUs) is a row that says so.

Models have random weights in the sizes of real ones; the packaged MiniLM is used beside them where it is installed.
Texts are of mixed length, 10 to 400 words. Rates leave out the first run of each act, which loads and warms up. The share of the
peak is that of the additions and multiplications which the texts' own tokens need, padding not counted, in the rate of
a product of two large matrices of the same dtype (scripts/machine.py).
"""

from __future__ import annotations

import argparse
import json
import logging as python_logging
import os
import random
import select
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any, TypeVar
from unittest import mock

import numpy as np
import torch
from machine import gflops, multipliers
from transformers.utils import logging

import retrieval_distill as rd
from retrieval_distill import models
from retrieval_distill.data.run import Run
from retrieval_distill.errors import UserError
from retrieval_distill.hardware import devices, varlen
from retrieval_distill.index import gpu
from retrieval_distill.runtime import processes, stages
from retrieval_distill.student import encoder
from retrieval_distill.teacher.ensemble import Ensemble

T = TypeVar("T")

TOLERANCES = {"float32": 5e-3, "float16": 0.1, "bfloat16": 0.5, "weights": 2e-3}
"""By dtype: of scores, vectors and losses; and of weights after the steps of a training in float32."""

GROUPS: dict[str, dict[str, Any]] = {
    "lists": {"objectives": dict.fromkeys(
        ("margin_mse", "score_mse", "listwise_kl", "list_net", "list_mle", "rank_net", "adr_mse", "approx_ndcg"), 0.1)},
    "in-batch": {"objectives": dict.fromkeys(("in_batch", "soft_contrastive"), 0.3),
                 "training": {"memory": 64}},
    "vectors": {"objectives": {"embedding": 1.0, "self_distillation": 0.5, "in_batch_kl": 0.5, "listwise_kl": 0.5},
                "views": {"full": 1.0, 32: 0.5, "int8": 0.5}, "embedding_teacher": {"model": "start"}},
}  # fmt: skip
"""Sections of a recipe that train every objective, in three groups."""

WORDS = (
    "path file root split join read write open close array matrix sort search index graph node edge tree list".split()
)

SIZES: dict[str, dict[str, int]] = {
    "17M": {"hidden_size": 256, "intermediate_size": 384, "num_hidden_layers": 7, "num_attention_heads": 4},
    "150M": {"hidden_size": 768, "intermediate_size": 1152, "num_hidden_layers": 22, "num_attention_heads": 12},
    "22M": {"hidden_size": 384, "intermediate_size": 1536, "num_hidden_layers": 6, "num_attention_heads": 12},
    "tiny": {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 4, "num_attention_heads": 4},
}
"""ModernBERT-like rerankers of 17M and 150M parameters, MiniLM-L6, and one for smoke runs, whose
last layer sees whole texts, as those of the first two do."""


class NotHereError(Exception):
    """What a check needs is not here."""


@dataclass
class Result:
    """What came of a check; ``theirs`` is the peer's rate, where it was measured."""

    name: str
    failed: str = ""
    left_out: str = ""
    seconds: float = 0.0
    rate: float | None = None
    unit: str = ""
    theirs: float | None = None
    peer: str = "this machine's CPU in float32"
    share_of_peak: float | None = None
    max_abs_difference: float | None = None
    tolerance: float | None = None
    peak_memory_bytes: int | None = None


@dataclass
class Place:
    """Models and data of the checks, made when first asked for."""

    folder: Path
    quick: bool
    made: dict[str, Path] = field(default_factory=dict)

    @cached_property
    def dataset(self) -> rd.Dataset:
        """Documents of random words, and queries that are the first words of some."""
        rng = random.Random(0)
        count = 60 if self.quick else 3000
        texts = [" ".join(rng.choices(WORDS, k=rng.randint(10, 60 if self.quick else 400))) for _ in range(count)]
        asked = range(count // 3)
        split = {
            name: [(f"q{i}", f"d{i}", 1) for i in asked if i % 3 == place]
            for place, name in enumerate(("train", "dev", "test"))
        }
        queries = [(f"q{i}", " ".join(texts[i].split()[:5])) for i in asked]
        return rd.Dataset.from_records("words", [(f"d{i}", "", text) for i, text in enumerate(texts)], queries, split)

    @cached_property
    def pairs(self) -> Run:
        """Pairs to score: a quarter of them on the CPU too."""
        return rd.retrieve(self.dataset.queries, self.dataset.documents, depth=8 if self.quick else 20)

    @cached_property
    def few(self) -> Run:
        """Pairs that the CPU scores for comparison."""
        return self.pairs.select(self.pairs.query_ids[: 4 if self.quick else 8])

    @cached_property
    def scored(self) -> Run:
        """Candidates of training queries under a generator's scores, the relevant one's the highest on average."""
        rng = np.random.default_rng(0)
        asked = [id_ for id_ in self.dataset.queries("train") if id_ in set(self.pairs.query_ids)]
        found = self.pairs.select(asked).as_dict()
        return Run.from_dict({
            query: {doc: float(rng.normal(4.0 * (doc[1:] == query[1:]), 2.0)) for doc in {**docs, f"d{query[1:]}": 0.0}}
            for query, docs in found.items()
        })  # fmt: skip

    def encoder(self, size: str) -> str:
        """A plain encoder: BERT's for 22M, else ModernBERT's."""
        from transformers import BertConfig, BertModel, ModernBertConfig, ModernBertModel

        size = "tiny" if self.quick else size
        if (folder := self.folder / f"encoder-{size}").is_dir():
            return str(folder)
        tokenizer = _tokenizer(200 if self.quick else 30522)
        shared = {
            **SIZES[size],
            "vocab_size": len(tokenizer),
            "max_position_embeddings": 512,
            "pad_token_id": 0,
            "initializer_range": 0.06,
        }
        torch.manual_seed(0)
        model: Any = BertModel(BertConfig(**shared)) if size == "22M" else ModernBertModel(
            ModernBertConfig(**shared, bos_token_id=2, cls_token_id=2, eos_token_id=3, sep_token_id=3)
        )  # fmt: skip
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return str(folder)

    def teacher(self, kind: str, size: str) -> str:
        """A cross-encoder: ``classifier``, one model with its head, or ``modular``, several modules."""
        from sentence_transformers import CrossEncoder
        from sentence_transformers.base.modules import Transformer
        from sentence_transformers.sentence_transformer.modules import Dense, Pooling
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        source = self.encoder(size)
        folder = self.folder / f"{kind}-{size}"
        if folder.is_dir():
            return str(folder)
        torch.manual_seed(1)
        if kind == "classifier":
            AutoModelForSequenceClassification.from_pretrained(source, num_labels=1).save_pretrained(folder)
            AutoTokenizer.from_pretrained(source).save_pretrained(folder)
        else:
            transformer = Transformer(source)
            width = transformer.auto_model.config.hidden_size
            one = Dense(width, 1, activation_function=torch.nn.Identity(), module_output_name="scores")
            CrossEncoder(modules=[transformer, Pooling(width, "cls"), one], device="cpu").save_pretrained(str(folder))
        return str(folder)

    @cached_property
    def minilm(self) -> str:
        """The packaged MiniLM, where it is installed and no smoke run is asked for; else a random model of its size."""
        try:
            return models.PACKAGED if not self.quick and models.resolve(models.PACKAGED) else self.encoder("22M")
        except UserError:
            return self.encoder("22M")

    def new(self, name: str) -> Path:
        """A folder that is not there."""
        return Path(tempfile.mkdtemp(dir=self.folder, prefix=name.replace("/", "-"))) / "out"

    def peak(self, dtype: str) -> float:
        """Additions and multiplications a second that the device reaches in a dtype."""
        size = 256 if self.quick else 8192
        return gflops(multipliers(size)[dtype], size, 0.05 if self.quick else 0.5) * 1e9


def _tokenizer(size: int) -> Any:
    from tokenizers import Tokenizer, pre_tokenizers, processors
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    vocabulary = {word: i for i, word in enumerate([*names, *(f"word{i}" for i in range(size - len(names)))])}
    backend = Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, model_max_length=512, unk_token="[UNK]", pad_token="[PAD]", cls_token="[CLS]",
        sep_token="[SEP]", mask_token="[MASK]", model_input_names=["input_ids", "attention_mask"],
    )  # fmt: skip


@contextmanager
def on_the_cpu() -> Iterator[None]:
    """Within, everything is loaded there."""
    with mock.patch.object(devices, "device", lambda: "cpu"), mock.patch.object(devices, "devices", lambda: ["cpu"]):
        yield


def apart(found: Any, expected: Any) -> float:
    """The largest difference in units of what is expected: of its standard deviation, or of 1 if that is less."""
    found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    if not np.isfinite(found).all():
        raise ValueError("results are NaN or infinite")
    return float(np.abs(found - expected).max() / min(1.0, max(expected.std(), 1e-6)))


def timed(act: Callable[[], Any]) -> tuple[Any, float]:
    start = time.perf_counter()
    found = act()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return found, time.perf_counter() - start


def flops(folder: str, lengths: np.ndarray) -> float:
    """Additions and multiplications of a forward pass over texts of these many tokens."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(models.resolve(folder))
    width, inner, layers = config.hidden_size, config.intermediate_size, config.num_hidden_layers
    gated = 3 if config.model_type == "modernbert" else 2
    weights = layers * (4 * width**2 + gated * width * inner)
    return float(2 * weights * lengths.sum() + 4 * layers * width * (lengths.astype(np.float64) ** 2).sum())


def lengths(place: Place, run: Run | None = None) -> np.ndarray:
    """Tokens of documents or pairs, a word being one, cut at 512."""
    words = {
        id_: len(text.split())
        for id_, text in zip(place.dataset.documents, place.dataset.documents.take(), strict=True)
    }
    if run is None:
        return np.minimum(np.array(list(words.values())) + 2, 512)
    asked = {
        id_: len(text.split()) for id_, text in zip(place.dataset.queries, place.dataset.queries.take(), strict=True)
    }
    return np.minimum([asked[q] + words[d] + 3 for q, d in run.frame[["query_id", "doc_id"]].to_numpy()], 512)


# scoring


def score(kind: str, size: str, dtype: str) -> Callable[[Place], Result]:
    """Pairs under a teacher: its rate, and its scores against the CPU's."""

    def check(place: Place) -> Result:
        folder = _teacher_name(place, kind, size)
        teacher = _teacher(place, kind, folder, dtype)

        def scored(pairs: Run, by: Any) -> Run:
            return rd.score(pairs, place.dataset, teacher=by, store=place.new("scores"))

        found = scored(place.few, teacher)
        _, seconds = timed(lambda: scored(place.pairs, teacher))
        with on_the_cpu():
            exact, theirs = timed(lambda: scored(place.few, _teacher(place, kind, folder, "float32")))
        share = None
        if kind in ("classifier", "modular"):
            share = flops(place.encoder(size), lengths(place, place.pairs)) / seconds / place.peak(dtype)
        difference = apart(found.frame["score"], exact.frame["score"])
        return Result(
            "", rate=len(place.pairs) / seconds, unit="pairs/s", theirs=len(place.few) / theirs, share_of_peak=share,
            max_abs_difference=difference, tolerance=TOLERANCES[dtype],
        )  # fmt: skip

    return check


def _teacher_name(place: Place, kind: str, size: str) -> str:
    return place.minilm if kind == "bi-encoder" else place.teacher("classifier" if kind == "ensemble" else kind, size)


def _teacher(place: Place, kind: str, folder: str, dtype: str) -> Any:
    if kind == "bi-encoder":
        return rd.load_teacher(f"bi-encoder:{folder}", dtype=dtype)
    if kind == "ensemble":
        members = [rd.load_teacher(folder, dtype=dtype), rd.load_teacher(f"bi-encoder:{place.minilm}", dtype=dtype)]
        return Ensemble.fit(members, None, None, ["none", "none"], [1.0, 1.0], "keep")
    return rd.load_teacher(folder, dtype=dtype)


def score_unpadded(kind: str, size: str, dtype: str) -> Callable[[Place], Result]:
    """Pairs in batches without padding and with it, on one device: both rates, and how far scores are apart."""

    def check(place: Place) -> Result:
        if torch.cuda.is_available() and torch.cuda.get_device_capability() < (8, 0):
            raise NotHereError("variable-length attention is for compute capability 8.0 and up")

        def scored(packs: bool) -> tuple[np.ndarray, float]:
            with mock.patch.object(varlen, "is_available", lambda *_: packs):
                teacher: Any = rd.load_teacher(place.teacher(kind, size), dtype=dtype)
            if packs != (teacher.model.model.config._attn_implementation == varlen.NAME):
                raise ValueError(f"the teacher computes {'with' if packs else 'without'} padding")
            by = partial(rd.score, dataset=place.dataset, teacher=teacher)
            by(place.few, store=place.new("scores"))
            run, seconds = timed(lambda: by(place.pairs, store=place.new("scores")))
            return run.frame["score"].to_numpy(), seconds

        (found, seconds), (padded, theirs) = scored(True), scored(False)
        pairs, work = len(place.pairs), flops(place.encoder(size), lengths(place, place.pairs))
        return Result(
            "", rate=pairs / seconds, unit="pairs/s", theirs=pairs / theirs, peer="padded batches on the same device",
            share_of_peak=work / seconds / place.peak(dtype), max_abs_difference=apart(found, padded),
            tolerance=TOLERANCES[dtype],
        )  # fmt: skip

    return check


def score_out_of_memory(place: Place) -> Result:
    """Scoring beside ballast that leaves too little memory for a batch."""
    teacher = rd.load_teacher(place.teacher("classifier", "150M"), dtype="float32")
    pairs = place.pairs.select(place.pairs.query_ids[:40])

    def scored() -> np.ndarray:
        return rd.score(pairs, place.dataset, teacher=teacher, store=place.new("scores")).frame["score"].to_numpy()

    with short_of_memory(scored) as expected:
        found = scored()
    return Result("", max_abs_difference=apart(found, expected), tolerance=TOLERANCES["float32"])


@contextmanager
def short_of_memory(act: Callable[[], T], share: float = 0.4) -> Iterator[T]:
    """Within, ballast leaves ``share`` of the GPU memory that the act takes; gives what the act gave before.

    Raises:
        ValueError: Memory did not run out.
    """
    if not torch.cuda.is_available():
        raise NotHereError("memory runs out on a GPU only")
    devices.release_memory()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    given = act()
    needed = torch.cuda.max_memory_allocated() - before
    devices.release_memory()
    free, _ = torch.cuda.mem_get_info()
    ballast = torch.empty(max(0, free - int(share * needed)), dtype=torch.uint8, device="cuda")
    told = Told()
    told.log.addHandler(told)
    try:
        yield given
    finally:
        told.log.removeHandler(told)
        del ballast
        devices.release_memory()
    if not any("memory" in message for message in told.messages):
        raise ValueError("memory did not run out")


class Told(python_logging.Handler):
    """Keeps what the package says."""

    def __init__(self) -> None:
        super().__init__()
        self.log, self.messages = python_logging.getLogger("retrieval_distill"), list[str]()

    def emit(self, record: python_logging.LogRecord) -> None:
        """Called by the logger."""
        self.messages.append(record.getMessage())


# embedding, searching, measuring


def embed(size: str, dtype: str) -> Callable[[Place], Result]:
    """Documents as vectors: their rate, and the vectors against the CPU's."""

    def check(place: Place) -> Result:
        model = place.minilm if size == "minilm" else place.encoder(size)
        texts = place.dataset.documents.take()
        few = texts[:: max(1, len(texts) // 30)]
        loaded = encoder.load(model, dtype)
        found = encoder.encode(loaded, few, "document")
        vectors, seconds = timed(lambda: rd.embed(place.dataset, model, out=place.new("vectors"), dtype=dtype))
        with on_the_cpu():
            exact, theirs = timed(lambda: encoder.encode(encoder.load(model), few, "document"))
        stored = vectors.take(
            [id_ for id_, text in zip(place.dataset.documents, texts, strict=True) if text in set(few)]
        )
        difference = max(apart(found, exact), apart(stored, exact))
        share = flops(place.encoder("22M" if size == "minilm" else size), lengths(place)) / seconds / place.peak(dtype)
        return Result(
            "", rate=len(texts) / seconds, unit="passages/s", theirs=len(few) / theirs, share_of_peak=share,
            max_abs_difference=difference, tolerance=TOLERANCES[dtype],
        )  # fmt: skip

    return check


def embed_out_of_memory(place: Place) -> Result:
    """Embedding beside ballast that leaves too little memory for a batch."""
    loaded = encoder.load(place.encoder("150M"))
    texts = place.dataset.documents.take()[:1000]

    def embedded() -> np.ndarray:
        return encoder.encode(loaded, texts, "document")

    with short_of_memory(embedded) as expected:
        found = embedded()
    return Result("", max_abs_difference=apart(found, expected), tolerance=TOLERANCES["float32"])


def evaluate(place: Place) -> Result:
    """Exact search by a model and its nDCG@10, which the CPU has to find too."""

    def measured() -> dict[str, float]:
        vectors = rd.embed(place.dataset, place.minilm, out=place.new("vectors"), dtype="float32")
        found = rd.search(
            place.dataset.queries("test"), rd.index(vectors), model=place.minilm, depth=20, dtype="float32"
        )
        mined = rd.mine(
            place.dataset, depth=10, keep=5, start=place.minilm, vectors=place.new("mined"), dtype="float32"
        )
        report = rd.evaluate({"dense": found}, place.dataset.qrels("test"), measures=["nDCG@10"])
        return {"nDCG@10": report["dense"]["nDCG@10"].mean, "mined": len(mined)}

    found = measured()
    with on_the_cpu():
        expected = measured()
    if found["mined"] != expected["mined"]:
        raise ValueError(f"{found['mined']} candidates were mined, on the CPU {expected['mined']}")
    return Result("", max_abs_difference=abs(found["nDCG@10"] - expected["nDCG@10"]), tolerance=1e-3)


def faiss_on_gpu(place: Place) -> Result:
    """Flat and inverted indexes built and searched on the GPU, against NumPy."""
    if not gpu.is_available():
        raise NotHereError("FAISS without a GPU")
    vectors = rd.embed(place.dataset, place.minilm, out=place.new("vectors"), dtype="float32")
    queries = encoder.encode(encoder.load(place.minilm), place.dataset.queries("test").take(), "query")
    stored = np.concatenate([np.asarray(shard) for shard in vectors.shards()])
    expected = np.sort(queries @ stored.T, axis=1)[:, :-11:-1]
    worst = 0.0
    for kind in ("flat", "ivf"):
        index = rd.index(vectors, out=place.new(kind), kind=kind)
        found = rd.search(place.dataset.queries("test"), index, model=place.minilm, depth=10, dtype="float32")
        best = np.array([scores[0] for _, _, scores in found])
        worst = max(worst, float(np.abs(best - expected[:, 0]).max()) if kind == "flat" else 0.0)
    return Result("", max_abs_difference=worst, tolerance=TOLERANCES["float32"])


# training


def distill(place: Place, out: Path, bf16: bool = False, **sections: Any) -> Any:
    """A short training; the rest as a recipe says."""
    training = {
        "steps": 4, "queries_per_step": 8 if place.quick else 32, "candidates": 4, "save_steps": 2, "bf16": bf16,
        "agreement_queries": 4, "max_length": 64 if place.quick else 256, **sections.pop("training", {}),
    }  # fmt: skip
    start = sections.pop("start", place.minilm)
    return rd.distill(place.scored, place.dataset, out=out, model=start, training=training, **sections)


def losses(folder: Path) -> list[float]:
    return [row["loss"] for row in stages.read_json(folder / "training_log.json")]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


def same_weights(found: Path, expected: Path) -> Result:
    wanted = weights(expected)
    worst = max(float((weight - wanted[name]).abs().max()) for name, weight in weights(found).items())
    return Result("", max_abs_difference=worst, tolerance=TOLERANCES["weights"])


def train(group: str, dtype: str, **training: Any) -> Callable[[Place], Result]:
    """A few steps with a group of objectives: losses against the CPU's, and the rate."""

    def check(place: Place) -> Result:
        sections = {**GROUPS[group], "training": {**GROUPS[group].get("training", {}), **training}}
        here, there = place.new("cpu"), place.new("device")
        distill(place, there, dtype == "bfloat16", **sections)
        steps = 4 if place.quick else 20
        longer = {**sections, "training": {**sections["training"], "steps": steps, "save_steps": steps}}
        longest, seconds = timed(lambda: distill(place, place.new("longer"), dtype == "bfloat16", **longer))
        with on_the_cpu():
            distill(place, here, **sections)
        found = apart(losses(there), losses(here))
        rows = stages.read_json(Path(longest) / "training_log.json")
        rate = rows[-1]["tokens_per_second"]
        return Result(
            "", rate=steps / seconds, unit="steps/s", theirs=None, max_abs_difference=found,
            tolerance=TOLERANCES[dtype], share_of_peak=3 * _per_token(place) * rate / place.peak(dtype),
        )  # fmt: skip

    return check


def _per_token(place: Place) -> float:
    one = np.array([64])
    return flops(place.encoder("22M"), one) / 64


def train_caching(place: Place) -> Result:
    """Gradient caching gives the weights of a training without it."""
    whole, cached = place.new("whole"), place.new("cached")
    distill(place, whole, **GROUPS["lists"])
    distill(place, cached, **GROUPS["lists"], training={"cache_texts": 8})
    return same_weights(cached, whole)


def train_more(place: Place) -> Result:
    """Frozen layers, an average of the weights, BM25's part and evaluations, against the CPU."""
    options = {
        "frozen_layers": 1,
        "ema": 0.5,
        "lexical_weight": 1.0,
        "evaluate_steps": 2,
        "dev_documents": 40,
        "layer_decay": 0.9,
    }
    asked = rd.retrieve(place.dataset.queries("dev"), place.dataset.documents, depth=5), "dev"
    here, there = place.new("cpu"), place.new("device")
    distill(place, there, training=options, dev=asked)
    with on_the_cpu():
        distill(place, here, training=options, dev=asked)
    return same_weights(there, here)


def train_out_of_memory(place: Place) -> Result:
    """A training beside ballast that leaves too little memory for a step."""

    def trained() -> Path:
        out = place.new("student")
        distill(place, out, training={"steps": 2})
        return out

    with short_of_memory(trained) as whole:
        scarce = trained()
    return same_weights(scarce, whole)


def train_resume(place: Place) -> Result:
    """A training killed after its third step and started again, against an undisturbed one."""
    whole, killed = place.new("whole"), place.new("killed")
    distill(place, whole)
    done = itself(place, "--distill", str(killed), "--die", "3")
    if done.returncode != -signal.SIGKILL:
        raise ValueError(f"the training was not killed: {done.stderr[-500:]}")
    distill(place, killed)
    return same_weights(killed, whole)


def train_two(place: Place) -> Result:
    """Two processes that share the device train what one does."""
    one, two = place.new("one"), place.new("two")
    distill(place, one)
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2")
    done = itself(place, "--distill", str(two), "--queries", "half", launcher=launcher)
    if done.returncode:
        raise ValueError(done.stderr[-1500:])
    return same_weights(two, one)


def fit_teacher(place: Place) -> Result:
    """Fitting a teacher, in the dtype that is fast here: it runs, and what it makes scores."""
    options = {"model": place.encoder("17M"), "steps": 3, "adapter": "none", "max_length": 64, "evaluate_every": 2}
    made = rd.fit_teacher(place.dataset, out=place.new("teacher"), dev_queries=5, **options)
    found = rd.score(place.few, place.dataset, teacher=made, store=place.new("scores"))
    if not np.isfinite(found.frame["score"]).all():
        raise ValueError("scores are NaN or infinite")
    return Result("")


def compress(place: Place) -> Result:
    """Compressing an encoder with the transfers that look inside, against the CPU."""
    options: dict[str, Any] = {
        "model": place.encoder("17M"), "layers": "first:1", "steps": 3, "tokens_per_step": 512, "max_length": 64, "bf16": False,
        "transfers": {"relations": 1.0, "hidden_states": {"mapping": "earth_mover"}, "embedding": 1.0},
    }  # fmt: skip
    here, there = place.new("cpu"), place.new("device")
    rd.compress(place.dataset, out=there, **options)
    with on_the_cpu():
        rd.compress(place.dataset, out=here, **options)
    return same_weights(there, here)


CHECKS: dict[str, Callable[[Place], Result]] = {
    **{f"score/classifier/22M/{dtype}": score("classifier", "22M", dtype) for dtype in devices.DTYPES},
    "score/classifier/150M/float16": score("classifier", "150M", "float16"),
    "score/classifier/150M/bfloat16": score("classifier", "150M", "bfloat16"),
    "score/modular/17M/float32": score("modular", "17M", "float32"),
    "score/modular/17M/bfloat16": score("modular", "17M", "bfloat16"),
    "score/modular/150M/bfloat16": score("modular", "150M", "bfloat16"),
    "score/unpadded/22M/float16": score_unpadded("classifier", "22M", "float16"),
    "score/unpadded/22M/bfloat16": score_unpadded("classifier", "22M", "bfloat16"),
    "score/unpadded/150M/bfloat16": score_unpadded("modular", "150M", "bfloat16"),
    "score/bi-encoder/float32": score("bi-encoder", "22M", "float32"),
    "score/ensemble/float32": score("ensemble", "22M", "float32"),
    "score/out of memory": score_out_of_memory,
    **{f"embed/minilm/{dtype}": embed("minilm", dtype) for dtype in devices.DTYPES},
    "embed/150M/bfloat16": embed("150M", "bfloat16"),
    "embed/out of memory": embed_out_of_memory,
    "search and evaluate": evaluate,
    "faiss": faiss_on_gpu,
    **{f"train/{group}/{dtype}": train(group, dtype) for group in GROUPS for dtype in ("float32", "bfloat16")},
    "train/lists/bfloat16/caching": train("lists", "bfloat16", cache_texts=16),
    "train/caching": train_caching,
    "train/more": train_more,
    "train/out of memory": train_out_of_memory,
    "train/resume": train_resume,
    "train/two processes": train_two,
    "fit-teacher": fit_teacher,
    "compress": compress,
}  # fmt: skip


# running


def itself(place: Place, *arguments: str, launcher: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """This script in a process of its own, on the same models and data."""
    command = [sys.executable, *launcher, __file__, "--work", str(place.folder), *arguments]
    return subprocess.run([*command, *(["--quick"] if place.quick else [])], capture_output=True, text=True, cwd=ROOT)


ROOT = Path(__file__).parents[1]


def run(name: str, place: Place) -> Result:
    """A check's result, whatever happens in it."""
    start = time.perf_counter()
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    try:
        result = CHECKS[name](place)
        result.name = name
        difference, most = result.max_abs_difference, result.tolerance
        if difference is not None and most is not None and not difference <= most:
            result.failed = f"differs by {difference:.2g}, more than {most:g}"
    except NotHereError as error:
        result = Result(name, left_out=str(error))
    except Exception as error:
        traceback.print_exc()
        result = Result(name, failed=f"{type(error).__name__}: {error}".replace("\n", " ")[:500])
    result.seconds = time.perf_counter() - start
    if torch.cuda.is_available():
        result.peak_memory_bytes = torch.cuda.max_memory_allocated()
    return result


def work(names: list[str], place: Place) -> None:
    """Run checks and tell of each on a line of standard output, until one fails: the rest are for a fresh process."""
    for name in names:
        result = run(name, place)
        print("RESULT" + json.dumps(asdict(result)), flush=True)
        if result.failed:
            return


def supervised(names: list[str], folder: Path, quick: bool, limit: float) -> Iterator[Result]:
    """The results of checks, whatever becomes of the processes that run them."""
    left = list(names)
    while left:
        command = [sys.executable, __file__, "--work", str(folder), "--checks", *left]
        with tempfile.TemporaryFile("w+") as said, subprocess.Popen(
            [*command, *(["--quick"] if quick else [])], stdout=subprocess.PIPE, stderr=said, text=True, cwd=ROOT
        ) as process:  # fmt: skip
            end = ""
            while left:
                line = _line(process, limit)
                if line is None:
                    process.kill()
                    end = f"took longer than {limit:g} s"
                    break
                if not line:
                    break
                if line.startswith("RESULT"):
                    yield Result(**json.loads(line.removeprefix("RESULT")))
                    left.pop(0)
            code = process.wait()
            if left and (end or code):
                said.seek(0)
                yield Result(left.pop(0), failed=end or f"its process ended with {code}: {said.read()[-400:]}")


def _line(process: subprocess.Popen[str], limit: float) -> str | None:
    """The next line of a process, empty at its end; ``None``: it took too long."""
    assert process.stdout
    ready, _, _ = select.select([process.stdout], [], [], limit)
    return process.stdout.readline() if ready else None


def comparison(result: Result) -> dict[str, Any]:
    """A row in the language of the benchmarks."""
    ratio = result.rate / result.theirs if result.rate and result.theirs else None
    return {
        "name": result.name, "peer": result.peer, "unit": result.unit, "ours": result.rate,
        "theirs": result.theirs, "ratio": ratio, "low": ratio, "high": ratio,
        "max_abs_difference": result.max_abs_difference, "tolerance": result.tolerance,
        "share_of_peak": result.share_of_peak, "peak_memory_bytes": {"ours": result.peak_memory_bytes, "theirs": None},
        "seconds": result.seconds, "failed": result.failed or None, "left_out": result.left_out or None,
    }  # fmt: skip


def show(result: Result) -> None:
    rate = f"{result.rate:,.1f} {result.unit}" if result.rate else ""
    share = f"{result.share_of_peak:.0%}" if result.share_of_peak else ""
    difference = "" if result.max_abs_difference is None else f"{result.max_abs_difference:.1e}"
    end = f"FAILED {result.failed}" if result.failed else f"not here: {result.left_out}" if result.left_out else "ok"
    if result.theirs:
        end += f"; {result.peer}: {result.theirs:,.1f} {result.unit}"
    print(f"{result.name:32} {rate:>22} {share:>6} {difference:>9} {result.seconds:7.1f} s  {end}", flush=True)


def die_after(step: int) -> Any:
    """A callback that kills the training after a step."""
    from transformers import TrainerCallback

    class Dying(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step == step:
                os.kill(os.getpid(), signal.SIGKILL)

    return Dying()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="tiny models and few texts: a smoke run of the same code")
    parser.add_argument("--only", nargs="+", help="checks whose names begin so")
    parser.add_argument("--limit", type=float, default=120, help="seconds after which a check has failed (default 120)")
    parser.add_argument("--json", type=Path)
    for name in ("--work", "--distill", "--die", "--queries"):  # how the script calls itself
        parser.add_argument(name, help=argparse.SUPPRESS)
    parser.add_argument("--checks", nargs="+", help=argparse.SUPPRESS)
    args = parser.parse_args()
    logging.set_verbosity_error()
    if args.work:
        place = Place(Path(args.work), args.quick)
        if args.checks:
            work(args.checks, place)
            return
        training = {"queries_per_step": (8 if args.quick else 32) // 2} if args.queries else {}
        distill(place, Path(args.distill), training=training, callbacks=[die_after(int(args.die))] if args.die else [])
        processes.leave()
        return
    names = [name for name in CHECKS if not args.only or name.startswith(tuple(args.only))]
    print(f"{devices.name()}: {len(names)} checks\n")
    print(f"{'check':32} {'rate':>22} {'peak':>6} {'differs':>9} {'took':>9}")
    start, results = time.perf_counter(), []
    with tempfile.TemporaryDirectory() as folder:
        for result in supervised(names, Path(folder), args.quick, args.limit):
            show(result)
            results.append(result)
    failed = [result for result in results if result.failed]
    left_out = sum(bool(result.left_out) for result in results)
    print(f"\n{len(results)} checks in {time.perf_counter() - start:.0f} s: {len(failed)} failed, {left_out} not here")
    if args.json:
        stages.write_json(args.json, {
            "environment": {**devices.describe(), "torch": torch.__version__},
            "comparisons": [comparison(result) for result in results],
            "failures": [{"name": result.name, "message": result.failed} for result in failed],
        })  # fmt: skip
    raise SystemExit(bool(failed))


if __name__ == "__main__":
    main()
