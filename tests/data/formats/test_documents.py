"""Folders of text, Markdown, HTML and PDF files: what is text comes out whole, what has none is named."""

from __future__ import annotations

import io

import pytest

from retrieval_distill.config import ReadConfig
from retrieval_distill.data import dataset_loader, metadata
from retrieval_distill.errors import UserError

pytest.importorskip("bs4", reason="needs the extra files")
pytest.importorskip("pypdf", reason="needs the extra files")

PAGE = """<!doctype html><html><head><meta charset="utf-8"><title> A  page </title><style>p {}</style></head>
<body><script>var hidden = 1;</script><h1>Head&amp;ing</h1><p>One <b>bo</b>ld
word.</p><ul><li>first</li><li>second</li></ul>a<br>b</body></html>"""


def pdf(text: str, title: str = "") -> bytes:
    """A PDF of one page that shows one line of text, written by hand."""
    shown = f"BT /F1 12 Tf 72 720 Td ({text}) Tj ET".encode()
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R"
        b" /Resources << /Font << /F1 << /Type /Font /Subtype /Type1 /BaseFont /Helvetica >> >> >> >>",
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(shown), shown),
        f"<< /Title ({title}) >>".encode(),
    ]
    out, places = io.BytesIO(), []
    out.write(b"%PDF-1.4\n")
    for number, body in enumerate(objects, 1):
        places.append(out.tell())
        out.write(b"%d 0 obj\n%s\nendobj\n" % (number, body))
    start = out.tell()
    out.write(b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1))
    out.write(b"".join(b"%010d 00000 n \n" % place for place in places))
    out.write(b"trailer\n<< /Size %d /Root 1 0 R /Info 5 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, start))
    return out.getvalue()


def read(folder, **options):
    return dataset_loader.load(str(folder), folder.parent / "cache", ReadConfig(**options))


def test_text_of_every_kind(tmp_path):
    folder = tmp_path / "docs"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.txt").write_text("plain\n\ntext\n")
    (folder / "sub" / "b.md").write_text("# The *title*\n\nA [link](http://x) and `code`.\n\n* item\n")
    (folder / "c.html").write_text(PAGE)
    (folder / "d.pdf").write_bytes(pdf("Words of a page", "Its title"))
    (folder / ".hidden.txt").write_text("no")
    (folder / "e.docx").write_bytes(b"PK")
    found = read(folder)
    assert list(found.documents.records()) == [
        ("a.txt", "", "plain\n\ntext\n"),
        ("c.html", "A page", "# Head&ing\nOne bold word.\nfirst\nsecond\na\nb"),
        ("d.pdf", "Its title", "Words of a page"),
        ("sub/b.md", "The title", "A link and code.\nitem"),
    ]
    assert found.left_out == {"file of no known kind": {"count": 1, "first": [str(folder / "e.docx")]}}


def test_linked_folders_are_read_once(tmp_path):
    """Two links to one folder, a link to the folder itself and one to what it is in: no file twice, and no end."""
    docs, other = tmp_path / "in" / "docs", tmp_path / "other"
    docs.mkdir(parents=True)
    other.mkdir()
    (docs / "a.txt").write_text("one")
    (other / "b.txt").write_text("two")
    (docs / "first").symlink_to(other)
    (docs / "second").symlink_to(other)
    (docs / "self").symlink_to(docs)
    (other / "back").symlink_to(docs)
    (docs / "above").symlink_to(tmp_path)
    (docs / ".hidden").symlink_to(other)
    (docs / "gone").symlink_to(tmp_path / "nowhere")
    assert read(docs).documents.ids == ["a.txt", "first/b.txt"]


def test_what_files_tell_of_themselves_are_further_columns(tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.md").write_text("---\nyear: 2020\ntags: [x, y]\nid: intro\nday: 2020-01-02\n---\ntext")
    (tmp_path / "docs" / "b.html").write_text('<html lang=de><meta name="Author" content="Ada"><p>text')
    (tmp_path / "docs" / "c.txt").write_text("text")
    found = metadata.table(read(tmp_path / "docs")).drop_columns(["title", "text"])
    assert found.to_pylist() == [
        {
            "id": "a.md",
            "year": 2020,
            "tags": '["x", "y"]',
            "id_": "intro",
            "day": "2020-01-02",
            "author": None,
            "language": None,
        },
        {"id": "b.html", "year": None, "tags": None, "id_": None, "day": None, "author": "Ada", "language": "de"},
        {"id": "c.txt", "year": None, "tags": None, "id_": None, "day": None, "author": None, "language": None},
    ]


def test_queries_and_judgements_beside_the_folder(tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.txt").write_text("text")
    (tmp_path / "queries.csv").write_text("id,text\nq,ask\n")
    (tmp_path / "judged.tsv").write_text("q\ta.txt\t1\n")
    options = {"queries": str(tmp_path / "queries.csv"), "qrels": {"test": str(tmp_path / "judged.tsv")}}
    assert read(tmp_path / "docs", **options).qrels == {"test": {"q": {"a.txt": 1}}}


def picture() -> bytes:
    image = pytest.importorskip("PIL.Image", reason="needs pillow to make a picture")
    out = io.BytesIO()
    image.new("RGB", (8, 8), "red").save(out, "PDF")
    return out.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "reason", "message"),
    [
        ("x.html", b"<html><body><script>app()</script></body></html>", "HTML without text", "no visible text"),
        ("x.html", "<p>café</p>".encode("cp1252"), "not utf-8", "give its --encoding"),
        ("x.md", b"<!-- only a comment -->", "Markdown without text", "contains only markup"),
        ("x.txt", b" \n", "text file without text", "empty"),
        ("x.txt", b"a\0b", "NUL byte", "NUL byte at character 2"),
        ("x.html", b"<p>a\0b</p>", "NUL byte", "NUL byte at character 5"),
        ("x.txt", b"y" * 1001, "file too long", "more than 1,000 characters"),
        ("x.html", b"<p>" + b"y" * 1001, "file too long", "more than 1,000 characters"),
        ("x.txt", b"caf\xe9", "not utf-8", "byte 3 of the file is not utf-8"),
        ("x.pdf", b"no pdf", "PDF that cannot be read", "cannot be read"),
        ("x.pdf", pdf(""), "PDF without text", "no text on its 1 page"),
        ("x.pdf", picture, "PDF that is only pictures", r"only images \(1 on 1 page\); run OCR"),
    ],
)
def test_files_without_text_are_named(tmp_path, monkeypatch, name, content, reason, message):
    monkeypatch.setattr("retrieval_distill.data.formats.extract.MAX_CHARACTERS", 1000)
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "good.txt").write_text("fine")
    (folder / name).write_bytes(content() if callable(content) else content)
    with pytest.raises(UserError, match=message) as refused:
        read(folder)
    assert str(refused.value).startswith(f"{folder / name}: ")
    kept = read(folder, on_bad="skip")
    assert kept.documents.ids == ["good.txt"]
    assert kept.left_out == {reason: {"count": 1, "first": [str(folder / name)]}}


def test_a_page_in_another_encoding(tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.html").write_bytes('<meta charset="latin-1"><p>café</p>'.encode("latin-1"))
    assert read(tmp_path / "docs").documents["a.html"] == "café"
    (tmp_path / "docs" / "a.html").write_bytes("<p>café</p>".encode("cp1252"))
    assert read(tmp_path / "docs", encoding="cp1252").documents["a.html"] == "café"
