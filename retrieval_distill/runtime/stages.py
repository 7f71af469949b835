"""What makes a stage resumable: a fingerprint of its inputs, a manifest, an atomic commit.

A stage is files in -> files out. It works in ``FOLDER.partial`` and becomes ``FOLDER`` by one rename, so a folder
without the suffix is always whole, after a power cut too. One process at a time works on a folder; of several that were
started together the first does the work, and the others wait for the folder. Knows folders and when they are replaced;
must not know what a stage does.
"""

from __future__ import annotations

import ctypes
import gc
import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from retrieval_distill.errors import UserError
from retrieval_distill.runtime import destination, disk, files, lock, manifests, processes, trash
from retrieval_distill.runtime.files import fingerprint, fingerprint_files, read_json, write_json
from retrieval_distill.runtime.manifests import Manifest, attach, opened, read_manifest

__all__ = [
    "Manifest", "attach", "fingerprint", "fingerprint_files", "opened", "peak_memory_bytes", "read_json",
    "read_manifest", "release_memory", "reset_peak_memory", "stage", "write_json",
]  # fmt: skip

logger = logging.getLogger("retrieval_distill")

SECONDS_BETWEEN_LOOKS = 0.2
"""How often a process looks whether the first one has finished a stage."""

RENAME_EXCHANGE = 2
"""Flag of Linux's ``renameat2``."""

VERSIONED = ("retrieval-distill", "torch", "transformers", "sentence-transformers", "faiss-cpu", "bm25s")


def stage(
    name: str,
    folder: str | Path,
    inputs: dict[str, Any] | Callable[[], dict[str, Any]],
    work: Callable[[Path], dict[str, Any]],
    together: bool = False,
    cache: bool = False,
    scratch: Sequence[str] = (),
) -> Manifest:
    """Run ``work`` unless ``folder`` already holds its result for the same ``inputs``, whole.

    A result of which a file is missing or altered counts as an interrupted attempt: what is whole of it is left in the
    folder that ``work`` is given, and the rest is made again.

    Args:
        name: The stage's verb, such as ``"embed"``.
        folder: Where the result belongs. One that holds it already need not be writable.
        inputs: Everything that changes the result, as JSON values; their hash is the stage's fingerprint. A function
            where it depends on what is in the folder, which it is called for again once nobody else works there.
        work: Writes its files into the folder it is given and returns its counts. After a crash it is given the
            same folder again, with what it had left there, as long as the inputs are the same.
        together: Whether processes that were started together all run ``work``, in the same folder. It must not
            return in any of them before all are through with the folder. ``False``: the first alone runs it.
        cache: Whether the folder is one of the toolkit's own making, which no user named: another process that works
            there is waited for, and a folder without its manifest is made again.
        scratch: Files and folders of the result that only ``work`` reads, such as checkpoints. They are no part of the
            result, and go once its manifest is written: until then they are what a killed attempt continues from.

    Returns:
        The manifest, with ``skipped`` telling whether the result was already there.

    Raises:
        UserError: The folder holds what this stage did not write, another process works on it, or nothing can be
            written there.
    """
    folder, (given, mark) = Path(folder), _marked(name, inputs)
    if processes.rank() > 0:
        return _follow(folder, mark, work if together else None)
    if done := _finished(folder, mark):
        _tidy(folder)
        return {**done, "skipped": True}
    destination.stage(folder, name, cache)
    with disk.room(folder, "what was finished of it is kept"), lock.alone(folder, True if cache else None):
        trash.sweep(folder)
        files.sweep_once(folder.parent)
        given, mark = _marked(name, inputs)
        if done := _finished(folder, mark):  # by the process that was waited for
            return {**done, "skipped": True}
        destination.replaced(folder, name)
        partial = _work_folder(folder, mark, name)
        manifest = _finished(partial, mark) or _worked(name, partial, mark, given, work, scratch, cache)
        for left in scratch:
            trash.remove(partial / left)
        destination.stage(folder, name, cache)  # again: somebody may have put something there meanwhile
        _commit(partial, folder)
    return {**manifest, "skipped": False}


