"""Lexical retrieval with BM25 (bm25s): texts in, Run out.

Knows words; must not know models or judgements. Source: Robertson and Zaragoza, "The Probabilistic Relevance
Framework: BM25 and Beyond", 2009, in Lucene's variant (Kamphuis et al., "Which BM25 Do You Mean?", 2020).
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import bm25s
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from retrieval_distill.data.dataset import Texts
from retrieval_distill.data.run import Run
from retrieval_distill.runtime import stages

logging.getLogger("bm25s").setLevel(logging.ERROR)  # it sets its own level, and talks, on every import


class BM25:
    """A BM25 index over documents, built in memory; :meth:`kept` keeps it on disk.

    Args:
        documents: What to search.
        k1: Term-frequency saturation.
        b: Length normalisation, 0 (none) to 1 (full).
        stemmer: A PyStemmer language such as ``"english"``; ``None`` matches words as written.
    """

    def __init__(self, documents: Texts, k1: float = 1.5, b: float = 0.75, stemmer: str | None = None) -> None:
        self.ids = np.array(documents.ids, dtype=object)
        self._stem = _stemmer(stemmer)
        tokens = bm25s.tokenize(documents.take(), stopwords="en", stemmer=self._stem, show_progress=False)
        self._index = bm25s.BM25(k1=k1, b=b)
        self._index.index(tokens, show_progress=False)

    @classmethod
    def kept(
        cls, folder: str | Path, documents: Texts, k1: float = 1.5, b: float = 0.75, stemmer: str | None = None
    ) -> BM25:
        """The index in a folder, memory-mapped; built there first unless it is there for these documents."""
        inputs = {"documents": documents.fingerprint, "k1": k1, "b": b, "stemmer": stemmer}

        def work(out: Path) -> dict[str, int]:
            built = cls(documents, k1, b, stemmer)
            built._index.save(str(out), show_progress=False)
            pq.write_table(pa.table({"id": documents.table["id"]}), out / "ids.parquet")
            return {"documents": len(documents), "bytes": built.bytes}

        stages.stage("bm25", folder, inputs, work, cache=True)
        opened = cls.__new__(cls)
        opened.ids = pq.read_table(Path(folder) / "ids.parquet")["id"].to_numpy()
        opened._stem = _stemmer(stemmer)
        opened._index = bm25s.BM25.load(str(folder), mmap=True, show_progress=False)
        return opened

    @property
    def bytes(self) -> int:
        """Memory of the index's arrays; its vocabulary comes on top."""
        return sum(part.nbytes for part in self._index.scores.values() if isinstance(part, np.ndarray))

    def search(self, queries: Texts, depth: int, allowed: np.ndarray | None = None) -> Run:
        """The ``depth`` best documents of every query; documents that share no word with it are left out.

        Args:
            queries: What to ask.
            depth: Documents per query.
            allowed: Which documents may be found, bool [documents]; ``None``: all.
        """
        depth = min(depth, len(self.ids))
        tokens = bm25s.tokenize(
            queries.take(), stopwords="en", stemmer=self._stem, show_progress=False, return_ids=False
        )
        found, scores = self._index.retrieve(tokens, k=depth, show_progress=False, weight_mask=allowed)
        hit = scores > 0
        query_ids = np.repeat(np.array(queries.ids, dtype=object), depth).reshape(found.shape)
        return Run.from_columns(query_ids[hit], self.ids[found[hit]], scores[hit])


def _stemmer(language: str | None) -> Any:
    if language is None:
        return None
    import Stemmer

    return Stemmer.Stemmer(language)
