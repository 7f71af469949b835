"""The embedded corpus: the docstrings of the Python packages that the toolkit's dependencies install.

A passage is a docstring without its summary paragraph, under the qualified name as its id; the query is that
summary. The name is no part of the passage: it often says what the summary says. Sources are parsed, never
imported, so building runs no code of the packages and needs no network.

Knows where packages keep their sources and what a docstring looks like; must not know retrieval or training.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import re
import sysconfig
from collections import defaultdict
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path

from retrieval_distill.data.dataset import Dataset

VERSION = 3
"""Raised when the same packages would give other passages, queries or splits."""

PACKAGES = ("numpy", "scipy", "pandas", "sklearn", "torch", "transformers", "networkx")
"""Import names of the packages read beside the standard library; one that is not installed is skipped."""

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
"""Folders whose docstrings document no user's object (tests, copies of other packages, internals)."""

SPLITS = {"test": 0.07, "dev": 0.04}
"""Share of the qualified names in each held-out split; the rest is ``train``."""

MIN_QUERY_WORDS, MAX_QUERY_CHARACTERS = 3, 300
MIN_PASSAGE_WORDS = 18
MAX_ANSWERS = 5
"""A summary shared by more docstrings than this ("Return a copy.") asks nothing: it is no query."""


@dataclass(frozen=True)
class Docstring:
    """One documented object: its qualified name, its summary paragraph and the rest of its docstring."""

    name: str
    summary: str
    body: str


def build() -> Dataset:
    """Build ``python-docs`` from this environment's packages (a few seconds).

    Returns:
        A dataset whose document ids are qualified names (``posixpath.splitext``), with splits ``train``,
        ``dev`` and ``test``. Which split a query falls into is a hash of its qualified name, so it does not
        move when packages are added or updated. A training or dev query that equals, contains or is
        contained in a held-out one is left out (its passage stays in the corpus).
    """
    files = sorted(_source_files())
    # spawn: a forked child would inherit whatever threads the caller already runs
    with ProcessPoolExecutor(max_workers=2, mp_context=get_context("spawn")) as pool:
        found = [doc for docs in pool.map(_read_file, files, chunksize=64) for doc in docs]
    found += [doc for module in COMPILED for doc in _read_module(module)]
    documents = _without_repeats(found)
    queries = _queries(documents)
    splits = _splits(queries)
    return Dataset.from_records(
        name="python-docs",
        documents=[(doc.name, "", doc.body) for doc in documents],
        queries=[(query_id(name), text) for split in splits.values() for name in split for text in queries[name][:1]],
        qrels={
            split: [(query_id(name), answer, 1) for name in names for answer in queries[name][1]]
            for split, names in splits.items()
        },
    )


def query_id(name: str) -> str:
    """The id of the query made of a name's summary; a document of the same id would count as the query itself."""
    return f"query:{name}"


def _source_files() -> Iterator[tuple[str, str]]:
    """Pairs of (module name, path) of every source file that is read."""
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
            # scipy.stats._morestats.circstd is imported by users as scipy.stats.circstd
            public = [name for name in names if not name.startswith("_")]
            if public:
                yield ".".join(public), str(path)


def _read_file(file: tuple[str, str]) -> list[Docstring]:
    """Every documented public object of one source file; a file that does not parse gives none."""
    module, path = file
    try:
        tree = ast.parse(Path(path).read_bytes())
    except (SyntaxError, ValueError, OSError):
        return []
    return [doc for name, text in _documented(module, tree) if (doc := _docstring(name, text))]


def _read_module(module: str) -> list[Docstring]:
    """Every documented public function and class of one standard module; none where this system lacks it."""
    try:
        members = vars(import_module(module))
    except ImportError:
        return []
    texts = {name: inspect.getdoc(member) for name, member in members.items() if callable(member) and name[0] != "_"}
    return [doc for name, text in texts.items() if text and (doc := _docstring(f"{module}.{name}", text))]


