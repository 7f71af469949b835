"""What the guide shows works: its commands serve, its requests are answered, its limits are the code's."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import threading
import time
from pathlib import Path

import httpx
import pytest

from retrieval_distill.index.faiss_index import index
from retrieval_distill.serving import server
from retrieval_distill.serving.limits import MAX_DEPTH, Limits
from tests.commands import command

GUIDE = (Path(__file__).parents[2] / "docs" / "guides" / "serve.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", GUIDE, re.S | re.M)


def lines(language: str) -> list[list[str]]:
    return [shlex.split(line) for block in blocks(language) for line in block.splitlines()]


@pytest.mark.parametrize("words", lines("bash"), ids=" ".join)
def test_its_commands_serve(words, finished_run, encoders, tmp_path, monkeypatch):
    """With the run, index and model of the tests in place of those that are named, on a free port."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "mine").symlink_to(finished_run)
    (tmp_path / "my-folder").symlink_to(finished_run.parent / "data")
    index(finished_run.parent / "vectors", tmp_path / "index", "flat")
    with server.bound("127.0.0.1", 0) as free:
        port = free.getsockname()[1]
    words = [encoders["bert"] if word.startswith("packaged:") else word for word in words[1:]]
    words = [word for flag, word in zip(["", *words], words, strict=False) if "--port" not in (flag, word)]
    found = []

    def ask():
        for _ in range(600):
            try:
                found.append(httpx.get(f"http://127.0.0.1:{port}/systems", trust_env=False).json()["docs"])
                break
            except httpx.TransportError:
                time.sleep(0.1)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=ask)
    thread.start()
    said = command(*words, "--port", port)
    thread.join()
    assert found == [60] and f"at http://127.0.0.1:{port}; Ctrl-C stops" in said


@pytest.mark.parametrize("words", lines("console"), ids=lambda words: words[-1])
def test_its_requests_are_answered(words, served):
    program, url, *options = words
    assert program == "curl"
    path = url.removeprefix("http://127.0.0.1:8080")
    assert path != url
    if not options:
        with served.client() as client:
            assert client.get(path).status_code == 200
        return
    assert options[:3] == ["-H", "Content-Type: application/json", "-d"]
    found = served.post(path, json.loads(options[3]))
    assert found.status_code == 200 and found.json()


def test_its_python_runs(served, capsys):
    (block,) = blocks("py")
    exec(compile(block.replace("http://127.0.0.1:8080", served.url), "serve.md", "exec"), {})
    assert capsys.readouterr().out == "32\n"


def test_its_limits_are_the_codes():
    limits = Limits()
    assert f"{limits.body >> 20} MiB, {limits.texts:,} texts, {limits.characters:,}\ncharacters of a text" in GUIDE
    assert f"{MAX_DEPTH} hits of a page" in GUIDE and f"When {limits.waiting:,} items wait" in GUIDE
    assert f"more than {limits.body_seconds:g} s" in GUIDE and f"after {limits.stop_seconds} s" in GUIDE
