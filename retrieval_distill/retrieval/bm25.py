"""Lexical retrieval with BM25 (bm25s): texts in, Run out.

Knows words; must not know models or judgements. Source: Robertson and Zaragoza, "The Probabilistic Relevance
Framework: BM25 and Beyond", 2009, in Lucene's variant (Kamphuis et al., "Which BM25 Do You Mean?", 2020).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import cached_property
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
        self.options = {"k1": k1, "b": b, "stemmer": stemmer, "language": language}
        self.ids = np.array(documents.ids, dtype=object)
        self._set_language(stemmer, language)
        tokens = self._words(documents, True)
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
            self._words(queries, False), k=depth, show_progress=False, weight_mask=allowed
        )
        hit = scores > 0
        self._warn_of_misses(np.array(queries.ids, dtype=object)[~hit.any(axis=1)], len(queries))
        query_ids = np.repeat(np.array(queries.ids, dtype=object), depth).reshape(found.shape)
        return Run.from_columns(query_ids[hit], self.ids[found[hit]], scores[hit])

    def scores(self, queries: Texts, doc_ids: Sequence[str]) -> np.ndarray:
        """Scores of all pairs of queries and documents, float32 [queries, documents]; 0 where they share no word.

        They are those of :meth:`search`, up to the rounding of their sums.

        Args:
            queries: What to ask.
            doc_ids: Documents of the index, each once.
        """
        words = [self._index.get_tokens_ids(text) for text in self._words(queries, False)]
        asked, places = np.unique(np.array([word for text in words for word in text], np.int64), return_inverse=True)
        ends = np.concatenate([[0], np.cumsum([len(text) for text in words])])
        counts = csr_matrix((np.ones(len(places), np.float32), places, ends), shape=(len(words), len(asked)))
        return (counts @ self._postings[asked][:, self._rows.rows_of(doc_ids)]).toarray()

    @cached_property
    def _rows(self) -> RowIndex:
        return RowIndex.of(pa.chunked_array([pa.array(self.ids, pa.string())]))

    @cached_property
    def _postings(self) -> csr_matrix:
        """What each word adds to the score of each document, [words, documents]; the index's own arrays."""
        data, documents, ends = (self._index.scores[name] for name in ("data", "indices", "indptr"))
        return csr_matrix((data, documents, ends), shape=(len(ends) - 1, len(self.ids)), copy=False)

    def _set_language(self, stemmer: str | None, language: str) -> None:
        if language not in get_args(Language):
            raise UserError(f"language {language!r} has no stop words here{nearest(language, get_args(Language))}")
        self._language, self._stem = language, _stemmer(stemmer)

    def _words(self, texts: Texts, numbered: bool) -> Any:
        """The words of each text, as numbers with a vocabulary, or as strings."""
        return bm25s.tokenize(
            [segment(text) for text in texts.take()],
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
                "BM25 finds nothing for %d of %d queries, such as %r: they share no word with a document%s",
                len(missed), total, missed[0], "" if self._language == "none" else stopped,
            )  # fmt: skip


def _stemmer(language: str | None) -> Any:
    if language is None:
        return None
    try:
        import Stemmer
    except ImportError as error:
        raise UserError("a stemmer needs PyStemmer: pip install 'retrieval-distill[stem]'") from error
    if language not in Stemmer.algorithms():
        raise UserError(f"stemmer {language!r} is unknown{nearest(language, Stemmer.algorithms())}")
    return Stemmer.Stemmer(language)
