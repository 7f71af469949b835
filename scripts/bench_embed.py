"""Embedding speed and memory against sentence-transformers and others: same weights, same passages, same threads.

    python scripts/bench_embed.py --beir ../shared/beir --fastembed PYTHON --json runs/bench_embed.json
    python scripts/bench_embed.py --quick                     # a two-minute smoke run
    python scripts/bench_embed.py --million --json runs/bench_embed_million.json

Passages of all lengths are drawn from each corpus. Each round takes its own share of them and every contender embeds
it, one after another; reported are medians over the rounds, and the median, lowest and highest ratio within a round.

* ``NAME/same-dtype``: both sides in float32; vectors must agree to 1e-5.
* ``NAME/default``: each side as its user would call it (ours: the dtype that is fast here; theirs: float32).
* ``NAME/same-dtype/PEER``, ``NAME/default/PEER``: the same against another runtime, where it is installed. ONNX Runtime
  and OpenVINO run the same weights as a graph in place of the transformer, the rest is the library's (its batches of
  32, sorted by length). fastembed is given that ONNX file as a model of its own, in a process of its own
  (``--fastembed`` names the Python of an environment that has it), for its own models come from a hub.

A warm-up of each side is not counted. Loading is not counted; tokenising is, on both sides. From the default's rate
follows what a billion passages would take. ``--million`` instead writes a million short passages through ``embed``,
with the first layer of the packaged model, and says what the process needed above what it took once the model was
loaded: vectors and shards are those of the whole model, only the time to compute them is not.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from transformers.utils import logging

from retrieval_distill import models
from retrieval_distill.data import columns
from retrieval_distill.data.dataset import Texts
from retrieval_distill.data.dataset_loader import load
from retrieval_distill.embedding.embed import Embeddings, embed
from retrieval_distill.embedding.storage import BITS
from retrieval_distill.hardware import devices
from retrieval_distill.runtime import memory, stages
from retrieval_distill.student import backends, encoder, graph
from retrieval_distill.student.exported import RUNTIMES, Exported, Side

Encode = Callable[[list[str]], np.ndarray]

LIBRARY, EXACT = "sentence-transformers", ("sentence-transformers", "onnxruntime float32", "fastembed")
"""The peer that everybody has, and those that compute in float32."""

WEEK, NODE = 7 * 24 * 3600, 0.8 * 64e9
"""Seconds; bytes of a machine of 64 GB that are left for vectors."""


def ours(model: str, dtype: str) -> Encode:
    loaded = encoder.load(model, dtype)
    return lambda texts: encoder.encode(loaded, texts, "document")


def library(model: str) -> Encode:
    loaded = SentenceTransformer(
        str(models.resolve(model)), device=devices.device(), model_kwargs={"dtype": torch.float32}
    )
    return lambda texts: loaded.encode_document(texts, show_progress_bar=False)


def runtime(loaded: Exported) -> Encode:
    return lambda texts: loaded.encode(texts, "document")


def runtimes(model: str, folder: Path) -> dict[str, Encode]:
    """ONNX Runtime and OpenVINO, as far as they are installed; the graph in float32 stays in the folder."""
    found = {}
    if "onnx" in backends.installed_backends():
        loaded = encoder.load(model)
        loaded.tokenizer.save_pretrained(folder)
        limits = dict.fromkeys(("max_length", "model_max_length"), loaded.max_seq_length)
        settings = folder / "tokenizer_config.json"
        settings.write_text(json.dumps(json.loads(settings.read_text()) | limits))
        loaded[0].model.config.save_pretrained(folder)
        tokenizer = graph.tokenizer(model, loaded[0])
        run = RUNTIMES["onnx"].open(graph.write_encoder(list(loaded), folder / "model.onnx"))
        side = Side(tokenizer, run, loaded.max_seq_length)
        found["onnxruntime float32"] = runtime(Exported(model, loaded.get_embedding_dimension(), lambda _: side))
        found["onnxruntime int8"] = runtime(backends.load(model, "onnx"))
    if "openvino" in backends.installed_backends():
        found["openvino"] = runtime(backends.load(model, "openvino"))
    return found


FASTEMBED_WORKER = """
import json, sys
import numpy as np
from fastembed import TextEmbedding
from fastembed.common.model_description import ModelSource, PoolingType
folder, dimensions, threads = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
TextEmbedding.add_custom_model("bench/model", PoolingType.MEAN, True, ModelSource(hf="bench/model"), dimensions, "model.onnx")
model = TextEmbedding("bench/model", threads=threads, specific_model_path=folder)
for line in sys.stdin:
    np.save(folder + "/vectors.npy", np.stack(list(model.embed(json.loads(line)))))
    print("RESULT", flush=True)
