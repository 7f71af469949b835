"""What one format writes it reads back, character for character; what it cannot hold it refuses."""

from __future__ import annotations

from dataclasses import replace

import datasets
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval_distill import api
from retrieval_distill.config import ReadConfig
from retrieval_distill.data import dataset_loader, generated
from retrieval_distill.data.dataset import Dataset
from retrieval_distill.data.formats import texts as texts_format
from retrieval_distill.data.formats import training_table
from retrieval_distill.data.formats.reading import Reading
from retrieval_distill.data.run import Run
from retrieval_distill.errors import UserError

NASTY = st.sampled_from("\t\n\r\"',;\\ \u2028\x85\ufeffé漢\U0001f600a")
ANY = st.one_of(NASTY, st.characters(exclude_categories=("Cs",), exclude_characters="\0"))
texts = st.text(ANY, min_size=1, max_size=12).filter(lambda text: text.strip())
ids = texts.filter(lambda id_: not {"\t", "\n", "\r"} & {*id_})
plain_ids = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=4)


@st.composite
def data(draw, id_=ids, nul=False):
    text = st.one_of(texts, texts.map(lambda value: f"{value}\0")) if nul else texts
    documents = draw(st.dictionaries(id_, st.tuples(st.one_of(st.just(""), text), text), min_size=1, max_size=4))
    queries = draw(st.dictionaries(id_, text, min_size=1, max_size=3))
    pairs = draw(st.dictionaries(st.tuples(st.sampled_from(list(queries)), st.sampled_from(list(documents))), st.integers(0, 3), max_size=5))  # fmt: skip
    return Dataset.from_records(
        "x",
        [(key, *value) for key, value in documents.items()],
        list(queries.items()),
        {"train": [(query, doc, grade) for (query, doc), grade in pairs.items()]},
    )


def same(one: Dataset, other: Dataset) -> bool:
    return (
        list(one.documents.records()) == list(other.documents.records())
        and [(i, t) for i, _, t in one.queries.records()] == [(i, t) for i, _, t in other.queries.records()]
        and one.qrels == other.qrels
    )


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    root = tmp_path_factory.mktemp("trips")
    numbers = iter(range(10**6))
    return lambda: root / str(next(numbers))


@pytest.mark.parametrize("to", ["beir", "jsonl", "csv", "parquet", "hugging-face"])
@settings(max_examples=30)
@given(found=data())
def test_folders(place, to, found):
    folder = place()
    api.convert(found, out=folder, to=to)
    assert same(dataset_loader.load(str(folder), folder / "cache"), found)


@pytest.mark.parametrize("to", ["beir", "jsonl", "csv", "parquet", "hugging-face", "ms-marco"])
def test_what_a_folder_tells_of_its_passages_and_generated_queries(tmp_path, to):
    """It survives every format that holds a dataset; what is written over it leaves none of it behind."""
    plain = Dataset.from_records("x", [("a#1", "", "one"), ("a#2", "", "two")], [("g", "ask")], {"train": [("g", "a#1", 1)]})  # fmt: skip
    parents = pa.chunked_array([pa.array(["a", "a"], pa.large_string())])
    marks = generated.MARKS.empty_table().to_pandas()
    marks.loc[0] = ["g", "titles", "a#1", "", "o"]
    told = replace(plain, parents=parents, generated=pa.Table.from_pandas(marks, generated.MARKS, preserve_index=False))
    api.convert(told, out=tmp_path / "x", to=to)
    again = dataset_loader.load(str(tmp_path / "x"), tmp_path / "cache")
    assert same(again, told)
    assert again.parents.to_pylist() == ["a", "a"] and again.generated.equals(told.generated)
    api.convert(plain, out=tmp_path / "x", to=to)
    bare = dataset_loader.load(str(tmp_path / "x"), tmp_path / "cache")
    assert bare.parents is None and bare.generated is None


