"""Everything that reads what people bring, each with a small valid input.

Knows readers; must not know what befalls their inputs.
"""

from __future__ import annotations

import json
import shutil
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
from sweep_stages import World, as_values

from retrieval_distill import api
from retrieval_distill.benchmarks import paraphrases, sts
from retrieval_distill.config import ReadConfig, load_recipe
from retrieval_distill.data.dataset import Dataset
from retrieval_distill.data.dataset_loader import load
from retrieval_distill.data.run import Run
from retrieval_distill.scores.score_files import read_scores
from retrieval_distill.search import document_filter
from retrieval_distill.student import encoder

Exact = Callable[[str, bytes], bool]
"""Whether what is read must be what was read before, or refused: by what was done, and the bytes."""


def never(how: str, data: bytes) -> bool:
    return False


def when_flipped(how: str, data: bytes) -> bool:
    """Of a file with checksums within."""
    return how == "flipped"


def when_cut(how: str, data: bytes) -> bool:
    """Of a file that says where it ends."""
    return how == "cut"


def when_flipped_or_cut(how: str, data: bytes) -> bool:
    """Of a file that does both."""
    return how in ("flipped", "cut")


def when_cut_within_a_line(how: str, data: bytes) -> bool:
    return how == "cut" and bool(data) and not data.endswith(b"\n")


@dataclass(frozen=True)
class Reader:
    """A reader.

    Args:
        files: A valid input: names and bytes.
        read: Reads it from its folder.
        exact: See :data:`Exact`.
        weight: How often it is drawn.
    """

    files: Mapping[str, bytes]
    read: Callable[[Path], Any]
    exact: Exact = never
    weight: float = 1.0


def dataset_in(name: str = "", **options: Any) -> Callable[[Path], Any]:
    """Reads a dataset in a folder, with a cache beside it."""

    def read(folder: Path) -> Any:
        given = {
            key: str(folder / value) if isinstance(value, str) and key != "format" else value
            for key, value in options.items()
        }
        if "qrels" in given:
            given["qrels"] = {split: str(folder / file) for split, file in given["qrels"].items()}
        cache = folder.parent / "cache"
        try:
            return as_values(load(str(folder / name), cache, ReadConfig(**given)))
        finally:
            shutil.rmtree(cache, ignore_errors=True)

    return read


def listed(folder: Path) -> dict[str, bytes]:
    """The files of a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def datasets(world: World, root: Path) -> dict[str, Reader]:
    """Datasets of every format."""
    data, found = world.dataset, dict[str, Reader]()
    for name in ("beir", "jsonl", "csv", "parquet", "hugging-face", "ms-marco"):
        api.convert(data, out=root / name, to=name)
        files = listed(root / name)
        files = {name: data for name, data in files.items() if name not in ("manifest.json", ".fingerprint")}
        found[name] = Reader(files, dataset_in(), weight=2)
    table = Run.load(world.scored)
    for ending in ("parquet", "jsonl", "csv"):
        api.convert(data, out=root / f"t.{ending}", to="sentence-transformers", scores=table, negatives=2)
        found[f"training table, {ending}"] = Reader(
            {f"t.{ending}": (root / f"t.{ending}").read_bytes()},
            dataset_in(f"t.{ending}", format="sentence-transformers"),
        )
    corpus = (root / "jsonl" / "corpus.jsonl").read_bytes()
    tsv = "id\ttext\n" + "".join(f"{id_}\t{text}\n" for id_, _, text in data.documents.records())
    trec = b"q1 0 d1 1\nq2 0 d2 2\nq3 0 d3 0\n"
    asked = (root / "jsonl" / "queries.jsonl").read_bytes()
    found["tsv"] = Reader({"c.tsv": tsv.encode()}, dataset_in("c.tsv"))
    found["trec judgements"] = Reader(
        {"c.jsonl": corpus, "q.jsonl": asked, "test.qrels.txt": trec},
        dataset_in("c.jsonl", queries="q.jsonl", qrels={"test": "test.qrels.txt"}),
    )
    found |= archives(root)
    texts = {
        "a.txt": "Plain text.\n\nMore of it, é.\n".encode(), "b.md": b"---\ntitle: x\n---\n# Head\n\nSome *text*.\n\n```\n# code\n```\n",
        "c.html": b"<html><head><title>T</title></head><body><h1>H</h1><p>Some text<br>and more.</p><nav>x</nav></body></html>",
    }  # fmt: skip
    if find_spec("pypdf"):
        texts["d.pdf"] = pdf()
    found["texts"] = Reader(texts, dataset_in(), weight=2)
    return found


def pdf() -> bytes:
    """A page with a line of text."""
    stream = b"BT /F1 9 Tf 9 9 Td (Some text) Tj ET"
    bodies = (
        b"<</Type/Catalog/Pages 2 0 R>>", b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 99 99]/Contents 4 0 R/Resources<</Font<</F1 5 0 R>>>>>>",
        b"<</Length %d>>\nstream\n%s\nendstream" % (len(stream), stream),
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
    )  # fmt: skip
    made, offsets = b"%PDF-1.4\n", []
    for number, body in enumerate(bodies, 1):
        offsets.append(len(made))
        made += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    end = b"xref\n0 6\n0000000000 65535 f \n%strailer\n<</Size 6/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF\n"
    return made + end % (table, len(made))


def archives(root: Path) -> dict[str, Reader]:
    """A dataset in BEIR's layout, packed."""
    paths = [path for path in sorted((root / "beir").rglob("*")) if path.is_file()]
    with zipfile.ZipFile(root / "d.zip", "w", zipfile.ZIP_DEFLATED) as packed:
        for path in paths:
            packed.write(path, f"d/{path.relative_to(root / 'beir')}")
    found = {"zip": Reader({"d.zip": (root / "d.zip").read_bytes()}, dataset_in("d.zip"), when_flipped_or_cut, 2)}
    for ending, mode, exact in ((".tar", "w", when_cut), (".tar.gz", "w:gz", when_flipped_or_cut)):
        with tarfile.open(root / f"d{ending}", mode) as tar:
            tar.add(root / "beir", "d")
        found[ending[1:]] = Reader(
            {f"d{ending}": (root / f"d{ending}").read_bytes()}, dataset_in(f"d{ending}"), exact, 2
        )
    return found


