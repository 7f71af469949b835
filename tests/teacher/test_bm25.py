"""BM25 as teacher scores what BM25 scores when it searches, also documents that are not in the corpus."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval_distill import api
from retrieval_distill.config import BM25Config, MemberConfig, parse_teacher
from retrieval_distill.data.dataset import Texts
from retrieval_distill.data.run import Run
from retrieval_distill.errors import UserError
from retrieval_distill.retrieval.bm25 import BM25
from retrieval_distill.scores.store import ScoreStore
from retrieval_distill.teacher import ensemble, teacher_loader
from tests.commands import command

OPTIONS = [{}, {"k1": 0.9, "b": 0.4}, {"k1": 0.0, "b": 1.0}, {"language": "none", "stemmer": "english"}]


def every_pair(dataset) -> Run:
    pairs = [(query, document) for query in dataset.queries.ids for document in dataset.documents.ids]
    return Run.from_columns(*zip(*pairs, strict=True), np.zeros(len(pairs)))


@pytest.mark.parametrize("options", OPTIONS)
def test_pairs_score_what_a_search_gives_them(dataset, options, tmp_path, monkeypatch):
    monkeypatch.setattr("retrieval_distill.teacher.bm25.PAIRS", 500)
    found = BM25(dataset.documents, **options).search(dataset.queries, len(dataset.documents)).as_dict()
    teacher = api.load_teacher("bm25", documents=dataset, bm25=options)
    scored = api.score(every_pair(dataset), dataset, teacher=teacher, store=tmp_path)
    expected = [found[query].get(document, 0.0) for query, document in scored.pairs]
    assert scored.frame["score"].to_numpy() == pytest.approx(np.array(expected), rel=1e-5, abs=1e-6)
    assert scored.facts["members"][0]["silent"] == expected.count(0.0) > 0


words = st.lists(st.sampled_from("cat dog fish tree the a".split()), max_size=6).map(" ".join)


@given(documents=st.lists(words, min_size=1, max_size=6), queries=st.lists(words, min_size=1, max_size=3))
def test_any_corpus_even_without_words(documents, queries):
    index = BM25(Texts.of(documents))
    found = index.search(Texts.of(queries), len(documents)).as_dict()
    rows = np.argwhere(np.ones((len(queries), len(documents)), bool))
    expected = [found.get(str(query), {}).get(str(document), 0.0) for query, document in rows]
    assert index.scores(queries, documents, rows) == pytest.approx(np.array(expected), rel=1e-5)


def test_a_document_outside_the_corpus_is_weighed_as_one_of_it(tmp_path):
    corpus = Texts.of(["the cat sat here", "a dog barked", "cat and dog and dog"])
    for index in (BM25(corpus), BM25.cached(tmp_path / "kept", corpus)):
        inside, cut, strange = index.scores(
            ["cat dog"], [corpus["0"], "cat here", "whale"], np.array([[0, i] for i in range(3)])
        )
        assert cut > inside > strange == 0  # shorter, the same words found


def test_what_it_knows_is_part_of_its_name(dataset):
    def teacher(documents, options):
        return teacher_loader.load(
            MemberConfig(model="bm25", bm25=BM25Config(**options)), teacher_loader.Corpus(documents)
        )

    others = [teacher(dataset.documents, options) for options in OPTIONS]
    others.append(teacher(dataset.documents.at(np.arange(10)), {}))
    assert len({other.fingerprint for other in others}) == len(others)
    again = teacher(Texts(dataset.documents.table), {})
    assert again.fingerprint == others[0].fingerprint
    assert again.description["kind"] == "bm25" and again.description["k1"] == 1.5


def test_nothing_is_scored_twice_and_the_silent_are_counted_again(dataset, tmp_path, caplog):
    caplog.set_level(logging.INFO, "retrieval_distill")
    teacher, run = (
        teacher_loader.load(MemberConfig(model="bm25"), teacher_loader.Corpus(dataset.documents)),
        every_pair(dataset),
    )
    first = api.score(run, dataset, teacher=teacher, store=tmp_path)
    again = api.score(run, dataset, teacher=teacher, store=tmp_path)
    assert (again.facts["scored"], again.facts["stored"]) == (0, len(run))
    assert again.frame.equals(first.frame)
    silent = again.facts["members"][0]["silent"]
    said = f"teacher 'bm25' has nothing to say on {silent:,} of {len(run):,} pairs; it scores them 0"
    assert caplog.text.count(said) == 2


def test_where_it_finds_nothing_at_all_only_the_others_count(dataset, tmp_path, cross_encoders):
    texts = {"documents": {"a": "root path", "b": "open file"}, "queries": {"q": "whale", "p": "path"}}
    run = Run.from_dict({query: {"a": 0.0, "b": 0.0} for query in texts["queries"]})
    data = api.nouns.dataset_of(texts)
    cross = api.load_teacher(cross_encoders["bert"], max_length=48)
    both = [api.load_teacher("bm25", documents=data), cross]
    _, counts = ensemble.raw_scores(run, data.queries, data.documents, both, ScoreStore(tmp_path))
    members = parse_teacher("", None, "auto", ensemble=[{"normalise": "z-score"}, {"normalise": "z-score"}])
    scored = api.score(run, data, teacher=both, store=tmp_path, config=members)
    alone = api.score(
        run, data, teacher=cross, store=tmp_path, config=parse_teacher("", None, "auto", normalise="z-score")
    )
    assert counts["members"][0]["silent"] == 3
    assert scored.as_dict()["q"] == alone.as_dict()["q"] and scored.as_dict()["p"] != alone.as_dict()["p"]


def test_its_scores_are_never_taken_for_a_sigmoids(dataset):
    teacher = teacher_loader.load(MemberConfig(model="bm25"), teacher_loader.Corpus(dataset.documents))
    run = Run.from_dict({f"q{i}": {"a": i / 40, "b": 1 - i / 50} for i in range(40)})
    fitted = ensemble.Ensemble.fit([teacher], [run], None, ["none"], [1.0], "refuse")
    assert not fitted.calibration.members[0].unsquash


def test_wrong_names_and_options(dataset):
    assert teacher_loader.split("bm25") == ("bm25", "") and teacher_loader.split("bm25s/model") == (
        "cross-encoder",
        "bm25s/model",
    )
    with pytest.raises(UserError, match=r"needs the documents of the corpus.*documents="):
        api.load_teacher("bm25")
    with pytest.raises(UserError, match=r"'bm25:k1=2': write bm25; its options are keys"):
        api.load_teacher("bm25:k1=2", documents=dataset)
    with pytest.raises(UserError, match="stemmer 'englisch' is unknown; did you mean 'english'"):
        teacher_loader.check(MemberConfig(model="bm25", bm25=BM25Config(stemmer="englisch")))
    teacher_loader.check(MemberConfig(model="bm25"))


def test_from_the_command_line(dataset_folder, tmp_path):
    data = ["--dataset", dataset_folder, "--cache", tmp_path / "cache"]
    command("retrieve", *data, "--split", "test", "--depth", 5, "--k1", 0.9, "--out", tmp_path / "found.parquet")
    teacher = ["--teacher", "bm25", "--set", "bm25.k1=0.9", "--store", tmp_path / "store"]
    said = command("score", tmp_path / "found.parquet", *data, *teacher, "--out", tmp_path / "scored.parquet")
    found, scored = (Run.load(tmp_path / f"{name}.parquet").as_dict() for name in ("found", "scored"))
    assert f"scored {sum(map(len, found.values()))} pairs" in said
    assert scored == {query: pytest.approx(documents, rel=1e-5) for query, documents in found.items()}
