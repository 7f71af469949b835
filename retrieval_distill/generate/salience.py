"""Which sentences stand for their document. Knows words and how common they are; must not know what is asked.

A sentence's salience is the cosine of its words, weighted by inverse document frequency, with those of the whole
document. Source: Radev et al., "Centroid-based summarization of multiple documents", 2004 (the centroid value).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence

from retrieval_distill.data.prepare.words import words


class Salience:
    """Document frequencies of words, and the order they put sentences in.

    Args:
        texts: What the frequencies are counted in.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        self._documents, self._containing = 0, Counter[str]()
        for text in texts:
            self._documents += 1
            self._containing.update(set(words(text)))

    def order(self, sentences: Sequence[str]) -> list[int]:
        """The numbers of a document's sentences, the most salient first."""
        vectors = [self._vector(words(sentence)) for sentence in sentences]
        centroid = self._vector([word for sentence in sentences for word in words(sentence)])
        return sorted(range(len(sentences)), key=lambda number: -_cosine(vectors[number], centroid))

    def _vector(self, found: list[str]) -> dict[str, float]:
        return {
            word: count * math.log((self._documents + 1) / (self._containing[word] + 1))
            for word, count in Counter(found).items()
        }


def _cosine(one: dict[str, float], other: dict[str, float]) -> float:
    lengths = math.hypot(*one.values()) * math.hypot(*other.values())
    return sum(value * other[word] for word, value in one.items()) / lengths if lengths else 0.0
