"""prepare as a whole: every step's effect by hand, judgements carried, nothing lost without being counted."""

from __future__ import annotations

import numpy as np
import pytest

from retrieval_distill import api
from retrieval_distill.config import ReadConfig
from retrieval_distill.data import dataset_loader
from retrieval_distill.data.dataset import Dataset
from retrieval_distill.data.prepare.data_report_file import DataReport
from retrieval_distill.data.run import Run
from retrieval_distill.errors import UserError
from retrieval_distill.reporting import data_report
from retrieval_distill.runtime.stages import read_json

LONG = " ".join(f"word{number}" for number in range(30))


def toy() -> Dataset:
    return Dataset.from_records(
        "toy",
        [
            ("a", "", "The  first\ttext."),
            ("copy", "", "The first text."),
            ("near", "", LONG),
            ("near2", "", f"{LONG} more"),
            ("near-copy", "", f"  {LONG} more"),
            ("short", "", "one"),
            ("blank", "\u200b", "\0"),
            ("held", "", "Only the held-out query finds this text"),
        ],
        [("q1", "Who is first?"), ("q2", "what comes last"), ("q3", "who is FIRST"), ("q4", "\u200b"), ("q5", "new")],
        {
            "train": [("q1", "a", 1), ("q1", "copy", 2), ("q2", "held", 1), ("q2", "short", 1), ("q5", "held", 1),
                      ("q2", "near-copy", 0), ("q2", "near", 1)],
            "test": [("q3", "held", 2), ("q3", "blank", 1), ("q4", "a", 1)],
        },
    )  # fmt: skip


def prepared(tmp_path, **options):
    api.prepare(toy(), out=tmp_path / "out", **options)
    return dataset_loader.load(str(tmp_path / "out"), tmp_path / "cache"), read_json(tmp_path / "out" / "report.json")


def test_every_step_by_hand(tmp_path):
    found, report = prepared(tmp_path, min_words=2, duplicates="near", leakage="remove-all")
    assert list(found.documents.records()) == [
        ("a", "", "The first text."),
        ("near", "", LONG),
        ("held", "", "Only the held-out query finds this text"),
    ]
    assert found.queries.ids == ["q1", "q2", "q3", "q5"]
    assert found.qrels == {"train": {"q2": {"near": 1}}, "test": {"q3": {"held": 2}}}
    assert report["dropped"] == {
        "document of fewer than 2 words": {"count": 1, "first": ["short"]},
        "document without text": {"count": 1, "first": ["blank"]},
        "query without text": {"count": 1, "first": ["q4"]},
        "judgement of a dropped document": {"count": 2, "first": ["q2 short", "q3 blank"]},
        "judgement of a dropped query": {"count": 1, "first": ["q4 a"]},
    }
    assert report["duplicates"] == {
        "exact copy: merged": {"count": 2, "first": ["copy into a", "near-copy into near"]},
        "near copy: merged": {"count": 1, "first": ["near2 into near"]},
    }
    assert report["leakage"] == {
        "training query equal to a held-out one: removed": {"count": 1, "first": ["q1"]},
        "training pair whose passage is equal to a held-out relevant one: removed": {
            "count": 2,
            "first": ["q2 held", "q5 held"],
        },
        "training query whose relevant passages all leak: removed": {"count": 1, "first": ["q5"]},
    }
    assert report["before"]["documents"] == 8 and report["after"]["documents"] == 3
    assert report["after"]["splits"]["train"]["queries"] == 1
    table = data_report.table(DataReport(**report))
    assert "leakage: 1 x training query equal to a held-out one: removed; first q1" in table


def test_judgements_go_to_the_kept_copy_with_the_highest_grade(tmp_path):
    found, _ = prepared(tmp_path, leakage="off", duplicates="near")
    assert found.qrels["train"] == {
        "q1": {"a": 2},
        "q2": {"held": 1, "short": 1, "near": 1},
        "q5": {"held": 1},
    }


def test_leaks_can_be_reported_only(tmp_path):
    found, report = prepared(tmp_path, leakage="report")
    assert set(found.qrels["train"]) == {"q1", "q2", "q5"}
    assert report["leakage"]["training query equal to a held-out one: kept"]["count"] == 1


@pytest.mark.parametrize(
    ("rule", "documents", "told"),
    [
        ("keep", ["a", "copy", "near", "near2", "near-copy", "short", "held"], {}),
        (
            "exact",
            ["a", "near", "near2", "short", "held"],
            {"exact copy: merged": ["copy into a", "near-copy into near2"]},
        ),
        (
            "report",
            ["a", "near", "near2", "short", "held"],
            {"exact copy: merged": ["copy into a", "near-copy into near2"], "near copy: kept": ["near2 beside near"]},
        ),
    ],
)
def test_which_copies_are_merged(tmp_path, rule, documents, told):
    found, report = prepared(tmp_path, duplicates=rule)
    assert found.documents.ids == documents
    assert report["duplicates"] == {reason: {"count": len(first), "first": first} for reason, first in told.items()}


