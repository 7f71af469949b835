"""A student's model card: a header for the hub, and what people need to use the model.

States only facts of the recipe and the training, and says so if nothing was measured. Knows recipes as plain values and
the hub's metadata; must not know reports.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import EvalResult, ModelCardData, try_to_load_from_cache

from retrieval_distill import models
from retrieval_distill.errors import UserError
from retrieval_distill.formatting import code, counted, fenced, md, visible
from retrieval_distill.runtime.stages import read_json

HUB_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+")
"""Pattern of hub ids; local folders start differently or are deeper."""

PACKAGED_ID = "sentence-transformers/all-MiniLM-L6-v2"

TAGS = ["sentence-transformers", "feature-extraction", "sentence-similarity", "retrieval", "distillation"]

LICENCE = ("license", "license_name", "license_link")
"""Keys of a card's header that state the licence."""

FILE = "README.md"

PLACE = "path/to/this/folder"
"""Stands in a card for where the model is."""

EXAMPLE = f"""\
from sentence_transformers import SentenceTransformer

model = SentenceTransformer("{PLACE}")
queries = model.encode_query(["a question"])
passages = model.encode_document(["a passage that may answer it", "another one"])
print(model.similarity(queries, passages))
"""


def header(recipe: Mapping[str, Any], name: str, results: Sequence[EvalResult] = ()) -> ModelCardData:
    """The header for the hub.

    Args:
        recipe: As plain values; its section ``student`` names the models that the student comes from.
        name: The model's name.
        results: Measurements.
    """
    sources = [recipe["student"]["model"], recipe["student"].get("query_model")]
    return ModelCardData(
        library_name="sentence-transformers",
        pipeline_tag="sentence-similarity",
        base_model=base_model(sources[0]),
        tags=list(TAGS),
        model_name=name,
        eval_results=list(results) or None,
        **licence([source for source in sources if source]),
    )


def card(metadata: ModelCardData, title: str, parts: Sequence[str]) -> str:
    """The complete card: header, title, and sections of Markdown."""
    return visible("\n\n".join([f"---\n{metadata.to_yaml()}\n---", f"# {title}", *filter(None, parts)]) + "\n")


def training_card(folder: Path, data: str, split: str, recipe: Mapping[str, Any], counts: Mapping[str, Any]) -> str:
    """The card of a student that was trained but not measured.

    Args:
        folder: The student's folder.
        data: The dataset's name.
        split: The split it was trained on.
        recipe: As plain values.
        counts: The counts of ``distill``.
    """
    made = [start(recipe), examples(data, split, counts), objectives(recipe), training(recipe, counts)]
    return card(
        header(recipe, f"{recipe['name']} student"),
        f"{md(recipe['name'])}: a bi-encoder distilled for {md(data)}",
        [
            "Not measured: nobody knows yet whether it is better than the model it started from.",
            about(recipe, counts),
            use(folder, recipe),
            "## How it was made\n\n" + "\n".join(made),
            limits(recipe, f"It was trained on {md(data)} alone: measure it before you rely on it."),
            recipe_section(recipe),
        ],
    )


def compression_card(folder: Path, config: Mapping[str, Any], counts: Mapping[str, Any]) -> str:
    """The card of an encoder that ``compress`` made.

    Args:
        folder: The encoder's folder.
        config: The options of ``compress``, as plain values.
        counts: The counts of ``compress``.
    """
    model = config["model"] or config["teacher"]
    sizes = [f"{key} {config[key]}" for key in ("layers", "width", "vocabulary") if config[key]]
    weights = "" if config["weights"] == "kept" else ", with weights of its own"
    recipe = {"student": {"model": model}}
    return card(
        header(recipe, f"{models.short_name(model)} compressed"),
        f"{md(models.short_name(model))}, compressed",
        [
            "Not measured: it was taught to imitate an encoder on plain text, and not yet to retrieve.",
            f"An encoder of {counts['parameters']:,} parameters, made of {code(model)} by retrieval-distill"
            f"{' (' + md(', '.join(sizes)) + ')' if sizes else ''}{weights}, and taught by "
            f"{code(config['teacher'] or model)} on {config['tokens']:,} tokens of text: "
            f"{', '.join(code(name) for name in config['transfers'])}.",
            use(folder, recipe),
            limits(recipe, "Train it on your task, or measure it as it is, before you rely on it."),
        ],
    )


def about(recipe: Mapping[str, Any], counts: Mapping[str, Any]) -> str:
    """A description of the model; ``counts`` has ``parameters`` and ``dimensions``."""
    return (
        f"A [sentence-transformers](https://www.sbert.net) model of {counts['parameters']:,} parameters that maps "
        f"queries and passages to vectors of {counts['dimensions']:,} dimensions for search by "
        f"{recipe['student']['similarity']} similarity. It was trained by retrieval-distill to rank like its teacher."
    )


