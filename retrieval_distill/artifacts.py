"""What makes a stage resumable: a fingerprint of its inputs, a manifest, an atomic commit.

A stage is files in -> files out. It works in ``FOLDER.partial`` and becomes ``FOLDER`` by one rename, so a folder
without the suffix is always whole. Knows files and hashes; must not know what a stage does.
"""

from __future__ import annotations

import ctypes
import gc
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

Manifest = dict[str, Any]
"""``stage``, ``fingerprint``, ``inputs``, ``seconds``, ``peak_memory_bytes``, ``counts``, ``versions``."""

VERSIONED = ("retrieval-distill", "torch", "transformers", "sentence-transformers", "faiss-cpu", "bm25s")


def fingerprint(value: Any) -> str:
    """SHA-256 of a JSON value, independent of the order of keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def fingerprint_files(folder: str | Path, patterns: tuple[str, ...] = ("*",)) -> str:
    """SHA-256 of the names and bytes of a folder's files (recursive; dot files and Markdown are left out)."""
    folder, digest = Path(folder), hashlib.sha256()
    for path in sorted(p for pattern in patterns for p in folder.rglob(pattern) if p.is_file()):
        if path.suffix == ".md" or path.name.startswith(".") or path.name == "manifest.json":
            continue
        with path.open("rb") as file:
            digest.update(f"{path.relative_to(folder)}:{hashlib.file_digest(file, 'sha256').hexdigest()};".encode())
    return digest.hexdigest()


def write_json(path: str | Path, value: Any) -> None:
    """Write JSON so that the file is either the old one or the new one, never half of it."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            json.dump(value, file, indent=2, ensure_ascii=False, default=str, allow_nan=False)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def read_json(path: str | Path) -> Any:
    """Read a JSON file."""
    return json.loads(Path(path).read_text(encoding="utf-8"))


def read_manifest(folder: str | Path) -> Manifest | None:
    """The manifest of a finished stage, or ``None``."""
    path = Path(folder) / "manifest.json"
    return read_json(path) if path.is_file() else None


def stage(name: str, folder: str | Path, inputs: dict[str, Any], work: Callable[[Path], dict[str, Any]]) -> Manifest:
    """Run ``work`` unless ``folder`` already holds its result for the same ``inputs``.

    Args:
        name: The stage's verb, such as ``"embed"``.
        folder: Where the result belongs.
        inputs: Everything that changes the result, as JSON values; their hash is the stage's fingerprint.
        work: Writes its files into the folder it is given and returns its counts. After a crash it is given the
            same folder again, with what it had left there, as long as the inputs are the same.

    Returns:
        The manifest, with ``skipped`` telling whether the result was already there.
    """
    folder, mark = Path(folder), fingerprint({"stage": name, **inputs})
    done = read_manifest(folder)
    if done and done["fingerprint"] == mark:
        return {**done, "skipped": True}
    partial = _partial_folder(folder, mark)
    if manifest := read_manifest(partial):  # killed between the manifest and the rename
        return _commit(partial, folder, manifest)
    release_memory()
    reset_peak_memory()
    start = time.monotonic()
    counts = work(partial)
    manifest = {
        "stage": name,
        "fingerprint": mark,
        "inputs": inputs,
        "seconds": round(time.monotonic() - start, 3),
        "peak_memory_bytes": peak_memory_bytes(),
        "counts": counts,
        "versions": _versions(),
    }
    write_json(partial / "manifest.json", manifest)
    return _commit(partial, folder, manifest)


def _commit(partial: Path, folder: Path, manifest: Manifest) -> Manifest:
    if folder.exists():
        shutil.rmtree(folder)
    partial.rename(folder)
    return {**manifest, "skipped": False}


def _partial_folder(folder: Path, mark: str) -> Path:
    """The work folder of a stage: an interrupted attempt's with the same fingerprint, or a fresh one."""
    partial = folder.with_name(f"{folder.name}.partial")
    owner = partial / ".fingerprint"
    if partial.exists() and not (owner.is_file() and owner.read_text() == mark):
        shutil.rmtree(partial)
    partial.mkdir(parents=True, exist_ok=True)
    owner.write_text(mark)
    return partial


def release_memory() -> None:
    """Give memory that earlier work freed back to the system; the C library (glibc) would keep it."""
    gc.collect()
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def reset_peak_memory() -> None:
    """Start measuring peak memory anew (Linux; elsewhere the peak is the whole process's)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def peak_memory_bytes() -> int:
    """Peak resident memory of this process since the last reset."""
    try:
        status = Path("/proc/self/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) * 1024
    except (OSError, IndexError):
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _versions() -> dict[str, str]:
    found = {}
    for package in VERSIONED:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