@pytest.mark.parametrize("to", ["beir", "jsonl", "parquet"])
@settings(max_examples=10)
@given(found=data(nul=True))
def test_nul_where_the_format_holds_it(place, to, found):
    folder = place()
    api.convert(found, out=folder, to=to)
    assert same(dataset_loader.load(str(folder), folder / "cache"), found)


def test_csv_refuses_nul(tmp_path):
    found = Dataset.from_records("x", [("d\t1", "", "a\0b")], [], {})
    with pytest.raises(UserError, match=r"corpus.csv: 'd\\t1' contains a NUL byte"):
        api.convert(found, out=tmp_path, to="csv")


@pytest.mark.parametrize("to", ["beir", "trec", "ms-marco"])
def test_ids_that_separate_fields_are_refused(tmp_path, to):
    found = Dataset.from_records("x", [("d\t1", "", "a")], [("q", "b")], {"test": [("q", "d\t1", 1)]})
    with pytest.raises(UserError, match=r"'d\\t1'"):
        api.convert(found, out=tmp_path, to=to)


@settings(max_examples=30)
@given(found=data())
def test_ms_marco_folders(place, found):
    """A text on one line comes back as it is; any other is refused, for a tab or a line break ends it there."""
    folder = place()
    fields = [field for texts in (found.documents, found.queries) for record in texts.records() for field in record]
    marked = any(id_.startswith("\ufeff") for id_ in [*found.documents, *found.queries])
    if marked or any({"\t", "\n", "\r"} & {*field} for field in fields):
        with pytest.raises(UserError, match="contains a tab, a line break, a NUL byte or"):
            api.convert(found, out=folder, to="ms-marco")
    else:
        api.convert(found, out=folder, to="ms-marco")
        assert same(dataset_loader.load(str(folder), folder / "cache"), found)


@settings(max_examples=20)
@given(found=data(id_=plain_ids))
def test_trec_judgements(place, found):
    folder = place()
    api.convert(found, out=folder / "corpus", to="parquet")
    api.convert(found, out=folder / "judged", to="trec")
    options = ReadConfig(
        queries=str(folder / "corpus" / "queries.parquet"), qrels={"train": str(folder / "judged" / "train.qrels")}
    )
    assert same(dataset_loader.load(str(folder / "corpus" / "corpus.parquet"), folder, options), found)


@pytest.mark.parametrize("ending", ["parquet", "jsonl", "csv"])
@settings(max_examples=15)
@given(found=data(), scores=st.lists(st.floats(-20, 20), min_size=12, max_size=12))
def test_training_tables(place, ending, found, scores):
    """Every exported row's texts and scores are the Run's; reading the table back gives them under the texts."""
    every = [(query, doc) for query in found.queries for doc in found.documents]
    run = Run.from_columns([q for q, _ in every], [d for _, d in every], scores[: len(every)])
    judged = found.qrels["train"]
    expected, by_id = {}, run.as_dict()
    for query, grades in judged.items():
        good = [doc for doc, grade in grades.items() if grade > 0]
        others = [doc for doc in by_id[query] if doc not in good]
        if good and others:
            for doc in [*good, others[0]]:
                expected[found.queries[query], found.documents[doc]] = by_id[query][doc]
    path = place() / f"table.{ending}"
    if not expected:
        with pytest.raises(UserError, match="no query has 1 negative"):
            api.convert(found, out=path, to="sentence-transformers", scores=run, negatives=1)
        return
    api.convert(found, out=path, to="sentence-transformers", scores=run, negatives=1)
    reading = Reading.of(ReadConfig(format="sentence-transformers"))
    again, scored = training_table.read(str(path), reading), training_table.scores(str(path), reading)
    read = {(again.queries[q], again.documents[d]): score for (q, d), score in zip(scored.pairs, scored.frame["score"], strict=True)}  # fmt: skip
    texts_are_ids = len({found.documents[d] for d in found.documents}) == len(found.documents) and len(
        {found.queries[q] for q in found.queries}
    ) == len(found.queries)
    assert set(read) <= set(expected)
    if texts_are_ids:
        assert read == expected


