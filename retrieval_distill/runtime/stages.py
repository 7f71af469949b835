"""Resumable stages: a fingerprint of the inputs, a manifest, an atomic commit.

A stage is files in -> files out. It works in ``FOLDER.partial``, which becomes ``FOLDER`` by one rename, so a folder
without the suffix is always complete, even after a power cut. One process at a time works on a folder; in a distributed
run the first process works and the others wait. Knows folders and when they are replaced; must not know what a stage
does.
"""

from __future__ import annotations

import ctypes
import logging
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from retrieval_distill.errors import UserError
from retrieval_distill.runtime import destination, disk, files, lock, manifests, memory, processes, sharing, trash
from retrieval_distill.runtime.files import fingerprint, fingerprint_files, read_json, write_json
from retrieval_distill.runtime.manifests import Manifest, attach, finished_manifest, read_manifest, verified_manifest

__all__ = [
    "Manifest",
    "attach",
    "fingerprint",
    "fingerprint_files",
    "read_json",
    "read_manifest",
    "stage",
    "verified_manifest",
    "write_json",
]  # fmt: skip

logger = logging.getLogger("retrieval_distill")

POLL_SECONDS = 0.2
"""Time between checks whether the first process has finished a stage."""

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
    """Run ``work`` unless ``folder`` already holds its complete result for the same ``inputs``.

    A result with a missing or altered file counts as an interrupted attempt: ``work`` is given a folder with its intact
    files, and makes the rest again.

    Args:
        name: The stage's name, a verb such as ``"embed"``.
        folder: Where the result goes. It need not be writable if it already holds the result.
        inputs: Everything that changes the result, as JSON values; their hash is the stage's fingerprint. A function if
            they depend on the folder's content: it is called again once the folder is locked.
        work: Writes its files into the folder it is given and returns its counts. After a crash it is given the
            same folder again, with the files it left there, as long as the inputs are the same.
        together: Whether all processes of a distributed run call ``work``, in the same folder. It must not return in
            any of them before all are done with the folder. ``False``: only the first process calls it.
        cache: Whether the folder is one of the toolkit's caches, not one that the user named: then another process that
            works there is waited for, and a folder without its manifest is rebuilt.
        scratch: Files and folders that only ``work`` reads, such as checkpoints, from which a killed attempt continues.
            They are not part of the result and are removed once its manifest is written.

    Returns:
        The manifest, with ``skipped``: whether the result was already there, or in another run that shares it.

    Raises:
        UserError: The folder holds files that this stage did not write, another process works on it, or nothing can
            be written there.
    """
    folder, (given, mark) = Path(folder), _evaluate_inputs(name, inputs)
    if processes.rank() > 0:
        return _wait_for_commit(folder, mark, work if together else None)
    if done := finished_manifest(folder, mark):
        _tidy(folder)
        return {**done, "skipped": True}
    destination.check_stage_folder(folder, name, cache)
    with (
        disk.explain_full_disk(folder, "what was finished of it is kept"),
        lock.exclusive(folder, True if cache else None),
    ):
        trash.sweep(folder)
        files.sweep_once(folder.parent)
        given, mark = _evaluate_inputs(name, inputs)
        if done := finished_manifest(folder, mark):  # by the process that we waited for
            return {**done, "skipped": True}
        destination.check_replaceable(folder, name)
        with sharing.alone_among_runs(folder, mark):
            partial = _work_folder(folder, mark, name)
            shared = sharing.take(folder, partial, mark, name)
            manifest = (
                shared
                or finished_manifest(partial, mark)
                or _run_work(name, partial, mark, given, work, scratch, cache)
            )
            for path in scratch:
                trash.remove(partial / path)
            destination.check_stage_folder(folder, name, cache)  # again: files may have been put there meanwhile
            _commit(partial, folder)
    return {**manifest, "skipped": shared is not None}


