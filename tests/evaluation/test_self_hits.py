"""A query's own document is left out where queries are documents, and nowhere else: texts tell, ids do not."""

from __future__ import annotations

import logging

import pyarrow as pa
import pytest

from retrieval_distill import api
from retrieval_distill.data.dataset import Dataset, Texts
from retrieval_distill.data.run import Run
from retrieval_distill.errors import UserError
from retrieval_distill.evaluation import self_hits

QUESTIONS = ["how do I split a path", "what is a hash", "how do I sort a list", "what is a socket"]
OTHERS = ["sockets connect", "lists hold", "hashes are short", "paths have parts"]


def collection(documents: list[str], titles: list[str] | None = None, judged: dict | None = None) -> Dataset:
    """Queries 1 to 4, documents 1 to 4; query 1 is answered by document 2."""
    records = [(str(row), (titles or [""] * 4)[row - 1], text) for row, text in enumerate(documents, 1)]
    queries = [(str(row), text) for row, text in enumerate(QUESTIONS, 1)]
    dataset = Dataset.from_records("numbered", records, queries, {})
    qrels = judged or {"1": {"2": 1}, "2": {"1": 1}, "3": {"4": 1}, "4": {"3": 1}}
    return Dataset("numbered", dataset.documents, dataset.queries, {"test": qrels})


RUN = Run.from_dict({str(row): {str(row): 2.0, "1" if row == 2 else "2": 1.0} for row in (1, 2)})
"""Of queries 1 and 2: the document of the same number first, then the relevant one."""


def reciprocal_ranks(dataset: Dataset, run: Run = RUN) -> float:
    judged = {query: grades for query, grades in dataset.qrels("test").items() if query in run.query_ids}
    asked = Dataset("asked", dataset.documents, dataset.queries, {"test": judged}, dataset.parents)
    return api.evaluate({"mine": run}, asked.qrels("test"), measures=["RR@10"], dataset=asked).systems["mine"]["RR@10"][
        "mean"
    ]


def test_numbers_that_merely_coincide_are_no_self_hits():
    assert reciprocal_ranks(collection(OTHERS)) == 0.5


@pytest.mark.parametrize("titles", [None, ["path", "hash", "sort", "socket"]])
def test_queries_that_are_documents_do_not_find_themselves(titles, caplog):
    documents = [QUESTIONS[0].upper(), f"  {QUESTIONS[1]}", *QUESTIONS[2:]]
    with caplog.at_level(logging.INFO, "retrieval_distill"):
        assert reciprocal_ranks(collection(documents, titles)) == 1.0
    assert "dropped 2 results naming the query itself" in caplog.text


def test_most_texts_decide():
    judged = {str(row): {"9": 1} for row in range(1, 5)}
    for documents, expected in ((QUESTIONS[:3] + OTHERS[3:], True), (QUESTIONS[:2] + OTHERS[2:], False)):
        dataset = collection(documents, judged=judged)
        assert self_hits.queries_are_documents(dataset.queries, dataset.documents, judged) == expected


def test_a_query_that_is_judged_to_have_itself_for_an_answer_keeps_it():
    dataset = collection(QUESTIONS, judged={"1": {"1": 1}, "2": {"1": 1}})
    assert reciprocal_ranks(dataset) == 0.75


def test_queries_that_are_documents_cut_into_passages():
    whole = collection(QUESTIONS)
    passages = [
        (f"{id_}#{part}", "", text)
        for id_, _, text in whole.documents.records()
        for part, text in enumerate([text[:9], text[9:]])
    ]
    parents = pa.chunked_array([pa.array([id_.partition("#")[0] for id_, _, _ in passages], pa.large_string())])
    judged = {"1": {"2#0": 1}, "2": {"1#0": 1}}
    dataset = Dataset("cut", Texts.from_records(passages), whole.queries, {"test": judged}, parents)
    run = Run.from_dict({"1": {"1#1": 2.0, "2#0": 1.0}, "2": {"2#0": 2.0, "1#0": 1.0}})
    assert reciprocal_ranks(dataset, run) == 1.0


@pytest.mark.parametrize(("documents", "left_out"), [(OTHERS, False), (QUESTIONS, True)])
def test_candidates_of_a_fitted_teacher_are_told_apart_alike(documents, left_out, tmp_path):
    texts = [f"{text} path hash sort socket" for text in documents] if documents is OTHERS else documents
    whole = collection(texts)
    dataset = Dataset("numbered", whole.documents, whole.queries, {"train": whole.qrels("test")})
    with pytest.raises(UserError, match="does not exist"):  # the candidates are kept before the model is loaded
        api.fit_teacher(dataset, model="/no/such/model", out=tmp_path / "teacher")
    found = Run.load(tmp_path / "teacher-candidates" / "train.parquet")
    assert any(query == document for query, document in found.pairs) != left_out
