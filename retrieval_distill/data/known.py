"""Does a dataset have the texts of a Run? Asked before anything costs.

Knows ids; must not know texts or what they are needed for.
"""

from __future__ import annotations

import numpy as np

from retrieval_distill.data.dataset import Texts
from retrieval_distill.data.run import Run
from retrieval_distill.errors import UserError

NAMED = 3
"""Ids that a message names."""


def refuse_unknown(run: Run, queries: Texts, documents: Texts, what: str = "the run") -> None:
    """Refuse a Run with a query or a document that is not there.

    Args:
        run: Whose ids are looked up.
        queries: What there is.
        documents: Likewise.
        what: What to call the run.

    Raises:
        UserError: Ids are unknown; the message counts them and names the first.
    """
    for column, texts, kind in (("query_id", queries, "query"), ("doc_id", documents, "document")):
        ids = run.frame[column].unique().tolist()
        unknown = np.flatnonzero(texts.rows.find(ids) < 0)
        if len(unknown):
            first = ", ".join(repr(ids[place]) for place in unknown[:NAMED])
            raise UserError(
                f"{what} names {len(unknown):,} {kind} ids that the dataset does not have: {first}; "
                "give the dataset that it was made from"
            )
