"""Archives (zip, tar) as sources: unpacked into the cache, unless a name in one leads out of it.

Knows archives; must not know what is in them.
"""

from __future__ import annotations

import tarfile
import zipfile
from pathlib import Path, PurePosixPath
from typing import Any

from retrieval_distill.errors import UserError
from retrieval_distill.runtime import files, stages

ENDINGS = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")


def recognises(source: str) -> bool:
    """Whether a source is an archive by its ending."""
    return source.lower().endswith(ENDINGS) and Path(source).is_file()


def unpack(source: str, cache: Path) -> Path:
    """The folder of an archive's contents, or the one folder or file that these are.

    Raises:
        UserError: It cannot be read, or a member's name leads out of the folder; nothing of it is unpacked then.
    """
    seen = Path(source).stat()
    inputs = {
        "path": str(Path(source).resolve()), "size": seen.st_size, "modified": seen.st_mtime_ns,
        "sample": files.sample(Path(source)),
    }  # fmt: skip
    folder = cache / "archives" / stages.fingerprint(inputs)[:16]

    def work(out: Path) -> dict[str, Any]:
        extract = _unzip if source.lower().endswith(".zip") else _untar
        try:
            return {"members": extract(source, out / "contents")}
        except (zipfile.BadZipFile, tarfile.ReadError, EOFError, NotImplementedError, RuntimeError) as error:
            raise UserError(f"{source}: not an archive that can be read ({error})") from None

    stages.stage("unpack", folder, inputs, work, cache=True)
    inside = [path for path in (folder / "contents").iterdir() if not path.name.startswith((".", "__MACOSX"))]
    return inside[0] if len(inside) == 1 and inside[0].is_dir() else folder / "contents"


def _unzip(source: str, out: Path) -> int:
    with zipfile.ZipFile(source) as archive:
        names = archive.namelist()
        for name in names:
            path = PurePosixPath(name.replace("\\", "/"))
            if path.is_absolute() or ".." in path.parts or any(":" in part for part in path.parts[:1]):
                raise UserError(f"{source}: refused, {name!r} in it would be written outside its folder")
        archive.extractall(out)
    return len(names)


def _untar(source: str, out: Path) -> int:
    out.mkdir(parents=True, exist_ok=True)
    with tarfile.open(source) as archive:
        members = archive.getmembers()
        for member in members:
            try:
                tarfile.data_filter(member, str(out))
            except tarfile.FilterError as error:
                raise UserError(f"{source}: refused, {member.name!r} in it is unsafe ({error})") from None
        archive.extractall(out, filter="data")
    return len(members)
