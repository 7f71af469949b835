"""Lexical retrieval with BM25 (bm25s): texts in, Run out.

Knows words; must not know models or judgements. Source: Robertson and Zaragoza, "The Probabilistic Relevance
Framework: BM25 and Beyond", 2009, in Lucene's variant (Kamphuis et al., "Which BM25 Do You Mean?", 2020).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, get_args

import bm25s
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from scipy.sparse import csr_matrix

from retrieval_distill.config.retrieval import Language
from retrieval_distill.data.dataset import Texts
from retrieval_distill.data.rows import RowIndex
from retrieval_distill.data.run import Run
from retrieval_distill.errors import UserError, nearest
from retrieval_distill.formatting import counted
from retrieval_distill.retrieval.segment import WORD, segment
from retrieval_distill.runtime import stages

logging.getLogger("bm25s").setLevel(logging.ERROR)  # it sets its own level on import, and logs too much

logger = logging.getLogger("retrieval_distill")

MISS_SHARE = 0.05
"""Share of queries without results above which there is a warning."""


class BM25:
    """A BM25 index over documents, built in memory; :meth:`cached` keeps one on disk.

    Scripts without spaces are split into characters and pairs of them, see :mod:`retrieval_distill.retrieval.segment`.

    Args:
        documents: The documents.
        k1: Term-frequency saturation.
        b: Length normalisation, 0 (none) to 1 (full).
        stemmer: A PyStemmer language such as ``"english"``; ``None``: no stemming.
        language: Language of the stop words (bm25s's lists); ``"none"``: no stop words.

    Raises:
        UserError: The stemmer or language is unknown, or PyStemmer is not installed.
    """

    def __init__(
        self,
        documents: Texts,
        k1: float = 1.5,
        b: float = 0.75,
        stemmer: str | None = None,
        language: str = "english",
    ) -> None:
        self.options: dict[str, Any] = {"k1": k1, "b": b, "stemmer": stemmer, "language": language}
        self.ids = np.array(documents.ids, dtype=object)
        self._documents = documents
        self._set_language(stemmer, language)
        tokens = self._words(documents.take(), True)
        self._mean_length = _mean_length(tokens.ids)
        if not tokens.vocab:
            logger.warning("BM25 finds nothing: the documents have no words of two letters or more besides stop words")
            tokens = bm25s.tokenization.Tokenized([[0] for _ in tokens.ids], {"": 0})  # a word that no query has
        self._index = bm25s.BM25(k1=k1, b=b)
        self._index.index(tokens, show_progress=False)

    @classmethod
    def cached(
        cls,
        folder: str | Path,
        documents: Texts,
        k1: float = 1.5,
        b: float = 0.75,
        stemmer: str | None = None,
        language: str = "english",
    ) -> BM25:
        """The index in a folder, memory-mapped; built first if it is missing or for other documents."""
        options = {"k1": k1, "b": b, "stemmer": stemmer, "language": language}

        def work(out: Path) -> dict[str, int]:
            built = cls(documents, k1, b, stemmer, language)
            built._index.save(str(out), show_progress=False)
            pq.write_table(pa.table({"id": documents.table["id"]}), out / "ids.parquet")
            return {"documents": len(documents), "bytes": built.bytes}

        stages.stage("bm25", folder, {"documents": documents.fingerprint, **options}, work, cache=True)
        opened = cls.__new__(cls)
        opened.options = options
        opened.ids = pq.read_table(Path(folder) / "ids.parquet")["id"].to_numpy()
        opened._documents = documents
        opened._set_language(stemmer, language)
        opened._index = bm25s.BM25.load(str(folder), mmap=True, show_progress=False)
        return opened

    @property
    def bytes(self) -> int:
        """Memory of the index's arrays, without its vocabulary."""
        return sum(part.nbytes for part in self._index.scores.values() if isinstance(part, np.ndarray))

    def search(self, queries: Texts, depth: int, allowed: np.ndarray | None = None) -> Run:
        """The ``depth`` best documents of every query, without those that share no word with it.

        Warns if more than a few queries find nothing.

        Args:
            queries: The queries.
            depth: Documents per query.
            allowed: Which documents may be found, bool [documents]; ``None``: all.
        """
        depth = min(depth, len(self.ids))
        if not depth or not len(queries):
            return Run.from_columns([], [], [])
        found, scores = self._index.retrieve(
            self._words(queries.take(), False), k=depth, show_progress=False, weight_mask=allowed
        )
        hit = scores > 0
        self._warn_of_misses(np.array(queries.ids, dtype=object)[~hit.any(axis=1)], len(queries))
        query_ids = np.repeat(np.array(queries.ids, dtype=object), depth).reshape(found.shape)
        return Run.from_columns(query_ids[hit], self.ids[found[hit]], scores[hit])

    def score_matrix(self, queries: Texts, doc_ids: Sequence[str]) -> np.ndarray:
        """Scores of all pairs of queries and documents, float32 [queries, documents]; 0 where they share no word.

        They are those of :meth:`search`, up to the rounding of their sums.

        Args:
            queries: What to ask.
            doc_ids: Documents of the index, each once.
        """
        asked, _ = self._counts(queries.take())
        words = np.unique(asked.indices)
        return (asked[:, words] @ self._postings[words][:, self._rows.rows_of(doc_ids)]).toarray().astype(np.float32)

    @cached_property
    def _rows(self) -> RowIndex:
        return RowIndex.of(pa.chunked_array([pa.array(self.ids, pa.string())]))

    @cached_property
    def _postings(self) -> csr_matrix:
        """What each word adds to the score of each document, [words, documents]; the index's own arrays."""
        data, documents, ends = (self._index.scores[name] for name in ("data", "indices", "indptr"))
        return csr_matrix((data, documents, ends), shape=(len(ends) - 1, len(self.ids)), copy=False)

    def scores(self, queries: Sequence[str], documents: Sequence[str], rows: np.ndarray) -> np.ndarray:
        """What pairs of texts score, whether or not a document is among those that are searched.

        Words are as rare, and documents as long, as they are against the documents that are searched; the sum, over
        the words of a query, of ``log(1 + (N - n + 0.5) / (n + 0.5)) f / (f + k1 (1 - b + b l / mean l))``, with a word
        in ``n`` of ``N`` documents, ``f`` times in this one, which is ``l`` words long.

        Args:
            queries: Texts.
            documents: Texts.
            rows: Which query, which document, int [pairs, 2].

        Returns:
            float32 [pairs]; 0 where no word is shared.
        """
        asked, _ = self._counts(queries)
        found, lengths = self._counts(documents)
        frequent = np.diff(self._index.scores["indptr"]).astype(float)
        asked.data *= np.log1p((len(self.ids) - frequent + 0.5) / (frequent + 0.5))[asked.indices]
        k1, b = self.options["k1"], self.options["b"]
        saturation = k1 * (1 - b + b * lengths / self._mean_length)
        found.data /= found.data + np.repeat(saturation, np.diff(found.indptr))
        return np.asarray(asked[rows[:, 0]].multiply(found[rows[:, 1]]).sum(axis=1), np.float32).ravel()

    def _set_language(self, stemmer: str | None, language: str) -> None:
        self._language, self._stem = language, reader(stemmer, language)

    @cached_property
    def _mean_length(self) -> float:
        """Words of a document on average; known from building, or counted when first asked for."""
        return _mean_length(self._words(self._documents.take(), True).ids)

    def _counts(self, texts: Sequence[str]) -> tuple[csr_matrix, np.ndarray]:
        """How often each text has each word of the index, float64 [texts, words], and how many words it has in all."""
        words, known = self._words(texts, False), self._index.vocab_dict
        found = [[known[word] for word in own if word in known] for own in words]
        ends, size = np.cumsum([0, *map(len, found)]), len(self._index.scores["indptr"]) - 1
        columns = np.fromiter(chain.from_iterable(found), np.int64, ends[-1])
        counts = csr_matrix((np.ones(ends[-1]), columns, ends), shape=(len(found), size))
        counts.sum_duplicates()
        return counts, np.array([len(own) for own in words], dtype=float)

    def _words(self, texts: Sequence[str], numbered: bool) -> Any:
        """The words of each text, as numbers and a vocabulary or as they are."""
        return bm25s.tokenize(
            [segment(text) for text in texts],
            token_pattern=WORD,
            stopwords=None if self._language == "none" else self._language,
            stemmer=self._stem,
            show_progress=False,
            return_ids=numbered,
        )

    def _warn_of_misses(self, missed: np.ndarray, total: int) -> None:
        if total > 1 and len(missed) > MISS_SHARE * total:
            stopped = f"; {self._language} stop words are ignored, use language=none to keep them"
            logger.warning(
                "BM25 finds nothing for %d of %s, such as %r: they share no word with a document%s",
                len(missed), counted(total, "query"), missed[0], "" if self._language == "none" else stopped,
            )  # fmt: skip


def _mean_length(words: Sequence[Sequence[Any]]) -> float:
    return sum(map(len, words)) / max(len(words), 1) or 1.0


def reader(stemmer: str | None, language: str) -> Any:
    """The stemmer of that name; ``None``: none.

    Raises:
        UserError: There is no such stemmer or language of stop words, or PyStemmer is not installed.
    """
    if language not in get_args(Language):
        raise UserError(f"language {language!r} has no stop words here{nearest(language, get_args(Language))}")
    if stemmer is None:
        return None
    try:
        import Stemmer
    except ImportError as error:
        raise UserError("a stemmer needs PyStemmer: pip install 'retrieval-distill[stem]'") from error
    if stemmer not in Stemmer.algorithms():
        raise UserError(f"stemmer {stemmer!r} is unknown{nearest(stemmer, Stemmer.algorithms())}")
    return Stemmer.Stemmer(stemmer)
