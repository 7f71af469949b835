"""Finding candidates, side by side: mining, first-stage retrieval of a whole collection, and tokenising.

    python scripts/bench_candidates.py --json runs/bench-candidates.json                        # mining and tokenising
    python scripts/bench_candidates.py --parts medquad --beir ../shared/beir --json runs/bench-medquad.json
    python scripts/bench_candidates.py --quick --beir ../shared/beir                            # a smoke run
    python scripts/bench_candidates.py --parts whole                       # 1,000,000 passages, up to 100,000 queries

Every contender runs in a process of its own, one after another in each round, so that its peak memory is its own. Reported
are medians over the rounds, and the median, lowest and highest ratio within a round. Nothing is downloaded.

* ``mine-QUERIES-x-PASSAGES``: from random unit vectors (384 dimensions, float32; ours reads them from disk, shard by shard)
  to ten hard negatives a query, the relevant passage and its copies left out, against sentence-transformers'
  ``mine_hard_negatives``, as it is and with ``use_faiss``, given a model whose vectors are these. The negatives are equal.
  ``--parts whole`` has a million passages. For 100,000 queries the peer would take eight to fifteen minutes a round, so it is
  asked 5,000, side by side with ours (the work is a product of queries and passages, so it grows with the queries), and
  in batches of 1,024, for one of its default 16,384 would hold 65 GB of similarities. Then ours mines for all 100,000,
  once, and 100 of them are compared with float64 products.
* ``medquad/same-dtype`` and ``medquad/default``: the libraries imported, the BEIR folder read, BM25 and all-MiniLM-L6-v2 (256 tokens) asked to a
  depth of 100 and fused by reciprocal ranks, against BEIR's loader, bm25s, sentence-transformers' ``encode`` and
  ``semantic_search``, and a fusion of dictionaries. Of the collection as many documents and test queries are taken as
  ``--documents`` and ``--queries`` say. ``default``: each side as its user would call it (ours in bfloat16 where that is
  fast). ``agreement`` is the share of the fused lists' first ten places with the same document. In float32 little is left
  to gain: under cProfile (800 documents, 300 queries, 19.1 s) linear layers took 47 % of our time, imports 29 %, attention
  16 %, GELU 6 %.
* ``tokens``: MedQuAD's documents cut by the tokenizer of all-MiniLM-L6-v2, against a call with padding for each batch of
  32, as ``encode`` makes it. The ids are equal.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from retrieval_distill import models
from retrieval_distill.runtime import memory, stages

QUERIES, PASSAGES, DIMENSIONS = 8_000, 100_000, 384
WHOLE = (100_000, 5_000, 1_000_000)
"""Queries, those of them that peers are asked too, and passages."""
WHOLE_QUICK = (10_000, 1_000, 50_000)
CHECKED = 100
"""Queries of the whole whose negatives are compared with float64 products."""
WHOLE_BUDGET = 3_000_000_000
"""Bytes that mining of the whole may take, libraries included."""
SHARD = 8_192
NEGATIVES = 10
DEPTH, MAX_LENGTH = 100, 256
PLACES = 10
"""First places of two fused lists that are compared."""

Answer = dict[str, Any]


def measured(work: Callable[[], Any]) -> tuple[Any, Answer]:
    memory.release()
    memory.reset_peak()
    start = time.perf_counter()
    result = work()
    seconds = time.perf_counter() - start
    return result, {"seconds": seconds, "peak_memory_bytes": memory.peak_bytes()}


# -- mining ----------------------------------------------------------------------------------------------------------


def vectors_folder(work: Path, queries: int, passages: int) -> Path:
    """Unit vectors as ``embed`` leaves them, and queries near a passage each, made once."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from retrieval_distill.embedding import shards
    from retrieval_distill.embedding.storage import Storage

    folder = work / f"vectors-{queries}-{passages}"
    if (folder / "queries.npy").is_file():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    near = np.random.default_rng(1).integers(passages, size=queries)
    asked = np.random.default_rng(2).standard_normal((queries, DIMENSIONS), np.float32) * np.float32(0.03)
    written = []
    for start in range(0, passages, SHARD):
        shard = np.random.default_rng(start + 3).standard_normal((min(SHARD, passages - start), DIMENSIONS), np.float32)
        shard /= np.linalg.norm(shard, axis=1, keepdims=True)
        written.append(shards.write(folder, start // SHARD, shard))
        here = np.flatnonzero((near >= start) & (near < start + len(shard)))
        asked[here] += shard[near[here] - start]
    Storage.fit("float32", shard).save(folder)
    stages.write_json(folder / "shards.json", shards.describe(written))
    names, hashes = [f"d{row}" for row in range(passages)], np.arange(passages, dtype=np.uint64)
    pq.write_table(pa.table({"id": names, "hash": hashes}), folder / "ids.parquet")
    np.save(folder / "relevant.npy", near)
    np.save(folder / "queries.npy", asked / np.linalg.norm(asked, axis=1, keepdims=True))
    return folder


def text_of(row: int) -> str:
    return f"passage number {row}"


def mine_ours(args: argparse.Namespace) -> Answer:
    from retrieval_distill.config import MiningConfig
    from retrieval_distill.data.dataset import Texts
    from retrieval_distill.data.run import Run
    from retrieval_distill.embedding.embed import Embeddings
    from retrieval_distill.mining.mine import mine
    from retrieval_distill.retrieval import exact

    folder = vectors_folder(args.work, args.queries, args.passages)
    near = np.load(folder / "relevant.npy")
    documents = Texts.from_records((f"d{row}", "", text_of(row)) for row in range(args.passages))
    queries = Texts.from_records((f"q{row}", "", f"query {row}") for row in range(args.queries))
    qrels = {f"q{row}": {f"d{relevant}": 1} for row, relevant in enumerate(near)}
    embeddings = Embeddings(folder)

    def work() -> Run:
        scores, rows = exact.best(np.load(folder / "queries.npy"), embeddings.shards, NEGATIVES + 1)
        lists = {"model": Run.from_best(queries.ids, embeddings.ids_of(rows), scores)}
        config = MiningConfig(retrievers=("model",))
        return mine(lists, queries, qrels, documents, config, NEGATIVES + 1, 0).candidates

    found, answer = measured(work)
    kept = [[int(d[1:]) for d in docs if int(d[1:]) != near[int(q[1:])]][:NEGATIVES] for q, docs, _ in found]
    np.save(args.work / "negatives-ours.npy", np.array(kept))
    return answer | {"agreement": agreement_with_float64(folder, kept, near)}


def agreement_with_float64(folder: Path, kept: list[list[int]], near: np.ndarray) -> float:
    """The share of the first queries' negatives that a plain product with everything finds too."""
    asked = np.load(folder / "queries.npy")[:CHECKED].astype(np.float64)
    products = np.hstack([asked @ np.load(path).astype(np.float64).T for path in sorted(folder.glob("vectors-*.npy"))])
    products[np.arange(CHECKED), near[:CHECKED]] = -np.inf
    best = np.argpartition(products, -NEGATIVES, axis=1)[:, -NEGATIVES:]
    return float((np.sort(best) == np.sort(kept[:CHECKED])).mean())


def mine_library(args: argparse.Namespace, **options: Any) -> Answer:
    import torch
    from datasets import Dataset
    from sentence_transformers import mine_hard_negatives

    folder = vectors_folder(args.work, args.queries, args.passages)

    class Given:
        """A model whose vectors are known."""

        device = torch.device("cpu")

        def get_embedding_dimension(self) -> int:
            return DIMENSIONS

        def encode_query(self, texts: list[str], **_: object) -> np.ndarray:
            return np.load(folder / "queries.npy")

        def encode_document(self, texts: list[str], **_: object) -> np.ndarray:
            return np.concatenate([np.load(path) for path in sorted(folder.glob("vectors-*.npy"))])

        def similarity(self, queries: Any, passages: Any) -> torch.Tensor:
            return torch.as_tensor(queries) @ torch.as_tensor(passages).T

        def similarity_pairwise(self, queries: Any, passages: Any) -> torch.Tensor:
            return (torch.as_tensor(queries) * torch.as_tensor(passages)).sum(dim=1)

    corpus = [text_of(row) for row in range(args.passages)]
    pairs = Dataset.from_dict(
        {
            "query": [f"query {row}" for row in range(args.queries)],
            "positive": [corpus[row] for row in np.load(folder / "relevant.npy")],
        }
    )

    def work() -> Dataset:
        return mine_hard_negatives(
            pairs, Given(), corpus=corpus, num_negatives=NEGATIVES, output_format="n-tuple", verbose=False, **options
        )  # fmt: skip

    found, answer = measured(work)
    kept = {row["query"]: [int(row[f"negative_{n}"].split()[-1]) for n in range(1, NEGATIVES + 1)] for row in found}
    ours = np.load(args.work / "negatives-ours.npy")
    theirs = np.array([kept[f"query {row}"] for row in range(args.queries)])
    return answer | {"agreement": float((ours == theirs).mean())}


# -- first-stage retrieval of a collection -----------------------------------------------------------------------------


def part_of(args: argparse.Namespace) -> Path:
    """A BEIR folder of the first documents of MedQuAD and of the test queries that are judged on them."""
    from retrieval_distill.data.dataset import Dataset
    from retrieval_distill.data.formats import beir

    folder = args.work / f"medquad-{args.documents}-{args.queries}"
    if not folder.is_dir():
        whole = beir.load(args.beir / "medquad")
        documents = whole.documents.select(whole.documents.ids[: args.documents])
        queries = whole.queries.select(whole.queries.ids[: args.queries])
        qrels = {"test": {query: {documents.ids[0]: 1} for query in queries.ids}}
        beir.save(Dataset("medquad", documents, queries, qrels), folder.with_suffix(".partial"))
        folder.with_suffix(".partial").rename(folder)
    return folder


def medquad_ours(args: argparse.Namespace, dtype: str = "auto") -> Answer:
    import shutil

    folder, vectors = part_of(args), args.work / "medquad-vectors"
    shutil.rmtree(vectors, ignore_errors=True)

    def work() -> Any:
        from retrieval_distill import api
        from retrieval_distill.data.formats import beir
        from retrieval_distill.embedding.embed import Embeddings
        from retrieval_distill.retrieval import exact
        from retrieval_distill.retrieval.fusion import reciprocal_rank_fusion

        dataset = beir.load(folder)
        queries = dataset.queries("test")
        lexical = api.retrieve(queries, dataset.documents, depth=DEPTH)
        api.embed(dataset.documents, models.PACKAGED, out=vectors, dtype=dtype, max_length=MAX_LENGTH)
        dense = exact.search(Embeddings.open(vectors), models.PACKAGED, queries, DEPTH, dtype=dtype)
        return reciprocal_rank_fusion([lexical, dense]).top(DEPTH)

    found, answer = measured(work)
    heads = {query: docs[:PLACES] for query, docs, _ in found}
    stages.write_json(args.work / f"fused-ours-{dtype}.json", heads)
    return answer


def medquad_ours_float32(args: argparse.Namespace) -> Answer:
    return medquad_ours(args, "float32")


def medquad_library(args: argparse.Namespace) -> Answer:
    folder = part_of(args)

    def work() -> dict[str, dict[str, float]]:
        import bm25s
        import torch
        from beir.datasets.data_loader import GenericDataLoader
        from sentence_transformers import SentenceTransformer
        from sentence_transformers.util import semantic_search

        corpus, queries, _ = GenericDataLoader(str(folder)).load("test")
        ids, asked = list(corpus), list(queries)
        texts = [f"{corpus[id_]['title']} {corpus[id_]['text']}".strip() for id_ in ids]
        bm25 = bm25s.BM25()
        bm25.index(bm25s.tokenize(texts, stopwords="en", show_progress=False), show_progress=False)
        tokens = bm25s.tokenize(list(queries.values()), stopwords="en", show_progress=False)
        rows, scores = bm25.retrieve(tokens, k=DEPTH, show_progress=False)
        lexical = [
            [ids[row] for row, score in zip(*found, strict=True) if score > 0]
            for found in zip(rows, scores, strict=True)
        ]
        model = SentenceTransformer(str(models.resolve(models.PACKAGED)), model_kwargs={"dtype": torch.float32})
        model.max_seq_length = MAX_LENGTH
        passages = model.encode_document(texts, convert_to_tensor=True, show_progress_bar=False)
        hits = semantic_search(
            model.encode_query(list(queries.values()), convert_to_tensor=True), passages, top_k=DEPTH
        )
        dense = [[ids[hit["corpus_id"]] for hit in found] for found in hits]
        return {query: fused(lists) for query, *lists in zip(asked, lexical, dense, strict=True)}

    found, answer = measured(work)
    heads = {
        query: sorted(docs, key=lambda doc: (docs[doc], doc), reverse=True)[:PLACES] for query, docs in found.items()
    }
    agreement = {}
    for dtype in ("float32", "auto"):
        path = args.work / f"fused-ours-{dtype}.json"
        if path.is_file():
            ours = stages.read_json(path)
            places = [a == b for query, docs in heads.items() for a, b in zip(docs, ours[query], strict=True)]
            agreement[dtype] = float(np.mean(places))
    return answer | {"agreement_by_dtype": agreement}


def fused(lists: list[list[str]]) -> dict[str, float]:
    """Reciprocal rank fusion of one query's lists."""
    scores: dict[str, float] = defaultdict(float)
    for docs in lists:
        for rank, doc in enumerate(docs, 1):
            scores[doc] += 1 / (60 + rank)
    return dict(sorted(scores.items(), key=lambda item: item[1], reverse=True)[:DEPTH])


# -- tokenising ------------------------------------------------------------------------------------------------------


def tokens(args: argparse.Namespace) -> list[dict[str, Any]]:
    from transformers import AutoTokenizer

    from retrieval_distill.data.dataset_loader import load
    from retrieval_distill.data.formats import beir
    from retrieval_distill.data.tokens import tokenize

    data = beir.load(args.beir / "medquad") if args.beir else load("python-docs", args.work / "cache")
    texts = data.documents.take(data.documents.ids[: args.texts])
    tokenizer = AutoTokenizer.from_pretrained(models.resolve(models.PACKAGED))
    seconds: dict[str, list[float]] = {"ours": [], "theirs": []}
    for _ in range(args.rounds + 1):
        start = time.perf_counter()
        own = tokenize(tokenizer, texts, MAX_LENGTH)
        middle = time.perf_counter()
        batches = [
            tokenizer(texts[at : at + 32], padding=True, truncation=True, max_length=MAX_LENGTH, return_tensors="pt")
            for at in range(0, len(texts), 32)
        ]
        seconds["ours"].append(middle - start)
        seconds["theirs"].append(time.perf_counter() - middle)
    rows = [
        ids[mask.bool()].numpy() for b in batches for ids, mask in zip(b["input_ids"], b["attention_mask"], strict=True)
    ]
    different = sum(not np.array_equal(row, own[number]) for number, row in enumerate(rows))
    ratios = [theirs / ours for ours, theirs in zip(seconds["ours"][1:], seconds["theirs"][1:], strict=True)]
    return [
        {
            "name": f"tokens-{len(texts)}/same-dtype", "peer": "tokenizer with padding", "unit": "texts/s",
            "ours": len(texts) / median(seconds["ours"][1:]), "theirs": len(texts) / median(seconds["theirs"][1:]),
            "ratio": median(ratios), "low": min(ratios), "high": max(ratios), "max_abs_difference": float(different),
        }
    ]  # fmt: skip


# -- comparing -------------------------------------------------------------------------------------------------------

CONTENDERS: dict[str, Callable[[argparse.Namespace], Answer]] = {
    "mine: ours": mine_ours,
    "mine: sentence-transformers": mine_library,
    "mine: sentence-transformers, use_faiss": partial(mine_library, use_faiss=True),
    "mine: sentence-transformers, faiss_batch_size=1024": partial(mine_library, faiss_batch_size=1024),
    "medquad: ours, float32": medquad_ours_float32,
    "medquad: ours": medquad_ours,
    "medquad: sentence-transformers, bm25s, BEIR": medquad_library,
}


OURS, _, FAISS, BATCHES, *MEDQUAD = CONTENDERS


def rounds_of(names: Sequence[str], args: argparse.Namespace, rounds: int) -> dict[str, list[Answer]]:
    found: dict[str, list[Answer]] = {name: [] for name in names}
    options = ("queries", "passages", "documents", "work", *(["beir"] if args.beir else []))
    size = [text for option in options for text in (f"--{option}", str(getattr(args, option)))]
    for _ in range(rounds):
        for name in names:
            command = [sys.executable, __file__, "--contender", name, *size]
            answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            found[name].append(last := json.loads(answer.splitlines()[-1]))
            print(f"  {name}: {last['seconds']:.1f} s, {last['peak_memory_bytes'] / 1e9:.2f} GB", flush=True)
    return found


def compared(name: str, ours: list[Answer], theirs: list[Answer], peer: str, agreement: float) -> dict[str, Any]:
    pairs = [(a["seconds"], b["seconds"]) for a, b in zip(ours, theirs, strict=True)]
    ratios = [b / a for a, b in pairs]
    return {
        "name": name, "peer": peer, "unit": "s", "ours": median(a for a, _ in pairs), "theirs": median(b for _, b in pairs),
        "ratio": median(ratios), "low": min(ratios), "high": max(ratios), "agreement": agreement,
        "peak_memory_bytes": {
            side: max(answer["peak_memory_bytes"] for answer in answers) for side, answers in (("ours", ours), ("theirs", theirs))
        },
    }  # fmt: skip


def mine(args: argparse.Namespace, names: Sequence[str] = tuple(CONTENDERS)[:3]) -> list[dict[str, Any]]:
    rounds = rounds_of(names, args, args.rounds)
    name, ours = f"mine-{args.queries}-x-{args.passages}/same-dtype", rounds.pop(OURS)
    return [
        compared(name, ours, answers, peer.removeprefix("mine: "), min(answer["agreement"] for answer in answers))
        for peer, answers in rounds.items()
    ]


def medquad(args: argparse.Namespace) -> list[dict[str, Any]]:
    float32, default, (peer, theirs) = rounds_of(MEDQUAD, args, args.rounds).items()
    agreement = theirs[-1]["agreement_by_dtype"]
    return [
        compared("medquad/same-dtype", float32[1], theirs, peer.removeprefix("medquad: "), agreement["float32"]),
        compared("medquad/default", default[1], theirs, peer.removeprefix("medquad: "), agreement["auto"]),
    ]


def whole(args: argparse.Namespace) -> list[dict[str, Any]]:
    queries, args.queries, args.passages = WHOLE_QUICK if args.quick else WHOLE
    beside = mine(args, (OURS, BATCHES, FAISS))
    args.queries = queries
    [answer] = rounds_of([OURS], args, 1)[OURS]
    row = {
        "name": f"mine-{args.queries}-x-{args.passages}/same-dtype", "peer": None, "unit": "s", "theirs": None, "ratio": None,
        "ours": answer["seconds"], "agreement": answer["agreement"],
        "peak_memory_bytes": {"ours": answer["peak_memory_bytes"], "theirs": None},
    }  # fmt: skip
    return [*beside, row]


PARTS: dict[str, Callable[[argparse.Namespace], list[dict[str, Any]]]] = {
    "mine": mine,
    "tokens": tokens,
    "medquad": medquad,
    "whole": whole,
}


def line(row: dict[str, Any]) -> str:
    memory = row.get("peak_memory_bytes", {})
    sides = {side: f"{row[side]:,.1f} {row['unit']}" for side in ("ours", "theirs") if row[side]}
    sides = {side: text + (f", {memory[side] / 1e9:.2f} GB" if memory else "") for side, text in sides.items()}
    equal = (
        f", {row['agreement']:.2%} equal" if "agreement" in row else f", {row['max_abs_difference']:.0f} rows differ"
    )
    if row["peer"] is None:
        return f"{row['name']:34} ours {sides['ours']}{equal}"
    return (
        f"{row['name']:34} ours {sides['ours']}; {row['peer']}: {sides['theirs']}; "
        f"{row['ratio']:.1f}x ({row['low']:.1f}-{row['high']:.1f}){equal}"
    )


def refuse(rows: list[dict[str, Any]]) -> None:
    """End with an error where a promise is broken that does not depend on the machine."""
    for row in rows:
        if row.get("max_abs_difference"):
            raise SystemExit(f"{row['name']}: token ids differ")
        if row["name"].startswith("mine") and row.get("agreement", 1) < 0.9999:
            raise SystemExit(f"{row['name']}: the negatives differ")
        if row["peer"] is None and row["peak_memory_bytes"]["ours"] > WHOLE_BUDGET:
            raise SystemExit(f"{row['name']}: more memory than the budget of {WHOLE_BUDGET / 1e9:.0f} GB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=["mine", "tokens"])
    parser.add_argument("--queries", type=int, help=f"{QUERIES} to mine for, 1000 of MedQuAD")
    parser.add_argument("--passages", type=int, default=PASSAGES, help="vectors to mine in")
    parser.add_argument("--documents", type=int, default=3000, help="documents of MedQuAD")
    parser.add_argument("--texts", type=int, default=15_000, help="texts to tokenise")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--beir", type=Path, help="folder that holds medquad; tokens come from python-docs without it")
    parser.add_argument("--work", type=Path, default=Path("runs/bench-candidates"))
    parser.add_argument("--quick", action="store_true", help="small sizes, one round")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--contender", choices=CONTENDERS, help=argparse.SUPPRESS)  # how the script calls itself
    args = parser.parse_args()
    if args.contender:
        print(json.dumps(CONTENDERS[args.contender](args)))
        return
    if args.quick:
        args.passages, args.documents, args.texts, args.rounds = 20_000, 200, 1_000, 1
    args.work.mkdir(parents=True, exist_ok=True)
    given, rows = args.queries, []
    for part in args.parts:
        args.queries = given or (1000 if part == "medquad" else QUERIES) // (10 if args.quick else 1)
        rows += PARTS[part](args)
    for row in rows:
        print(line(row))
    if args.json:
        from retrieval_distill.hardware import devices

        stages.write_json(args.json, {"environment": devices.describe(), "comparisons": rows})
    refuse(rows)


if __name__ == "__main__":
    main()
