"""Archives (zip, tar) as sources: unpacked into the cache, file by file, within limits.

Nothing of an archive is trusted. Links and special files are refused, and so is a name that leads out of the folder;
regular files are written here, never by the library that reads the archive, so that no link can come between; and
what is written is counted, for a megabyte can unpack to a terabyte. Knows archives; must not know what is in them.
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
"""Folder that macOS adds to its zip files: a shadow of every file, without its contents."""

BYTES_PER_READ = 1 << 20

LARGEST_HEADER = 1 << 24
"""Bytes that may be read at once; a tar archive can hold a file's name in a header of any size."""

RATIO_COUNTS_FROM = 1 << 24
"""Unpacked bytes below which the ratio is not looked at; a small file may well be all alike."""

_DAMAGED = (
    zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, struct.error,
    EOFError, OSError, NotImplementedError, RuntimeError, ValueError, OverflowError,
)  # fmt: skip
"""What the libraries raise at damaged, encrypted or unknown archives; OSError also comes from writing."""

_DECOMPRESSORS: dict[bytes, Any] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\0": lzma.open}
"""First bytes of a file -> what opens it."""


def recognises(source: str) -> bool:
    """Whether a source is an archive by its ending."""
    return source.lower().endswith(ENDINGS) and Path(source).is_file()


def unpack(source: str, cache: Path, limits: UnpackConfig | None = None) -> Path:
    """The folder of an archive's contents, or the one folder that these are.

    Args:
        source: The archive.
        cache: Keeps what was unpacked.
        limits: What it may unpack to; ``None``: the defaults.

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
    """Write an archive's files below a folder, which is made anew, and count its members.

    Args:
        source: The archive; its ending says whether it is zip or tar.
        out: The folder; after an error it is gone.
        limits: What the archive may unpack to; ``None``: the defaults.

    Raises:
        UserError: The archive cannot be read; a member is a link or a special file, has a name that leads out of the
            folder or that the file system does not take, or stands twice; or a limit is passed.
    """
    shutil.rmtree(out, ignore_errors=True)  # of an attempt that was killed
    out.mkdir(parents=True)
    target = _Target(str(source), out, limits or UnpackConfig(), Path(source).stat().st_size)
    try:
        (_unzip if str(source).lower().endswith(".zip") else _untar)(target)
    except BaseException as error:
        shutil.rmtree(out, ignore_errors=True)
        if isinstance(error, _DAMAGED):
            raise UserError(f"{source}: not an archive that can be read ({error or type(error).__name__})") from None
        raise
    return target.members


@dataclass
class _Target:
    """A folder that files of an archive are written to, and how much was."""

    source: str
    out: Path
    limits: UnpackConfig
    packed: int
    """Bytes of the archive."""
    members: int = 0
    bytes: int = 0

    def add(self, name: str, size: int, stream: Any) -> None:
        """One member; ``stream`` opens a file's bytes, and is ``None`` for a folder."""
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
            raise self.refused(name, "stands there twice") from None
        except (OSError, ValueError) as error:  # too long, with a NUL byte, a file where a folder must be
            raise self.refused(name, f"cannot be written ({error})") from None
        with file, stream() as data:
            while part := data.read(BYTES_PER_READ):
                self.count(len(part))
                file.write(part)

    def count(self, size: int) -> None:
        """Count bytes that were unpacked."""
        self.bytes += size
        self._refuse_size(self.bytes)

    def refused(self, name: str, why: str) -> UserError:
        """What to say of a member that is not unpacked."""
        return UserError(f"{self.source}: refused, {name!r:.200} in it {why}")

    def _refuse_size(self, total: int) -> None:
        self._refuse_beyond("gigabytes", total / 1e9, self.limits.gigabytes)
        if total > RATIO_COUNTS_FROM:
            self._refuse_beyond("ratio", total / max(self.packed, 1), self.limits.ratio)

    def _refuse_beyond(self, limit: str, found: float, allowed: float) -> None:
        if found > allowed:
            raise UserError(
                f"{self.source}: refused, it unpacks to more than the limit {limit}={allowed:.12g} allows; "
                f"if you trust it, raise the limit: unpack.{limit} of the dataset, or --unpack {limit}=NUMBER"
            )


def _unzip(target: _Target) -> None:
    with zipfile.ZipFile(target.source) as archive:
        for member in archive.infolist():
            kind = stat.S_IFMT(member.external_attr >> 16)  # 0 where the zip was not made on Unix
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise target.refused(member.filename, "is a link or a special file")
            opened = None if member.is_dir() else lambda member=member: archive.open(member)
            target.add(member.filename, member.file_size, opened)


def _untar(target: _Target) -> None:
    with Path(target.source).open("rb") as file:
        opener = next((opener for start, opener in _DECOMPRESSORS.items() if file.peek(8).startswith(start)), None)
        with opener(file) if opener else file as data:
            guarded = _Guarded(data)
            with tarfile.open(fileobj=cast(IO[bytes], guarded), mode="r:") as archive:
                _add_all(archive, target)
            if guarded.last != bytes(tarfile.BLOCKSIZE):  # the library takes any other block for the end, too
                raise tarfile.ReadError("it was cut, or what stands before a file is damaged")
            while part := data.read(BYTES_PER_READ):  # to the checksum at the end of compressed bytes
                target.count(len(part))


def _add_all(archive: tarfile.TarFile, target: _Target) -> None:
    while (member := archive.next()) is not None:
        archive.members.clear()  # type: ignore[attr-defined]  # which the library would keep, all of them
        if not (member.isdir() or member.isreg()) or member.issparse() or member.size < 0:
            raise target.refused(member.name, "is a link or a special file; pack it with tar --dereference")
        opened = None if member.isdir() else lambda member=member: archive.extractfile(member)
        target.add(member.name, 0 if member.isdir() else member.size, opened)


class _Guarded:
    """A file of which nobody reads very much at once; the library would hold a header of any size in memory."""

    def __init__(self, data: IO[bytes]) -> None:
        self._data, self.seek, self.tell = data, data.seek, data.tell
        self.last = b""

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= LARGEST_HEADER:
            raise tarfile.ReadError("a header of this size is no header")
        self.last = self._data.read(size)
        return self.last
