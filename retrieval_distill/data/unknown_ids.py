"""Checks before any expensive work that a dataset has the texts of a Run.

Knows ids; must not know texts or what they are needed for.
"""

from __future__ import annotations

import numpy as np

from retrieval_distill.data.dataset import Texts
from retrieval_distill.data.run import Run
from retrieval_distill.errors import UserError
from retrieval_distill.formatting import counted

NAMED_IDS = 3
"""Number of ids that a message names."""


def refuse_unknown(run: Run, queries: Texts, documents: Texts, what: str = "the run") -> None:
    """Refuse a Run with unknown queries or documents.

    Args:
        run: The Run.
        queries: The known queries.
        documents: The known documents.
        what: What to call the run in the message.

    Raises:
        UserError: Ids are unknown; the message counts them and names the first.
    """
    for column, texts, kind in (("query_id", queries, "query"), ("doc_id", documents, "document")):
        ids = run.frame[column].unique().tolist()
        unknown = np.flatnonzero(texts.rows.find(ids) < 0)
        if len(unknown):
            first = ", ".join(repr(ids[place]) for place in unknown[:NAMED_IDS])
            raise UserError(
                f"{what} names {counted(len(unknown), f'{kind} id')} that the dataset does not have: {first}; "
                "use the dataset that it was made from"
            )