def _run_work(
    name: str,
    partial: Path,
    mark: str,
    inputs: dict[str, Any],
    work: Callable[[Path], dict[str, Any]],
    scratch: Sequence[str],
    cache: bool,
) -> Manifest:
    """Do the work, and write the manifest once all files are on disk."""
    with memory.measured(name):
        start = time.monotonic()
        counts = work(partial)
    for path in filter(files.is_unfinished, list(partial.rglob(".*"))):
        path.unlink()
    manifest: Manifest = {
        "format": manifests.FORMAT,
        "stage": name,
        "fingerprint": mark,
        "inputs": inputs,
        "seconds": round(time.monotonic() - start, 3),
        "peak_memory_bytes": memory.peak_bytes(),
        "counts": counts,
        "versions": _versions(),
    }
    with ThreadPoolExecutor(1) as pool:  # hash while waiting for the disk
        synced = pool.submit(files.sync_tree, partial)
        listed = manifests.describe_files(partial, scratch, cache)
        synced.result()
    manifests.write(partial, {**manifest, "files": listed})
    files.sync(partial)
    return manifest


def _evaluate_inputs(name: str, inputs: dict[str, Any] | Callable[[], dict[str, Any]]) -> tuple[dict[str, Any], str]:
    """A stage's inputs as values, and their fingerprint."""
    given = inputs() if callable(inputs) else inputs
    return given, fingerprint({"stage": name, **given})


def _wait_for_commit(folder: Path, mark: str, work: Callable[[Path], Any] | None) -> Manifest:
    """Join the first process's work, if ``work`` is given, and wait for its commit.

    It polls for files, because the first process may work for hours, and a collective call would time out.
    """
    partial = destination.work_folder(folder)
    while True:
        if done := finished_manifest(folder, mark):
            return {**done, "skipped": True}
        if work and manifests.marked_fingerprint(partial) == mark and not (partial / manifests.FILE).exists():
            work(partial)
            work = None
        time.sleep(POLL_SECONDS)


def _work_folder(folder: Path, mark: str, name: str) -> Path:
    """The folder to work in: an interrupted attempt's or a damaged result's with this fingerprint, or a new one."""
    partial = destination.work_folder(folder)
    if partial.exists() and manifests.marked_fingerprint(partial) != mark:
        trash.discard(partial, folder)
    if not partial.exists() and manifests.marked_fingerprint(folder) == mark and _reopen(folder):
        folder.rename(partial)
    elif (partial / manifests.FILE).exists() and not finished_manifest(partial, mark) and not _reopen(partial):
        (partial / manifests.FILE).unlink(missing_ok=True)
        trash.discard(partial, folder)
    partial.mkdir(parents=True, exist_ok=True)
    manifests.write_mark(partial, mark, name)
    return partial


def _reopen(folder: Path) -> bool:
    """Turn a damaged result into an interrupted attempt, if it is known which of its files are intact."""
    listed = manifests.listed_files(folder)
    if listed is None or manifests.foreign_files(folder, listed):
        return False
    for name, defect in list(manifests.find_damaged(folder, listed)):
        logger.warning("%s is %s: making it again", folder / name, defect)
        (folder / name).unlink(missing_ok=True)
    (folder / manifests.FILE).unlink(missing_ok=True)
    return True


def _commit(partial: Path, folder: Path) -> None:
    """Give a finished result its name, and remove the files of the one it replaces."""
    if folder.exists():
        _swap(partial, folder)
        files.sync(folder.parent)
        trash.discard(partial, folder)
    else:
        partial.rename(folder)
        files.sync(folder.parent)


def _swap(new: Path, old: Path) -> None:
    """Exchange two folders, on Linux atomically, so that whoever opens ``old`` finds one of them complete."""
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
    """Remove what a killed process left next to a finished result, as far as possible."""
    with suppress(UserError, OSError):
        partial, done = (place / manifests.FILE for place in (destination.work_folder(folder), folder))
        replaced = partial.is_file() and partial.stat().st_mtime_ns <= done.stat().st_mtime_ns
        if replaced or trash.leftovers(folder):
            with lock.exclusive(folder, wait=False):
                trash.sweep(folder)
                if replaced:
                    trash.discard(partial.parent, folder)


@cache
def _versions() -> dict[str, str]:
    """Those of the packages that a result may depend on, read once."""
    found = {}
    for package in VERSIONED:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
