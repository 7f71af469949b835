"""Extracts docstrings from Python source files, parsed and never imported, or from compiled standard modules.

Knows the form of docstrings; must not know packages or what the docstrings are for. Also a program that reads files in
a separate process: [[module, path], ...] as JSON in, a list of docstrings for each file out.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass
from importlib import import_module
from pathlib import Path

MIN_QUERY_WORDS, MAX_QUERY_CHARACTERS = 3, 300
MIN_PASSAGE_WORDS = 18


@dataclass(frozen=True)
class Docstring:
    """One documented object: its qualified name, its summary paragraph and the rest of its docstring."""

    name: str
    summary: str
    body: str


def read_files(files: Sequence[tuple[str, str]], processes: int = 2) -> list[Docstring]:
    """The docstrings of many files, read by several processes.

    The processes run this module as a program, so a caller's script needs no ``__main__`` guard.

    Args:
        files: (module name, path) of each file.
        processes: Number of processes.
    """
    command = [sys.executable, "-m", "retrieval_distill.data.docstrings"]
    readers = []
    for number in range(processes):
        reader = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert reader.stdin is not None
        json.dump(files[number::processes], reader.stdin)
        reader.stdin.close()
        readers.append(reader)
    found: list[list[Docstring]] = [[] for _ in files]
    for number, reader in enumerate(readers):
        assert reader.stdout is not None
        text = reader.stdout.read()
        if reader.wait():
            raise RuntimeError("a process that reads docstrings failed; see its error above")
        found[number::processes] = [[Docstring(*fields) for fields in docs] for docs in json.loads(text)]
    return [doc for docs in found for doc in docs]


def read_file(module: str, path: str) -> list[Docstring]:
    """The documented public objects of a source file; none if it does not parse."""
    try:
        tree = ast.parse(Path(path).read_bytes())
    except (SyntaxError, ValueError, OSError):
        return []
    return [doc for name, text in _walk_documented(module, tree) if (doc := _docstring(name, text))]


def read_module(module: str) -> list[Docstring]:
    """The documented public functions and classes of a standard module; none if this system lacks it."""
    try:
        members = vars(import_module(module))
    except ImportError:
        return []
    texts = {name: inspect.getdoc(member) for name, member in members.items() if callable(member) and name[0] != "_"}
    return [doc for name, text in texts.items() if text and (doc := _docstring(f"{module}.{name}", text))]


def _walk_documented(name: str, node: ast.AST) -> Iterator[tuple[str, str]]:
    """(qualified name, docstring) of a module or class and everything defined in it."""
    if text := ast.get_docstring(node):  # type: ignore[arg-type]
        yield name, text
    for child in getattr(node, "body", ()):
        if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            if child.name.startswith("_"):
                continue
            inner = f"{name}.{child.name}"
            if isinstance(child, ast.ClassDef):
                yield from _walk_documented(inner, child)
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
    """Split a docstring at its first empty line; ``None`` if either part is too short."""
    paragraphs = re.split(r"\n\s*\n", text.strip())
    # skip signatures "func(args) -> result" at the beginning of C functions' docstrings
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


if __name__ == "__main__":
    json.dump([[astuple(doc) for doc in read_file(*file)] for file in json.load(sys.stdin)], sys.stdout)
