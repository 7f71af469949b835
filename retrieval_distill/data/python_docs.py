"""The embedded corpus: the docstrings of the Python packages that the toolkit's dependencies install.

A passage is a docstring without its summary paragraph, with the qualified name as its id; the query is that
summary. The name is not part of the passage, since it often repeats the summary. Sources are parsed, never
imported, so building runs no code of the packages and needs no network. In addition, the split ``questions`` has
hand-written questions as people ask them.

Knows where packages have their sources, and which queries are made; must not know how a docstring is parsed, retrieval
or training.
"""

from __future__ import annotations

import csv
import hashlib
import re
import sysconfig
from collections import defaultdict
from collections.abc import Container, Iterable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

from retrieval_distill.config.evaluation import QUESTIONS
from retrieval_distill.data import docstrings
from retrieval_distill.data.bad_input import Ledger
from retrieval_distill.data.dataset import Dataset
from retrieval_distill.data.docstrings import Docstring

VERSION = 4
"""Increased whenever the same packages give other passages, queries or splits."""

PACKAGES = ("numpy", "scipy", "pandas", "sklearn", "torch", "transformers", "networkx")
"""Import names of packages to read besides the standard library; missing ones are skipped."""

COMPILED = tuple(
    "array binascii bisect builtins cmath collections datetime errno fcntl functools gc hashlib heapq io "
    "itertools json marshal math mmap operator os os.path pickle pwd random re resource select signal socket "
    "sqlite3 ssl string struct subprocess sys termios threading time types unicodedata weakref zlib".split()
)
"""Standard modules (partly) written in C: their docstrings are read from the imported module."""

SKIPPED_FOLDERS = frozenset(
    "test tests testing idlelib lib2to3 turtledemo site-packages __pycache__ models _inductor _dynamo onnx "
    "externals vendored _vendor _testing benchmarks _internal _export functorch ensurepip fx ao utils "
    "distutils tkinter distributed".split()
)
"""Folders without public objects (tests, vendored packages, internals)."""

SPLITS = {"test": 0.07, "dev": 0.04}
"""Share of the qualified names in each held-out split; the rest is ``train``."""

WRITTEN = Path(__file__).with_name("python_docs_questions.tsv")
"""The questions with their answers; the first lines of the file tell how they were written."""

MAX_ANSWERS = 5
"""A summary shared by more docstrings than this ("Return a copy.") is too unspecific for a query."""


def build() -> Dataset:
    """Build ``python-docs`` from this environment's packages (a few seconds).

    Returns:
        A dataset whose document ids are qualified names (``posixpath.splitext``), with splits ``train``,
        ``dev``, ``test`` and ``questions``. A query's split, of the first three, is a hash of its qualified name,
        so it does not change when packages are added or updated. A training or dev query that equals, contains or is
        contained in a held-out one is left out (its passage stays in the corpus). ``questions`` are those of
        ``WRITTEN``, with their answers in the corpus; one without any is left out and counted (``left_out``).
    """
    found = docstrings.read_files(sorted(_source_files()))
    found += [doc for module in COMPILED for doc in docstrings.read_module(module)]
    documents = _without_repeats(found)
    queries = _queries(documents)
    asked, left_out = questions(WRITTEN, {doc.name for doc in documents})
    splits = _splits(queries, [text for text, _ in asked.values()])
    made = [(query_id(name), queries[name][0]) for split in splits.values() for name in split]
    summaries = {
        split: [(query_id(name), answer, 1) for name in names for answer in queries[name][1]]
        for split, names in splits.items()
    }
    judged = [(id_, answer, grade) for id_, (_, answers) in asked.items() for answer, grade in answers.items()]
    return Dataset.from_records(
        name="python-docs",
        documents=[(doc.name, "", doc.body) for doc in documents],
        queries=[*made, *((id_, text) for id_, (text, _) in asked.items())],
        qrels={**summaries, QUESTIONS: judged},
    ).replace(left_out=left_out.as_dict())