def test_by_default_repeated_queries_go_and_shared_passages_are_counted(tmp_path):
    """Splits over one corpus share passages; only the repeated query gives a held-out answer away."""
    found, report = prepared(tmp_path)
    assert found.qrels["train"] == {"q2": {"held": 1, "short": 1, "near2": 0, "near": 1}, "q5": {"held": 1}}
    assert report["leakage"] == {
        "training query equal to a held-out one: removed": {"count": 1, "first": ["q1"]},
        "training pair whose passage is equal to a held-out relevant one: kept": {
            "count": 2,
            "first": ["q2 held", "q5 held"],
        },
        "training query whose relevant passages all leak: kept": {"count": 1, "first": ["q5"]},
    }


def test_near_leaks(tmp_path):
    words = [f"w{number}" for number in range(20)]
    dataset = Dataset.from_records(
        "x",
        [("d1", "", " ".join(words)), ("d2", "", " ".join([*words, "end"])), ("d3", "", "something else altogether")],
        [("q1", " ".join(words[:19])), ("q2", " ".join(words)), ("q3", "other")],
        {"train": [("q1", "d3", 1), ("q3", "d1", 1)], "test": [("q2", "d2", 1)]},
    )
    api.prepare(dataset, out=tmp_path / "out", duplicates="exact", leakage="remove-all")
    assert dataset_loader.load(str(tmp_path / "out"), tmp_path).qrels["train"] == {}
    assert read_json(tmp_path / "out" / "report.json")["leakage"] == {
        "training query near a held-out one: removed": {"count": 1, "first": ["q1"]},
        "training pair whose passage is near a held-out relevant one: removed": {"count": 1, "first": ["q3 d1"]},
        "training query whose relevant passages all leak: removed": {"count": 1, "first": ["q3"]},
    }


def test_languages(tmp_path):
    pytest.importorskip("py3langid", reason="needs the extra language")
    dataset = Dataset.from_records(
        "x",
        [
            ("en", "", "The committee published its annual report on the state of the roads in the country."),
            ("de", "", "Der Ausschuss hat seinen jährlichen Bericht über den Zustand der Straßen veröffentlicht."),
            ("code", "", "x1 42"),
        ],
        [("q", "report")],
        {"test": [("q", "en", 1), ("q", "de", 1)]},
    )
    api.prepare(dataset, out=tmp_path / "out", languages=["en"])
    assert dataset_loader.load(str(tmp_path / "out"), tmp_path).documents.ids == [
        "en",
        "code",
    ]  # too unclear to tell: stays
    assert read_json(tmp_path / "out" / "report.json")["dropped"] == {
        "document in another language (de)": {"count": 1, "first": ["de"]},
        "judgement of a dropped document": {"count": 1, "first": ["q de"]},
    }
    with pytest.raises(UserError, match="english is not known"):
        api.prepare(dataset, out=tmp_path / "other", languages=["english"])


SENTENCES = ["Path file root split join.", "Read write open close array.", "Matrix sort search index graph."]


def long_documents() -> Dataset:
    return Dataset.from_records(
        "long",
        [("d", "title", " ".join(SENTENCES)), ("e", "", "Tree list count.")],
        [("q1", "open the array and read"), ("q2", "tree list")],
        {"train": [("q2", "e", 1)], "test": [("q1", "d", 2), ("q1", "e", 0)]},
    )


@pytest.mark.parametrize(("rule", "judged"), [("all", {"d#1": 2, "d#2": 2, "d#3": 2, "e": 0}), ("best", {"d#2": 2, "e": 0})])  # fmt: skip
def test_passages(tmp_path, encoders, tokenizers_by_kind, rule, judged):
    limit = max(len(tokenizers_by_kind["bert"](f"title {text}")["input_ids"]) for text in SENTENCES)
    options = {"segment": True, "student": encoders["bert"], "student_length": limit, "overlap": 0}
    api.prepare(long_documents(), out=tmp_path / "out", judged_passages=rule, **options)
    found = dataset_loader.load(str(tmp_path / "out"), tmp_path / "cache")
    assert list(found.documents.records()) == [
        *((f"d#{number}", "title", text) for number, text in enumerate(SENTENCES, 1)),
        ("e", "", "Tree list count."),
    ]
    assert found.qrels["test"] == {"q1": judged}
    assert found.parents_of(["d#3", "e", "unknown"]) == ["d", "e", "unknown"]
    assert found.by_document(found.qrels["test"]) == long_documents().qrels["test"]
    counted = read_json(tmp_path / "out" / "report.json")
    assert counted["before"]["lengths"]["student"]["documents"]["truncated"] == 0.5
    assert counted["after"]["lengths"]["student"]["documents"]["truncated"] == 0.0
    assert "50.0% -> 0.0%" in data_report.table(DataReport(**counted))
    run = Run.from_dict({"q1": {"e": 2.0, "d#1": 1.0, "d#3": 3.0}})
    whole = Run.from_dict({"q1": {"e": 2.0, "d": 3.0}})
    for measure in ("nDCG@10", "RR@10"):
        pooled = api.evaluate({"x": run}, found.qrels("test"), measures=[measure], dataset=found).systems["x"][measure][
            "mean"
        ]
        assert (
            pooled
            == api.evaluate(
                {"x": whole}, long_documents().qrels("test"), measures=[measure], dataset=long_documents()
            ).systems["x"][measure]["mean"]
        )
    with pytest.raises(UserError, match="already consists of passages"):
        api.prepare(found, out=tmp_path / "again")