def test_training_table_by_hand(tmp_path):
    found = Dataset.from_records(
        "x", [("a", "", "one"), ("b", "", "two"), ("c", "T", "three")], [("q", "ask"), ("r", "more")],
        {"train": [("q", "b", 1), ("r", "a", 1)]},
    )  # fmt: skip
    run = Run.from_dict({"q": {"a": 3.0, "b": 1.5, "c": -2.0}, "r": {"a": 1.0, "b": 0.0}})
    api.convert(found, out=tmp_path / "t.parquet", to="sentence-transformers", scores=run, negatives=2)
    rows = datasets.Dataset.from_parquet(str(tmp_path / "t.parquet")).to_list()
    assert rows == [
        {"query": "ask", "positive": "two", "negative_1": "one", "negative_2": "T three", "scores": [1.5, 3.0, -2.0]}
    ]  # "more" has one negative only and is left out
    with pytest.raises(UserError, match="give --scores RUN"):
        api.convert(found, out=tmp_path / "t.parquet", to="sentence-transformers")


def test_negatives_as_a_list_and_a_triplet(tmp_path):
    (tmp_path / "t.jsonl").write_text(
        '{"anchor": "q", "positive": "p", "negative": ["n", "m"], "scores": [2, 1, 0]}\n'
        '{"anchor": "q", "positive": "n", "negative": "m"}\n'
    )
    options = ReadConfig(format="sentence-transformers")
    found = dataset_loader.load(str(tmp_path / "t.jsonl"), tmp_path, options)
    (query,) = found.queries
    grades = {found.documents[doc]: grade for doc, grade in found.qrels["train"][query].items()}
    assert grades == {"p": 1, "n": 1, "m": 0}
    run = training_table.scores(str(tmp_path / "t.jsonl"), Reading.of(options))
    assert [(found.documents[d], s) for d, s in run.as_dict()[query].items()] == [("p", 2.0), ("n", 1.0), ("m", 0.0)]


def test_named_columns_of_files_that_stand_apart(tmp_path):
    (tmp_path / "docs.csv").write_text('doc_id,body,name\n1,"one, two",T\n2,three,\n')
    (tmp_path / "asked.tsv").write_text('qid\tquestion\n7\tsay "so"\n')
    (tmp_path / "judged.csv").write_text("qid,did,grade\n7,1,2\n")
    options = ReadConfig(
        columns={"id": "doc_id", "text": "body", "title": "name", "queries.id": "qid", "queries.text": "question",
                 "qrels.document": "did", "qrels.score": "grade"},
        queries=str(tmp_path / "asked.tsv"), qrels={"test": str(tmp_path / "judged.csv")},
    )  # fmt: skip
    found = dataset_loader.load(str(tmp_path / "docs.csv"), tmp_path, options)
    assert list(found.documents.records()) == [("1", "T", "one, two"), ("2", "", "three")]
    assert found.queries["7"] == 'say "so"'
    assert found.qrels == {"test": {"7": {"1": 2}}}
    with pytest.raises(UserError, match="role 'idd' is unknown; did you mean 'id'"):
        dataset_loader.load(str(tmp_path / "docs.csv"), tmp_path, ReadConfig(columns={"idd": "x"}))


@settings(max_examples=5)
@given(found=data())
def test_hugging_face_folder(place, found):
    folder = place()
    columns = {"corpus": ("id", "title", "text"), "queries": ("id", "text"), "train": ("query_id", "doc_id", "score")}
    rows = {
        "corpus": list(found.documents.records()),
        "queries": [(id_, text) for id_, _, text in found.queries.records()],
        "train": [(q, d, g) for q, grades in found.qrels["train"].items() for d, g in grades.items()],
    }
    tables = {
        name: datasets.Dataset.from_dict({c: [row[at] for row in rows[name]] for at, c in enumerate(names)})
        for name, names in columns.items()
        if rows[name]
    }
    datasets.DatasetDict(tables).save_to_disk(str(folder))
    again = dataset_loader.load(str(folder), folder / "cache")
    assert list(again.documents.records()) == rows["corpus"]
    assert [(i, t) for i, _, t in again.queries.records()] == rows["queries"]
    assert again.qrels.get("train", {}) == found.qrels["train"]


