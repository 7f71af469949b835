"""Removing folders that stages wrote, and nothing else: renamed first, then emptied of what is known to be theirs.

    .NAME.trash-PID@HOST-HEX        what is being removed, beside the folder NAME
    NAME.aside                      what was left in it that no manifest names, kept for the user

So a process that is killed while it removes leaves nothing that could be taken for a result or an attempt. Knows
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
    """A name for what is removed, or moved out of the way, beside a folder."""
    return folder.with_name(f".{folder.name}.trash-{files.owner()}")


def throw(gone: Path, folder: Path) -> None:
    """Remove a stage's folder ``gone``, which is or was to become ``folder``."""
    renamed = name_for(folder)
    gone.rename(renamed)
    _empty(renamed, folder)


def left(folder: Path) -> list[Path]:
    """What processes that are gone were removing when they ended."""
    start = f".{folder.name}.trash-"
    beside = folder.parent.iterdir() if folder.parent.is_dir() else ()
    return [path for path in beside if path.name.startswith(start) and files.left_behind(path)]


def sweep(folder: Path) -> None:
    """Remove what processes that are gone were removing when they ended."""
    for path in left(folder):
        _empty(path, folder)


def remove(path: Path) -> None:
    """Remove a file or folder of a stage's own work, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _empty(gone: Path, folder: Path) -> None:
    """Remove what is in the trash; its marks go last, so that a kill leaves what the next one understands."""
    try:
        if (gone / manifests.FILE).exists():
            _remove_listed(gone)
        elif manifests.mark(gone) is not None:
            _remove_work(gone)
        for path in filter(manifests.is_nobodys, list(gone.iterdir())):
            path.unlink()
        if any(path.name not in manifests.OWN for path in gone.iterdir()):
            aside = _aside(folder)
            gone.rename(aside)
            logger.warning("%s: it held files that are not known to be its own; they are kept in %s", folder, aside)
            return
        for name in manifests.OWN:
            (gone / name).unlink(missing_ok=True)
        gone.rmdir()
    except FileNotFoundError:  # another process sweeps too
        return
    except OSError as error:
        logger.warning("%s could not be removed (%s); it is no longer needed", gone, error)


def _remove_listed(gone: Path) -> None:
    """Remove the files that the manifest names as they were written."""
    listed = manifests.listing(gone) or {}
    for name in listed:
        if not manifests.edited(gone, name, listed):
            (gone / name).unlink(missing_ok=True)
    folders = sorted((path for path in gone.rglob("*") if path.is_dir() and not path.is_symlink()), reverse=True)
    for path in folders:
        if all(map(manifests.is_nobodys, path.iterdir())):
            shutil.rmtree(path)


def _remove_work(gone: Path) -> None:
    """Remove all of an unfinished attempt but its mark."""
    for path in gone.iterdir():
        if path.name != manifests.MARK:
            remove(path)


def _aside(folder: Path) -> Path:
    names = (f"{folder.name}.aside" + (f"-{number}" if number > 1 else "") for number in count(1))
    return next(path for path in map(folder.with_name, names) if not path.exists())
