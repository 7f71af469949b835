"""Weights of models: read whole or refused, without running code of a model's own, and written for others to read.

Libraries give a weight that a folder lacks random values, and drop one that they have no place for, with no more than
a line in their log: scores then change from one process to the next. Knows how transformers loads; must not know what
a model is for.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from retrieval_distill import models
from retrieval_distill.errors import UserError
from retrieval_distill.hardware import devices

NAMED = 3
"""Weights that a message names; the others are counted."""

REASON = 300
"""Characters of a library's message that are passed on."""


@dataclass(frozen=True)
class Loaded:
    """A transformer that was loaded, and how its weights and those of its folder differ."""

    model: Any
    missing: frozenset[str]
    """Weights that the model has and the folder lacks."""

    resized: frozenset[str]
    """Weights whose sizes differ."""

    unexpected: frozenset[str]
    """Weights that the folder holds and the model lacks."""


Fresh = Callable[[Any, str], bool]
"""Whether a weight of a transformer, by its name, may be a random one."""


@contextmanager
def reading(folder: Path) -> Iterator[list[Loaded]]:
    """Load from a folder within: quietly, no code from it is run, and what fails is the folder's fault.

    Yields:
        A list that every transformer loaded within is added to, for :func:`require_whole`.

    Raises:
        UserError: The folder's files are damaged, are missing, or are of a model that cannot be loaded.
    """
    loaded: list[Loaded] = []
    with (
        blamed(lambda error: f"model {str(folder)!r} cannot be loaded: {_damaged(folder) or said(error)}"),
        models.quietly(),
        _reported(folder, loaded),
    ):
        yield loaded


@contextmanager
def blamed(message: Callable[[Exception], str]) -> Iterator[None]:
    """Take whatever a library raises within for a fault of the model that it works with.

    Raises:
        UserError: With the message, unless it was one already, or memory was short.
    """
    try:
        yield
    except (UserError, MemoryError):
        raise
    except Exception as error:  # libraries raise whatever a damaged file happens to lead to
        if isinstance(error, RuntimeError) and devices.is_out_of_memory(error):
            raise
        raise UserError(message(error)) from error


def said(error: Exception) -> str:
    """What a library's error says, in one line that is not too long."""
    told = " ".join(str(error).split())
    if "trust_remote_code" in told:
        return "it needs code that it brings along or names, which is never run"
    if not isinstance(error, OSError | ValueError | RuntimeError) or not told:
        told = f"{type(error).__name__} {told}"  # such as a KeyError, whose message is the key
    return told if len(told) <= REASON else told[:REASON] + "..."


def require_whole(folder: Path, loaded: Iterable[Loaded], fresh: Fresh = lambda model, name: False) -> None:
    """Refuse transformers that have random weights, or lack some of their folder's.

    Heads that a folder holds beside the model are no fault; weights of a layer that the model lacks are.

    Args:
        folder: What they were loaded from.
        loaded: See :func:`reading`.
        fresh: Which weights may be random ones.

    Raises:
        UserError: Weights are missing, of another size, or would be left out; the message names them.
    """
    for found in loaded:
        kind = type(found.model).__name__
        for what, names in (
            (f"it lacks weights of a {kind}, for which random ones would stand in", found.missing),
            (f"its weights are of other sizes than its config.json gives a {kind}", found.resized),
        ):
            if wrong := [name for name in names if not fresh(found.model, name)]:
                raise UserError(f"model {str(folder)!r} is not whole: {what}: {_listed(wrong)}")
        prefix = found.model.base_model_prefix
        holders = {_holder(name, prefix) for name, _ in found.model.named_parameters()}
        if left_out := [name for name in found.unexpected if _holder(name, prefix) in holders]:
            raise UserError(
                f"model {str(folder)!r}: it holds weights that a {kind} made by its config.json has no place for, "
                f"which would be left out: {_listed(left_out)}"
            )


def is_unused_pooler(model: Any, name: str) -> bool:
    """Whether a weight belongs to the pooler of a bare encoder; the token vectors, which are used, do without it."""
    return model.base_model is model and "pooler" in name.split(".")


def require_finite(folder: Path, model: nn.Module) -> None:
    """Refuse a model that holds NaN or infinite weights.

    Raises:
        UserError: There are some; the message names them.
    """
    if wrong := [name for name, weight in model.named_parameters() if not _is_finite(weight)]:
        raise UserError(
            f"model {str(folder)!r} holds NaN or infinite weights: {_listed(wrong)}; take another copy of it"
        )


