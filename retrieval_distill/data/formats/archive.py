"""Unpacks archives (zip, tar) into the cache, file by file, within limits.

Archives are not trusted. Links, special files and names that lead out of the folder are refused; regular files are
written here, never by the library that reads the archive, so that no link can interfere; and written bytes are counted,
since a megabyte can unpack to a terabyte. Knows archives; must not know their contents.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import re
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

from retrieval_distill.config import UnpackConfig
from retrieval_distill.errors import UserError
from retrieval_distill.runtime import files, stages

ENDINGS = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")

LEFT_OUT = "__MACOSX"
"""Folder of resource forks that macOS adds to its zip files."""

BYTES_PER_READ = 1 << 20

LARGEST_HEADER = 1 << 24
"""Most bytes read at once, since a tar header with a file's name may have any size."""

RATIO_COUNTS_FROM = 1 << 24
"""Unpacked bytes below which the ratio is not checked, since small files may compress very well."""

_DAMAGED = (
    zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, struct.error,
    EOFError, OSError, NotImplementedError, RuntimeError, ValueError, OverflowError,
)  # fmt: skip
"""Exceptions for damaged, encrypted or unknown archives; OSError may also come from writing."""

_DECOMPRESSORS: dict[bytes, Any] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\0": lzma.open}
"""First bytes of a file -> function that opens it."""


def recognises(source: str) -> bool:
    """Whether a source is an archive, by its suffix."""
    return source.lower().endswith(ENDINGS) and Path(source).is_file()


def unpack(source: str, cache: Path, limits: UnpackConfig | None = None) -> Path:
    """Unpack an archive; returns the folder of its contents, or the single folder in it.

    Args:
        source: The archive.
        cache: Cache folder.
        limits: Limits of unpacking; ``None``: the defaults.

    Raises:
        UserError: As :func:`extract`.
    """
    inputs = files.identity(Path(source))
    folder = cache / "archives" / stages.fingerprint(inputs)[:16]

    def work(out: Path) -> dict[str, Any]:
        return {"members": extract(source, out / "contents", limits)}

    stages.stage("unpack", folder, inputs, work, cache=True)
    inside = [path for path in (folder / "contents").iterdir() if not path.name.startswith(".")]
    return inside[0] if len(inside) == 1 and inside[0].is_dir() else folder / "contents"


def extract(source: str | Path, out: Path, limits: UnpackConfig | None = None) -> int:
    """Write an archive's files to a new folder; returns the number of members.

    Args:
        source: The archive; its suffix tells whether it is zip or tar.
        out: The folder; removed after an error.
        limits: Limits of unpacking; ``None``: the defaults.

    Raises:
        UserError: The archive cannot be read; a member is a link or a special file, has a name that leads out of the
            folder or is invalid for the file system, or occurs twice; or a limit is exceeded.
    """
    shutil.rmtree(out, ignore_errors=True)  # left by a killed attempt
    out.mkdir(parents=True)
    target = _Target(str(source), out, limits or UnpackConfig(), Path(source).stat().st_size)
    try:
        (_unzip if str(source).lower().endswith(".zip") else _untar)(target)
    except BaseException as error:
        shutil.rmtree(out, ignore_errors=True)
        if isinstance(error, _DAMAGED):
            raise UserError(f"{source}: not a readable archive ({error or type(error).__name__})") from None
        raise
    return target.members


@dataclass
class _Target:
    """The target folder, with counts of what was written."""

    source: str
    out: Path
    limits: UnpackConfig
    packed: int
    """Bytes of the archive."""
    members: int = 0
    bytes: int = 0

    def add(self, name: str, size: int, stream: Any) -> None:
        """Write a member; ``stream`` opens a file's bytes, and is ``None`` for a folder."""
        self.members += 1
        self._refuse_beyond("files", self.members, self.limits.files)
        path = PurePosixPath(name.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts or re.match("[A-Za-z]:", name):
            raise self.refused(name, "would be written outside its folder")
        self._refuse_beyond("depth", len(path.parts), self.limits.depth)
        self._refuse_size(self.bytes + size)  # before it is written
        if LEFT_OUT in path.parts:
            return
        try:
            place = self.out.joinpath(path)
            if stream is None:
                place.mkdir(parents=True, exist_ok=True)
                return
            place.parent.mkdir(parents=True, exist_ok=True)
            file = place.open("xb")
        except FileExistsError:
            raise self.refused(name, "occurs twice") from None
        except (
            OSError,
            ValueError,
        ) as error:  # a name too long, with a NUL byte, or of a file where a folder is needed
            raise self.refused(name, f"cannot be written ({error})") from None
        with file, stream() as data:
            while part := data.read(BYTES_PER_READ):
                self.count(len(part))
                file.write(part)

    def count(self, size: int) -> None:
        """Count unpacked bytes."""
        self.bytes += size
        self._refuse_size(self.bytes)

    def refused(self, name: str, why: str) -> UserError:
        """The message about a refused member."""
        return UserError(f"{self.source}: refused, {name!r:.200} in it {why}")

    def _refuse_size(self, total: int) -> None:
        self._refuse_beyond("gigabytes", total / 1e9, self.limits.gigabytes)
        if total > RATIO_COUNTS_FROM:
            self._refuse_beyond("ratio", total / max(self.packed, 1), self.limits.ratio)

    def _refuse_beyond(self, limit: str, found: float, allowed: float) -> None:
        if found > allowed:
            raise UserError(
                f"{self.source}: refused, it exceeds the limit {limit}={allowed:.12g}; "
                f"if you trust it, raise the limit: unpack.{limit} of the dataset, or --unpack {limit}=NUMBER"
            )


def _unzip(target: _Target) -> None:
    with zipfile.ZipFile(target.source) as archive:
        for member in archive.infolist():
            kind = stat.S_IFMT(member.external_attr >> 16)  # 0 if the zip was not made on Unix
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise target.refused(member.filename, "is a link or a special file")
            opened = None if member.is_dir() else lambda member=member: archive.open(member)
            target.add(member.filename, member.file_size, opened)


def _untar(target: _Target) -> None:
    with Path(target.source).open("rb") as file:
        opener = next((opener for start, opener in _DECOMPRESSORS.items() if file.peek(8).startswith(start)), None)
        with opener(file) if opener else file as data:
            guarded = _SizeLimited(data)
            with tarfile.open(fileobj=cast(IO[bytes], guarded), mode="r:") as archive:
                _add_all(archive, target)
            if guarded.last != bytes(tarfile.BLOCKSIZE):  # the library takes other blocks for the end, too
                raise tarfile.ReadError("it is truncated, or a header is damaged")
            while part := data.read(BYTES_PER_READ):  # read up to the checksum at the end
                target.count(len(part))


def _add_all(archive: tarfile.TarFile, target: _Target) -> None:
    while (member := archive.next()) is not None:
        archive.members.clear()  # type: ignore[attr-defined]  # the library would keep all of them
        if not (member.isdir() or member.isreg()) or member.issparse() or member.size < 0:
            raise target.refused(member.name, "is a link or a special file; pack it with tar --dereference")
        opened = None if member.isdir() else lambda member=member: archive.extractfile(member)
        target.add(member.name, 0 if member.isdir() else member.size, opened)


class _SizeLimited:
    """A file with a limit on each read, since the library would load a header of any size."""

    def __init__(self, data: IO[bytes]) -> None:
        self._data, self.seek, self.tell = data, data.seek, data.tell
        self.last = b""

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= LARGEST_HEADER:
            raise tarfile.ReadError("a header is too large")
        self.last = self._data.read(size)
        return self.last
