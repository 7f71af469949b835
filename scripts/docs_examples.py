"""What the documentation shows and the tests run, counted: examples of docstrings, blocks of pages, the recipe's keys.

    python scripts/docs_examples.py

Knows docstrings, pages and the schema; must not know how the examples are run, which ``tests/test_docstrings.py`` and
``tests/test_docs.py`` do.
"""

from __future__ import annotations

import ast
import doctest
import re
import shlex
import sys
from pathlib import Path

from pydantic import BaseModel

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "retrieval_distill"

sys.path.insert(0, str(ROOT))

from scripts import docs_site  # noqa: E402 -- this file is started from anywhere


def docstrings() -> dict[str, list[doctest.Example]]:
    """Module -> the lines of its docstrings' examples, read without importing it."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        source = path.read_text(encoding="utf-8")
        if ">>>" in source:
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
            documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
            nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, documented)]
            texts = filter(None, map(ast.get_docstring, nodes))
            found[name] = [example for text in texts for example in doctest.DocTestParser().get_examples(text)]
    return found


def is_run(example: doctest.Example) -> bool:
    """Whether a line is more than shown."""
    return not example.options.get(doctest.SKIP)


def pages() -> dict[str, str]:
    """Every page of the site and its Markdown."""
    return {page.relative_to(docs_site.DOCS).as_posix(): docs_site.text(page) for page in docs_site.pages().values()}


def blocks(text: str, language: str) -> list[str]:
    """The code blocks of a page in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.S | re.M)


def commands(text: str) -> list[list[str]]:
    """The commands of a page's shell blocks, a list of words each; a block may stand in a list."""
    lines = "\n".join(re.findall(r"^ *```bash\n(.*?)^ *```", text, re.S | re.M)).replace("\\\n", " ").splitlines()
    return [shlex.split(line) for line in lines if line.strip()]


def schema_keys(schema: type[BaseModel], path: str = "") -> set[str]:
    """The keys of a section and of those in it, from its fields and their annotations."""
    found = set()
    for name, field in schema.model_fields.items():
        found.add(path + name)
        shape, inner = str(field.annotation), _section(field.annotation)
        suffix = "[]" if "tuple[" in shape else ".NAME" if "dict[" in shape else ""
        found |= schema_keys(inner, f"{path}{name}{suffix}.") if inner else set()
    return found


def _section(annotation: object) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((inner for part in getattr(annotation, "__args__", ()) if (inner := _section(part))), None)


def reference_keys(page: str) -> set[str]:
    """The keys that the page of recipe keys explains: rows of its tables, and sections that are headings."""
    from retrieval_distill.config import Recipe

    headings = set(re.findall(r"^## (\w+)$", page, re.M))
    return set(re.findall(r"^\| `([\w.\[\]]+)` \|", page, re.M)) | headings & set(Recipe.model_fields)


def main() -> int:
    """Print the counts; 1 if the reference lacks a key, or has one too many."""
    from retrieval_distill.config import Recipe
    from retrieval_distill.config.fit_teacher import FitTeacherConfig

    every = [example for of_module in docstrings().values() for example in of_module]
    shown = pages()
    python = {name: found for name, text in shown.items() if (found := blocks(text, "python"))}
    shell = {name: found for name, text in shown.items() if (found := commands(text))}
    schema = schema_keys(Recipe) | schema_keys(FitTeacherConfig)
    reference = reference_keys(shown["reference/recipe.md"])
    print(f"docstrings: {sum(map(is_run, every))} lines of examples are run, {len(every)} are shown")
    print(f"pages: {sum(map(len, python.values()))} blocks of Python on {len(python)} of {len(shown)} pages")
    print(f"pages: {sum(map(len, shell.values()))} commands on {len(shell)} of {len(shown)} pages")
    print(
        f"recipe keys: {len(schema)} in the schema, {len(reference)} in the reference; {schema ^ reference or 'equal'}"
    )
    return int(schema != reference)


if __name__ == "__main__":
    sys.exit(main())
