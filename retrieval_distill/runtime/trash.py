"""Removes folders that stages wrote, and nothing else: first renamed, then emptied of the files known to be theirs.

    .NAME.trash-PID@HOST-HEX        a folder being removed, next to the folder NAME
    NAME.aside                      files found in it that no manifest lists, kept for the user

A process killed halfway leaves nothing that could be mistaken for a result or an attempt. Knows
manifests and marks; must not know what stages do.
"""

from __future__ import annotations

import logging
import shutil
from itertools import count
from pathlib import Path

from retrieval_distill.runtime import files, manifests

logger = logging.getLogger("retrieval_distill")


def name_for(folder: Path) -> Path:
    """A name next to a folder for what is being removed or moved out of the way."""
    return folder.with_name(f".{folder.name}.trash-{files.owner_tag()}")


def discard(discarded: Path, folder: Path) -> None:
    """Remove a stage's folder ``discarded``, which is or was meant to become ``folder``."""
    renamed = name_for(folder)
    discarded.rename(renamed)
    _empty(renamed, folder)


def leftovers(folder: Path) -> list[Path]:
    """Folders that processes which have ended did not finish removing."""
    start = f".{folder.name}.trash-"
    siblings = folder.parent.iterdir() if folder.parent.is_dir() else ()
    return [path for path in siblings if path.name.startswith(start) and files.is_abandoned(path)]


def sweep(folder: Path) -> None:
    """Finish removing what processes which have ended did not."""
    for path in leftovers(folder):
        _empty(path, folder)


def remove(path: Path) -> None:
    """Remove a file or folder of a stage's own, if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _empty(gone: Path, folder: Path) -> None:
    """Empty the trash; its marks go last, so that the next process recognises it after a kill."""
    try:
        if (gone / manifests.FILE).exists():
            _remove_listed(gone)
        elif manifests.marked_fingerprint(gone) is not None:
            _remove_work(gone)
        for path in filter(manifests.is_clutter, list(gone.iterdir())):
            path.unlink()
        if any(path.name not in manifests.BOOKKEEPING for path in gone.iterdir()):
            aside = _aside_path(folder)
            gone.rename(aside)
            logger.warning("%s: it held files that its stage did not write; they are kept in %s", folder, aside)
            return
        for name in manifests.BOOKKEEPING:
            (gone / name).unlink(missing_ok=True)
        gone.rmdir()
    except FileNotFoundError:  # another process is removing it too
        return
    except OSError as error:
        logger.warning("%s could not be removed (%s); it is no longer needed", gone, error)


def _remove_listed(gone: Path) -> None:
    """Remove the files that the manifest lists, unless they were edited."""
    listed = manifests.listed_files(gone) or {}
    for name in listed:
        if not manifests.is_edited(gone, name, listed):
            (gone / name).unlink(missing_ok=True)
    folders = sorted((path for path in gone.rglob("*") if path.is_dir() and not path.is_symlink()), reverse=True)
    for path in folders:
        if all(map(manifests.is_clutter, path.iterdir())):
            shutil.rmtree(path)


def _remove_work(gone: Path) -> None:
    """Remove everything of an unfinished attempt except its mark."""
    for path in gone.iterdir():
        if path.name != manifests.MARK:
            remove(path)


def _aside_path(folder: Path) -> Path:
    names = (f"{folder.name}.aside" + (f"-{number}" if number > 1 else "") for number in count(1))
    return next(path for path in map(folder.with_name, names) if not path.exists())