def _worked(
    name: str,
    partial: Path,
    mark: str,
    inputs: dict[str, Any],
    work: Callable[[Path], dict[str, Any]],
    scratch: Sequence[str],
    cache: bool,
) -> Manifest:
    """Do the work, and write the manifest once all of it is on disk."""
    with _under_way(name):
        start = time.monotonic()
        counts = work(partial)
    for path in filter(files.is_unfinished, list(partial.rglob(".*"))):
        path.unlink()
    manifest = {
        "format": manifests.FORMAT,
        "stage": name,
        "fingerprint": mark,
        "inputs": inputs,
        "seconds": round(time.monotonic() - start, 3),
        "peak_memory_bytes": peak_memory_bytes(),
        "counts": counts,
        "versions": _versions(),
    }
    with ThreadPoolExecutor(1) as pool:  # hashing and waiting for the disk at once
        synced = pool.submit(files.sync_tree, partial)
        listed = manifests.record(partial, scratch, cache)
        synced.result()
    manifests.write(partial, {**manifest, "files": listed})
    files.sync(partial)
    return manifest


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


def _finished(folder: Path, mark: str) -> Manifest | None:
    """The manifest of a folder that holds this result whole."""
    with suppress(UserError, OSError):
        manifest = read_manifest(folder)
        if manifest and manifest["fingerprint"] == mark and manifests.is_whole(folder, manifest):
            return manifest
    return None


def _marked(name: str, inputs: dict[str, Any] | Callable[[], dict[str, Any]]) -> tuple[dict[str, Any], str]:
    """A stage's inputs as values, and their fingerprint."""
    given = inputs() if callable(inputs) else inputs
    return given, fingerprint({"stage": name, **given})


def _follow(folder: Path, mark: str, work: Callable[[Path], Any] | None) -> Manifest:
    """A stage as the other processes see it: join in, if there is something to join, and wait for the first's commit.

    It looks at files, because the first may be busy for hours, and a collective call would time out.
    """
    partial = destination.work_folder(folder)
    while True:
        if done := _finished(folder, mark):
            return {**done, "skipped": True}
        if work and manifests.mark(partial) == mark and not (partial / manifests.FILE).exists():
            work(partial)
            work = None
        time.sleep(SECONDS_BETWEEN_LOOKS)


def _work_folder(folder: Path, mark: str, name: str) -> Path:
    """Where the stage works: an interrupted attempt's folder with the same fingerprint, a damaged result's, or anew."""
    partial = destination.work_folder(folder)
    if partial.exists() and manifests.mark(partial) != mark:
        trash.throw(partial, folder)
    if not partial.exists() and manifests.mark(folder) == mark and _reopened(folder):
        folder.rename(partial)
    elif (partial / manifests.FILE).exists() and not _finished(partial, mark) and not _reopened(partial):
        (partial / manifests.FILE).unlink(missing_ok=True)
        trash.throw(partial, folder)
    partial.mkdir(parents=True, exist_ok=True)
    manifests.sign(partial, mark, name)
    return partial


def _reopened(folder: Path) -> bool:
    """Make a damaged result an interrupted attempt, if it is known what is whole of it."""
    listed = manifests.listing(folder)
    if listed is None or manifests.strangers(folder, listed):
        return False
    for name, defect in list(manifests.damaged(folder, listed)):
        logger.warning("%s is %s: it is made again", folder / name, defect)
        (folder / name).unlink(missing_ok=True)
    (folder / manifests.FILE).unlink(missing_ok=True)
    return True


def _commit(partial: Path, folder: Path) -> None:
    """Give a finished result its name; what had the name goes, as far as this stage wrote it."""
    if folder.exists():
        _swap(partial, folder)
        files.sync(folder.parent)
        trash.throw(partial, folder)
    else:
        partial.rename(folder)
        files.sync(folder.parent)


def _swap(new: Path, old: Path) -> None:
    """Exchange two folders: on Linux in one act, so that whoever opens ``old`` finds the one or the other whole."""
    names = os.fsencode(new.absolute()), os.fsencode(old.absolute())
    try:
        failed = ctypes.CDLL(None).renameat2(0, names[0], 0, names[1], RENAME_EXCHANGE)
    except (OSError, AttributeError):  # no such call in this C library
        failed = True
    if failed:
        aside = trash.name_for(old)
        old.rename(aside)
        new.rename(old)
        aside.rename(new)


def _tidy(folder: Path) -> None:
    """Remove what a killed process left beside a finished result, if there is anything and it can be removed."""
    with suppress(UserError, OSError):
        partial, done = (place / manifests.FILE for place in (destination.work_folder(folder), folder))
        replaced = partial.is_file() and partial.stat().st_mtime_ns <= done.stat().st_mtime_ns
        if replaced or trash.left(folder):
            with lock.alone(folder, wait=False):
                trash.sweep(folder)
                if replaced:
                    trash.throw(partial.parent, folder)


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