"""


def fastembed(python: str, folder: Path, dimensions: int) -> Encode:
    command = [python, "-c", FASTEMBED_WORKER, str(folder), str(dimensions), str(torch.get_num_threads())]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin and process.stdout
    sent, received = process.stdin, process.stdout

    def encode(texts: list[str]) -> np.ndarray:
        sent.write(json.dumps(texts) + "\n")
        sent.flush()
        if not any(line.startswith("RESULT") for line in received):
            raise SystemExit("fastembed's process ended; its message is above")
        return np.load(folder / "vectors.npy")

    return encode


def drawn(source: str, count: int, cache: Path) -> list[str]:
    documents = load(source, cache).documents
    rows = np.random.default_rng(0).permutation(len(documents))[:count]
    return documents.at(rows).take()


def timed(
    contenders: dict[str, Encode], texts: list[str], rounds: int
) -> tuple[dict[str, list[float]], dict[str, np.ndarray]]:
    for encode in contenders.values():
        encode(texts[:32])
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    vectors: dict[str, list[np.ndarray]] = {name: [] for name in contenders}
    for number in range(rounds):
        share = texts[number::rounds]
        for name, encode in contenders.items():
            start = time.perf_counter()
            vectors[name].append(encode(share))
            passed = time.perf_counter() - start
            seconds[name].append(passed / len(share))
            print(f"  {name}: {len(share) / passed:.1f} passages/s", flush=True)
    return seconds, {name: np.concatenate(parts) for name, parts in vectors.items()}


def comparison(
    name: str, us: str, them: str, seconds: dict[str, list[float]], vectors: dict[str, np.ndarray]
) -> dict[str, object]:
    ratios = [theirs / our for our, theirs in zip(seconds[us], seconds[them], strict=True)]
    a, b = vectors[us], vectors[them]
    cosines = (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    return {
        "name": name if them == LIBRARY else f"{name}/{them}", "peer": them, "unit": "passages/s",
        "ours": 1 / median(seconds[us]), "theirs": 1 / median(seconds[them]),
        "ratio": median(ratios), "low": min(ratios), "high": max(ratios),
        "max_abs_difference": float(np.abs(a - b).max()), "lowest_cosine": float(cosines.min()),
    }  # fmt: skip


def compare(args: argparse.Namespace, count: int, rounds: int) -> list[dict[str, object]]:
    found = []
    with tempfile.TemporaryDirectory() as folder:
        peers = {LIBRARY: library(args.model), **runtimes(args.model, Path(folder))}
        if args.fastembed:
            peers["fastembed"] = fastembed(args.fastembed, Path(folder), dimensions(args.model))
        contenders = {"ours, float32": ours(args.model, "float32"), "ours, default": ours(args.model, "auto"), **peers}
        for source in [
            "python-docs",
            *([str(args.beir / name) for name in ("scifact", "medquad")] if args.beir else []),
        ]:
            texts, name = drawn(source, count, args.cache), Path(source).name
            print(f"{name}: {len(texts)} passages", flush=True)
            seconds, vectors = timed(contenders, texts, rounds)
            for peer in EXACT:
                if peer in peers:
                    found.append(comparison(f"{name}/same-dtype", "ours, float32", peer, seconds, vectors))
            found += [comparison(f"{name}/default", "ours, default", peer, seconds, vectors) for peer in peers]
    return found


def dimensions(model: str) -> int:
    return encoder.load(model).get_embedding_dimension() or 0


def billion(name: str, rate: float, size: int) -> dict[str, object]:
    """What a billion passages like these take: hours of machines like this one, bytes, nodes that hold the index."""
    storages = {storage: 1e9 * size * bits / 8 for storage, bits in BITS.items()}
    return {
        "name": name, "passages_per_second": rate, "machine_hours": 1e9 / rate / 3600,
        "machines_for_a_week": math.ceil(1e9 / rate / WEEK), "rate_of_one_device_for_a_week": 1e9 / WEEK,
        "bytes": storages, "nodes_of_64_GB": {storage: math.ceil(size / NODE) for storage, size in storages.items()},
    }  # fmt: skip


def million(rows: int, model: str, folder: Path) -> dict[str, object]:
    """Peak memory and seconds of ``embed`` over short random passages, held in a memory-mapped file."""
    source = SentenceTransformer(str(models.resolve(model)), device="cpu")
    source[0].model.encoder.layer = source[0].model.encoder.layer[:1]
    source[0].model.config.num_hidden_layers = 1
    source.save(str(folder / "one-layer"))
    words = [word for word in source.tokenizer.get_vocab() if word.isalpha() and len(word) > 3]
    columns.write(columns.batches(passages(words, rows)), folder / "passages.arrow")
    documents = Texts(columns.open_mapped(folder / "passages.arrow"))
    del source
    loaded = encoder.load(str(folder / "one-layer"), "auto")
    encoder.encode(loaded, ["a first text"] * 64, "document")
    memory.release()
    memory.reset_peak()
    with_model = memory.peak_bytes()
    del loaded
    manifest = embed(str(folder / "one-layer"), documents, folder / "vectors")
    opened = Embeddings.open(folder / "vectors")
    assert sum(len(shard) for shard in opened.shards()) == rows
    peak = manifest["peak_memory_bytes"]
    return {
        "name": "million/memory", "peer": "float32 vectors held in memory", "unit": "bytes",
        "ours": peak - with_model, "theirs": manifest["counts"]["bytes"],
        "ratio": manifest["counts"]["bytes"] / (peak - with_model),
        "seconds": manifest["seconds"], "passages": rows, "with_model_bytes": with_model, "peak_bytes": peak,
        "passages_per_second": rows / manifest["seconds"],
    }  # fmt: skip


def passages(words: list[str], rows: int) -> Iterator[columns.Record]:
    rng = np.random.default_rng(0)
    for start in range(0, rows, 1000):
        picked = rng.integers(0, len(words), (1000, 5))
        yield from ((f"p{start + i}", "", " ".join(words[at] for at in row)) for i, row in enumerate(picked))


def show(rows: list[dict[str, object]], large: list[dict[str, object]]) -> None:
    print(f"\n{'comparison':42} {'ours':>8} {'theirs':>8} {'ratio':>6}  {'low-high':>11}  {'max diff':>9}  cosine")
    for row in rows:
        print(f"{row['name']:42} {row['ours']:8.1f} {row['theirs']:8.1f} {row['ratio']:6.2f}  "
              f"{row['low']:5.2f}-{row['high']:5.2f}  {row['max_abs_difference']:9.1e}  {row['lowest_cosine']:.5f}")  # fmt: skip
    for row in large:
        sizes = ", ".join(
            f"{storage} {size / 1e12:.2f} TB on {row['nodes_of_64_GB'][storage]}"
            for storage, size in row["bytes"].items()
        )
        print(f"\n1 billion passages, {row['name']}, at {row['passages_per_second']:.1f}/s: {row['machine_hours']:,.0f} hours of a "
              f"machine like this one, {row['machines_for_a_week']} of them for a week; one device that is to do it in a "
              f"week has to embed {row['rate_of_one_device_for_a_week']:,.0f}/s. Vectors, and nodes of 64 GB that hold them: {sizes}")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--passages", type=int, default=450)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", default=models.PACKAGED)
    parser.add_argument("--beir", type=Path, help="folder with scifact and medquad in BEIR layout")
    parser.add_argument("--fastembed", help="the Python of an environment with fastembed")
    parser.add_argument("--cache", type=Path, default=Path("runs/bench"))
    parser.add_argument("--million", action="store_true")
    parser.add_argument("--quick", action="store_true", help="120 passages, two rounds; 20,000 for a million")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    logging.set_verbosity_error()
    if args.million:
        with tempfile.TemporaryDirectory() as folder:
            found, large = [million(20_000 if args.quick else 1_000_000, args.model, Path(folder))], []
        row = found[0]
        print(f"{row['passages']:,} passages in {row['seconds']:.0f} s ({row['passages_per_second']:,.0f}/s); "
              f"{row['ours'] / 2**20:,.0f} MB above the {row['with_model_bytes'] / 2**20:,.0f} MB with the model loaded")  # fmt: skip
    else:
        found = compare(args, *((120, 2) if args.quick else (args.passages, args.rounds)))
        size = dimensions(args.model)
        large = [billion(str(row["name"]), row["ours"], size) for row in found if str(row["name"]).endswith("/default")]
        show(found, large)
    if args.json:
        found_here = {"environment": devices.describe(), "comparisons": found, "billion": large}
        stages.write_json(args.json, found_here)
    differing = [row["name"] for row in found if "/same-dtype" in str(row["name"]) and row["max_abs_difference"] > 1e-5]
    if differing:
        raise SystemExit(f"vectors differ by more than 1e-5: {', '.join(differing)}")


if __name__ == "__main__":
    main()