def _documented(name: str, node: ast.AST) -> Iterator[tuple[str, str]]:
    """Pairs of (qualified name, docstring) of a module or class and what is defined in it."""
    if text := ast.get_docstring(node):  # type: ignore[arg-type]
        yield name, text
    for child in getattr(node, "body", ()):
        if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            if child.name.startswith("_"):
                continue
            inner = f"{name}.{child.name}"
            if isinstance(child, ast.ClassDef):
                yield from _documented(inner, child)
            elif text := ast.get_docstring(child):
                yield inner, text
        elif isinstance(child, ast.Expr) and (compiled := _compiled_docstring(name, child.value)):
            yield compiled


def _compiled_docstring(module: str, call: ast.expr) -> tuple[str, str] | None:
    """The docstring that numpy (``add_newdoc``) or torch (``add_docstr``) attaches to a compiled function."""
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
        return None
    while isinstance(call.args[-1:][0] if call.args else None, ast.Call):  # text.format(...) and the like
        last = call.args[-1]
        call.args[-1] = last.func.value if isinstance(last.func, ast.Attribute) else ast.Constant(None)  # type: ignore[attr-defined]
    strings = [a.value for a in call.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
    if call.func.id == "add_newdoc" and len(strings) >= 3:
        return (
            f"{strings[0].replace('._core.multiarray', '').replace('._core.umath', '')}.{strings[1]}",
            inspect.cleandoc(strings[-1]),
        )
    if call.func.id == "add_docstr" and strings and isinstance(call.args[0], ast.Attribute):
        return ast.unparse(call.args[0]), inspect.cleandoc(strings[-1])
    return None


def _docstring(name: str, text: str) -> Docstring | None:
    """Split a docstring at its first empty line; ``None`` when either part says too little."""
    paragraphs = re.split(r"\n\s*\n", text.strip())
    # "func(args) -> result" signatures that C functions open with are no summary
    while paragraphs and re.match(r"^[\w.]+\(.*\)?( ->.*)?$", paragraphs[0].split("\n")[0]):
        paragraphs.pop(0)
    if len(paragraphs) < 2:
        return None
    summary = re.sub(
        r"\s+", " ", re.sub(r":\w+(?::\w+)*:`~?([^`]+)`|[`*]", lambda m: m[1] or "", paragraphs[0])
    ).strip()
    body = "\n\n".join(paragraphs[1:]).strip()
    long_enough = len(summary.split()) >= MIN_QUERY_WORDS and len(body.split()) >= MIN_PASSAGE_WORDS
    if not long_enough or len(summary) > MAX_QUERY_CHARACTERS:
        return None
    return Docstring(name, summary, body)


def _normal(text: str) -> str:
    """Lower-case words only, with a space at both ends so that containment means whole words."""
    return " " + " ".join(re.findall(r"\w+", text.lower())) + " "


def _without_repeats(found: Iterable[Docstring]) -> list[Docstring]:
    """One docstring per name and per body; of equal bodies the one with the shortest, then first name stays."""
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


def _splits(queries: dict[str, tuple[str, list[str]]]) -> dict[str, list[str]]:
    """Split -> query ids, with no query of one split equal to, inside or around a query of another."""
    drawn: dict[str, list[str]] = {"test": [], "dev": [], "train": []}
    for name in queries:
        share = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / 2**64
        split = "test" if share < SPLITS["test"] else "dev" if share < sum(SPLITS.values()) else "train"
        drawn[split].append(name)
    held_out: list[str] = []
    for split, names in drawn.items():
        joined = "\n".join(held_out)
        texts = {name: _normal(queries[name][0]) for name in names}
        drawn[split] = [
            name for name in names if texts[name] not in joined and not any(held in texts[name] for held in held_out)
        ]
        held_out += [texts[name] for name in drawn[split]] if split != "train" else []
    return {split: drawn[split] for split in ("train", "dev", "test")}