def use(folder: Path, recipe: Mapping[str, Any]) -> str:
    """How to load and use it, including the prompts saved in it."""
    limit = recipe["student"].get("max_length")
    notes = [f"Texts are truncated after {limit} tokens, or at the start model's limit if that is lower."] * bool(limit)
    config = folder / "config_sentence_transformers.json"
    prompts = read_json(config).get("prompts", {}) if config.is_file() else {}
    for kind, ask in (("query", "encode_query"), ("document", "encode_document")):
        if prompts.get(kind):
            prompt = code(json.dumps(prompts[kind], ensure_ascii=False))
            notes.append(f"{code(ask)} puts {prompt} before each text, as in training.")
    return "\n\n".join(["## Use", fenced(EXAMPLE, "python"), " ".join(notes)]).rstrip()


def start(recipe: Mapping[str, Any]) -> str:
    """The model it started from, and the reductions applied."""
    student = recipe["student"]
    parts = [md(student["model"])]
    layers = student.get("layers")
    parts += [f"layers {layers if isinstance(layers, str) else ', '.join(map(str, layers))}"] if layers else []
    parts += [f"queries by {md(student['query_model'])}"] if student.get("query_model") else []
    for step in recipe.get("compress") or []:
        sizes = "".join(f"{key} {step[key]}, " for key in ("layers", "width") if step[key])
        parts.append(
            f"compressed on the documents' plain text ({sizes}transfers {', '.join(map(code, step['transfers']))})"
        )
    return f"* **Start:** {'; '.join(parts)}"


def examples(data: str, split: str, counts: Mapping[str, Any]) -> str:
    """The training data."""
    return (
        f"* **Data:** {md(data)}, split {code(split)}: {counted(counts['groups'], 'query')} with a relevant and "
        "another candidate, all scored by a teacher"
    )


def objectives(recipe: Mapping[str, Any]) -> str:
    """The training objectives."""
    shown = (f"{code(name)} ({_weight(value)})" for name, value in recipe["objectives"].items())
    return f"* **Objectives:** {', '.join(shown)}"


def training(recipe: Mapping[str, Any], counts: Mapping[str, Any], took: str = "") -> str:
    """The training steps; ``took`` is the time."""
    config = recipe["training"]
    return (
        f"* **Training:** {counted(counts['steps'], 'step')} of {counted(config['queries_per_step'], 'query')} with "
        f"{counted(config['candidates'], 'candidate')} each, learning rate {config['learning_rate']}"
        f"{took and f', {took}'}"
    )


def limits(recipe: Mapping[str, Any], *notes: str) -> str:
    """Its limits, and its licence."""
    sources = [name for name in (recipe["student"]["model"], recipe["student"].get("query_model")) if name]
    found, named = licence(sources), " and ".join(map(md, sources))
    its = md(found.get("license_name", found["license"])) if found else ""
    says = f"whose licence is {its}; its limits still apply" if found else "whose licence is unknown here: look it up"
    lines = [*notes, f"Its weights come from {named}, {says}."]
    return "## Limits\n\n" + "\n".join(f"* {line}" for line in lines)


def recipe_section(recipe: Mapping[str, Any]) -> str:
    """Every option, as YAML."""
    return "## The recipe\n\n" + fenced(yaml.safe_dump(dict(recipe), sort_keys=False, allow_unicode=True), "yaml")


def base_model(model: str) -> str | None:
    """The hub id of a base model; for a local folder, the base model that its own card names."""
    if model == models.PACKAGED:
        return PACKAGED_ID
    if not Path(model).is_dir():
        return hub_id(model)
    stated = _header_of(model).get("base_model")
    stated = stated[0] if isinstance(stated, list) and stated else stated
    return hub_id(stated) if isinstance(stated, str) else None


def hub_id(model: str) -> str | None:
    """A recipe's model if it is a hub id; ``None`` for a local folder."""
    return model if HUB_ID.fullmatch(model) and not model.startswith(".") else None


def licence(sources: Sequence[str]) -> dict[str, Any]:
    """Header entries for the licence of these models; empty if it is unknown or they differ."""
    headers = [_header_of(model) for model in sources]
    found = [{key: entry[key] for key in LICENCE if isinstance(entry.get(key), str)} for entry in headers]
    alike = all(one == found[0] for one in found)
    return found[0] if found and alike and "license" in found[0] else {}


def _header_of(model: str) -> dict[str, Any]:
    """The header of a model's card if it is on disk, else empty; nothing is downloaded."""
    try:
        folder = models.resolve(model) if model == models.PACKAGED or Path(model).is_dir() else None
    except UserError:
        return {}
    if folder is None:
        cached = try_to_load_from_cache(model, FILE) if hub_id(model) else None
        folder = Path(cached).parent if isinstance(cached, str) else None
    if folder is None or not (folder / FILE).is_file():
        return {}
    try:
        _, block, _ = (folder / FILE).read_text(encoding="utf-8").split("---\n", 2)
        found = yaml.safe_load(block)
    except (ValueError, yaml.YAMLError):  # no header, or an invalid one
        return {}
    return found if isinstance(found, dict) else {}


def _weight(value: Any) -> str:
    """An objective's weight in words: ``1.0``, or its options one by one."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {option}" for key, option in value.items())
    return f"weight {value}"