def test_ids_that_collide_once_documents_are_cut(tmp_path, encoders):
    dataset = Dataset.from_records("x", [("d", "", " ".join(SENTENCES)), ("d#2", "", "tree")], [], {})
    with pytest.raises(UserError, match=r"ids collide once documents are split: 'd#2' .* 'd' and 'd#2'"):
        api.prepare(dataset, out=tmp_path / "out", segment=True, student=encoders["bert"], student_length=16)
    assert not (tmp_path / "out").exists()


def test_lengths_are_the_tokenizers(tmp_path, encoders, tokenizers_by_kind):
    texts = ["path file", "tree " * 20, "sum"]
    dataset = Dataset.from_records("x", [(f"d{row}", "", text) for row, text in enumerate(texts)], [], {})
    api.prepare(dataset, out=tmp_path / "out", student=encoders["bert"], student_length=8)
    told = read_json(tmp_path / "out" / "report.json")["before"]["lengths"]["student"]["documents"]
    lengths = sorted(len(tokenizers_by_kind["bert"](text)["input_ids"]) for text in texts)
    assert (told["p50"], told["max"], told["truncated"]) == (lengths[1], lengths[2], pytest.approx(1 / 3))
    assert told["lost"] == pytest.approx((lengths[2] - 8) / sum(lengths))
    assert sum(told["histogram"]["counts"]) == 3


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_a_teacher_reads_query_and_document_together(tmp_path, encoders, tokenizers_by_kind, kind):
    """What is cut off is told by the tokenizer itself, for pairs with the query of median length."""
    texts, queries = ["path file " * n for n in (1, 5, 9, 20)], ["tree", "tree list sum", "tree list sum hash byte"]
    dataset = Dataset.from_records(
        "x",
        [(f"d{row}", "", text) for row, text in enumerate(texts)],
        [(f"q{row}", text) for row, text in enumerate(queries)],
        {},
    )
    api.prepare(dataset, out=tmp_path / "out", teacher=encoders[kind], teacher_length=16)
    told = read_json(tmp_path / "out" / "report.json")["before"]["lengths"]["teacher"]["documents"]
    pairs = [len(tokenizers_by_kind[kind](queries[1], text.strip())["input_ids"]) for text in texts]
    alone = [len(tokenizers_by_kind[kind](text.strip())["input_ids"]) for text in texts]
    assert told["truncated"] == np.mean([pair > 16 for pair in pairs])
    assert told["lost"] == pytest.approx(sum(max(pair - 16, 0) for pair in pairs) / sum(alone))


def test_bad_input_is_in_the_report(tmp_path):
    (tmp_path / "d.jsonl").write_text('{"id": "a", "text": "fine"}\n{"id": 3.5, "text": "x"}\n')
    dataset = dataset_loader.load(str(tmp_path / "d.jsonl"), tmp_path, ReadConfig(on_bad="skip"))
    api.prepare(dataset, out=tmp_path / "out")
    report = read_json(tmp_path / "out" / "report.json")
    assert report["left_out_as_bad_input"]["id that is no string"] == {"count": 1, "first": [f"{tmp_path}/d.jsonl:2"]}


def test_again_keeps_what_is_there_and_options_count(tmp_path):
    assert not api.prepare(toy(), out=tmp_path / "out").manifest["skipped"]
    assert api.prepare(toy(), out=tmp_path / "out").manifest["skipped"]
    assert not api.prepare(toy(), out=tmp_path / "out", min_words=2).manifest["skipped"]
    with pytest.raises(UserError, match="did you mean 'min_words'"):
        api.prepare(toy(), out=tmp_path / "out", min_word=2)


def test_mistakes(tmp_path):
    with pytest.raises(UserError, match="segment needs student"):
        api.prepare(toy(), out=tmp_path / "out", segment=True)
    with pytest.raises(UserError, match="no document is left"):
        api.prepare(toy(), out=tmp_path / "out", min_words=1000)
