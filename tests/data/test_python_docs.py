"""The embedded corpus: what it holds, and that its splits do not leak and do not move."""

from __future__ import annotations

import itertools
import json
import shutil

import pytest

from retrieval_distill.data import dataset_loader, python_docs


@pytest.fixture(scope="module")
def built():
    return python_docs.build()


def test_size_and_splits(built):
    assert 8_000 < len(built.documents) < 14_000
    assert set(built.qrels) == {"train", "dev", "test", "questions"}
    assert len(built.qrels["test"]) > 400 and len(built.qrels["dev"]) > 200
    assert len(built.qrels["questions"]) >= 200


def test_a_passage_lacks_the_summary_that_asks_for_it(built):
    title, text = built.documents.record("os.path.splitext")
    assert title == ""
    assert "leading dots" in text
    assert "extension from a pathname" in built.queries["query:os.path.splitext"]
    assert "extension from a pathname" not in text


def test_no_query_straddles_splits(built):
    texts = {split: {python_docs._normal(built.queries[q]) for q in judged} for split, judged in built.qrels.items()}
    for split, other in itertools.combinations(("train", "dev", "test", "questions"), 2):
        held = "\n".join(texts[other])
        assert not [text for text in texts[split] if text in held]
        assert not [text for text in texts[split] if any(inside in text for inside in texts[other])]


def test_no_passage_stands_twice(built):
    bodies = [python_docs._normal(built.documents.record(id_)[1]) for id_ in built.documents]
    assert len(bodies) == len(set(bodies))


def test_a_querys_split_does_not_depend_on_the_others():
    queries = {
        f"package.function_{i}": (f"unique summary number {i} here", [f"package.function_{i}"]) for i in range(3000)
    }
    whole = python_docs._splits(queries)
    part = python_docs._splits({name: queries[name] for name in list(queries)[::3]})
    for split, names in part.items():
        assert set(names) <= set(whole[split])
    assert 0.04 < len(whole["test"]) / 3000 < 0.10


def test_building_again_gives_the_same(built):
    again = python_docs.build()
    assert again.documents.fingerprint == built.documents.fingerprint
    assert again.queries.fingerprint == built.queries.fingerprint
    assert again.qrels == built.qrels


def test_every_answer_to_a_question_is_in_the_corpus_and_most_that_were_written_are(built):
    judged = built.qrels["questions"]
    assert {id_ for answers in judged.values() for id_ in answers} <= set(built.documents)
    assert {grade for answers in judged.values() for grade in answers.values()} == {1, 2}
    written, nothing = python_docs.questions(python_docs.WRITTEN, _Everything())
    assert not nothing.as_dict()
    pairs = {
        split: sum(map(len, judged.values())) for split, judged in (("here", judged), ("written", _answers(written)))
    }
    assert 0.9 * pairs["written"] < pairs["here"] <= pairs["written"]  # a misspelt name would be none
    assert len({text for text, _ in written.values()}) == len(written)


def test_an_answer_that_is_not_installed_is_left_out_and_a_question_without_any_is_counted(tmp_path):
    table = ["# a comment", "id\tquestion\tbest\talso"]
    table += ['goal-1\t"why" not\ta.b\tc.d e.f', "goal-2\thow\tgone.x", "goal-3\twhat\tgone.x\te.f"]
    (tmp_path / "questions.tsv").write_text("\n".join(table) + "\n")
    found, left_out = python_docs.questions(tmp_path / "questions.tsv", {"a.b", "e.f"})
    assert found == {
        "question:goal-1": ('"why" not', {"a.b": 2, "e.f": 1}),
        "question:goal-3": ("what", {"e.f": 1}),
    }
    assert left_out.as_dict() == {"question that no installed package answers": {"count": 1, "first": ["goal-2"]}}


def test_what_trains_or_tunes_is_no_question(built):
    """Not even nearly: no training, dev or test query shares nine of ten words with a question."""
    asked = [set(python_docs._normal(built.queries[id_]).split()) for id_ in built.qrels["questions"]]
    for split in ("train", "dev", "test"):
        for id_ in built.qrels[split]:
            words = set(python_docs._normal(built.queries[id_]).split())
            assert not any(len(words & other) >= 0.9 * len(words | other) for other in asked), built.queries[id_]


def test_a_summary_that_a_question_holds_trains_nothing():
    queries = {f"package.f{i}": (f"unique summary number {i} here", [f"package.f{i}"]) for i in range(40)}
    questions = ["is there a unique summary number 3 here please", "number 5"]
    kept = {name for names in python_docs._splits(queries, questions).values() for name in names}
    assert kept == set(queries) - {"package.f3", "package.f5"}


def test_a_cache_of_other_questions_is_built_anew_and_one_of_the_same_is_kept(built, tmp_path, monkeypatch):
    builds = []
    monkeypatch.setattr(python_docs, "build", lambda: builds.append(built) or built)
    shutil.copy(python_docs.WRITTEN, tmp_path / "questions.tsv")
    monkeypatch.setattr(python_docs, "WRITTEN", tmp_path / "questions.tsv")
    for _ in range(2):
        assert dataset_loader.load("python-docs", tmp_path / "cache").qrels["questions"] == built.qrels["questions"]
    assert len(builds) == 1
    counts = json.loads((tmp_path / "cache" / "python-docs" / "manifest.json").read_text())["counts"]
    assert counts["questions queries"] == len(built.qrels["questions"])
    (tmp_path / "questions.tsv").write_text("id\tquestion\tbest\talso\n")
    dataset_loader.load("python-docs", tmp_path / "cache")
    assert len(builds) == 2


class _Everything:
    """Whatever is asked for is in it."""

    def __contains__(self, name: object) -> bool:
        return True


def _answers(written: dict[str, tuple[str, dict[str, int]]]) -> dict[str, dict[str, int]]:
    return {id_: answers for id_, (_, answers) in written.items()}
