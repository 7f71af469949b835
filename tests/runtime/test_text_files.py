"""One reader for text files: byte-order marks, encodings and line ends, and a clear message for what is no text."""

from __future__ import annotations

import gzip

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval_distill.errors import UserError
from retrieval_distill.runtime.text_files import lines, read_text

TEXT = "caf\u00e9 \u6f22\u2028one line\x0c\x85\rtwo\r\nthree\n\nfive"
LINES = ["caf\u00e9 \u6f22\u2028one line\x0c\x85", "two", "three", "", "five"]


@pytest.mark.parametrize(
    ("written", "named"),
    [
        ("utf-8", "utf-8"),
        ("utf-8-sig", "utf-8"),
        ("utf-8-sig", "cp1252"),
        ("utf-16", "utf-8"),
        ("utf-16", "utf-16"),
        ("utf-16", "utf-16-le"),
        ("utf-16", "utf-16-be"),
        ("utf-16-le", "utf-16-le"),
        ("utf-16-be", "utf-16-be"),
        ("utf-32", "utf-8"),
        ("gb18030", "gb18030"),
    ],
)
def test_encodings_and_byte_order_marks(tmp_path, written, named):
    path = tmp_path / "a.txt"
    path.write_bytes(TEXT.encode(written))
    assert read_text(path, named) == TEXT
    assert list(lines(path, named)) == LINES


@pytest.mark.parametrize(
    ("content", "named", "message"),
    [
        (b"one\ncaf\xe9", "utf-8", r"byte 0xe9 at position 7 \(line 2\) is not utf-8; save it as UTF-8, or"),
        (b"x\n" * 1_500_000 + b"\xff.", "utf-8", r"byte 0xff at position 3000000 \(line 1500001\) is not utf-8"),
        ("ab".encode("utf-16-le"), "utf-8", "contains a NUL byte, so it is not utf-8 text"),
        ("ab".encode("utf-16-le"), "utf-16", "without a byte-order mark .* use utf-16-le or utf-16-be"),
        (b"a\0b", "utf-16-le", r"byte 0x62 at position 2 \(line 1\) is not utf-16-le"),
        (b"a", "utf-9", "encoding 'utf-9' is unknown"),
        (b"a", "rot13", "encoding 'rot13' is unknown"),
    ],
)
def test_what_is_no_text_is_named_by_its_place(tmp_path, content, named, message):
    path = tmp_path / "a.txt"
    path.write_bytes(content)
    for read in (read_text, lambda *of: list(lines(*of))):
        with pytest.raises(UserError, match=message) as refused:
            read(path, named)
        assert str(path) in str(refused.value) or "unknown" in message


def test_compressed_files(tmp_path):
    path = tmp_path / "a.txt.gz"
    path.write_bytes(gzip.compress(TEXT.encode("utf-8-sig")))
    assert read_text(path) == TEXT and list(lines(path)) == LINES
    whole = path.read_bytes()
    for damaged in (whole[:-9], b"no", whole[:15] + b"\xff\xff\xff" + whole[18:]):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=r"a\.txt\.gz: damaged file"):
            read_text(path)


def test_what_is_no_file(tmp_path):
    with pytest.raises(UserError, match="nowhere: No such file"):
        read_text(tmp_path / "nowhere")
    with pytest.raises(UserError, match=f"{tmp_path}: Is a directory"):
        list(lines(tmp_path))


parts = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0\r\n\ufeff"), max_size=8)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(parts, min_size=1),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
)
def test_lines_are_what_was_written(tmp_path_factory, wanted, end, encoding):
    path = tmp_path_factory.mktemp("lines") / "a.txt"
    path.write_bytes("".join(f"{line}{end}" for line in wanted).encode(encoding))
    assert list(lines(path)) == wanted


@settings(deadline=None, max_examples=100)
@given(
    st.binary(max_size=40), st.sampled_from(["utf-8", "utf-16", "utf-16-le", "utf-32", "cp1252", "shift_jis", "utf-7"])
)
def test_any_bytes_are_text_or_refused(tmp_path_factory, content, encoding):
    path = tmp_path_factory.mktemp("bytes") / "a.txt"
    path.write_bytes(content)
    try:
        text = read_text(path, encoding)
    except UserError as error:
        assert str(path) in str(error)
        with pytest.raises(UserError):
            list(lines(path, encoding))
    else:
        assert "\n".join(lines(path, encoding)) == text.replace("\r\n", "\n").replace("\r", "\n").removesuffix("\n")
