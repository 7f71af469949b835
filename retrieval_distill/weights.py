"""Loads weights completely or not at all, never runs a model's own code, and saves weights readable for others.

Libraries initialise missing weights randomly and drop unexpected ones, with only a line in their log: scores then
change from one process to the next. Knows how transformers loads; must not know what a model is for.
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
from retrieval_distill.runtime import quiet

MAX_NAMED = 3
"""Number of weights that a message names; the others are counted."""

REASON = 300
"""Most characters of a library's message that are shown."""


@dataclass(frozen=True)
class Loaded:
    """A loaded transformer, and the differences between its weights and those of its folder."""

    model: Any
    missing: frozenset[str]
    """Weights of the model that the folder lacks."""

    resized: frozenset[str]
    """Weights whose sizes differ."""

    unexpected: frozenset[str]
    """Weights of the folder that the model lacks."""


Fresh = Callable[[Any, str], bool]
"""(transformer, name of a weight) -> whether it may be random."""


@contextmanager
def loading(folder: Path) -> Iterator[list[Loaded]]:
    """Load models from a folder within this block: quietly, without running its code, with errors blamed on the folder.

    Yields:
        A list of the transformers loaded within the block, for :func:`require_whole`.

    Raises:
        UserError: Files are damaged or missing, or the model is not supported.
    """
    loaded: list[Loaded] = []
    with (
        blame_model(
            lambda error: f"model {str(folder)!r} cannot be loaded: {_first_damage(folder) or one_line(error)}"
        ),
        quiet.libraries(),
        _recording_reports(folder, loaded),
    ):
        yield loaded


@contextmanager
def blame_model(message: Callable[[Exception], str]) -> Iterator[None]:
    """Raise whatever a library raises within this block as a fault of the model.

    Raises:
        UserError: With the message. Other ``UserError`` and out-of-memory errors are passed on.
    """
    try:
        yield
    except (UserError, MemoryError):
        raise
    except Exception as error:  # a damaged file may cause any exception
        if isinstance(error, RuntimeError) and devices.is_out_of_memory(error):
            raise
        raise UserError(message(error)) from error


def one_line(error: Exception) -> str:
    """A library's error message in one line of limited length."""
    message = " ".join(str(error).split())
    if "trust_remote_code" in message:
        return "it needs its own code, which is never run"
    if not isinstance(error, OSError | ValueError | RuntimeError) or not message:
        message = f"{type(error).__name__} {message}"  # such as a KeyError, whose message is the key
    return message if len(message) <= REASON else message[:REASON] + "..."


def require_whole(folder: Path, loaded: Iterable[Loaded], fresh: Fresh = lambda model, name: False) -> None:
    """Refuse transformers with random weights, or without some of their folder's.

    Additional heads in the folder are fine; additional weights of a layer are not.

    Args:
        folder: The folder they were loaded from.
        loaded: See :func:`loading`.
        fresh: Which weights may be random.

    Raises:
        UserError: Weights are missing, of another size, or would be dropped; the message names them.
    """
    for found in loaded:
        kind = type(found.model).__name__
        for what, names in (
            (f"it lacks weights of a {kind}, which would be random", found.missing),
            (f"its weights have other sizes than a {kind} with its config.json", found.resized),
        ):
            if wrong := [name for name in names if not fresh(found.model, name)]:
                raise UserError(f"model {str(folder)!r} is incomplete: {what}: {_name_some(wrong)}")
        prefix = found.model.base_model_prefix
        holders = {_holder(name, prefix) for name, _ in found.model.named_parameters()}
        if left_out := [name for name in found.unexpected if _holder(name, prefix) in holders]:
            raise UserError(
                f"model {str(folder)!r}: a {kind} with its config.json has no place for some of its weights, "
                f"which would be dropped: {_name_some(left_out)}"
            )


def is_unused_pooler(model: Any, name: str) -> bool:
    """Whether a weight belongs to the pooler of a bare encoder, which token vectors do not need."""
    return model.base_model is model and "pooler" in name.split(".")


def require_finite(folder: Path, model: nn.Module) -> None:
    """Refuse a model with NaN or infinite weights.

    Raises:
        UserError: There are some; the message names them.
    """
    if wrong := [name for name, weight in model.named_parameters() if not _is_finite(weight)]:
        raise UserError(
            f"model {str(folder)!r} has NaN or infinite weights: {_name_some(wrong)}; get another copy of it"
        )


def require_vocabulary(folder: Path, tokenizer: Any) -> None:
    """Refuse an empty tokenizer, which the library creates if a folder has none.

    Raises:
        UserError: It has only special tokens.
    """
    special = {*tokenizer.all_special_tokens, "\u2581"}  # the latter marks the start of a word
    if len(tokenizer) <= len(special) and not set(tokenizer.get_vocab()) - special:
        raise UserError(f"model {str(folder)!r} has no tokenizer: its files, such as tokenizer.json, are missing")