def tables(world: World, root: Path) -> dict[str, Reader]:
    """Runs, scores, sentence pairs and paraphrases."""
    run = Run.load(world.run)
    run.save(root / "r.trec")
    run.save(root / "r.parquet")
    scores = [
        {"qid": "q1", "pos": [{"pid": "d1", "ce-score": 3.5}], "neg": {"bm25": [{"pid": "d2", "ce-score": -1.25}]}},
        {"qid": "q2", "pos": [{"pid": "d2", "ce-score": 2}], "neg": {"bm25": [{"pid": "d3", "ce-score": 0.5}]}},
    ]
    lines = "".join(f"{json.dumps(row)}\n" for row in scores).encode()
    trec, parquet = (root / "r.trec").read_bytes(), (root / "r.parquet").read_bytes()
    pairs = b"sentence1\tsentence2\tscore\n" + b"".join(b"a path %d\ta file %d\t%d.5\n" % (i, i, i) for i in range(5))
    same = b"a path\ta way\ta road\na file\nto sort\tto order\n"

    def values(folder: Path, name: str) -> Any:
        return Run.load(folder / name).frame.values.tolist()

    def scored(folder: Path, name: str) -> Any:
        return read_scores(folder / name).values.tolist()

    return {
        "run, trec": Reader({"r.trec": trec}, lambda f: values(f, "r.trec"), when_cut_within_a_line, 2),
        "run, parquet": Reader({"r.parquet": parquet}, lambda f: values(f, "r.parquet"), when_flipped, 2),
        "scores, trec": Reader({"s.trec": trec}, lambda f: scored(f, "s.trec"), when_cut_within_a_line),
        "scores, parquet": Reader({"s.parquet": parquet}, lambda f: scored(f, "s.parquet"), when_flipped),
        "scores, jsonl": Reader({"s.jsonl": lines}, lambda f: scored(f, "s.jsonl"), weight=2),
        "sentence pairs": Reader({"p.tsv": pairs}, lambda f: sts.read(f / "p.tsv")),
        "paraphrases": Reader({"p.tsv": same}, lambda f: paraphrases.read(f / "p.tsv")),
    }


RECIPE = b"""name: mine
dataset: {source: data, columns: {id: doc_id}, train_queries: 10}
retrieve:
  depth: 20
  keep: 6
teacher: {model: starter, max_length: 128, ensemble: []}
student:
  model: packaged:all-MiniLM-L6-v2
  layers: "spaced:3"
objectives: {margin_mse: 0.05, listwise_kl: 1.0}
training: {steps: 10, learning_rate: 2e-5, bf16: false}
evaluate: {depth: 20, measures: [nDCG@10, "R@100"]}
"""

