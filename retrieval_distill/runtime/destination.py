"""Checks whether results may be written where the user wants them, before any expensive work.

A stage builds its folder next to the one it will replace and exchanges the two, so that folder must be absent, empty,
or written by the same stage; nothing else is ever replaced or removed. Knows paths, manifests and marks; must not
know what is written.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from retrieval_distill.errors import UserError
from retrieval_distill.runtime import disk, files, manifests

CLAIM = ".retrieval-distill"
"""File that marks a folder to which a verb adds results, such as a benchmark's; it holds the verb's name."""

Recogniser = Callable[[Path], bool]
"""Whether a file or folder is of the kind that a verb writes, so that the verb may replace it."""


def work_folder(folder: Path) -> Path:
    """Where a stage works before it commits."""
    return folder.with_name(f"{folder.name}.partial")


def check_stage_folder(folder: str | Path, name: str, cache: bool = False) -> None:
    """Refuse a folder that a stage cannot write or must not replace.

    Args:
        folder: Where the stage's result goes. It need not be writable if the same stage finished there.
        name: The stage's name.
        cache: Whether the mark alone identifies a folder without its manifest; in a folder that a user named it does
            not, since the user may have removed the manifest.

    Raises:
        UserError: It is a file, a link, a mount point or the current folder; it or its work folder holds files that no
            stage of this name wrote; it lies in another stage's folder; or nothing can be written there.
    """
    folder = Path(folder)
    with _explain_os_errors(folder):
        _refuse_unreplaceable(folder)
        _refuse_others(work_folder(folder), name, marked=True)
        if not _refuse_others(folder, name, cache):
            _try_writing(folder, beside=True)


def check_replaceable(folder: str | Path, name: str) -> None:
    """Refuse to replace a stage's own folder if the user has changed it; call it while the folder is locked.

    Raises:
        UserError: Files were added or edited since the stage finished, or nothing can be written there.
    """
    folder = Path(folder)
    with _explain_os_errors(folder):
        listed = manifests.listed_files(folder)
        if listed is not None and (foreign := manifests.foreign_files(folder, listed)):
            raise UserError(
                f"{folder} holds {_summary(foreign)}, which `{name}` did not write in this form and would replace; "
                "move it away, or choose another folder"
            )
        _try_writing(folder, beside=True)


def check_appendable(folder: str | Path, name: str, finished: Recogniser, allowed: Collection[str] = ()) -> None:
    """Refuse a folder that a verb cannot add its results to.

    Args:
        folder: Where the results go, next to earlier ones.
        name: The verb's name, which :func:`claim` writes there.
        finished: Whether the verb has finished in a folder, which then need not be writable.
        allowed: Names of files that may be there before the verb writes anything.

    Raises:
        UserError: It is a file, it holds files that the verb did not write, or nothing can be written there.
    """
    folder = Path(folder)
    with _explain_os_errors(folder):
        if (folder.exists() or folder.is_symlink()) and not folder.is_dir():
            raise UserError(f"{folder}: this is not a folder, but the results need one; choose another name")
        claimed = folder / CLAIM
        own = claimed.read_text() == name if claimed.is_file() else finished(folder)
        if own and finished(folder):
            return
        if folder.is_dir() and not own and (there := [name for name in _entries(folder) if name not in allowed]):
            raise UserError(f"{folder} holds {_summary(there)}, which `{name}` did not write: choose another folder")
        _try_writing(folder)


def claim(folder: str | Path, name: str, finished: Recogniser) -> None:
    """Mark a folder as this verb's, after :func:`check_appendable`."""
    check_appendable(folder, name, finished)
    files.write_text(Path(folder) / CLAIM, name)


def check_file(path: str | Path, what: str, recognises: Recogniser | None = None) -> None:
    """Refuse a file that cannot be written or must not be replaced.

    Args:
        path: The file.
        what: What it will hold, for the message, such as ``"a run"``.
        recognises: Whether an existing file may be replaced; ``None``: any may.

    Raises:
        UserError: It is a folder, a broken link, or a file of another kind; or nothing can be written there.
    """
    path = Path(path)
    with _explain_os_errors(path):
        if path.is_dir():
            raise UserError(f"{path} is a folder, but {what} is a file; name a file in it")
        if path.is_symlink() and not path.exists():
            raise UserError(f"{path} is a broken link (to {path.readlink()}); name the file itself")
        if path.exists() and not path.is_file():
            return  # a device or a pipe is written to, not replaced
        if recognises and path.is_file() and path.stat().st_size and not recognises(path):
            raise UserError(f"{path} exists and is not {what}; move it away, or choose another name")
        _try_writing(Path(os.path.realpath(path)).parent)


