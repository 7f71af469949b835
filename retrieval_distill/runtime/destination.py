"""The door: whether results may go where a user wants them, asked before anything costs.

A stage builds its folder beside the one it is to replace and exchanges the two, so that folder must be absent, empty,
or one that the same stage wrote; nothing else is ever replaced or removed. Knows paths, manifests and marks; must not
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
"""File that marks a folder that a verb adds to, such as a benchmark's, with the verb's name."""

Recognises = Callable[[Path], bool]
"""Whether a file or folder is of the kind that a verb writes, so that it may take its place."""


def work_folder(folder: Path) -> Path:
    """Where a stage works before it commits."""
    return folder.with_name(f"{folder.name}.partial")


def stage(folder: str | Path, name: str, cache: bool = False) -> None:
    """Refuse a folder that a stage cannot write or must not replace.

    Args:
        folder: Where the stage's result goes. One that the same stage finished need not be writable: it may be kept.
        name: The stage's.
        cache: Whether a folder that lost its manifest is known by its mark alone; one that a user named is the user's.

    Raises:
        UserError: It is a file, a link, a mount point or the working folder; it or its work folder holds what no stage
            of this name wrote; it lies in another stage's folder; or nothing can be written there.
    """
    folder = Path(folder)
    with _said(folder):
        _refuse_what_cannot_be_exchanged(folder)
        _refuse_others(work_folder(folder), name, marked=True)
        if not _refuse_others(folder, name, cache):
            _try_writing(folder, beside=True)


def replaced(folder: str | Path, name: str) -> None:
    """Refuse a folder of the stage's own that it is about to replace, while nobody else works there.

    Raises:
        UserError: Somebody put files into it, or edited one, since the stage finished; or nothing can be written there.
    """
    folder = Path(folder)
    with _said(folder):
        listed = manifests.listing(folder)
        if listed is not None and (foreign := manifests.strangers(folder, listed)):
            raise UserError(
                f"{folder} holds {_some(foreign)}, which `{name}` did not write as it is and would replace; move it "
                "away, or choose another folder"
            )
        _try_writing(folder, beside=True)


def kept(folder: str | Path, name: str, finished: Recognises, besides: Collection[str] = ()) -> None:
    """Refuse a folder that a verb cannot add its results to.

    Args:
        folder: Where they go, beside those that are there.
        name: The verb's, which :func:`claim` leaves there.
        finished: Tells a folder in which the verb has finished, which need not be writable then.
        besides: Names of what may be there before the verb has left anything.

    Raises:
        UserError: It is a file, it holds what the verb did not write, or nothing can be written there.
    """
    folder = Path(folder)
    with _said(folder):
        if (folder.exists() or folder.is_symlink()) and not folder.is_dir():
            raise UserError(f"{folder}: a folder is to be written there, and this is none; choose another name")
        claimed = folder / CLAIM
        own = claimed.read_text() == name if claimed.is_file() else finished(folder)
        if own and finished(folder):
            return
        if folder.is_dir() and not own and (there := [name for name in _names(folder) if name not in besides]):
            raise UserError(f"{folder} holds {_some(there)}, which `{name}` did not write: choose another folder")
        _try_writing(folder)


def claim(folder: str | Path, name: str, finished: Recognises) -> None:
    """Mark a folder as this verb's, unless :func:`kept` refuses it."""
    kept(folder, name, finished)
    files.write_text(Path(folder) / CLAIM, name)


def file(path: str | Path, what: str, recognises: Recognises | None = None) -> None:
    """Refuse a file that cannot be written, or that is another's.

    Args:
        path: The file.
        what: What it is to hold, for the message, such as ``"a run"``.
        recognises: Tells a file that may be replaced; ``None``: any may.

    Raises:
        UserError: It is a folder, a link that leads nowhere, or a file of another kind; or nothing can be written
            there.
    """
    path = Path(path)
    with _said(path):
        if path.is_dir():
            raise UserError(f"{path} is a folder, and {what} is a file; name one in it")
        if path.is_symlink() and not path.exists():
            raise UserError(f"{path} is a link that leads nowhere ({path.readlink()}); name the file itself")
        if path.exists() and not path.is_file():
            return  # a device or a pipe: written as it is
        if recognises and path.is_file() and path.stat().st_size and not recognises(path):
            raise UserError(f"{path} is there and is not {what}; move it away, or choose another name")
        _try_writing(Path(os.path.realpath(path)).parent)