def save(model: Any, folder: Path, **options: Any) -> None:
    """``model.save_pretrained(folder)``, quietly, with file permissions according to the umask."""
    with quiet.libraries():
        model.save_pretrained(str(folder), **options)
    probe = folder / ".mode"
    probe.touch()
    mode = probe.stat().st_mode
    probe.unlink()
    for path in folder.rglob("*.safetensors"):  # written as a private temporary file
        path.chmod(mode)


@contextmanager
def _recording_reports(folder: Path, loaded: list[Loaded]) -> Iterator[None]:
    """Record transformers' report of every model it loads, and refuse pickled objects and kernels from a hub."""
    from transformers import PreTrainedModel

    own = PreTrainedModel.__dict__["from_pretrained"]

    def from_pretrained(kind: Any, source: Any, *args: Any, **options: Any) -> Any:
        _refuse_kernels(folder, options)
        wants_report = options.get("output_loading_info", False)
        safely = {**options, "output_loading_info": True, "ignore_mismatched_sizes": True, "weights_only": True}
        model, report = own.__func__(kind, source, *args, **safely)
        loaded.append(_as_loaded(model, report))
        if (base := models.adapter_base(Path(str(source)))) is not None:  # the report covers only the adapter
            loaded.append(_as_loaded(*own.__func__(kind, str(models.resolve(base)), *args, **safely)))
        return (model, report) if wants_report else model

    PreTrainedModel.from_pretrained = classmethod(from_pretrained)  # type: ignore[assignment,method-assign]
    try:
        yield
    finally:
        PreTrainedModel.from_pretrained = own  # type: ignore[method-assign]


def _refuse_kernels(folder: Path, options: dict[str, Any]) -> None:
    """Refuse attention code that a folder names on a hub."""
    names = options.get("attn_implementation"), getattr(options.get("config"), "_attn_implementation", None)
    if options.get("use_kernels") or any("/" in str(name) for name in names):
        raise UserError(f"model {str(folder)!r} asks for attention code from a hub, which is never run")


def _as_loaded(model: Any, report: dict[str, Any]) -> Loaded:
    resized = frozenset(name for name, *_ in report["mismatched_keys"])
    missing = frozenset(report["missing_keys"]) - resized
    return Loaded(model, missing, resized, frozenset(report["unexpected_keys"]))


def _holder(name: str, prefix: str) -> str:
    """The module of a weight, as a base model names it, for any layer: ``encoder.layer.*.output.dense``."""
    return re.sub(r"(?<=\.)\d+(?=\.|$)", "*", name.removeprefix(f"{prefix}.").rpartition(".")[0])


def _name_some(names: Iterable[str]) -> str:
    ordered = sorted(names)
    more = f" and {len(ordered) - MAX_NAMED:,} more" if len(ordered) > MAX_NAMED else ""
    return ", ".join(ordered[:MAX_NAMED]) + more


def _is_finite(weight: torch.Tensor) -> bool:
    """Checks the sum, which is fast, and each value only if the sum is not finite."""
    if not weight.is_floating_point() or bool(torch.isfinite(weight.sum(dtype=torch.float32))):
        return True
    return bool(torch.isfinite(weight).all())


def _first_damage(folder: Path) -> str | None:
    """The first damaged file of a folder, and its defect."""
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        if damage := _damage(path):
            return f"{path.relative_to(folder)} {damage}"
    return _first_lost(folder)


def _first_lost(folder: Path) -> str | None:
    """The first file of a module that the folder's ``modules.json`` names and the folder does not have."""
    listed = folder / "modules.json"
    for module in json.loads(listed.read_bytes()) if listed.is_file() else []:
        path, kind = folder / module["path"], module["type"].rpartition(".")[2]
        wanted = [("config.json",), *([_WEIGHTS] if kind in _WITH_WEIGHTS else [])]
        inside = module["path"] and path.resolve().is_relative_to(folder.resolve())
        for names in wanted if inside else []:
            if not any((path / name).is_file() for name in names):
                return f"modules.json names a {kind}, and {path.name}/{names[0]} is missing"
    return None


_WEIGHTS = ("model.safetensors", "pytorch_model.bin")

_WITH_WEIGHTS = ("Dense", "LayerNorm", "CNN", "LSTM", "WeightedLayerPooling")
"""Modules behind a transformer that have weights of their own."""


def _damage(path: Path) -> str | None:
    """A file's defect, found by reading it according to its suffix."""
    from safetensors import safe_open

    try:
        if path.suffix == ".json":
            if not isinstance(json.loads(path.read_bytes()), dict) and path.name.endswith("config.json"):
                return "is not a JSON object"
        elif path.suffix == ".safetensors":
            with safe_open(path, "pt"):
                pass
        elif path.suffix == ".bin":
            torch.load(path, map_location="meta", weights_only=True)
    except Exception as error:  # damage may cause any exception
        what = {".json": "is not JSON", ".bin": "is not a file of plain weights"}.get(path.suffix, "is damaged")
        return f"{what} ({one_line(error)})"
    return None
