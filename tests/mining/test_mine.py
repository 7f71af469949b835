"""Mining by name over the tiny data set: lists as their retrievers give them, fused, drawn, and by topic."""

from __future__ import annotations

import numpy as np
import pytest

from retrieval_distill import api
from retrieval_distill.config import MiningConfig
from retrieval_distill.data.dataset import Dataset
from retrieval_distill.data.relevance import with_relevant
from retrieval_distill.data.run import Run
from retrieval_distill.embedding.embed import Embeddings, embed
from retrieval_distill.errors import UserError
from retrieval_distill.mining.mine import mine
from retrieval_distill.mining.topic_pools import documents_by_topic
from retrieval_distill.retrieval.fusion import reciprocal_rank_fusion, weighted_sum
from tests.commands import command


def test_three_retrievers_as_their_parts(dataset, encoders, tmp_path):
    models = [encoders["bert"], encoders["distilbert"]]
    options = {"retrievers": ["bm25", *models], "weights": [2, 1, 1], "fusion": "weighted"}
    found = api.mine(dataset, vectors=tmp_path / "vectors", depth=10, keep=5, dtype="float32", **options)
    counts = found.report
    queries = dataset.queries("train")
    lists = [api.retrieve(queries, dataset.documents, depth=10)]
    for number, model in enumerate(models):
        api.embed(dataset.documents, model, out=tmp_path / f"v{number}", dtype="float32")
        api.index(tmp_path / f"v{number}", out=tmp_path / f"i{number}")
        lists.append(api.search(queries, tmp_path / f"i{number}", model=model, depth=10, dtype="float32"))
    expected = with_relevant(weighted_sum(lists, [2, 1, 1]).top(5), dataset.qrels("train"))
    assert sorted(found.pairs) == sorted(expected.pairs)
    assert list(counts["retrievers"]) == ["bm25", *models]
    assert counts["retrievers"]["bm25"]["positives"]["share"] == 1.0  # queries are parts of documents
    again = api.mine(dataset, vectors=tmp_path / "vectors", depth=10, keep=5, dtype="float32", **options)
    assert again.frame.equals(found.frame)


def test_a_copy_of_the_relevant_document_is_no_candidate(dataset):
    records = [(id_, *dataset.documents.record(id_)) for id_ in dataset.documents.ids]
    copies = [(f"copy-{id_}", "", f"{title}: {text}".upper()) for id_, title, text in records[:24]]
    queries = [(id_, dataset.queries[id_]) for id_ in dataset.queries]
    judged = [(q, d, g) for q, docs in dataset.qrels("train").items() for d, g in docs.items()]
    doubled = Dataset.from_records("doubled", [*records, *copies], queries, {"train": judged})
    for draw, fewest in (({"top": 1}, 24), ({"random": 1}, 1), ({"1-20": 1}, 24)):
        found = api.mine(doubled, vectors="unused", depth=20, keep=20, retrievers=["bm25"], draw=draw)
        counts = found.report
        texts = doubled.documents
        for query, docs in found.as_dict().items():
            relevant = {texts[doc].lower() for doc in doubled.qrels("train")[query]}
            others = {texts[doc].lower().replace(":", "") for doc in docs if doc not in doubled.qrels("train")[query]}
            assert not others & relevant
        assert fewest <= counts["copies"] <= 24


def test_topics_are_those_of_the_nearest_means(dataset, encoders, tmp_path):
    embed(encoders["bert"], dataset.documents, tmp_path / "vectors", "float32")
    vectors = Embeddings.open(tmp_path / "vectors")
    relevant = {query: list(docs) for query, docs in dataset.qrels("train").items()} | {"none": [], "gone": ["zz"]}
    pool = documents_by_topic(vectors, relevant, 4, seed=1)
    topics = {frozenset(pool(query)) for query in dataset.qrels("train")}
    assert sum(map(len, topics)) == len(set().union(*topics))  # they do not overlap
    for query, docs in dataset.qrels("train").items():
        assert set(docs) <= set(pool(query))
    assert not pool("none") and not pool("gone")
    # the relevant document is nearer to the mean of its topic than to that of any other
    means = {topic: vectors.take(sorted(topic)).mean(axis=0) for topic in topics}
    for query, docs in dataset.qrels("train").items():
        own = vectors.take(list(docs))[0]
        nearest = min(means, key=lambda topic: np.linalg.norm(means[topic] - own))
        assert nearest == frozenset(pool(query))


