"""An exported model in the place of its student: embedding and searching without PyTorch, and what is refused."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

import retrieval_distill as rd
from retrieval_distill.errors import UserError
from retrieval_distill.student import backends
from tests.commands import command
from tests.student.test_export import alone

pytest.importorskip("onnxruntime")

QUERY = "split path file root"


@pytest.fixture(scope="module")
def exported(encoders, tmp_path_factory) -> str:
    out = tmp_path_factory.mktemp("exported") / "onnx"
    rd.export_model(encoders["bert"], out=out, to="onnx")
    return str(out)


@pytest.fixture(scope="module")
def index(encoders, dataset, tmp_path_factory) -> str:
    """An index of vectors that the student itself made."""
    folder = tmp_path_factory.mktemp("index")
    vectors = rd.embed(dataset.documents, encoders["bert"], out=folder / "vectors", dtype="float32")
    return str(rd.index(vectors, out=folder / "index").folder)


def test_search_needs_no_pytorch(exported, index, encoders, dataset, dataset_folder):
    expected = rd.Searcher.open(index, model=encoders["bert"], dataset=dataset)(QUERY)
    program = """
import retrieval_distill as rd
folder, model, dataset, query = sys.argv[1:]
for hit in rd.Searcher.open(folder, model=model, dataset=rd.load_dataset(dataset))(query):
    print(hit.id, hit.score)
"""
    found = [line.split() for line in alone(program, index, exported, dataset_folder, QUERY).splitlines()]
    assert [id_ for id_, _ in found] == [hit.id for hit in expected]
    np.testing.assert_allclose([float(score) for _, score in found], [hit.score for hit in expected], atol=1e-5)


def test_embed_needs_no_pytorch(exported, encoders, dataset, dataset_folder, tmp_path):
    program = """
import retrieval_distill as rd
dataset, model, out = sys.argv[1:]
rd.embed(rd.load_dataset(dataset).documents, model, out=out)
"""
    alone(program, dataset_folder, exported, str(tmp_path / "vectors"))
    ids = list(dataset.documents.ids)
    student = rd.embed(dataset.documents, encoders["bert"], out=tmp_path / "student", dtype="float32")
    found = rd.Embeddings.open(tmp_path / "vectors").take(ids)
    np.testing.assert_allclose(found, student.take(ids), atol=1e-5)


def test_a_table_of_queries_is_answered_with_it(exported, index, encoders, dataset):
    queries = dataset.queries("test")
    exact = rd.search(queries, index, model=encoders["bert"], depth=5, dtype="float32")
    found = rd.search(queries, index, model=exported, depth=5)
    assert found.frame["doc_id"].tolist() == exact.frame["doc_id"].tolist()


def test_the_export_of_another_model_is_refused(index, encoders, dataset, tmp_path):
    rd.export_model(encoders["distilbert"], out=tmp_path / "other", to="onnx")
    with pytest.raises(UserError, match="was not built with"):
        rd.Searcher.open(index, model=str(tmp_path / "other"), dataset=dataset)


def test_a_student_encodes_with_it(exported, encoders):
    texts = [QUERY, "read"]
    found = rd.Student.open(exported).encode_queries(texts)
    np.testing.assert_allclose(found, rd.Student.open(encoders["bert"]).encode_queries(texts), atol=1e-5)


def test_what_cannot_be_exported(encoders, exported, dataset, tmp_path, monkeypatch):
    out = tmp_path / "out"
    with pytest.raises(UserError, match=r"model folder './nowhere' does not exist"):
        rd.export_model("./nowhere", out=out, to="onnx")
    with pytest.raises(UserError, match="a teacher of the kind llm is no model"):
        rd.export_model("llm:judge", out=out, to="onnx")
    with pytest.raises(UserError, match="an exported bi-encoder, which only embed"):
        rd.export_model(exported, out=out, to="onnx")
    with pytest.raises(UserError, match="no such runtime; did you mean 'onnx'"):
        rd.export_model(encoders["bert"], out=out, to="onyx")
    with pytest.raises(UserError, match="did you mean 'float16'"):
        rd.export_model(encoders["bert"], out=out, to="onnx", dtype="float61")
    with pytest.raises(UserError, match="split 'nine'"):
        rd.export_model(encoders["bert"], out=out, to="onnx", dataset=dataset, split="nine")
    monkeypatch.setattr(backends, "installed_backends", list)
    with pytest.raises(UserError, match=r"needs: pip install 'retrieval-distill\[onnx\]'"):
        rd.export_model(encoders["bert"], out=out, to="onnx")
    assert not out.exists()


def test_a_folder_that_holds_something_else_stays(encoders, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "letter.txt").write_text("mine")
    with pytest.raises(UserError, match=r"letter\.txt, which `export` did not write"):
        rd.export_model(encoders["bert"], out=out, to="onnx")
    assert (out / "letter.txt").read_text() == "mine"


def test_a_full_disk(encoders, small_disk):
    with pytest.raises(UserError, match="the disk is full"):
        rd.export_model(encoders["bert"], out=small_disk / "out", to="onnx")
    assert not (small_disk / "out").exists()


def test_a_finished_export_is_kept(exported, encoders):
    assert rd.export_model(encoders["bert"], out=exported, to="onnx").manifest["skipped"]


def test_it_is_no_model_to_train(exported, dataset, tmp_path):
    from retrieval_distill.student import encoder

    with pytest.raises(UserError, match="here the model that it was made of is needed"):
        encoder.load(exported)
    with pytest.raises(UserError, match="leave --backend onnx out"):
        rd.embed(dataset.documents, exported, out=tmp_path / "vectors", backend="onnx")


def test_a_damaged_graph(exported, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(exported, folder)
    (folder / "manifest.json").unlink()
    (folder / ".fingerprint").unlink()
    (folder / "onnx" / "model.onnx").write_bytes(b"no graph")
    with pytest.raises(UserError, match=r"this exported model is damaged .*; export it again"):
        rd.Student.open(folder).encode_queries(["read"])


def test_from_the_shell(encoders, tmp_path):
    told = command("export", encoders["bert"], "--to", "onnx", "--out", tmp_path / "out")
    assert "bi-encoder, onnx in float32" in told
    assert "mean cosine to float32 1.0" in told
    assert "'./nowhere' does not exist" in command(
        "export", "./nowhere", "--to", "onnx", "--out", tmp_path / "o", code=2
    )
