"""Pages of the reference that are made from the code: the recipe's keys, the commands, the objectives, the API.

    python scripts/docs_reference.py keys      # prints one of: keys, commands, objectives, transfers, recipes, api

Knows the package's schema, commands and registries; must not know how the site is built (that is ``docs_site.py``).
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from pydantic import BaseModel

BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}

WORDS = {
    "integer": "whole number",
    "number": "number",
    "string": "text",
    "boolean": "`true` or `false`",
    "null": "`null`",
}


@dataclass(frozen=True)
class Key:
    """A key of a recipe: ``path`` as ``--set`` writes it, ``NAME`` for a name of the user's, ``[]`` for a list."""

    path: str
    type: str
    default: str
    meaning: str


def recipe_keys(schema: type[BaseModel]) -> list[Key]:
    """All keys of a section and of the sections in it, in the schema's order."""
    whole = schema.model_json_schema()
    return list(_keys(whole, whole.get("$defs", {}), ""))


def _keys(section: dict[str, Any], sections: dict[str, Any], path: str) -> Iterator[Key]:
    for name, node in section["properties"].items():
        key = f"{path}{name}"
        inner, suffix = _section(node)
        found = sections.get(inner, {})
        meaning = node.get("description") or found.get("description", "")
        yield Key(key, _type(node), _default(name, node, section, inner), _one_line(meaning))
        if found:
            yield from _keys(found, sections, f"{key}{suffix}.")


def _section(node: dict[str, Any]) -> tuple[str, str]:
    """The section that a key holds, and how a path goes on into it; two empty strings for a plain value."""
    if "$ref" in node:
        return node["$ref"].rpartition("/")[2], ""
    for choice in node.get("anyOf", ()):
        if "$ref" in choice:
            return _section(choice)
    held = [("[]", node.get("items")), (".NAME", node.get("additionalProperties"))]
    held += [(".NAME", inner) for inner in node.get("patternProperties", {}).values()]
    for suffix, inner in held:
        if isinstance(inner, dict) and "$ref" in inner:
            return inner["$ref"].rpartition("/")[2], suffix
    return "", ""


def _type(node: dict[str, Any]) -> str:
    """A key's type in words, bounds included."""
    if "anyOf" in node:
        return ", or ".join(dict.fromkeys(_type(choice) for choice in node["anyOf"]))
    if "$ref" in node:
        return "section"
    if "const" in node:
        return f"`{node['const']}`"
    if "enum" in node:
        return " ".join(f"`{value}`" for value in node["enum"])
    if node.get("type") == "array":
        if "prefixItems" in node:
            return f"[{', '.join(_type(item) for item in node['prefixItems'])}]"
        return f"list of {_type(node.get('items', {}))}"
    if node.get("type") == "object":
        values = [node.get("additionalProperties"), *node.get("patternProperties", {}).values()]
        held = next((value for value in values if isinstance(value, dict)), None)
        return f"`NAME`: {_type(held)}" if held else "`NAME`: value"
    bounds = " and ".join(f"{sign} {node[bound]:g}" for bound, sign in BOUNDS.items() if bound in node)
    text = WORDS[node["type"]] if "type" in node else "any value"
    return " ".join([text, bounds]).strip()


def _default(name: str, node: dict[str, Any], section: dict[str, Any], inner: str) -> str:
    if name in section.get("required", ()):
        return "*required*"
    default = node.get("default")
    return "" if inner and default not in (None, []) else f"`{json.dumps(default)}`"


def _one_line(text: str) -> str:
    """Text for a cell of a table: ``None`` is what YAML calls null."""
    return " ".join(text.split()).replace("``None``", "``null``").replace("|", "\\|")


def keys() -> str:
    """The recipe's keys: a table for each part, and the options of ``fit-teacher``, which is no part of a recipe."""
    from retrieval_distill.config import Recipe
    from retrieval_distill.config.fit_teacher import FitTeacherConfig

    found = recipe_keys(Recipe)
    grouped: dict[str, list[Key]] = {}
    for key in found:
        grouped.setdefault(re.split(r"[.\[]", key.path)[0], []).append(key)
    plain = [of_part[0] for of_part in grouped.values() if len(of_part) == 1]
    lines = ["## Single keys", *_table(plain)]
    for part, of_part in grouped.items():
        if len(of_part) > 1:
            lines += [f"## {part}", "", of_part[0].meaning.replace("\\|", "|"), "", *_table(of_part[1:])]
    lines += [
        "## fit-teacher",
        "",
        "Options of the command `fit-teacher`, given with `--set`; no part of a recipe.",
        "",
    ]
    return "\n".join([*lines, *_table(recipe_keys(FitTeacherConfig))])