def test_in_topic_draws(dataset, encoders, tmp_path):
    draw = {"top": 1, "in-topic": 1}
    found = api.mine(
        dataset, vectors=tmp_path, depth=10, keep=6, seed=1, retrievers=["bm25", encoders["bert"]], draw=draw, topics=4
    )
    counts = found.report
    vectors = Embeddings.open(tmp_path / encoders["bert"].rpartition("/")[2])
    relevant = {query: list(docs) for query, docs in dataset.qrels("train").items()}
    pool = documents_by_topic(vectors, relevant, 4, seed=1)
    assert counts["drawn"] == {"top": 72, "in-topic": 72}
    for query, docs in found.as_dict().items():
        assert len(set(docs) & set(pool(query))) >= 4  # three drawn and the relevant one
    with pytest.raises(UserError, match="in-topic draws need document vectors"):
        api.mine(dataset, vectors=tmp_path, retrievers=["bm25"], draw=draw)
    with pytest.raises(UserError, match=r"mining\.topics=500: there are only 60 texts"):
        api.mine(dataset, vectors=tmp_path, retrievers=[encoders["bert"]], draw=draw, topics=500)


def test_fusion_is_as_asked(dataset):
    one, other = (
        Run.from_dict({"q0": scores}) for scores in ({"d1": 9.0, "d2": 1.0}, {"d2": 5.0, "d3": 4.9, "d4": 0.0})
    )
    queries = dataset.queries.select(["q0"])
    for fusion, fuse in (("rrf", reciprocal_rank_fusion), ("weighted", weighted_sum)):
        config = MiningConfig(retrievers=("a", "b"), fusion=fusion, weights=(1.0, 3.0))
        mined = mine({"a": one, "b": other}, queries, {"q0": {"d0": 1}}, dataset.documents, config, 2, 0)
        expected = fuse([one, other], weights=[1.0, 3.0]).top(2)
        assert mined.drawn["top"].frame.equals(expected.frame)
        assert set(mined.as_dict()["q0"]) == {"d0", *expected.as_dict()["q0"]}


def test_commands(dataset_folder, cross_encoders, encoders, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = ("--dataset", dataset_folder)
    text = command(
        "mine", *data, "--retriever", "bm25", "--retriever", encoders["bert"], "--keep", 4, "--set",
        "draw={top: 1, random: 1}", "--out", "found.parquet",
    )  # fmt: skip
    assert "drawn: 48 x top, 48 x random" in text
    assert (tmp_path / "found-vectors").is_dir()
    command("score", "found.parquet", *data, "--teacher", cross_encoders["bert"], "--store", "s", "--out", "s.parquet")
    text = command("filter-negatives", "s.parquet", *data, "--set", "margin=0", "--out", "kept.parquet")
    scored, kept = Run.load("s.parquet").as_dict(), Run.load("kept.parquet").as_dict()
    removed = sum(map(len, scored.values())) - sum(map(len, kept.values()))
    assert removed > 0 and f"removed: {removed:,} by margin" in text
    for query, docs in kept.items():
        positive = scored[query][f"d{query[1:]}"]
        assert all(score < positive for doc, score in docs.items() if doc != f"d{query[1:]}")
    assert "start', the student before training" in command(
        "mine", *data, "--retriever", "start", "--out", "x.parquet", code=2
    )
    assert "did you mean 'margin'" in command(
        "filter-negatives", "s.parquet", *data, "--set", "margn=1", "--out", "x.parquet", code=2
    )
