"""What reaches a terminal does nothing to it, whatever a document holds; what a terminal lacks ends no command."""

from __future__ import annotations

import io
import json
import os
import select
import subprocess
import sys
import time

import pytest
from typer.main import get_command

from retrieval_distill import cli
from retrieval_distill.data.dataset import Dataset
from retrieval_distill.data.formats import beir
from retrieval_distill.embedding.embed import embed
from retrieval_distill.formatting import visible
from retrieval_distill.index.faiss_index import index
from tests.commands import command

HOSTILE = "\x1b[31mred\x1b]0;title\x07 \x9b31m \u202eback\u2066 \x7f"
ACTS = set("\x1b\x07\x9b\x7f\u202e\u2066")


@pytest.fixture(scope="module")
def options(encoders, tmp_path_factory):
    """Two documents that try to act on a terminal, one of which it may lack the characters of."""
    folder = tmp_path_factory.mktemp("hostile")
    documents = [
        ("d\x1b[2J1", f"{HOSTILE} one", f"path file {HOSTILE} root. The end.\r\nNext line."),
        ("d2", "東京 café", "sort index \u03a9 \U0001f600"),
    ]
    data = Dataset.from_records("hostile", documents, [("q1", "path file")], {"test": [("q1", "d2", 1)]})
    beir.save(data, folder / "data")
    embed(encoders["bert"], data.documents, folder / "vectors", "float32")
    index(folder / "vectors", folder / "index", "flat")
    return ["--index", str(folder / "index"), "--model", encoders["bert"], "--dataset", str(folder / "data")]


def test_controls_of_documents_are_shown_and_not_sent(options, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("path file\n:1\n:2\n"))
    text = command("search", *options)
    assert not ACTS & set(text)
    assert r"\x1b[31mred\x1b]0;title\x07 \x9b31m \u202eback\u2066 \x7f one  d\x1b[2J1" in text.replace("\n", "")
    assert "end.\nNext line." in text and "東京 café" in text


def test_json_holds_the_very_text_in_ascii(options):
    line = command("search", *options, "path file", "--json")
    assert line.isascii() and not ACTS & set(line)
    first = next(hit for hit in json.loads(line)["hits"] if hit["id"] != "d2")
    assert first["id"] == "d\x1b[2J1" and first["title"].startswith("\x1b[31mred\x1b]0;title\x07")


def test_controls_of_names_are_shown_and_not_sent(options, tmp_path):
    assert not ACTS & set(command("search", f"no{HOSTILE}where", "path", code=2))
    assert not ACTS & set(command("search", *options, "--queries", "test", "--out", tmp_path / f"{HOSTILE[:5]}.trec"))
    assert visible("a\tb\nc") == "a\tb\nc"


def test_the_log_is_shown_and_not_sent(tmp_path):
    (tmp_path / "corpus.jsonl").write_text(json.dumps({"_id": "d1", "text": "text"}) + "\n")
    (tmp_path / "queries.jsonl").write_text(json.dumps({"_id": f"q{HOSTILE}", "text": "text"}) + "\n")
    (tmp_path / "qrels").mkdir()
    (tmp_path / "qrels" / "test.tsv").write_text(f"q{HOSTILE.replace(' ', '')}\td1\t1\n")
    asked = ["convert", str(tmp_path), str(tmp_path / "out"), "--to", "beir", "--on-bad", "skip"]
    done = subprocess.run([sys.executable, "-m", "retrieval_distill", *asked], capture_output=True, text=True)
    assert r"\x1b" in done.stderr and not ACTS & set(done.stdout + done.stderr)


def asked(options, *more, encoding, **settings):
    environment = os.environ | {"PYTHONIOENCODING": encoding}
    arguments = [sys.executable, "-m", "retrieval_distill", "search", *options, *more]
    return subprocess.run(arguments, capture_output=True, env=environment, **settings)


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_a_terminal_without_the_characters_gets_others(options, encoding):
    done = asked(options, "sort index café", encoding=encoding)
    assert done.returncode == 0, done.stderr
    shown = done.stdout.decode(encoding)
    assert "?? caf" in shown and ("café" in shown) == (encoding == "cp1252") and "2 of 2 documents in" in shown
    found = json.loads(asked(options, "sort index café", "--json", encoding=encoding).stdout)
    assert found["query"] == "sort index café" and "東京 café" in [hit["title"] for hit in found["hits"]]


def test_lines_that_are_no_text_are_refused_and_the_next_answered(options):
    done = asked(options, "--json", encoding="utf-8", input="café\n".encode("latin-1") + "café\n".encode())
    assert done.returncode == 0 and b"lone surrogate" in done.stderr and b"Traceback" not in done.stderr
    assert [json.loads(line)["query"] for line in done.stdout.splitlines()] == ["café"]


def test_utf8_from_a_terminal_that_claims_ascii_is_read(options):
    done = asked(options, "--json", encoding="ascii", input="café\n".encode())
    assert [json.loads(line)["query"] for line in done.stdout.splitlines()] == ["café"]


@pytest.mark.parametrize("name", sorted(get_command(cli.app).commands))
def test_help_is_told_to_every_terminal(name, monkeypatch):
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii", write_through=True)
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "argv", ["retrieval-distill", name, "--help"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert not ended.value.code and b"Example" in out.buffer.getvalue()


@pytest.mark.parametrize("keys", ["\x1b[A", "\x1bOA", "\x1b[1;5C\x1b[3~", "\x1b]0;title\x07", "\x00\x07\x7f", "\x1b"])
def test_keys_of_a_terminal_are_no_query(options, keys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{keys}\npath{keys} file\n"))
    lines = command("search", *options, "--json").splitlines()
    assert [json.loads(line)["query"].split() for line in lines] == [["path", "file"]]
    assert "the query is empty" in command("search", *options, keys, code=2)


def test_a_closed_input_holds_no_query(options, monkeypatch):
    monkeypatch.setattr(sys, "stdin", None)
    assert command("search", *options) == ""
    shell = ["sh", "-c", 'exec "$@" <&-', "sh", sys.executable, "-m", "retrieval_distill", "search", *options]
    done = subprocess.run(shell, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout == done.stderr == ""


def test_the_arrow_up_brings_back_the_last_query(options):
    pytest.importorskip("readline")
    pty = pytest.importorskip("pty")
    leader, follower = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "80"}
    arguments = [sys.executable, "-m", "retrieval_distill", "search", *options, "--json"]
    shown = b""

    def until(wanted: bytes, times: int) -> None:
        nonlocal shown
        end = time.monotonic() + 120
        while shown.count(wanted) < times and time.monotonic() < end:
            if select.select([leader], [], [], 1)[0]:
                shown += os.read(leader, 65536)

    with subprocess.Popen(
        arguments, stdin=follower, stdout=follower, stderr=subprocess.PIPE, env=environment
    ) as process:
        os.close(follower)
        until(b"> ", 1)
        os.write(leader, b"path file\n")
        until(b'"hits"', 1)
        os.write(leader, b"\x1b[A\n")
        until(b'"hits"', 2)
        os.write(leader, b":q\n")
        assert process.wait(60) == 0
    os.close(leader)
    assert shown.count(b'{"query": "path file"') == 2
