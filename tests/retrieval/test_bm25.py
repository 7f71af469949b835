"""BM25 on languages other than English, and on texts without words."""

from __future__ import annotations

import bm25s
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval_distill.config import RetrieveConfig, parse
from retrieval_distill.data.dataset import Texts
from retrieval_distill.data.run import Run
from retrieval_distill.errors import UserError
from retrieval_distill.retrieval.bm25 import BM25
from tests.commands import command

LANGUAGES = {
    "chinese": (
        ["猫喜欢吃鱼和肉。", "狗在公园里跑步。", "我用iPhone手机看书"],
        {"吃鱼的猫": 0, "公园": 1, "手机": 2, "狗": 1},
    ),
    "japanese": (["東京の天気は晴れです。", "京都で寿司を食べました。"], {"京都の寿司": 1, "天気": 0}),
    "thai": (["แมวกินปลา", "สุนัขวิ่งในสวน"], {"ปลา": 0, "สวน": 1}),
    "khmer": (["ឆ្មាស៊ីត្រី", "ឆ្កែរត់ក្នុងសួន"], {"ត្រី": 0, "សួន": 1}),
    "burmese": (["ကြောင်ငါးစားသည်", "ခွေးပြေးသည်"], {"ငါး": 0, "ခွေး": 1}),
    "hindi": (["बिल्ली मछली खाती है।", "कुत्ता बगीचे में दौड़ता है।"], {"मछली": 0, "कुत्ता": 1}),
    "arabic": (["القِطَّةُ تَأْكُلُ السَّمَك", "كَلْبٌ يَجْرِي"], {"السَّمَك": 0, "كَلْبٌ": 1}),
}


def texts(values):
    return Texts.from_records((str(number), "", text) for number, text in enumerate(values))


@pytest.mark.parametrize("name", LANGUAGES)
def test_every_script_is_searched(name):
    documents, asked = LANGUAGES[name]
    found = BM25(texts(documents)).search(texts(asked), 3).as_dict()
    assert {query: next(iter(found[str(number)])) for number, query in enumerate(asked)} == {
        query: str(document) for query, document in asked.items()
    }


def test_neighbours_count_more_than_characters():
    run = BM25(texts(["京東の店", "東京の店"])).search(texts(["東京"]), 2)
    assert run.pairs == [("0", "1"), ("0", "0")]


@settings(deadline=None)
@given(st.lists(st.text("the cat cats Ab9_-.,'éßЖя한글\u0301 \n", max_size=40), min_size=1, max_size=5))
def test_texts_with_spaces_are_read_as_before(values):
    """The words are those of bm25s's own pattern, so that results in such languages do not change."""
    documents = [*values, "two words"]
    plain = bm25s.BM25()
    plain.index(bm25s.tokenize(documents, stopwords="en", show_progress=False), show_progress=False)
    tokens = bm25s.tokenize(documents, stopwords="en", show_progress=False, return_ids=False)
    rows, scores = plain.retrieve(tokens, k=len(documents), show_progress=False)
    expected = {
        str(query): {str(row): float(score) for row, score in zip(*found, strict=True) if score > 0}
        for query, found in enumerate(zip(rows, scores, strict=True))
    }
    found = BM25(texts(documents)).search(texts(documents), len(documents)).as_dict()
    assert found == {query: documents for query, documents in expected.items() if documents}


@pytest.mark.parametrize("documents", [["🎉", "😀 😀"], ["the", "of the"], ["", "."]])
def test_documents_without_words(documents, tmp_path, caplog):
    for index in (BM25(texts(documents)), BM25.cached(tmp_path / "bm25", texts(documents))):
        assert len(index.search(texts(["🎉", "the", "path", ""]), 5)) == 0
    assert "the documents have no words" in caplog.text


@pytest.mark.parametrize("kept", [False, True])
def test_scores_of_pairs_are_those_of_the_search(dataset, tmp_path, kept):
    documents, queries = dataset.documents, dataset.queries("test")
    index = BM25.cached(tmp_path / "bm25", documents) if kept else BM25(documents)
    found, ids = index.search(queries, len(documents)).as_dict(), documents.ids[::-1][:40]
    expected = [[found[query].get(doc, 0.0) for doc in ids] for query in queries]
    scores = index.score_matrix(queries, ids)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, expected, rtol=1e-5)
    assert 0 < (scores > 0).mean() < 1


def test_scores_of_odd_pairs():
    index = BM25(texts(["path file path", "file", "root"]))
    once, twice, nothing, empty = index.score_matrix(texts(["path", "path path", "nowhere", ""]), ["2", "0"])
    assert once[1] > 0 and twice[1] == pytest.approx(2 * once[1])
    assert not (once[0] or twice[0] or nothing.any() or empty.any())
    assert index.score_matrix(texts(["path"]), []).shape == (1, 0)
    with pytest.raises(KeyError, match="7"):
        index.score_matrix(texts(["path"]), ["7"])


def test_queries_that_find_nothing_are_told(caplog):
    index = BM25(texts([f"path {number} file" for number in range(100, 160)]))
    index.search(texts(["path"] * 19 + ["nowhere"]), 3)  # a few
    index.search(texts(["to be or not to be"]), 3)  # a single search, whose answer is seen to be empty
    assert caplog.text == ""
    index.search(texts(["path", "to be or not to be", "the who"]), 3)
    assert "BM25 finds nothing for 2 of 3 queries, such as '1'" in caplog.text
    assert "english stop words are ignored, use language=none to keep them" in caplog.text


def test_stop_words_are_a_languages(tmp_path):
    documents, asked = texts(["to be or not to be", "der Hund und das Haus"]), texts(["not to be", "und der"])

    def found(language):
        run = BM25.cached(tmp_path / "bm25", documents, language=language).search(asked, 2)
        assert run.pairs == BM25(documents, language=language).search(asked, 2).pairs
        return set(run.pairs)

    assert found("english") == {("1", "1")}
    assert found("german") == {("0", "0")}  # kept for English before: another language is another index
    assert found("none") == {("0", "0"), ("1", "1")}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"language": "klingon"}, "language 'klingon' has no stop words here; choose one of: .*none"),
        ({"language": "German"}, "did you mean 'german'"),
        ({"stemmer": "englsh"}, "stemmer 'englsh' is unknown; did you mean 'english'"),
    ],
)
def test_unknown_languages(options, message):
    with pytest.raises(UserError, match=message):
        BM25(texts(["x"]), **options)


def test_a_recipe_names_the_language():
    options = parse(RetrieveConfig, {}, "retrieve", ["language=german", "k1=1.2"]).bm25
    assert options == {"k1": 1.2, "b": 0.75, "stemmer": None, "language": "german"}
    with pytest.raises(UserError, match=r"retrieve: language: .*'english'"):
        parse(RetrieveConfig, {"language": "klingon"}, "retrieve")


def test_the_command_takes_every_option(dataset_folder, tmp_path):
    def scores(*options):
        command("retrieve", "--dataset", dataset_folder, "--out", tmp_path / "x.parquet", *options)
        return Run.load(tmp_path / "x.parquet").frame

    plain = scores()
    assert plain.equals(scores("--k1", 1.5, "--b", 0.75, "--language", "english"))
    assert not plain.equals(scores("--k1", 0.5))
    assert not plain.equals(scores("--b", 0))
    said = command("retrieve", "--dataset", dataset_folder, "--out", tmp_path / "y", "--language", "x", code=2)
    assert "language: Input should be 'english'" in said
