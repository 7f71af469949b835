"""Restricts a fast tokenizer, as JSON, to fewer tokens.

Three kinds, by ``["model"]["type"]``: WordPiece, BPE and Unigram. Knows the format of ``tokenizer.json``; must not know
models or corpora.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

KINDS = ("WordPiece", "BPE", "Unigram")

BYTE = re.compile("<0x[0-9A-F]{2}>")
"""Names of byte tokens in tokenizers with byte fallback."""


def required_ids(settings: dict[str, Any], used: set[int]) -> set[int]:
    """Ids of the tokens that must be kept.

    Args:
        settings: The tokenizer.
        used: Ids to keep.

    Returns:
        These ids, added tokens, single characters or bytes and, for BPE, all intermediate results of their merges.
    """
    model, ids = settings["model"], _ids(settings["model"])
    kept = used | {token["id"] for token in settings["added_tokens"]} | {ids[token] for token in _alphabet(model)}
    return _with_parts(kept, model) if model["type"] == "BPE" else kept


def restrict(settings: dict[str, Any], new_ids: Mapping[int, int]) -> dict[str, Any]:
    """The tokenizer with only these tokens and new ids (old id -> new id, in the same order)."""
    model = settings["model"]
    if model["type"] == "Unigram":
        fewer: dict[str, Any] = {
            "vocab": [entry for id_, entry in enumerate(model["vocab"]) if id_ in new_ids],
            "unk_id": new_ids.get(model["unk_id"]),
        }
    else:
        fewer = {"vocab": {token: new_ids[id_] for token, id_ in model["vocab"].items() if id_ in new_ids}}
    if model["type"] == "BPE":
        fewer["merges"] = [pair for product, pair in _merges(model) if product in fewer["vocab"]]
    return {
        **settings,
        "model": {**model, **fewer},
        "added_tokens": [{**token, "id": new_ids[token["id"]]} for token in settings["added_tokens"]],
        "post_processor": _renumber(settings["post_processor"], new_ids),
        "padding": None,
        "truncation": None,
    }


def _ids(model: dict[str, Any]) -> dict[str, int]:
    """Token -> id."""
    if model["type"] == "Unigram":
        return {piece: id_ for id_, (piece, _) in enumerate(model["vocab"])}
    return model["vocab"]


def _alphabet(model: dict[str, Any]) -> set[str]:
    """The tokens from which any text can be built, and those for unknown characters."""
    if model["type"] == "BPE":
        return set(model["vocab"]) - {product for product, _ in _merges(model)}
    if model["type"] == "WordPiece":
        prefix = model["continuing_subword_prefix"]
        return {token for token in model["vocab"] if len(token.removeprefix(prefix)) == 1} | {model["unk_token"]}
    lowest = min(model["vocab"], key=lambda entry: entry[1])[0]  # unknown characters score below this one
    first = {
        piece for piece, _ in model["vocab"][: (model["unk_id"] or 0) + 1]
    }  # its position is fixed in many classes
    return {piece for piece, _ in model["vocab"] if len(piece) == 1 or BYTE.fullmatch(piece)} | {lowest} | first


def _merges(model: dict[str, Any]) -> Iterator[tuple[str, list[str]]]:
    """The result of each merge, and its two parts."""
    prefix = model["continuing_subword_prefix"] or ""
    for left, right in model["merges"]:
        yield left + right[len(prefix) :], [left, right]


def _with_parts(kept: set[int], model: dict[str, Any]) -> set[int]:
    ids: dict[str, int] = model["vocab"]
    parts: defaultdict[int, set[int]] = defaultdict(set)
    for product, pair in _merges(model):
        parts[ids[product]] |= {ids[part] for part in pair}
    found, unseen = set(kept), list(kept)
    while unseen:
        new = parts[unseen.pop()] - found
        found |= new
        unseen += new
    return found


def _renumber(node: Any, new_ids: Mapping[int, int]) -> Any:
    """A post-processor with new ids of special tokens: ``"ids": [101]``, ``"cls": ["[CLS]", 101]``."""
    if isinstance(node, list):
        return [_renumber(part, new_ids) for part in node]
    if not isinstance(node, dict):
        return node
    renumbered = {}
    for key, value in node.items():
        if key == "ids":
            renumbered[key] = [new_ids[id_] for id_ in value]
        elif key in ("cls", "sep"):
            renumbered[key] = [value[0], new_ids[value[1]]]
        else:
            renumbered[key] = _renumber(value, new_ids)
    return renumbered
