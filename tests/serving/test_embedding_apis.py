"""OpenAI's unmodified client, and requests as Cohere's and TEI's clients send them."""

from __future__ import annotations

import json
import math
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import openai
import pytest

from retrieval_distill.data.dataset_loader import load
from retrieval_distill.embedding.embeddings import Embeddings
from retrieval_distill.runtime import stages
from retrieval_distill.student.student import Student
from tests.serving.conftest import serving


@pytest.fixture(scope="module")
def stored(finished_run) -> tuple[list[str], np.ndarray]:
    """The documents' texts, and the vectors that ``embed`` wrote of them."""
    documents = load(str(finished_run.parent / "data"), finished_run).documents
    kept = Embeddings.open(finished_run.parent / "vectors")
    return documents.take(), kept.take(documents.ids)


@pytest.fixture(scope="module")
def client(served):
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key="none", max_retries=0) as made:
        yield made


def embedded(client, texts, **options) -> np.ndarray:
    found = client.embeddings.create(model="student", input=texts, **options)
    assert [one.index for one in found.data] == list(range(len(found.data)))
    return np.array([one.embedding for one in found.data], np.float32)


def test_openais_client_gets_the_vectors_that_embed_wrote_to_the_last_bit(client, stored):
    texts, vectors = stored
    assert np.array_equal(embedded(client, texts), vectors)  # in base64, as the client asks by itself
    assert np.array_equal(embedded(client, texts, encoding_format="float"), vectors)
    assert np.array_equal(embedded(client, texts[0])[0], vectors[0])


def test_clients_that_share_batches_get_the_same_bits(client, stored, served):
    texts, vectors = stored
    before = served.service.metrics.registry.get_sample_value(
        "retrieval_distill_batch_items_count", {"stage": "encode"}
    )
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda text: embedded(client, text)[0], texts))
    after = served.service.metrics.registry.get_sample_value("retrieval_distill_batch_items_count", {"stage": "encode"})
    assert np.array_equal(np.stack(found), vectors)
    assert after - before < len(texts)  # some went through the model together


def test_tokens_are_counted(client, finished_run):
    found = client.embeddings.create(model="student", input=["split root", "split"])
    tokenizer = Student(str(finished_run / "student")).model.tokenizer
    expected = sum(map(len, tokenizer(["split root", "split"])["input_ids"]))
    assert found.usage.prompt_tokens == found.usage.total_tokens == expected
    assert [model.id for model in client.models.list()] == ["student"]


def test_openais_errors(client, served):
    with pytest.raises(openai.NotFoundError, match="does not exist") as missing:
        client.embeddings.create(model="nothing", input="a")
    assert missing.value.code == "model_not_found" and missing.value.param == "model"
    for wrong in ([], "", ["a", " "], [1, 2], [[1], [2]], ["a\ud800"]):
        body = {"model": "student", "input": wrong}
        with served.client() as plain:
            found = plain.post("/v1/embeddings", content=json.dumps(body), headers={"content-type": "application/json"})
        assert found.status_code == 400, (wrong, found.text)
        assert found.json()["error"]["type"] == "invalid_request_error"
    with pytest.raises(openai.BadRequestError, match="this model's vectors can have 32"):
        client.embeddings.create(model="student", input="a", dimensions=8)
    with pytest.raises(openai.APIStatusError) as many:
        client.embeddings.create(model="student", input=["a"] * 10_000)
    assert many.value.status_code == 413 and "at most 2,048" in many.value.message
    with pytest.raises(openai.APIStatusError) as long:
        client.embeddings.create(model="student", input="a" * 200_000)
    assert long.value.status_code == 413
    assert served.post("/v1/embeddings", {"input": "a"}).json()["error"]["param"] == "model"


def test_dimensions_are_those_of_the_views_it_was_trained_with(finished_run, stored, tmp_path):
    shutil.copytree(finished_run, tmp_path / "run")
    recipe = stages.read_json(tmp_path / "run" / "recipe.json")
    stages.write_json(tmp_path / "run" / "recipe.json", recipe | {"views": {"full": 1.0, "8": 0.5, "int8": 0.5}})
    texts, vectors = stored
    with serving(tmp_path / "run") as own, openai.OpenAI(base_url=f"{own.url}/v1", api_key="none") as asking:
        found = embedded(asking, texts[:3], dimensions=8)
        with pytest.raises(openai.BadRequestError, match="can have 8, 32"):
            embedded(asking, texts[:3], dimensions=16)
        unit = own.post("/embed", {"inputs": texts[0], "dimensions": 8}).json()[0]
    cut = vectors[:3, :8]
    whole = np.linalg.norm(vectors[:3], axis=1, keepdims=True)
    np.testing.assert_allclose(found, cut * whole / np.linalg.norm(cut, axis=1, keepdims=True), rtol=1e-5)
    np.testing.assert_allclose(unit, cut[0] / np.linalg.norm(cut[0]), atol=1e-6)


def test_teis_embed(served, stored):
    texts, vectors = stored
    raw = np.array(served.post("/embed", {"inputs": texts[:5], "normalize": False}).json(), np.float32)
    assert np.array_equal(raw, vectors[:5])
    unit = np.array(served.post("/embed", {"inputs": texts[0]}).json(), np.float32)
    np.testing.assert_allclose(unit[0], vectors[0] / np.linalg.norm(vectors[0]), atol=1e-6)
    long = {"inputs": "split " * 500, "truncate": False}
    refused = served.post("/embed", long)
    assert refused.status_code == 413 and "at most 64 tokens; one has 502" in refused.json()["error"]
    assert served.post("/embed", {**long, "truncate": True}).status_code == 200
    assert served.post("/embed", {"inputs": ["a", ""]}).json()["error_type"] == "Validation"


def test_rerank_in_both_shapes_is_the_teachers_order(served):
    query, texts = "split root", ["sort the matrix", "split the root", "file", "split root extension", ""]
    raw = served.service.engine.scores([(query, text) for text in texts])
    order = sorted(range(5), key=lambda number: -raw[number])
    tei = served.post("/rerank", {"query": query, "texts": texts, "raw_scores": True, "return_text": True}).json()
    assert [one["index"] for one in tei] == order and [one["text"] for one in tei] == [texts[n] for n in order]
    np.testing.assert_allclose([one["score"] for one in tei], [raw[n] for n in order], atol=1e-6)
    body = {"model": "teacher", "query": query, "documents": [{"text": texts[0]}, *texts[1:]], "top_n": 3}
    for path in ("/v1/rerank", "/v2/rerank"):
        found = served.post(path, {**body, "return_documents": True}).json()
        assert [one["index"] for one in found["results"]] == order[:3] and found["id"]
        expected = [1 / (1 + math.exp(-raw[n])) for n in order[:3]]
        np.testing.assert_allclose([one["relevance_score"] for one in found["results"]], expected, atol=1e-6)
        assert [one["document"]["text"] for one in found["results"]] == [texts[n] for n in order[:3]]
    assert "document" not in served.post("/v1/rerank", body).json()["results"][0]


def test_coheres_and_teis_errors(served):
    wrong = served.post("/v1/rerank", {"model": "rerank-v9", "query": "a", "documents": ["b"]})
    assert wrong.status_code == 404 and "does not exist" in wrong.json()["message"]
    empty = served.post("/v1/rerank", {"query": "a", "documents": []})
    assert empty.status_code == 400 and empty.json()["message"] == empty.json()["error"]["message"]
    assert served.post("/rerank", {"query": "a"}).status_code == 422
    assert served.post("/rerank", {"query": "", "texts": ["b"]}).json()["error"] == "query is empty"
