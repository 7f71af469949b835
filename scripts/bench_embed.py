"""Embedding speed and memory against sentence-transformers and others: same weights, same passages, same threads.

    python scripts/bench_embed.py --beir ../shared/beir --json runs/bench_embed.json
    python scripts/bench_embed.py --quick                     # a two-minute smoke run
    python scripts/bench_embed.py --million --json runs/bench_embed_million.json

Passages of all lengths are drawn from each corpus. Each round takes its own share of them and every contender embeds
it, one after another; reported are medians over the rounds, and the median, lowest and highest ratio within a round.

* ``NAME/same-dtype``: both sides in float32; vectors must agree to 1e-5.
* ``NAME/default``: each side as its user would call it (ours: the dtype that is fast here; theirs: float32).
* ``NAME/onnxruntime int8``, ``NAME/openvino``: our default against the same weights in another runtime, where it is
  installed: the graph in place of the transformer, the rest the library's (its batches of 32, sorted by length).

A warm-up of each side is not counted. Loading is not counted; tokenising is, on both sides. ``--million`` instead
writes a million short passages through ``embed``, with the first layer of the packaged model, and says what the
process needed above what it took once the model was loaded.
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

import numpy as np
import psutil
import torch
from sentence_transformers import SentenceTransformer
from transformers.utils import logging

from retrieval_distill import artifacts, hardware, models
from retrieval_distill.data import columns
from retrieval_distill.data.dataset import Texts
from retrieval_distill.data.load import load
from retrieval_distill.indexing.embed import Embeddings, embed
from retrieval_distill.indexing.storage import BITS
from retrieval_distill.student import backends, encoder

Encode = Callable[[list[str]], np.ndarray]

PEERS = {"onnx": "onnxruntime int8", "openvino": "openvino"}


def ours(model: str, dtype: str) -> Encode:
    loaded = encoder.load(model, dtype)
    return lambda texts: encoder.encode(loaded, texts, "document")


def library(model: str) -> Encode:
    loaded = SentenceTransformer(
        str(models.resolve(model)), device=hardware.device(), model_kwargs={"dtype": torch.float32}
    )
    return lambda texts: loaded.encode_document(texts, show_progress_bar=False)


def runtime(model: str, backend: str) -> Encode:
    loaded = backends.load(model, backend)
    return lambda texts: loaded.encode_document(texts, show_progress_bar=False)


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
        "name": name, "peer": them, "unit": "passages/s",
        "ours": 1 / median(seconds[us]), "theirs": 1 / median(seconds[them]),
        "ratio": median(ratios), "low": min(ratios), "high": max(ratios),
        "max_abs_difference": float(np.abs(a - b).max()), "lowest_cosine": float(cosines.min()),
    }  # fmt: skip


def compare(names: list[str], model: str, count: int, rounds: int, cache: Path) -> list[dict[str, object]]:
    contenders = {
        "ours, float32": ours(model, "float32"),
        "sentence-transformers": library(model),
        "ours, default": ours(model, "auto"),
        **{PEERS[name]: runtime(model, name) for name in backends.installed()},
    }
    found = []
    for source in names:
        texts, name = drawn(source, count, cache), Path(source).name
        print(f"{name}: {len(texts)} passages", flush=True)
        seconds, vectors = timed(contenders, texts, rounds)
        found.append(comparison(f"{name}/same-dtype", "ours, float32", "sentence-transformers", seconds, vectors))
        for peer in [peer for peer in contenders if not peer.startswith("ours")]:
            kind = "default" if peer == "sentence-transformers" else peer
            found.append(comparison(f"{name}/{kind}", "ours, default", peer, seconds, vectors))
    return found


def billion(name: str, rate: float, dimensions: int) -> dict[str, object]:
    """What a billion passages like these would take of machines like this one: hours, machines for a week, bytes."""
    hours = 1e9 / rate / 3600
    sizes = {storage: 1e9 * dimensions * bits / 8 for storage, bits in BITS.items()}
    return {"name": name, "machine_hours": hours, "machines_for_a_week": math.ceil(hours / 168), "bytes": sizes}


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
    artifacts.release_memory()
    with_model = psutil.Process().memory_info().rss
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
        picked = rng.integers(0, len(words), (1000, 8))
        yield from ((f"p{start + i}", "", " ".join(words[at] for at in row)) for i, row in enumerate(picked))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--passages", type=int, default=900)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", default=models.PACKAGED)
    parser.add_argument("--beir", type=Path, help="folder with scifact and medquad in BEIR layout")
    parser.add_argument("--cache", type=Path, default=Path("runs/bench"))
    parser.add_argument("--million", action="store_true")
    parser.add_argument("--quick", action="store_true", help="120 passages, two rounds; 20,000 for a million")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    logging.set_verbosity_error()
    if args.million:
        with tempfile.TemporaryDirectory() as folder:
            found = [million(20_000 if args.quick else 1_000_000, args.model, Path(folder))]
        row = found[0]
        print(f"{row['passages']:,} passages in {row['seconds']:.0f} s ({row['passages_per_second']:,.0f}/s); "
              f"{row['ours'] / 2**20:,.0f} MB above the {row['with_model_bytes'] / 2**20:,.0f} MB with the model loaded")  # fmt: skip
    else:
        names = ["python-docs", *([str(args.beir / name) for name in ("scifact", "medquad")] if args.beir else [])]
        found = compare(names, args.model, *((120, 2) if args.quick else (args.passages, args.rounds)), args.cache)
        print(
            f"\n{'comparison':26} {'against':22} {'ours':>8} {'theirs':>8} {'ratio':>6}  {'low-high':>11}  {'max diff':>9}  cosine"
        )
        for row in found:
            print(f"{row['name']:26} {row['peer']:22} {row['ours']:8.1f} {row['theirs']:8.1f} {row['ratio']:6.2f}  "
                  f"{row['low']:5.2f}-{row['high']:5.2f}  {row['max_abs_difference']:9.1e}  {row['lowest_cosine']:.5f}")  # fmt: skip
    dimensions = encoder.load(args.model).get_embedding_dimension() or 0
    large = [
        billion(str(row["name"]), row["ours"], dimensions) for row in found if str(row["name"]).endswith("/default")
    ]
    for row in large:
        sizes = ", ".join(f"{storage} {size / 1e12:.2f} TB" for storage, size in row["bytes"].items())
        print(f"1 billion passages, {row['name']}: {row['machine_hours']:,.0f} hours of a machine like this one, or "
              f"{row['machines_for_a_week']} of them for a week; {sizes}")  # fmt: skip
    if args.json:
        found_here = {"environment": hardware.describe(), "comparisons": found, "billion": large}
        artifacts.write_json(args.json, found_here)
    differing = [
        row["name"] for row in found if str(row["name"]).endswith("same-dtype") and row["max_abs_difference"] > 1e-5
    ]
    if differing:
        raise SystemExit(f"vectors differ by more than 1e-5: {', '.join(differing)}")


if __name__ == "__main__":
    main()