CONDITION = b"year >= 2020 AND (lang = 'en' OR tags IN ('a', 'b')) AND NOT title LIKE '%x%' AND length(title) > 1"

ROWS = [{"id": f"d{i}", "title": f"t{i}", "text": "x", "year": 2015 + i, "lang": "en", "tags": "a"} for i in range(10)]


def texts(world: World, root: Path) -> dict[str, Reader]:
    """Recipes, options, conditions and a language model's answers."""

    def option(folder: Path) -> Any:
        return load_recipe("demo", [(folder / "set.txt").read_text("utf-8", "surrogateescape")])

    dataset = Dataset.from_records("d", [(row["id"], "", "x") for row in ROWS], [("q", "x")], {})

    def where(folder: Path) -> Any:
        condition = (folder / "where.txt").read_text("utf-8", "surrogateescape")
        return document_filter.allowed_documents(condition, folder / "corpus.jsonl", dataset).tolist()

    corpus = "".join(f"{json.dumps(row)}\n" for row in ROWS).encode()
    found = {
        "recipe": Reader({"r.yaml": RECIPE}, lambda f: load_recipe(f / "r.yaml"), weight=3),
        "where": Reader({"where.txt": CONDITION, "corpus.jsonl": corpus}, where, weight=2),
    }
    for number, text in enumerate(("training.steps=20", "objectives={margin_mse: 0.1}", "student.layers=[0, 1, 2]")):
        found[f"set, {number + 1}"] = Reader({"set.txt": text.encode()}, option)
    return found | answers()


def answers() -> dict[str, Reader]:
    """A server's answers: bytes in place of what it would send."""
    near = [{"token": "yes", "logprob": -0.1}, {"token": "no", "logprob": -2.5}]
    logprobs = {"content": [{"token": "yes", "logprob": -0.1, "top_logprobs": near}]}
    given = {
        "log-odds": {"content": "yes"}, "graded": {"content": "<think>well</think>3"},
        "queries": {"content": '1. "what is a path"\n2. how to split a path\n{"query": "join paths"}'},
    }  # fmt: skip

    def body(kind: str) -> bytes:
        choice = {
            "index": 0,
            "message": {"role": "assistant", **given[kind]},
            "finish_reason": "stop",
            "logprobs": logprobs,
        }
        return json.dumps({"id": "x", "choices": [choice], "usage": {"total_tokens": 3}}).encode()

    def ask(folder: Path, kind: str) -> Any:
        content = (folder / "answer.json").read_bytes()
        httpx.HTTPTransport.handle_request = lambda self, request: httpx.Response(200, content=content)
        server = {"endpoint": "http://x/v1", "attempts": 1}
        if kind == "queries":
            texts = Dataset.from_records("d", [("d1", "a path", "split a path in two")], [], {})
            made = api.generate(
                texts, out=folder.parent / "made", corpus=False, ways={"llm": 2}, llm={**server, "model": "m"}
            )
            return list(made.queries.records())
        teacher = api.load_teacher("llm:m", llm={**server, "mode": kind})
        asked = {"queries": {"q": "path"}, "documents": {"d": "file"}}
        return api.score({"q": {"d": 0.0}}, asked, teacher=teacher, store=folder.parent / "made").frame.values.tolist()

    def reader(kind: str) -> Callable[[Path], Any]:
        return lambda folder: ask(folder, kind)

    return {f"answer, {kind}": Reader({"answer.json": body(kind)}, reader(kind)) for kind in given}


def model_folders(world: World, root: Path) -> dict[str, Reader]:
    """Folders of models: configuration, tokenizer and weights."""

    def student(folder: Path) -> Any:
        return encoder.encode(encoder.load(str(folder)), ["path file"], "query").tolist()

    def teacher(folder: Path) -> Any:
        asked = {"queries": {"q": "path"}, "documents": {"d": "file"}}
        loaded = api.load_teacher(str(folder))
        return api.score({"q": {"d": 0.0}}, asked, teacher=loaded, store=folder.parent / "made").frame.values.tolist()

    return {
        "bi-encoder": Reader(listed(Path(world.bi)), student, weight=2),
        "cross-encoder": Reader(listed(Path(world.cross)), teacher, weight=2),
    }


def readers(world: World, root: Path) -> dict[str, Reader]:
    """All of them."""
    root.mkdir(parents=True, exist_ok=True)
    return {**datasets(world, root), **tables(world, root), **texts(world, root), **model_folders(world, root)}
