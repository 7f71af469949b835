"""A mistake is told before anything costly: before torch is imported, a dataset read, or the hub asked again."""

from __future__ import annotations

import json
import socket
import subprocess
import sys

import pytest

CHECK = """
import json, sys
from retrieval_distill import cli
for arguments, message in json.loads(sys.argv[1]):
    sys.argv = ["retrieval-distill", *arguments]
    try:
        cli.main()
    except SystemExit as end:
        assert end.code == 2, arguments
    found = {"torch", "transformers", "sentence_transformers", "faiss", "datasets"} & set(sys.modules)
    assert not found, (arguments, found)
"""


def test_a_typo_imports_nothing_heavy(dataset_folder, tmp_path):
    """Each message comes, exit code 2, in one process that by the end has imported no library that takes seconds."""
    run = tmp_path / "run.trec"
    run.write_text("q0 Q0 d0 1 1.0 x\n")
    data, out = ["--dataset", dataset_folder], ["--out", str(tmp_path / "out")]
    nowhere, store = ["--dataset", "nowhere"], ["--store", str(tmp_path / "store")]
    vectors = str(tmp_path / "vectors")
    mistakes = [
        (["embed", "--model", "./nosuch", *nowhere, *out], "model folder './nosuch' does not exist"),
        (["embed", "--model", "packaged:all-MiniLM-L6-v2", *nowhere, *out], "dataset 'nowhere': no such folder"),
        (["evaluate", "nosuch.trec", *nowhere], "nosuch.trec: no such run file"),
        (["evaluate", str(run), *nowhere, "--measure", "nDGC@10"], "unknown measure 'nDGC@10'"),
        (["evaluate", str(run), *nowhere], "dataset 'nowhere': no such folder"),
        (["run", "nosuch", *out], "nosuch: no such recipe file"),
        (["run", "demo", *out, "--set", "training.stps=1"], "did you mean 'steps'"),
        (["demo", *out, "--set", "training.stps=1"], "did you mean 'steps'"),
        (["score", "nosuch.trec", *nowhere, *store, *out], "nosuch.trec: no such run file"),
        (["score", str(run), *nowhere, *store, *out, "--teacher", "./nosuch"], "model folder './nosuch'"),
        (["score", str(run), *nowhere, *store, *out, "--set", "lable=1"], "did you mean 'label'"),
        (["rerank", str(run), *nowhere, *store, *out, "--teacher", "scores:nosuch"], "nosuch"),
        (["rerank", str(run), *nowhere, *store, "--out", "x.trec", "--depth", "1", "--depth", "2"], "leave the ending off"),
        (["retrieve", *nowhere, *out, "--language", "germn"], "language: Input should be"),
        (["retrieve", *nowhere, *out, "--index", vectors, "--model", "m"], "vectors: no index there"),
        (["mine", *nowhere, *out, "--retriever", "./nosuch"], "model folder './nosuch'"),
        (["mine", *nowhere, *out, "--set", "drw=1"], "did you mean 'draw'"),
        (["filter-negatives", "nosuch", *nowhere, *out, "--set", "margin=1"], "nosuch: no such run file"),
        (["filter-negatives", str(run), *nowhere, *out, "--set", "margn=1"], "did you mean 'margin'"),
        (["distill", "nosuch", *nowhere, *out], "nosuch: no such run file"),
        (["distill", str(run), *nowhere, *out, "--set", "training.stps=1"], "did you mean 'steps'"),
        (["compress", *nowhere, *out, "--model", "./nosuch"], "model folder './nosuch'"),
        (["compress", *nowhere, *out, "--model", "x", "--set", "layrs=1"], "did you mean 'layers'"),
        (["index", vectors, *out], "vectors: no embeddings there"),
        (["index", vectors, *out, "--kind", "auto", "--intent", "recal=1"], "did you mean 'recall'"),
        (["convert", "nowhere", "x", "--to", "parkuet"], "did you mean 'parquet'"),
        (["prepare", "nowhere", *out, "--set", "duplicats=near"], "did you mean 'duplicates'"),
        (["generate", *nowhere, *out, "--set", "keeep=1"], "did you mean 'keep'"),
        (["generate", *nowhere, *out, "--teacher", "./nosuch"], "model folder './nosuch'"),
        (["fit-teacher", *nowhere, *out, "--set", "los=1"], "did you mean 'loss'"),
        (["fit-teacher", *nowhere, *out, "--model", "./nosuch"], "model folder './nosuch'"),
        (["benchmark", "./nosuch", "--on", "nowhere", *out], "model folder './nosuch'"),
        (["search", "nosuch", "query"], "nosuch: no finished run there"),
        (["search", "--index", vectors, "--model", "m", *data, "query"], "vectors: no index there"),
        (["scores", "nosuch"], "nosuch: no such score store"),
        (["export", vectors, "--out", "x.parquet"], "vectors: no embeddings there"),
    ]  # fmt: skip
    done = subprocess.run([sys.executable, "-c", CHECK, json.dumps(mistakes)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    said = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(said) == len(mistakes)
    for line, (arguments, message) in zip(said, mistakes, strict=True):
        assert message in line, arguments


@pytest.fixture
def dead_hub(monkeypatch, tmp_path):
    """Nobody answers where the hub should be."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound but not listening: nobody else can answer there
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{unused.getsockname()[1]}")
        monkeypatch.setenv("HF_HUB_OFFLINE", "0")
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        yield


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["embed", "--model", "some/model", "--dataset", "x"],
            "error: model 'some/model' is neither a folder nor reach",
        ),
        (["retrieve", "--dataset", "hf:some/data"], "error: hf:some/data could not be loaded"),
        (["retrieve", "--dataset", "nanobeir:scifact"], "error: nanobeir: corpus of"),
    ],
    ids=["model", "dataset", "nanobeir"],
)
@pytest.mark.usefixtures("dead_hub")
def test_a_hub_that_cannot_be_reached_is_called_once(arguments, message, tmp_path):
    command = [sys.executable, "-m", "retrieval_distill", *arguments, "--out", "x", "--cache", str(tmp_path / "cache")]
    done = subprocess.run(command, capture_output=True, text=True)
    lines = done.stderr.splitlines()
    assert done.returncode == 2 and lines[-1].startswith(message)
    assert "Retrying" not in done.stderr and done.stderr.count("Connection refused") == 1
    assert len(lines) <= 2