def questions(path: Path, known: Container[str]) -> tuple[dict[str, tuple[str, dict[str, int]]], Ledger]:
    """Question id -> (question, answer -> grade), of the answers that are known; and what has none of them."""
    found, left_out = {}, Ledger()
    with path.open(encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(
            (line for line in lines if not line.startswith("#")), delimiter="\t", quoting=csv.QUOTE_NONE
        ):
            best, also = ((row[column] or "").split() for column in ("best", "also"))
            answers = {**dict.fromkeys(also, 1), **dict.fromkeys(best, 2)}
            if here := {answer: grade for answer, grade in answers.items() if answer in known}:
                found[f"question:{row['id']}"] = row["question"], here
            else:
                left_out.add("question that no installed package answers", row["id"])
    return found, left_out


def query_id(name: str) -> str:
    """The id of the query from a name's summary; it differs from the document's, which would count as a self-hit."""
    return f"query:{name}"


def _source_files() -> Iterator[tuple[str, str]]:
    """(module name, path) of every source file to read."""
    roots = [("", Path(sysconfig.get_path("stdlib")))]
    for package in PACKAGES:
        spec = find_spec(package)
        if spec is not None and spec.submodule_search_locations:
            roots.append((package, Path(next(iter(spec.submodule_search_locations)))))
    for package, root in roots:
        for path in root.rglob("*.py"):
            parts = path.relative_to(root).with_suffix("").parts
            if not SKIPPED_FOLDERS.isdisjoint(parts[:-1]) or parts[-1].startswith(("test_", "conftest")):
                continue
            names = [package, *parts] if package else list(parts)
            # users import scipy.stats._morestats.circstd as scipy.stats.circstd
            public = [name for name in names if not name.startswith("_")]
            if public:
                yield ".".join(public), str(path)


def _normal(text: str) -> str:
    """Lower-case words, with a space at both ends so that containment respects word boundaries."""
    return " " + " ".join(re.findall(r"\w+", text.lower())) + " "


def _without_repeats(found: Iterable[Docstring]) -> list[Docstring]:
    """One docstring per name and per body; of equal bodies, the one with the shortest, then first name."""
    kept: dict[str, Docstring] = {}
    names: set[str] = set()
    for doc in sorted(found, key=lambda d: (d.name.count("."), d.name)):
        key = _normal(doc.body)
        if key not in kept and doc.name not in names:
            kept[key] = doc
            names.add(doc.name)
    return sorted(kept.values(), key=lambda d: d.name)


def _queries(documents: list[Docstring]) -> dict[str, tuple[str, list[str]]]:
    """Query id (the first name with that summary) -> (summary, names that answer it)."""
    answers: dict[str, list[Docstring]] = defaultdict(list)
    for doc in documents:
        answers[_normal(doc.summary)].append(doc)
    return {
        docs[0].name: (docs[0].summary, [doc.name for doc in docs])
        for docs in answers.values()
        if len(docs) <= MAX_ANSWERS
    }


def _splits(queries: dict[str, tuple[str, list[str]]], questions: Sequence[str] = ()) -> dict[str, list[str]]:
    """Split -> query ids, with no query of one split equal to, inside or around a query of another, or a question."""
    drawn: dict[str, list[str]] = {"test": [], "dev": [], "train": []}
    for name in queries:
        share = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / 2**64
        split = "test" if share < SPLITS["test"] else "dev" if share < sum(SPLITS.values()) else "train"
        drawn[split].append(name)
    held_out = [_normal(question) for question in questions]
    for split, names in drawn.items():
        joined = "\n".join(held_out)
        texts = {name: _normal(queries[name][0]) for name in names}
        drawn[split] = [
            name for name in names if texts[name] not in joined and not any(held in texts[name] for held in held_out)
        ]
        held_out += [texts[name] for name in drawn[split]] if split != "train" else []
    return {split: drawn[split] for split in ("train", "dev", "test")}
