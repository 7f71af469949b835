"""The searcher: dense, fused, reranked, filtered, pooled - each equal to its parts put together by hand."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from retrieval_distill import api
from retrieval_distill.data.dataset import Dataset, Texts
from retrieval_distill.embedding.embed import embed
from retrieval_distill.errors import UserError
from retrieval_distill.index import faiss_index
from retrieval_distill.index.faiss_index import Index, index
from retrieval_distill.retrieval.bm25 import BM25
from retrieval_distill.retrieval.fusion import weighted_sum
from retrieval_distill.retrieval.hybrid import Fusion
from retrieval_distill.search import document_filter, questions
from retrieval_distill.search.hits import texts_of
from retrieval_distill.search.searcher import Searcher
from retrieval_distill.student import encoder, routes


@pytest.fixture(scope="module")
def searcher(corpus):
    return corpus.searcher()


def test_dense_search_is_the_index_asked_by_its_model(searcher, corpus):
    found = searcher.documents(corpus.dataset.queries, 7)
    theirs = faiss_index.search(Index.open(corpus.index), corpus.model, corpus.dataset.queries, 7, "float32")
    assert found.frame.equals(theirs.frame)
    assert searcher.search(corpus.dataset.queries, 7).frame.equals(theirs.frame)


def test_hybrid_is_both_runs_fused(searcher, corpus, tmp_path):
    queries = corpus.dataset.queries
    lexical = BM25.cached(tmp_path / "bm25", corpus.dataset.documents)
    found = replace(searcher, lexical=lexical, fusion=Fusion("score", 0.3)).documents(queries, 5)
    runs = [BM25(corpus.dataset.documents).search(queries, 60), searcher.dense(queries, 60)]
    expected = weighted_sum(runs, [0.7, 0.3]).top(5)
    assert found.pairs == expected.pairs
    np.testing.assert_allclose(found.frame["score"], expected.frame["score"], rtol=1e-6)


def test_reranking_is_the_teachers_order(searcher, corpus, cross_encoders, tmp_path):
    teacher = api.load_teacher(cross_encoders["bert"], max_length=48, dtype="float32")
    asked = corpus.dataset.queries.select(["q1", "q2"])
    found = replace(searcher, teacher=teacher, store=tmp_path, rerank_depth=8).documents(asked, 4)
    scored = api.score(searcher.dense(asked, 8), corpus.dataset, teacher=teacher, store=tmp_path / "own")
    assert found.pairs == scored.top(4).pairs


def test_a_filter_holds_in_every_part(searcher, corpus, tmp_path):
    table = corpus.data / "corpus.jsonl"
    allowed = document_filter.allowed_documents(
        "year BETWEEN 2003 AND 2004 AND meta.source = 'NIH'", table, corpus.dataset
    )
    assert np.flatnonzero(allowed).tolist() == [3, 13, 23, 33, 43, 53]
    queries = corpus.dataset.queries
    ids = {corpus.dataset.documents.ids[row] for row in np.flatnonzero(allowed)}
    everything = searcher.dense(queries, 60)
    expected = everything.frame[everything.frame["doc_id"].isin(ids)].reset_index(drop=True)
    dense = replace(searcher, allowed=allowed).documents(queries, 60)
    assert dense.pairs == list(zip(expected["query_id"], expected["doc_id"], strict=True))
    lexical = BM25.cached(tmp_path / "bm25", corpus.dataset.documents)
    both = replace(searcher, allowed=allowed, lexical=lexical).documents(queries, 60)
    assert set(both.frame["doc_id"]) == ids
    plain = lexical.search(queries, 60)
    kept = plain.frame[plain.frame["doc_id"].isin(ids)]
    assert set(lexical.search(queries, 60, allowed).pairs) == set(zip(kept["query_id"], kept["doc_id"], strict=True))


@pytest.mark.parametrize(
    ("where", "message"),
    [("yaer = 2001", "yaer"), ("year =", "syntax"), ("year = 1900", "no document of 'tiny' is left")],
)
def test_conditions_that_cannot_be_are_refused(corpus, where, message):
    with pytest.raises(UserError, match=message):
        document_filter.allowed_documents(where, corpus.data / "corpus.jsonl", corpus.dataset)


def test_a_table_beside_the_corpus(corpus, tmp_path):
    (tmp_path / "it's metadata.csv").write_text("id,grade\nd7,3\nd9,5\nelsewhere,5\n")
    allowed = document_filter.allowed_documents("grade > 3", tmp_path / "it's metadata.csv", corpus.dataset)
    assert np.flatnonzero(allowed).tolist() == [9]
    with pytest.raises(UserError, match="no column _id or id"):
        (tmp_path / "bad.csv").write_text("name,grade\nd7,3\n")
        document_filter.allowed_documents("grade > 3", tmp_path / "bad.csv", corpus.dataset)
    with pytest.raises(UserError, match="--metadata"):
        document_filter.table_of("python-docs", tmp_path)
    assert document_filter.table_of(str(corpus.data), tmp_path) == corpus.data / "corpus.jsonl"


def test_documents_are_found_by_their_best_passage(searcher, corpus):
    """Every third document is the parent of itself and its two neighbours."""
    documents = corpus.dataset.documents
    parents = [f"d{3 * (row // 3)}" for row in range(60)]
    cut = Dataset(
        "cut", documents, corpus.dataset.queries, {}, pa.chunked_array([pa.array(parents, pa.large_string())])
    )
    pooled = replace(searcher, dataset=cut)
    passages_found = pooled.search(cut.queries, 4).as_dict()
    for query, docs, scores in pooled.documents(cut.queries, 4):
        passages = dict(
            zip(
                *[(docs_, scores_) for q, docs_, scores_ in searcher.dense(cut.queries, 60) if q == query][0],
                strict=True,
            )
        )
        best = {}
        for row, parent in enumerate(parents):
            best[parent] = max(best.get(parent, -9), passages[f"d{row}"])
        expected = sorted(best, key=best.get, reverse=True)[:4]
        assert docs == expected and scores == pytest.approx([best[d] for d in expected], rel=1e-5)
        assert cut.parents_of(list(passages_found[query])) == docs
    allowed = document_filter.allowed_documents("_id = 'd6'", corpus.data / "corpus.jsonl", cut)
    assert np.flatnonzero(allowed).tolist() == [6, 7, 8]  # a document's passages


def test_queries_go_through_their_own_encoder(encoders, corpus, tmp_path):
    query, document = (encoder.load(encoders[kind]) for kind in ("distilbert", "bert"))
    routes.combine(query, document).save_pretrained(str(tmp_path / "student"))
    student = str(tmp_path / "student")
    embed(student, corpus.dataset.documents, tmp_path / "vectors", "float32")
    index(tmp_path / "vectors", tmp_path / "index", "flat", "dot")
    found = Searcher.open(tmp_path / "index", student, corpus.dataset).documents(corpus.dataset.queries, 3)
    asked = query.encode(corpus.dataset.queries.take(), show_progress_bar=False)
    products = asked @ document.encode(corpus.dataset.documents.take(), show_progress_bar=False).T
    expected = np.array(corpus.dataset.documents.ids)[np.argsort(-products, axis=1)[:, :3]]
    assert [docs for _, docs, _ in found] == expected.tolist()


def test_another_model_and_another_dataset_are_refused(corpus, encoders):
    with pytest.raises(UserError, match="was not built with"):
        Searcher.open(corpus.index, encoders["roberta"], corpus.dataset)
    other = Dataset("other", Texts.from_records([("x", "", "text")]), corpus.dataset.queries)
    with pytest.raises(UserError, match="holds document 'd1', but dataset 'other' does not"):
        texts_of(other, ["x", "d1"])


def test_other_prompts_are_another_model(corpus, tmp_path):
    model = tmp_path / "model"
    shutil.copytree(corpus.model, model)
    Searcher.open(corpus.index, str(model), corpus.dataset)
    (model / "config_sentence_transformers.json").write_text('{"prompts": {"query": "query: ", "document": ""}}')
    with pytest.raises(UserError, match="was not built with"):
        Searcher.open(corpus.index, str(model), corpus.dataset)


def test_bm25_is_built_once_and_read_from_disk(corpus, tmp_path, monkeypatch):
    documents, queries = corpus.dataset.documents, corpus.dataset.queries
    fresh = BM25(documents, 1.2, 0.5).search(queries, 10)
    BM25.cached(tmp_path / "bm25", documents, 1.2, 0.5)
    monkeypatch.setattr(BM25, "__init__", None)  # nothing can be built any more
    again = BM25.cached(tmp_path / "bm25", documents, 1.2, 0.5)
    assert again.search(queries, 10).frame.equals(fresh.frame)
    assert isinstance(again._index.scores["data"], np.memmap)
    with pytest.raises(TypeError):
        BM25.cached(tmp_path / "bm25", documents, 0.9, 0.5)  # other options are another index


@pytest.mark.parametrize("query", ["", "  \n\t"])
def test_an_empty_query_is_refused(query):
    with pytest.raises(UserError, match="the query is empty"):
        questions.question(query)
    with pytest.raises(UserError, match="query 'q2' is empty"):
        questions.questions([("q1", "text"), ("q2", query)])


def test_a_query_of_a_million_characters_is_cut_and_said(searcher, caplog):
    text = ("path file root extension " * 40_000)[:1_000_000]
    with caplog.at_level("WARNING"):
        asked = questions.questions([("long", text)])
    assert "query 'long' has 1,000,000 characters; only the first 20,000 are used" in caplog.text
    short = questions.questions([("long", text[:20_000])])
    assert searcher.documents(asked, 5).frame.equals(searcher.documents(short, 5).frame)


def test_half_a_character_is_refused():
    with pytest.raises(UserError, match="lone surrogate"):
        questions.question("path \ud800")
