"""Ranks the sentences of a document by salience. Knows words and their frequencies; must not know queries.

A sentence's salience is the cosine of its words, weighted by inverse document frequency, with those of the whole
document. Source: Radev et al., "Centroid-based summarization of multiple documents", 2004 (the centroid value).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence

from retrieval_distill.data.prepare.words import words


class Salience:
    """Document frequencies of words, and the ranking of sentences by them.

    Args:
        texts: The texts in which frequencies are counted.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        self._documents, self._containing = 0, Counter[str]()
        for text in texts:
            self._documents += 1
            self._containing.update(set(words(text)))

    def rank(self, sentences: Sequence[str]) -> list[int]:
        """The indices of a document's sentences, most salient first."""
        vectors = [self._vector(words(sentence)) for sentence in sentences]
        centroid = self._vector([word for sentence in sentences for word in words(sentence)])
        return sorted(range(len(sentences)), key=lambda number: -_cosine(vectors[number], centroid))

    def best_words(self, found: Sequence[str], count: int) -> list[str]:
        """The rarest words, in the order in which they first occur."""
        distinct = list(dict.fromkeys(found))
        best = set(sorted(distinct, key=self._containing.__getitem__)[:count])
        return [word for word in distinct if word in best]

    def _vector(self, found: list[str]) -> dict[str, float]:
        return {
            word: count * math.log((self._documents + 1) / (self._containing[word] + 1))
            for word, count in Counter(found).items()
        }


def _cosine(one: dict[str, float], other: dict[str, float]) -> float:
    lengths = math.hypot(*one.values()) * math.hypot(*other.values())
    return sum(value * other[word] for word, value in one.items()) / lengths if lengths else 0.0
