"""What makes a stage resumable: a fingerprint of its inputs, a manifest, an atomic commit.

A stage is files in -> files out. It works in ``FOLDER.partial`` and becomes ``FOLDER`` by one rename, so a folder
without the suffix is always whole. Of several processes the first does the work, and the others wait for the folder.
Knows files and hashes; must not know what a stage does.
"""

from __future__ import annotations

import ctypes
import gc
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from retrieval_distill.runtime import processes
from retrieval_distill.runtime.atomic import atomic_file

Manifest = dict[str, Any]
"""``stage``, ``fingerprint``, ``inputs``, ``seconds``, ``peak_memory_bytes``, ``counts``, ``versions``."""

SECONDS_BETWEEN_LOOKS = 0.2
"""How often a process looks whether the first one has finished a stage."""

RENAME_EXCHANGE = 2
"""Flag of Linux's ``renameat2``."""

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
    with atomic_file(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        json.dump(value, file, indent=2, ensure_ascii=False, default=str, allow_nan=False)
        file.write("\n")


def read_json(path: str | Path) -> Any:
    """Read a JSON file."""
    return json.loads(Path(path).read_text(encoding="utf-8"))


def read_manifest(folder: str | Path) -> Manifest | None:
    """The manifest of a finished stage, or ``None``."""
    path = Path(folder) / "manifest.json"
    return read_json(path) if path.is_file() else None


def stage(
    name: str,
    folder: str | Path,
    inputs: dict[str, Any],
    work: Callable[[Path], dict[str, Any]],
    together: bool = False,
    scratch: Sequence[str] = (),
) -> Manifest:
    """Run ``work`` unless ``folder`` already holds its result for the same ``inputs``.

    Args:
        name: The stage's verb, such as ``"embed"``.
        folder: Where the result belongs.
        inputs: Everything that changes the result, as JSON values; their hash is the stage's fingerprint.
        work: Writes its files into the folder it is given and returns its counts. After a crash it is given the
            same folder again, with what it had left there, as long as the inputs are the same.
        together: Whether processes that were started together all run ``work``, in the same folder. It must not
            return in any of them before all are through with the folder. ``False``: the first alone runs it.
        scratch: Files and folders of the result that only ``work`` reads, such as checkpoints. They are no part of the
            result, and go once its manifest is written: until then they are what a killed attempt continues from.

    Returns:
        The manifest, with ``skipped`` telling whether the result was already there.
    """
    folder, mark = Path(folder), fingerprint({"stage": name, **inputs})
    if processes.rank() > 0:
        return _follow(folder, mark, work if together else None)
    done = read_manifest(folder)
    if done and done["fingerprint"] == mark:
        return {**done, "skipped": True}
    partial = _partial_folder(folder, mark)
    if manifest := read_manifest(partial):  # killed between the manifest and the rename
        return _commit(partial, folder, manifest, scratch)
    with _under_way(name):
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
    return _commit(partial, folder, manifest, scratch)


_RUNNING: list[str] = []


@contextmanager
def _under_way(name: str) -> Iterator[None]:
    """Measure memory anew, unless this is a stage within a stage: then it is the outer one's."""
    if not _RUNNING:
        release_memory()
        reset_peak_memory()
    _RUNNING.append(name)
    try:
        yield
    finally:
        _RUNNING.pop()


def _follow(folder: Path, mark: str, work: Callable[[Path], Any] | None) -> Manifest:
    """A stage as the other processes see it: join in, if there is something to join, and wait for the first's commit.

    It looks at files, because the first may be busy for hours, and a collective call would time out.
    """
    partial = folder.with_name(f"{folder.name}.partial")
    while True:
        with suppress(FileNotFoundError):  # the first is just replacing it
            done = read_manifest(folder)
            if done and done["fingerprint"] == mark:
                return {**done, "skipped": True}
        if work and _owner(partial) == mark and read_manifest(partial) is None:
            work(partial)
            work = None
        time.sleep(SECONDS_BETWEEN_LOOKS)


def _commit(partial: Path, folder: Path, manifest: Manifest, scratch: Sequence[str]) -> Manifest:
    for name in scratch:
        _remove(partial / name)
    if folder.exists():
        _swap(partial, folder)
        shutil.rmtree(partial)
    else:
        partial.rename(folder)
    return {**manifest, "skipped": False}


def _remove(path: Path) -> None:
    """A file or folder, if it is there."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _swap(new: Path, old: Path) -> None:
    """Exchange two folders: on Linux in one act, so that whoever opens ``old`` finds the one or the other whole."""
    names = os.fsencode(new.absolute()), os.fsencode(old.absolute())
    try:
        failed = ctypes.CDLL(None).renameat2(0, names[0], 0, names[1], RENAME_EXCHANGE)
    except (OSError, AttributeError):  # no such call in this C library
        failed = True
    if failed:
        aside = old.with_name(f"{old.name}.old")
        shutil.rmtree(aside, ignore_errors=True)
        old.rename(aside)
        new.rename(old)
        aside.rename(new)


def _partial_folder(folder: Path, mark: str) -> Path:
    """The work folder of a stage: an interrupted attempt's with the same fingerprint, or a fresh one."""
    partial = folder.with_name(f"{folder.name}.partial")
    if partial.exists() and _owner(partial) != mark:
        shutil.rmtree(partial)
    partial.mkdir(parents=True, exist_ok=True)
    (partial / ".fingerprint").write_text(mark)
    return partial


def _owner(partial: Path) -> str | None:
    """The fingerprint of the stage that works there."""
    with suppress(FileNotFoundError):
        return (partial / ".fingerprint").read_text()
    return None


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
