"""A tar archive that was cut or damaged is refused, wherever that was; nothing of it is left out without a word."""

from __future__ import annotations

import gzip
import io
import random
import tarfile

import pytest

from retrieval_distill.data.formats import archive
from retrieval_distill.errors import UserError


def packed(files: int = 4) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for number in range(files):
            member = tarfile.TarInfo(f"d/{number}.txt")
            member.size = 100
            tar.addfile(member, io.BytesIO(random.Random(number).randbytes(100)))
    return out.getvalue()


def extract(tmp_path, name: str, data: bytes) -> int:
    (tmp_path / name).write_bytes(data)
    return archive.extract(tmp_path / name, tmp_path / "out")


@pytest.mark.parametrize("blocks", range(1, 9))
def test_cut_between_two_blocks(tmp_path, blocks):
    """Each file takes two blocks of 512 bytes: a cut between two files looks like an archive of fewer."""
    with pytest.raises(UserError, match=r"d\.tar: not a readable archive"):
        extract(tmp_path, "d.tar", packed()[: 512 * blocks])


@pytest.mark.parametrize("header", [0, 1, 2, 3])
def test_a_header_with_a_flipped_byte(tmp_path, header):
    data = bytearray(packed())
    data[1024 * header + 2] ^= 1
    with pytest.raises(UserError, match=r"d\.tar: not a readable archive"):
        extract(tmp_path, "d.tar", bytes(data))


@pytest.mark.parametrize("from_the_end", [1, 6])
def test_a_compressed_archive_whose_checksum_does_not_agree(tmp_path, from_the_end):
    data = bytearray(gzip.compress(packed()))
    data[-from_the_end] ^= 1
    with pytest.raises(UserError, match=r"d\.tar\.gz: not a readable archive"):
        extract(tmp_path, "d.tar.gz", bytes(data))


@pytest.mark.parametrize("end", [1024, 10240, 20480])
def test_a_whole_one(tmp_path, end):
    """Of any length of the end, which programs fill up differently."""
    data = packed().rstrip(b"\0")
    data += bytes(-len(data) % 512 + end)
    assert extract(tmp_path, "d.tar", data) == extract(tmp_path, "d.tar.gz", gzip.compress(data)) == 4
