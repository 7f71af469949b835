"""The engine over documents that were cut into passages: a document is found once, by its best passage."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from retrieval_distill.api.students import export_model
from retrieval_distill.data.dataset import Dataset, Texts
from retrieval_distill.errors import UserError
from retrieval_distill.search.location import SearchLocation
from retrieval_distill.search.searcher import Searcher
from retrieval_distill.serving.engine import Engine, Question
from retrieval_distill.serving.fields import Fields
from retrieval_distill.serving.systems import Encoder, System


@pytest.fixture(scope="module")
def engine(dataset, encoders, finished_run) -> Engine:
    """Twenty documents of three passages each, with a number."""
    parents = [f"whole-{row // 3}" for row in range(60)]
    kept = Texts.from_records((f"whole-{n}", "", json.dumps({"number": n})) for n in range(20))
    cut = Dataset(
        "cut",
        dataset.documents,
        dataset.queries,
        {},
        pa.chunked_array([pa.array(parents, pa.large_string())]),
        metadata=kept,
    )
    searcher = Searcher.open(finished_run.parent / "run" / "index-student", encoders["bert"], dataset)
    searcher = replace(searcher, dataset=cut)
    student = Encoder("student", encoders["bert"], searcher.encoder.loaded)
    return Engine({"student": System("student", searcher, student)}, "student", cut, Fields.of(cut), None, {})


def asked(engine: Engine, texts: list[str], depth: int, where=None) -> list[Question]:
    system = engine.system(None)
    searcher = engine.searcher(system, where)
    vectors = system.encoder.queries(texts)
    return [Question(text, searcher, depth, vector) for text, vector in zip(texts, vectors, strict=True)]


def test_a_document_is_found_once_by_its_best_passage(engine):
    texts = engine.dataset.queries.take()[:5]
    for text, found in zip(texts, engine.find(asked(engine, texts, 4)), strict=True):
        assert len({hit.id for hit in found.hits}) == len(found.hits) == 4
        for hit in found.hits:
            assert hit.id == f"whole-{int(hit.passage[1:]) // 3}" and hit.passage in found.parts["dense"]
            assert engine.fields.values(hit.passage, hit.id) == {"number": int(hit.id[6:])}
        assert [hit.id for hit in found.hits] == [hit.id for hit in engine.systems["student"].searcher(text, 4)]


def test_questions_of_different_depths_and_filters_go_together(engine):
    (text,) = engine.dataset.queries.take()[:1]
    where = {"field": "number", "op": "<", "value": 2}
    questions = [*asked(engine, [text], 3), *asked(engine, [text], 9, where), *asked(engine, [text], 3)]
    first, few, again = engine.find(questions)
    assert [hit.id for hit in first.hits] == [hit.id for hit in again.hits] and len(first.hits) == 3
    assert {hit.id for hit in few.hits} == {"whole-0", "whole-1"}
    allowed = questions[1].searcher.allowed
    assert np.flatnonzero(allowed).tolist() == list(range(6)) and engine.count(allowed) == 2


def test_a_filter_is_evaluated_once(engine, monkeypatch):
    where = {"field": "number", "op": "=", "value": 7}
    system = engine.system("student")
    first = engine.searcher(system, where)
    assert engine.searcher(system, dict(reversed(where.items()))) is first
    for number in range(100):
        engine.searcher(system, {**where, "value": number})
    assert engine.searcher(system, where) is not first and len(engine._filtered) <= 16


def test_like_takes_a_documents_first_passage(engine):
    assert (
        engine.like("whole-2") == engine.dataset.documents["d6"] and engine.like("d7") == engine.dataset.documents["d7"]
    )
    with pytest.raises(UserError, match="no document"):
        engine.like("nothing")


def test_an_exported_student_serves_as_the_student_does(finished_run, tmp_path):
    pytest.importorskip("onnxruntime")
    export_model(finished_run / "student", out=tmp_path / "onnx", to="onnx")
    place = SearchLocation.of_run(finished_run)
    student, exported = (Engine.open(one) for one in (place, place.with_model(str(tmp_path / "onnx"))))
    texts = student.dataset.documents.take()[:7]
    one, other = (engine.encoders["student"].embedded("document", texts) for engine in (student, exported))
    assert [tokens for _, tokens in one] == [tokens for _, tokens in other]
    np.testing.assert_allclose([vector for vector, _ in one], [vector for vector, _ in other], atol=1e-5)
    assert student.encoders["student"].lengths(texts) == exported.encoders["student"].lengths(texts)
    queries = student.dataset.queries.take()[:5]
    found, same = (engine.find(asked(engine, queries, 4)) for engine in (student, exported))
    assert [[hit.id for hit in answer.hits] for answer in found] == [[hit.id for hit in answer.hits] for answer in same]