def check_not_input(out: str | Path, *inputs: str | Path | None) -> None:
    """Refuse an output that is one of the inputs, or a folder that holds one.

    Raises:
        UserError: It is, or does.
    """
    target = Path(out).resolve()
    for given in inputs:
        if given is not None and os.path.lexists(given):
            source = Path(given).resolve()
            if source == target:
                raise UserError(
                    f"{out} is an input, so it cannot be the output too; choose another folder or file for the result"
                )
            if source.is_relative_to(target):
                raise UserError(
                    f"{given} is an input and lies in {out}, which would be replaced; choose another folder"
                )


def _refuse_unreplaceable(folder: Path) -> None:
    if folder.name in ("", ".."):
        raise UserError(f"{folder}: name a folder for the result alone, since it is replaced as a whole")
    if folder.is_symlink():
        advice = f"name the folder itself, {folder.resolve()}" if folder.exists() else "it is broken, name a folder"
        raise UserError(f"{folder} is a symbolic link; {advice}")
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file, but the result is a folder; choose another name")
    if os.path.ismount(folder):
        raise UserError(f"{folder} is a mount point, which cannot be replaced as a whole; name a folder in it")
    if folder.is_dir() and Path.cwd().resolve().is_relative_to(folder.resolve()):
        raise UserError(f"{folder} is, or holds, the current folder, which cannot be replaced; name a folder in it")
    parent = folder.parent.resolve()
    for above in (parent, *parent.parents):
        if manifest := manifests.find(above):
            raise UserError(
                f"{folder} lies in {above}, which `{manifest['stage']}` wrote and would replace as a whole; choose a "
                "folder outside of it"
            )


def _refuse_others(folder: Path, name: str, marked: bool = False) -> bool:
    """Refuse a folder that no stage of this name wrote; returns whether one finished there.

    Args:
        folder: The folder; it need not exist.
        name: The stage's name.
        marked: Whether a stage's mark is enough, as in a work folder. A user may have removed the manifest of a
            finished folder to keep it.
    """
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise UserError(
            f"{folder} is not a folder, but one of that name is needed; move it away, or choose another name"
        )
    if not folder.is_dir():
        return False
    manifest = manifests.find(folder)
    marked = marked or (folder / manifests.FILE).exists()
    stage = manifest["stage"] if manifest else manifests.stage_of(folder) if marked else None
    if stage not in (None, "", name):
        raise UserError(f"{folder} holds the result of `{stage}`, not of `{name}`; choose another folder")
    if stage is None and (there := _entries(folder)):
        raise UserError(f"{folder} holds {_summary(there)}, which `{name}` did not write: choose another folder")
    return manifest is not None


def _try_writing(folder: Path, beside: bool = False) -> None:
    """Create and remove a file in a folder, or in its nearest existing parent; ``beside``: in its parent too."""
    nearest = folder
    while not nearest.exists():
        nearest = nearest.parent
    for place in (nearest, nearest.parent) if beside and nearest == folder else (nearest,):
        probe = files.temporary_path(place)
        try:
            probe.touch(exist_ok=False)
            probe.unlink(missing_ok=True)  # another process may just be moving the folder
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(place)) from error


def _entries(folder: Path) -> list[str]:
    try:
        return [path.name for path in sorted(folder.iterdir()) if not manifests.is_clutter(path)]
    except FileNotFoundError:  # another process has just moved it
        return []


def _summary(names: Iterable[str]) -> str:
    first, *others = names
    return first if not others else f"{first} and {len(others)} more"


@contextmanager
def _explain_os_errors(place: Path) -> Iterator[None]:
    """Raise the system's errors about a place as a :class:`UserError`."""
    try:
        yield
    except OSError as error:
        raise disk.unwritable_error(place, error) from error
