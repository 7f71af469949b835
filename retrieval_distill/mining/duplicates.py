"""Drops candidates with the same text as a relevant document or the query: they are not negatives.

Knows texts and judgements; must not know models or scores.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from retrieval_distill.data.dataset import Qrels, Texts
from retrieval_distill.data.hashes import text_hashes
from retrieval_distill.data.prepare.words import words
from retrieval_distill.data.relevance import relevance
from retrieval_distill.data.run import Run


def drop_copies(candidates: Run, qrels: Qrels, queries: Texts, documents: Texts) -> Run:
    """Drop candidates with the same words as a relevant document of their query, or as the query.

    Texts are compared without case, white space and punctuation. Relevant documents are kept.
    """
    frame, relevant = candidates.frame, relevance(candidates, qrels)
    found = pd.DataFrame({"query": frame["query_id"], "text": _hashes(documents, frame["doc_id"])})
    query_texts = pd.DataFrame(
        {"query": candidates.query_ids, "text": _hashes(queries, pd.Series(candidates.query_ids))}
    )
    known = pd.MultiIndex.from_frame(pd.concat([found[relevant], query_texts]))
    copies = pd.MultiIndex.from_frame(found).isin(known) & ~relevant
    return Run(frame[~copies].reset_index(drop=True))


def _hashes(texts: Texts, ids: pd.Series) -> np.ndarray:
    """A hash of the words of each id's text, uint64 [ids]; an id without a text has a hash of its own."""
    places, distinct = pd.factorize(ids)
    known = distinct[texts.rows.find(distinct) >= 0]
    plain = dict(zip(known, (" ".join(words(text)) or text for text in texts.take(known)), strict=True))
    return text_hashes([plain.get(id_, f"\0{id_}") for id_ in distinct])[places]