def apart(out: str | Path, *inputs: str | Path | None) -> None:
    """Refuse a folder or file to write that is an input, or holds one.

    Raises:
        UserError: It is, or does.
    """
    target = Path(out).resolve()
    for given in inputs:
        if given is not None and os.path.lexists(given):
            source = Path(given).resolve()
            if source == target:
                raise UserError(
                    f"{out} is read, so it cannot be written too: choose another folder or file for the result"
                )
            if source.is_relative_to(target):
                raise UserError(
                    f"{given} is read, so the folder {out}, in which it lies, cannot be written: choose another"
                )


def _refuse_what_cannot_be_exchanged(folder: Path) -> None:
    if folder.name in ("", ".."):
        raise UserError(f"{folder}: the result is a folder of its own, which is replaced as a whole: name it")
    if folder.is_symlink():
        leads = f"name the folder itself, {folder.resolve()}" if folder.exists() else "and leads nowhere: name a folder"
        raise UserError(f"{folder} is a symbolic link; {leads}")
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file, and a folder is to be written there; choose another name")
    if os.path.ismount(folder):
        raise UserError(f"{folder} is a mount point, which cannot be replaced as a whole; name a folder in it")
    if folder.is_dir() and Path.cwd().resolve().is_relative_to(folder.resolve()):
        raise UserError(f"{folder} is, or holds, the working folder, which cannot be replaced; name a folder in it")
    parent = folder.parent.resolve()
    for above in (parent, *parent.parents):
        if manifest := manifests.find(above):
            raise UserError(
                f"{folder} lies in {above}, which `{manifest['stage']}` wrote and would replace as a whole; choose a "
                "folder outside of it"
            )


def _refuse_others(folder: Path, name: str, marked: bool = False) -> bool:
    """Refuse a folder that no stage of this name wrote; whether one finished there.

    Args:
        folder: The folder, if it is there.
        name: The stage's.
        marked: Whether the mark of a stage is enough. It is in a work folder; from a finished one the user may have
            taken the manifest, to own it.
    """
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise UserError(f"{folder} is no folder, and one of that name is needed: move it away, or choose another name")
    if not folder.is_dir():
        return False
    manifest = manifests.find(folder)
    marked = marked or (folder / manifests.FILE).exists()
    stage = manifest["stage"] if manifest else manifests.stage_of(folder) if marked else None
    if stage not in (None, "", name):
        raise UserError(f"{folder} holds the result of `{stage}`, not of `{name}`; choose another folder")
    if stage is None and (there := _names(folder)):
        raise UserError(f"{folder} holds {_some(there)}, which `{name}` did not write: choose another folder")
    return manifest is not None


def _try_writing(folder: Path, beside: bool = False) -> None:
    """Make a file in a folder, or in the nearest one there is, and remove it again; ``beside``: in its parent too."""
    nearest = folder
    while not nearest.exists():
        nearest = nearest.parent
    for place in (nearest, nearest.parent) if beside and nearest == folder else (nearest,):
        probe = files.unfinished(place)
        try:
            probe.touch(exist_ok=False)
            probe.unlink(missing_ok=True)  # another process may just be moving the folder
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(place)) from error


def _names(folder: Path) -> list[str]:
    try:
        return [path.name for path in sorted(folder.iterdir()) if not manifests.is_nobodys(path)]
    except FileNotFoundError:  # another process has just moved it
        return []


def _some(names: Iterable[str]) -> str:
    first, *others = names
    return first if not others else f"{first} and {len(others)} more"


@contextmanager
def _said(place: Path) -> Iterator[None]:
    """Whatever the system has against a place, as a mistake that the user can mend."""
    try:
        yield
    except OSError as error:
        raise disk.unwritable(place, error) from error