def _table(rows: list[Key]) -> list[str]:
    told = [f"| `{key.path}` | {key.type} | {key.default} | {key.meaning} |" for key in rows]
    return ["", "| key | type | default | meaning |", "|---|---|---|---|", *told, ""]


def commands() -> str:
    """Every command: what it does, its arguments and options, its examples."""
    import typer

    from retrieval_distill.cli import app

    group: Any = typer.main.get_command(app)
    context = group.make_context("retrieval-distill", [], resilient_parsing=True)
    return "\n".join(line for name in group.commands for line in _command(name, group.commands[name], context))


def _command(name: str, command: Any, context: Any) -> Iterator[str]:
    yield f"## {name}\n"
    for paragraph in re.split(r"\n\s*\n", (command.help or "").strip()):
        example, is_example = re.subn(r"^Examples?:\s*", "", paragraph.strip())
        yield _shell(example) if is_example else " ".join(paragraph.split())
        yield ""
    yield "| option | meaning |\n|---|---|"
    for parameter in command.params:
        spelled, meaning = parameter.get_help_record(context) or ("", "")
        if spelled and parameter.name != "help":
            yield f"| `{spelled}` | {_one_line(meaning).replace(str(Path.home()), '~').replace('<', '&lt;')} |"
    yield ""


def _shell(example: str) -> str:
    """The commands of an example, one a line, however the docstring broke them."""
    joined = " ".join(example.replace("\\\n", " ").split())
    return "```bash\n" + re.sub(r" (?=retrieval-distill [a-z-]+ )", "\n", joined) + "\n```"


def objectives() -> str:
    """Every objective by its name in a recipe: formula, source and options, from its docstring."""
    from retrieval_distill.objectives import OBJECTIVES

    return _classes(OBJECTIVES)


def transfers() -> str:
    """Every transfer of the recipe's section ``compress``, from its docstring."""
    from retrieval_distill.compress.transfer_mix import TRANSFERS

    return _classes(TRANSFERS)


def _classes(registry: dict[str, type]) -> str:
    return "\n\n".join(_docstring(name, one, "members: false") for name, one in registry.items())


def _docstring(name: str, documented: Any, *options: str) -> str:
    """A heading, and what mkdocstrings makes of a docstring."""
    told = "\n".join(f"      {option}" for option in ("show_root_heading: false", "heading_level: 4", *options))
    return f"### {name}\n\n::: {documented.__module__}.{documented.__qualname__}\n    options:\n{told}\n"


def recipes() -> str:
    """The shipped recipes, as they are."""
    from retrieval_distill.config import shipped

    return "\n\n".join(
        f"## {name}\n\n```yaml\n{path.read_text(encoding='utf-8').strip()}\n```" for name, path in shipped().items()
    )


def api() -> str:
    """The public names, verbs before nouns, from their docstrings."""
    package = import_module("retrieval_distill")
    verbs = [name for name in package.__all__ if name[0].islower()]
    nouns = [name for name in package.__all__ if name[0].isupper()]
    lines = []
    for title, names in (("Verbs", verbs), ("Nouns", nouns)):
        lines.append(f"## {title}\n")
        for name in names:
            lines.append(_docstring(name, package.__getattr__(name)))  # the verb, where a package has the same name
    return "\n".join(lines)


def demo_table() -> str:
    """What the README says that the demo shows, table and all."""
    readme = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    shown = readme[readme.index("What `make demo` shows") : readme.index("[More about the demo]")]
    return shown.replace("](docs/", "](../")


PAGES = {page.__name__: page for page in (keys, commands, objectives, transfers, recipes, api, demo_table)}

if __name__ == "__main__":
    print(PAGES[sys.argv[1]]())