def test_whole_numbers_as_ids(tmp_path):
    datasets.Dataset.from_dict({"id": [1, 20], "text": ["a", "b"]}).save_to_disk(str(tmp_path / "d"))
    datasets.Dataset.from_dict({"id": [1, 20], "text": ["a", "b"]}).to_parquet(str(tmp_path / "d.parquet"))
    for source in ("d", "d.parquet"):
        assert dataset_loader.load(str(tmp_path / source), tmp_path).documents.ids == ["1", "20"]


def test_triples_of_texts(tmp_path):
    (tmp_path / "triples.train.tsv").write_text('what "is"\tthis one\tother\nwhat "is"\tother\tthird\n')
    found = dataset_loader.load(str(tmp_path / "triples.train.tsv"), tmp_path)
    (query,) = found.queries
    assert found.queries[query] == 'what "is"'
    grades = {found.documents[doc]: grade for doc, grade in found.qrels["train"][query].items()}
    assert grades == {"this one": 1, "other": 1, "third": 0}
    (tmp_path / "triples.train.tsv").write_text("a\tb\n")
    with pytest.raises(UserError, match=r"triples.train.tsv:1: 2 fields; a triple is"):
        dataset_loader.load(str(tmp_path / "triples.train.tsv"), tmp_path)


one_line = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=9).filter(str.strip)


@settings(max_examples=15)
@given(st.lists(one_line, min_size=2, max_size=5), st.lists(one_line, min_size=1, max_size=3))
def test_ms_marco(place, passages, asked):
    folder = place()
    folder.mkdir()
    write = lambda name, lines: (folder / name).write_text("".join(f"{line}\n" for line in lines), newline="\n")  # noqa: E731
    write("collection.tsv", (f"{row}\t{text}" for row, text in enumerate(passages)))
    write("queries.train.tsv", (f"{row}\t{text}" for row, text in enumerate(asked)))
    write("qrels.dev.small.tsv", ["0\t0\t1\t1"])
    write("qidpidtriples.train.tsv", ["0\t1\t0", "0\t1\t0"])
    found = dataset_loader.load(str(folder), folder / "cache")
    assert list(found.documents.records()) == [(str(row), "", text) for row, text in enumerate(passages)]
    assert found.queries.table["text"].to_pylist() == asked
    assert found.qrels == {"dev.small": {"0": {"1": 1}}, "train": {"0": {"1": 1, "0": 0}}}


def test_large_sources_are_mapped_once_and_read_anew_when_they_change(tmp_path, monkeypatch):
    monkeypatch.setattr(texts_format, "MAPPED_FROM_BYTES", 0)
    path = tmp_path / "docs.jsonl"
    path.write_text('{"id": "a", "text": "one"}\n{"id": 7.5, "text": "x"}\n{"id": "a", "text": "two"}\n')
    options = ReadConfig(on_bad="skip")
    for _ in range(2):  # the second time from the cache: what was left out is still told
        found = dataset_loader.load(str(path), tmp_path / "cache", options)
        assert list(found.documents.records()) == [("a", "", "one")]
        assert {reason: case["first"] for reason, case in found.left_out.items()} == {
            "id that is no string": [f"{path}:2"],
            "duplicate id": [f"{path}:3"],
        }
    assert len(list((tmp_path / "cache" / "texts").rglob("*.arrow"))) == 1
    path.write_text('{"id": "b", "text": "other"}\n')
    assert dataset_loader.load(str(path), tmp_path / "cache", options).documents.ids == ["b"]
