"""The ways that need no model, against queries and documents written down by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from retrieval_distill.data.dataset import Texts
from retrieval_distill.generate import blocks, offline, questions
from retrieval_distill.generate.query_generator import Query
from retrieval_distill.generate.salience import Salience

MARKDOWN = """Intro line.

## Opening a file safely

Use *with*.
It closes.

### Modes
r and w.

Reading by line
---------------
Iterate over it.

# Empty #
# Last of all five
The end."""

HTML = "<h1>Cats &amp; dogs together</h1><p>They get <b>along</b>.</p><H2 class='x'>Food</H2> Meat."


@pytest.mark.parametrize(
    ("title", "text", "found"),
    [
        ("Lift of a wing", "It grows.", [Query("Lift of a wing", ("", "It grows."))]),
        (" Two\nlines ", "Text.", [Query("Two lines", ("", "Text."))]),
        ("Lift of a wing", "lift of a wing . It grows.", [Query("Lift of a wing", ("", ". It grows."))]),
        ("", "Text.", []),
        ("Same", "same", []),  # nothing is left to find
        ("Car", "Cargo ships carry it.", [Query("Car", ("", "Cargo ships carry it."))]),
        ("Car", "car: it drives.", [Query("Car", ("", ": it drives."))]),
        ("Car", "Car's and car-free", [Query("Car", ("", "Car's and car-free"))]),
        ("Car", "Car-free zones", [Query("Car", ("", "Car-free zones"))]),
        ("C++", "C++11 is newer", [Query("C++", ("", "C++11 is newer"))]),
        ("Cafe", "Cafe\u0301 bar", [Query("Cafe", ("", "Cafe\u0301 bar"))]),
        ("Große Straße", "GROSSE STRASSE in Wien", [Query("Große Straße", ("", "in Wien"))]),
        ("STRASSE", "Straße in Wien", [Query("STRASSE", ("", "in Wien"))]),
        ("STRAS", "Straße in Wien", [Query("STRAS", ("", "Straße in Wien"))]),
        ("ŉ", "\u02bcn on", [Query("ŉ", ("", "on"))]),
        ("东京", "东京是首都。", [Query("东京", ("", "是首都。"))]),
    ],
)
def test_titles(title, text, found):
    assert list(offline.titles(title, text)) == found


def test_summary_is_the_first_sentence_and_the_title_stays():
    assert list(offline.summary("T", "First one. Second one! Third?")) == [
        Query("First one.", ("T", "Second one! Third?"))
    ]
    assert list(offline.summary("T", "Only one.")) == []
    assert list(offline.summary("T", "")) == []


def test_headings_of_markdown():
    found = list(offline.headings("Files", MARKDOWN))
    assert found == [
        Query("Opening a file safely", ("Files", "Use *with*.\nIt closes.")),
        Query("Files Modes", ("", "r and w.")),  # too short to stand alone: the title goes before it, and goes
        Query("Reading by line", ("Files", "Iterate over it.")),
        Query("Last of all five", ("Files", "The end.")),
    ]


def test_headings_of_html():
    found = list(offline.headings("Pets", HTML))
    assert [(query.text, query.seen) for query in found] == [
        ("Cats & dogs together", ("Pets", "They get  along ."),),
        ("Pets Food", ("", "Meat.")),
    ]  # fmt: skip
    assert list(offline.headings("T", "No heading here.\nNone.")) == []


def test_sentences_come_by_salience_and_are_taken_out():
    texts = ["wing drag wing. of the sea. wing lift", "the of", "the sea", "of the"]
    salience = Salience(texts)
    found = list(offline.salient_sentences(salience)("T", "Of the sea. Wing drag wing. Wing lift."))
    assert [query.text for query in found] == ["Wing drag wing.", "Wing lift.", "Of the sea."]
    assert found[1].seen == ("T", "Of the sea. Wing drag wing.")
    assert list(offline.salient_sentences(salience)("T", "Alone.")) == []


def test_keywords_are_the_rarest_words_of_a_sentence_that_is_taken_out():
    texts = ["the wing of and boat", "the lift of and boat", "the boat and the sea and the drag of the keel"]
    way = offline.keywords(Salience(texts))
    text = "A boat. The keel and the drag of the lift and the sea: wing and boat and boat again, the lift."
    found = list(way("T", text))
    asked = next(query for query in found if len(query.text.split()) == offline.KEYWORDS)
    assert asked == Query("keel drag lift sea wing again", ("T", "A boat."))
    assert list(way("T", "Alone.")) == []


@pytest.mark.parametrize(
    ("title", "text", "found"),
    [
        ("", "A ribosome is a machine. It works.", [Query("what is a ribosome", ("", "It works."))]),
        ("", "Wings are the organs of flight. They beat.", [Query("what are wings", ("", "They beat."))]),
        ("", "DNA is a molecule. It is long.", [Query("what is DNA", ("", "It is long."))]),
        ("", "This is a test. It works.", []),
        ("", "Split the extension from a path. It may be empty.",
         [Query("how do I split the extension from a path", ("", "It may be empty."))]),
        ("Lift of a wing .", "The lift grows. It falls.",
         [Query("what is known about Lift of a wing", ("", "The lift grows. It falls."))]),
        ("splitext", "Split a path. It may be empty.",
         [Query("how do I split a path", ("splitext", "It may be empty.")),
          Query("what is known about splitext", ("", "Split a path. It may be empty."))]),
        ("", "Alone.", []),
    ],
)  # fmt: skip
def test_questions(title, text, found):
    assert list(questions.questions(title, text)) == found


def test_salience_is_the_cosine_with_the_whole():
    salience = Salience(["a b", "a c", "a d"])
    idf = {"a": math.log(4 / 4), "b": math.log(4 / 2), "c": math.log(4 / 2), "z": math.log(4 / 1)}
    sentences = ["b c", "a z", "c c b"]
    vocabulary = sorted(idf)

    def vector(words):
        return np.array([words.count(word) * idf[word] for word in vocabulary])

    whole = vector("b c a z c c b".split())
    cosines = [
        float(v @ whole / np.linalg.norm(v) / np.linalg.norm(whole))
        for v in (vector(text.split()) for text in sentences)
    ]
    assert len(set(cosines)) == 3
    assert salience.rank(sentences) == sorted(range(3), key=lambda number: -cosines[number])


def documents(count):
    return Texts.from_records((f"d{i}", f"title {i}", f"text of {i}") for i in range(count))


def test_a_share_stays_in_its_document(tmp_path):
    shares = {}
    for keep in (0.0, 0.1, 1.0):
        (folder := tmp_path / str(keep)).mkdir()
        way = offline.Offline("titles", offline.titles, keep, 7)
        made = blocks.generate_blocks("titles", way, documents(2000), 1, 7, folder)
        shares[keep] = made["text"].isna().mean()
    assert (shares[0.0], shares[1.0]) == (0, 1)
    assert abs(shares[0.1] - 0.1) < 4 * math.sqrt(0.09 / 2000)


def test_a_rate_is_queries_per_document(tmp_path):
    text = "One sentence. Two sentences. Three sentences. Four sentences."
    texts = Texts.from_records((f"d{i}", "", text) for i in range(1000))
    way = offline.Offline("sentences", offline.salient_sentences(Salience([text])), 0, 7)
    counts = {}
    for rate in (2, 1.25, 0.5):
        (folder := tmp_path / str(rate)).mkdir()
        made = blocks.generate_blocks("sentences", way, texts, rate, 7, folder)
        assert made["doc_id"].drop_duplicates().tolist() == texts.ids  # in order, those without a query too
        counts[rate] = made.groupby("doc_id")["query"].count()
    assert set(counts[2]) == {2} and set(counts[1.25]) == {1, 2} and set(counts[0.5]) == {0, 1}
    assert abs(counts[1.25].mean() - 1.25) < 4 * math.sqrt(0.1875 / 1000)
    assert abs(counts[0.5].mean() - 0.5) < 4 * math.sqrt(0.25 / 1000)
