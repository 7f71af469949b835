"""An exported model is its model: in vectors, scores and rankings, and without PyTorch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sentence_transformers import CrossEncoder, SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Normalize

import retrieval_distill as rd
from retrieval_distill.errors import UserError
from retrieval_distill.exporting import precision
from retrieval_distill.student import encoder, routes
from retrieval_distill.student.exported import Exported, Scorer
from tests.conftest import WORDS

pytest.importorskip("onnxruntime")

TEXTS = [" ".join(WORDS[i : i + 3 + i % 9]) for i in range(30)] + ["path " * 100, ""]

WITHOUT = "import sys\nfor name in ('torch', 'transformers', 'sentence_transformers'): sys.modules[name] = None\n"
"""The beginning of a program in which the three cannot be imported."""


def alone(program: str, *arguments: str) -> str:
    """What a program prints that cannot import PyTorch, transformers or sentence-transformers."""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT + program, *arguments], capture_output=True, text=True, cwd=Path(rd.__file__).parents[1],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def run_example(folder: Path, *texts: str) -> list[tuple[float, str]]:
    """What the example in a folder prints, run without PyTorch and without this package."""
    program = (
        f"import runpy\nsys.argv[0] = {str(folder / 'example.py')!r}\nrunpy.run_path(sys.argv[0], run_name='__main__')"
    )
    rows = [
        line.split("\t") for line in alone("sys.modules['retrieval_distill'] = None\n" + program, *texts).splitlines()
    ]
    return [(float(score), text) for score, text in rows]


@pytest.fixture(scope="module")
def student(encoders, tmp_path_factory) -> str:
    """A student with a projection, normalisation and prompts."""
    model = SentenceTransformer(encoders["bert"], device="cpu", prompts={"query": "search ", "document": "read "})
    model.append(Dense(32, 16))
    model.append(Normalize())
    model.max_seq_length = 20
    folder = tmp_path_factory.mktemp("student") / "student"
    model.save_pretrained(str(folder))
    return str(folder)


@pytest.fixture(scope="module")
def exports(student, tmp_path_factory):
    """Its exports, made when first asked for."""
    made = {}

    def of(to: str, dtype: str) -> Path:
        if (to, dtype) not in made:
            pytest.importorskip({"onnx": "onnxruntime", "openvino": "openvino"}[to])
            out = tmp_path_factory.mktemp("exports") / f"{to}-{dtype}"
            rd.export_model(student, out=out, to=to, dtype=dtype, force=True)
            made[to, dtype] = out
        return made[to, dtype]

    return of


def cosines(found: np.ndarray, exact: np.ndarray) -> np.ndarray:
    return (found * exact).sum(axis=1) / np.linalg.norm(found, axis=1) / np.linalg.norm(exact, axis=1)


@pytest.mark.parametrize("kind", routes.KINDS)
@pytest.mark.parametrize(
    ("to", "dtype", "statistic", "least"),
    [("onnx", "float32", np.min, 0.999999), ("onnx", "float16", np.min, 0.9999), ("onnx", "int8", np.mean, 0.99),
     ("openvino", "float32", np.min, 0.999999), ("openvino", "float16", np.min, 0.9999),
     ("openvino", "int8", np.mean, 0.99)],
)  # fmt: skip
def test_vectors_are_the_library_s(student, exports, to, dtype, statistic, least, kind):
    library = SentenceTransformer(student, device="cpu")
    ask = library.encode_query if kind == "query" else library.encode_document
    found = Exported.open(exports(to, dtype)).encode(TEXTS, kind)
    assert found.shape == (len(TEXTS), 16)
    assert statistic(cosines(found, ask(TEXTS))) > least
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-3)


@pytest.mark.parametrize("to", ["onnx", "openvino"])
def test_the_example_ranks_as_the_library_does(student, exports, to):
    query, documents = TEXTS[0], TEXTS[3:9]
    library = SentenceTransformer(student, device="cpu")
    scores = library.encode_query([query]) @ library.encode_document(documents).T
    found = run_example(exports(to, "float32"), query, *documents)
    assert [text for _, text in found] == [documents[place] for place in np.argsort(-scores[0])]
    np.testing.assert_allclose([score for score, _ in found], np.sort(scores[0])[::-1], atol=2e-4)


@pytest.mark.parametrize("kind", ["distilbert", "roberta", "modernbert"])
def test_other_families(kind, encoders, tmp_path):
    """Their graphs are compared with the model before anything is written, so that one which differs is refused."""
    made = rd.export_model(encoders[kind], out=tmp_path / "out", to="onnx")
    exact = encoder.encode(encoder.load(encoders[kind]), TEXTS, "document")
    assert cosines(made.encode_documents(TEXTS), exact).min() > 0.999999


@pytest.mark.parametrize("pooling", ["cls", "max", "lasttoken", "weightedmean"])
def test_other_poolings(pooling, encoders, tmp_path):
    from retrieval_distill.student import head

    model = encoder.load(encoders["bert"])
    head.set_pooling(model, {pooling: name for name, pooling in head.MODES.items()}[pooling])
    model.save_pretrained(str(tmp_path / "model"))
    made = rd.export_model(str(tmp_path / "model"), out=tmp_path / "out", to="onnx")
    exact = SentenceTransformer(str(tmp_path / "model"), device="cpu").encode(TEXTS)
    assert cosines(made.encode_documents(TEXTS), exact).min() > 0.99999


def test_separate_encoders_are_two_graphs(encoders, tmp_path):
    both = routes.combine(encoder.load(encoders["distilbert"]), encoder.load(encoders["bert"]))
    both.save_pretrained(str(tmp_path / "model"))
    made = rd.export_model(str(tmp_path / "model"), out=tmp_path / "out", to="onnx")
    library = SentenceTransformer(str(tmp_path / "model"), device="cpu")
    assert cosines(made.encode_queries(TEXTS), library.encode_query(TEXTS)).min() > 0.99999
    assert cosines(made.encode_documents(TEXTS), library.encode_document(TEXTS)).min() > 0.99999
    assert (tmp_path / "out" / "query" / "onnx" / "model.onnx").is_file()
    assert "own backends cannot read it" in (tmp_path / "out" / "README.md").read_text()
    run_example(tmp_path / "out", TEXTS[0], *TEXTS[1:4])


@pytest.mark.parametrize("kind", ["bert", "distilbert", "modernbert"])
@pytest.mark.parametrize("to", ["onnx", "openvino"])
def test_a_cross_encoder_scores_as_the_library_does(kind, to, cross_encoders, tmp_path):
    pytest.importorskip({"onnx": "onnxruntime", "openvino": "openvino"}[to])
    made = rd.export_model(cross_encoders[kind], out=tmp_path / "out", to=to)
    assert isinstance(made, Scorer)
    pairs = [(TEXTS[i], TEXTS[-1 - i]) for i in range(12)]
    import torch

    library = CrossEncoder(cross_encoders[kind], activation_fn=torch.nn.Identity(), device="cpu", max_length=64)
    np.testing.assert_allclose(made.score(pairs), library.predict(pairs), atol=2e-4)
    found = run_example(tmp_path / "out", TEXTS[0], *TEXTS[1:6])
    exact = library.predict([(TEXTS[0], text) for text in TEXTS[1:6]])
    np.testing.assert_allclose([score for score, _ in found], np.sort(exact)[::-1], atol=2e-4)


def test_the_card_says_what_was_checked(exports, student):
    card = json.loads((exports("onnx", "float16") / "export.json").read_text())
    assert card["encoders"]["query"] == {"folder": ".", "max_length": 20, "prompt": "search "}
    assert card["checked"]["cosine"]["lowest"] > 0.9999
    assert card["passed"] is True
    readme = (exports("onnx", "float16") / "README.md").read_text()
    assert "'search '" in readme
    assert "PyTorch" in readme


def test_sixteen_bits_are_half_the_bytes(exports):
    sizes = [(exports("onnx", dtype) / "onnx" / "model.onnx").stat().st_size for dtype in ("float32", "float16")]
    assert sizes[1] < 0.8 * sizes[0]  # a tiny model's graph is mostly structure


def test_ranking_is_checked_on_a_data_set(student, dataset, tmp_path):
    made = rd.export_model(student, out=tmp_path / "out", to="onnx", dtype="int8", dataset=dataset, force=True)
    ranking = made.manifest["counts"]["ranking"]
    assert ranking["measure"] == "nDCG@10"
    assert 0 < ranking["float32"] <= 1
    assert ranking["kept"] == pytest.approx(ranking["exported"] / ranking["float32"], abs=1e-4)


def signs(graph, out, batches):
    """A way that keeps only the signs of weights, and so no ranking."""
    import onnx
    from onnx import numpy_helper

    model = onnx.load(str(graph))
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.ndim == 2:
            tensor.CopyFrom(numpy_helper.from_array(np.sign(values).astype(np.float32), tensor.name))
    onnx.save(model, str(out))


def test_eight_bits_that_lose_the_ranking_are_refused(monkeypatch, student, dataset, tmp_path, caplog):
    monkeypatch.setitem(precision.WAYS, ("onnx", "int8"), {"signs": signs})
    with pytest.raises(UserError, match=r"int8 does not keep the ranking: [\d.]+% of nDCG@10 kept .*99.5% of nDCG@10"):
        rd.export_model(student, out=tmp_path / "out", to="onnx", dtype="int8", dataset=dataset)
    assert not (tmp_path / "out").exists()
    with pytest.raises(UserError, match=r"a mean cosine of 0\.998 is asked for"):
        rd.export_model(student, out=tmp_path / "out", to="onnx", dtype="int8")
    rd.export_model(student, out=tmp_path / "out", to="onnx", dtype="int8", force=True)
    assert json.loads((tmp_path / "out" / "export.json").read_text())["passed"] is False
    assert "ranks worse than is asked for" in (tmp_path / "out" / "README.md").read_text()
    assert "is written as asked" in caplog.text


def test_a_graph_that_is_not_the_model_is_refused(student, monkeypatch, tmp_path):
    monkeypatch.setitem(precision.WAYS, ("onnx", "float32"), {"exact": signs})
    with pytest.raises(UserError, match="does not compute what the model does"):
        rd.export_model(student, out=tmp_path / "out", to="onnx")


def test_the_library_reads_the_settings_beside_the_graph(exports):
    """What sentence-transformers' own backend needs: modules, their weights, and the graph where it looks for it."""
    folder = exports("onnx", "float32")
    names = [Path(module["path"]).name for module in json.loads((folder / "modules.json").read_text())]
    assert names == ["", "1_Pooling", "2_Dense", "3_Normalize"]
    assert (folder / "2_Dense" / "model.safetensors").is_file()
    assert not (folder / "model.safetensors").exists()
    import onnxruntime

    session = onnxruntime.InferenceSession(folder / "onnx" / "model.onnx", providers=["CPUExecutionProvider"])
    assert [output.name for output in session.get_outputs()] == ["last_hidden_state", "sentence_embedding"]
