"""Archives of strangers: nothing is written outside, no link is followed, and a small file does not fill the disk."""

from __future__ import annotations

import io
import os
import tarfile
import zipfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval_distill.config import ReadConfig, UnpackConfig
from retrieval_distill.data import dataset_loader
from retrieval_distill.data.formats import archive
from retrieval_distill.errors import UserError

ROW = b'{"id": "a", "text": "one"}\n'


def tar(path, *members, mode="w:gz"):
    """A tar archive; a member is (name, contents), or a TarInfo."""
    with tarfile.open(path, mode) as out:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                out.addfile(member, io.BytesIO(bytes(member.size)))
            else:
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                out.addfile(info, io.BytesIO(member[1]))
    return str(path)


def zipped(path, *members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
        for name, content in members:
            out.writestr(name, content)
    return str(path)


def special(name, kind, target="", size=0):
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, target, size
    return info


def refused(source, tmp_path, message, **limits):
    out = tmp_path / "cache" / "archives" / "x" / "contents"
    with pytest.raises(UserError, match=message) as error:
        archive.extract(source, out, UnpackConfig(**limits))
    assert str(error.value).startswith(source)
    assert not out.exists(), "what was unpacked before the refusal is gone"


def test_a_chain_of_links_longer_than_a_path_may_be(tmp_path):
    """CVE-2025-4517: once the real path is too long to be found out, the standard library's filter lets links pass."""
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "notes.txt").write_text("mine")
    part, steps, path, members = "d" * 247, "abcdefghijklmnop", "", []
    for step in steps:
        members += [
            special(f"{path}{part}", tarfile.DIRTYPE),
            special(f"{path}{step}", tarfile.SYMTYPE, part),
        ]
        path = f"{path}{part}/"
    end = f"{'/'.join(steps)}/{'l' * 254}"
    up = os.path.relpath(victim, tmp_path / "cache" / "archives" / "x" / "contents")
    members += [
        special(end, tarfile.SYMTYPE, "../" * len(steps)),
        special("escape", tarfile.SYMTYPE, f"{end}/{up}"),
        special("link", tarfile.LNKTYPE, "escape/notes.txt"),
        ("link", b"overwritten"),
    ]
    refused(tar(tmp_path / "a.tar.gz", *members), tmp_path, "is a link or a special file")
    assert (victim / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize(
    "kind",
    [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.GNUTYPE_SPARSE],
)
def test_links_and_special_files(tmp_path, kind):
    source = tar(tmp_path / "a.tar", ("docs.jsonl", ROW), special("x", kind, "docs.jsonl"), mode="w")
    refused(source, tmp_path, "refused, 'x' in it is a link or a special file")


def test_a_link_in_a_zip_file(tmp_path):
    info = zipfile.ZipInfo("x")
    info.external_attr = 0o120777 << 16
    refused(zipped(tmp_path / "a.zip", (info, "/etc/passwd")), tmp_path, "refused, 'x' in it is a link")


@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/tmp/evil", "..\\evil", "C:\\evil", "C:evil", "\\evil"])
def test_names_that_lead_outside(tmp_path, name):
    (tmp_path / "deep").mkdir()
    for source in (zipped(tmp_path / "a.zip", (name, "x")), tar(tmp_path / "a.tgz", (name, b"x"))):
        refused(source, tmp_path, "in it would be written outside its folder")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a" * 300], "cannot be written .*name too long"),
        (["b/" * 20 + "x" * 200 + "/" + "y" * 250 + "/" + "z" * 256], "cannot be written"),
        (["a", "a"], "'a' in it occurs twice"),
        (["a", "a/b"], "'a/b' in it (cannot be written|occurs twice)"),
        (["d/" * 32 + "x"], "exceeds the limit depth=32; if you trust it, raise the limit: unpack.depth"),
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_names_that_no_file_can_have(tmp_path, names, message):
    refused(tar(tmp_path / "a.tar", *((name, ROW) for name in names), mode="w"), tmp_path, f"(?i){message}")
    refused(zipped(tmp_path / "a.zip", *((name, ROW) for name in names)), tmp_path, f"(?i){message}")


def test_bombs(tmp_path):
    """Zeros shrink a thousandfold; a text of the same size does not."""
    zeros = ("docs.jsonl", ROW + bytes(20_000_000))
    for source in (
        zipped(tmp_path / "a.zip", zeros),
        tar(tmp_path / "a.tar.gz", zeros),
        tar(tmp_path / "a.tar.xz", zeros, mode="w:xz"),
    ):
        refused(source, tmp_path, "exceeds the limit ratio=200")
        refused(source, tmp_path, "exceeds the limit gigabytes=0.01", gigabytes=0.01, ratio=1e9)


def test_a_size_that_is_not_true(tmp_path):
    """A zip file that announces a byte and holds more: what is written is counted, not what is announced."""
    path = tmp_path / "a.zip"
    zipped(path, ("docs.jsonl", ROW * 1000))
    size = len(ROW * 1000).to_bytes(4, "little")
    path.write_bytes(path.read_bytes().replace(size, (1).to_bytes(4, "little")))
    refused(str(path), tmp_path, "not a readable archive")


def test_many_files(tmp_path):
    members = [(f"docs/{number}.txt", b"x") for number in range(5)]
    for source in (zipped(tmp_path / "a.zip", *members), tar(tmp_path / "a.tar", *members, mode="w")):
        refused(source, tmp_path, "exceeds the limit files=4", files=4)
    with pytest.raises(UserError, match="exceeds the limit files=4"):
        dataset_loader.load(source, tmp_path / "cache", ReadConfig(unpack={"files": 4}))
    found = dataset_loader.load(source, tmp_path / "cache", ReadConfig(unpack={"files": 5}))
    assert found.documents.ids == [f"{number}.txt" for number in range(5)]


def test_a_header_that_fills_the_memory(tmp_path):
    """The library reads a long name whole: here one of 64 MB, in an archive of a few kilobytes."""
    source = tar(tmp_path / "a.tar.gz", special("x", tarfile.GNUTYPE_LONGNAME, size=1 << 26), ("docs.jsonl", ROW))
    refused(source, tmp_path, "a header is too large")


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(["zip", "tar", "tar.gz", "tar.xz", "tar.bz2"]), st.data())
def test_damaged_archives(tmp_path_factory, ending, data):
    """Bytes that were changed or cut off: the texts as they were, or a refusal that names the file."""
    folder = tmp_path_factory.mktemp("damaged")
    path = folder / f"a.{ending}"
    members = [("docs/one.txt", b"one " * 50), ("docs/two.txt", b"two")]
    if ending == "zip":
        zipped(path, *members)
    else:
        tar(path, *members, mode="w:" + ending.partition(".")[2])
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))] if data.draw(st.booleans()) else content)
    try:
        archive.extract(path, folder / "out")
    except UserError as error:
        assert str(folder) in str(error)


def test_a_zip_file_of_macos(tmp_path):
    """Beside each file stands its shadow, and once more in a folder of its own."""
    corpus, queries, judged = '{"_id": "d", "text": "one"}\n', '{"_id": "q", "text": "ask"}\n', "q\td\t1\n"
    source = zipped(
        tmp_path / "a.zip",
        ("mine/corpus.jsonl", corpus), ("mine/queries.jsonl", queries), ("mine/qrels/test.tsv", judged),
        ("mine/._corpus.jsonl", b"\0\5\26\7"), ("mine/qrels/._test.tsv", b"\0\5\26\7\xff"), ("mine/.DS_Store", b"\0"),
        ("__MACOSX/._mine", b"\0"), ("__MACOSX/mine/qrels/._test.tsv", b"\0\5\26\7\xff"),
    )  # fmt: skip
    assert dataset_loader.load(source, tmp_path / "cache").qrels == {"test": {"q": {"d": 1}}}
