"""Near copies: all pairs that a comparison of every text with every other finds, and no other."""

from __future__ import annotations

import random

import pytest

from retrieval_distill.data.dataset import Texts
from retrieval_distill.data.prepare import duplicates
from retrieval_distill.data.prepare.near import FOUND, PERMUTATIONS, bands
from retrieval_distill.data.prepare.words import jaccard, shingles, words


def test_words():
    assert words("Don't  STOP, naïve_x 3.5") == ["don", "t", "stop", "naïve_x", "3", "5"]
    assert words("漢字 kana カナ") == ["漢", "字", "kana", "カ", "ナ"]
    assert shingles("a b c d", 3) == {"a b c", "b c d"}
    assert shingles("a b", 3) == {"a b"}
    assert shingles("?!", 3) == {"?!"}
    assert jaccard(shingles("a b c d", 3), shingles("a b c e", 3)) == pytest.approx(1 / 3)


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.8, 0.9, 0.99])
def test_bands_find_pairs_at_the_threshold(threshold):
    count = bands(threshold)
    found = 1 - (1 - threshold ** (PERMUTATIONS / count)) ** count
    assert found >= FOUND
    assert count == 1 or 1 - (1 - threshold ** (2 * PERMUTATIONS / count)) ** (count / 2) < FOUND


def corpus(size: int) -> Texts:
    """Texts of random words, and altered copies of them at every distance."""
    rng, vocabulary = random.Random(5), [f"w{number}" for number in range(400)]
    texts = [[rng.choice(vocabulary) for _ in range(60)] for _ in range(size)]
    for number in range(size):
        copy = list(texts[number])
        for _ in range(number % 12):
            copy[rng.randrange(60)] = "changed"
        texts.append(copy)
    return Texts.from_records((f"d{row}", "", " ".join(text)) for row, text in enumerate(texts))


def test_as_comparing_every_pair():
    texts = corpus(150)
    sets = [shingles(text, 3) for text in texts.take()]
    expected: dict[int, int] = {}
    for row, shingled in enumerate(sets):
        earlier = (other for other in range(row) if other not in expected and jaccard(shingled, sets[other]) >= 0.7)
        if (first := next(earlier, None)) is not None:
            expected[row] = first
    found = duplicates.near(texts, {}, 0.7, 3)
    assert len(expected) > 40
    assert set(found.items()) <= set(expected.items())  # never a pair that is not near
    assert len(found) >= FOUND * len(expected)


def test_exact_copies_share_title_and_text():
    texts = Texts.from_records(
        [("a", "", "x"), ("b", "T", "x"), ("c", "", "x"), ("d", "T", "x"), ("e", "T", "y"), ("f", "", "x")]
    )
    assert duplicates.exact(texts) == {2: 0, 3: 1, 5: 0}