def require_vocabulary(folder: Path, tokenizer: Any) -> None:
    """Refuse a tokenizer that knows no words, which stands in where a folder has none.

    Raises:
        UserError: It has nothing but special tokens.
    """
    special = {*tokenizer.all_special_tokens, "\u2581"}  # the latter marks the beginning of a word
    if len(tokenizer) <= len(special) and not set(tokenizer.get_vocab()) - special:
        raise UserError(f"model {str(folder)!r} has no tokenizer: its files, such as tokenizer.json, are missing")


def save(model: Any, folder: Path, **options: Any) -> None:
    """``model.save_pretrained(folder)``, quietly, with every file readable by whom this process's umask lets read."""
    with models.quietly():
        model.save_pretrained(str(folder), **options)
    probe = folder / ".mode"
    probe.touch()
    mode = probe.stat().st_mode
    probe.unlink()
    for path in folder.rglob("*.safetensors"):  # written through a private temporary file
        path.chmod(mode)


@contextmanager
def _reported(folder: Path, loaded: list[Loaded]) -> Iterator[None]:
    """Let transformers tell of every model that it loads, and load neither pickled objects nor kernels from a hub."""
    from transformers import PreTrainedModel

    own = PreTrainedModel.__dict__["from_pretrained"]

    def from_pretrained(kind: Any, source: Any, *args: Any, **options: Any) -> Any:
        _refuse_kernels(folder, options)
        asked = options.get("output_loading_info", False)
        safely = {**options, "output_loading_info": True, "ignore_mismatched_sizes": True, "weights_only": True}
        model, report = own.__func__(kind, source, *args, **safely)
        loaded.append(_loaded(model, report))
        if (base := models.adapter_base(Path(str(source)))) is not None:  # that was a report on the adapter alone
            loaded.append(_loaded(*own.__func__(kind, str(models.resolve(base)), *args, **safely)))
        return (model, report) if asked else model

    PreTrainedModel.from_pretrained = classmethod(from_pretrained)  # type: ignore[assignment,method-assign]
    try:
        yield
    finally:
        PreTrainedModel.from_pretrained = own  # type: ignore[method-assign]


def _refuse_kernels(folder: Path, options: dict[str, Any]) -> None:
    """A folder may name code on a hub to compute attention with."""
    asked = options.get("attn_implementation"), getattr(options.get("config"), "_attn_implementation", None)
    if options.get("use_kernels") or any("/" in str(name) for name in asked):
        raise UserError(f"model {str(folder)!r} asks for attention code from a hub, which is never run")


def _loaded(model: Any, report: dict[str, Any]) -> Loaded:
    resized = frozenset(name for name, *_ in report["mismatched_keys"])
    missing = frozenset(report["missing_keys"]) - resized
    return Loaded(model, missing, resized, frozenset(report["unexpected_keys"]))


def _holder(name: str, prefix: str) -> str:
    """What holds a weight, such as ``encoder.layer.*.output.dense``: as a base model calls it, whatever the layer."""
    return re.sub(r"(?<=\.)\d+(?=\.|$)", "*", name.removeprefix(f"{prefix}.").rpartition(".")[0])


def _listed(names: Iterable[str]) -> str:
    ordered = sorted(names)
    more = f" and {len(ordered) - NAMED:,} more" if len(ordered) > NAMED else ""
    return ", ".join(ordered[:NAMED]) + more


def _is_finite(weight: torch.Tensor) -> bool:
    """By the sum, which is quick; one by one only where finite weights may have summed to infinity."""
    if not weight.is_floating_point() or bool(torch.isfinite(weight.sum(dtype=torch.float32))):
        return True
    return bool(torch.isfinite(weight).all())


def _damaged(folder: Path) -> str | None:
    """The first damaged file of a folder, and what is wrong with it."""
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        if damage := _damage(path):
            return f"{path.relative_to(folder)} {damage}"
    return None


def _damage(path: Path) -> str | None:
    """What is wrong with a file, found by reading it as what its name says."""
    from safetensors import safe_open

    try:
        if path.suffix == ".json":
            json.loads(path.read_bytes())
        elif path.suffix == ".safetensors":
            with safe_open(path, "pt"):
                pass
        elif path.suffix == ".bin":
            torch.load(path, map_location="meta", weights_only=True)
    except Exception as error:  # as many kinds as there are ways to be damaged
        what = {".json": "is no JSON", ".bin": "holds no plain weights"}.get(path.suffix, "is damaged")
        return f"{what} ({said(error)})"
    return None
