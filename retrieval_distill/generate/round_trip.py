"""Round-trip filter: drops generated queries that do not lead back to their document.

By retrieval: Dai et al., "Promptagator", 2022, arXiv:2209.11755, section 3.2 (the document is among the best k). By the
teacher: Gospodinov et al., "Doc2Query--", ECIR 2023, arXiv:2301.03266 (its score is high enough). The teacher reads the
document as training will see it, so a query whose answer was removed is dropped.

Knows Runs and scores; must not know how a query was generated or who scores.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pandas as pd

from retrieval_distill.config.generate import RoundTripConfig
from retrieval_distill.data import generated as copies
from retrieval_distill.data.bad_input import Ledger
from retrieval_distill.data.dataset import Dataset, Texts
from retrieval_distill.data.relevance import with_relevant
from retrieval_distill.data.run import Run
from retrieval_distill.generate.query_filters import keep


@dataclass(frozen=True)
class Judges:
    """The functions that decide: ``find`` (queries, depth) retrieves, ``score`` (pairs, dataset) is the teacher.

    ``score`` is ``None`` without a teacher; ``identity`` identifies both, as JSON values.
    """

    find: Callable[[Texts, int], Run]
    score: Callable[[Run, Dataset], Run] | None
    identity: dict[str, Any]


def keep_round_trips(
    made: pd.DataFrame, dataset: Dataset, config: RoundTripConfig, judges: Judges, dropped: Ledger
) -> pd.DataFrame:
    """The queries that lead back to their document.

    Args:
        made: Columns ``query_id``, ``way``, ``doc_id``, ``query``, ``title`` and ``text``.
        dataset: The dataset they were generated from.
        config: The thresholds.
        judges: Retrieval and the teacher.
        dropped: Counts the dropped queries.
    """
    if config.retrieval is not None and len(made):
        generated = copies.add_generated(dataset, made)
        found = judges.find(generated.queries(copies.SPLIT), config.retrieval).top(config.retrieval)
        back = set(found.pairs)
        mask = pd.Series([pair in back for pair in zip(made["query_id"], made["doc_id"], strict=True)], made.index)
        made = keep(made, mask, f"query that does not find its document among {config.retrieval}", dropped)
    if not config.asks_teacher or made.empty:
        return made
    own = _source_document_scores(copies.add_generated(dataset, made), config, judges)
    rank, score = (made["query_id"].map(own[column]) for column in ("rank", "score"))
    if config.score is not None:
        made = keep(made, score >= config.score, f"query whose document scores below {config.score:g}", dropped)
    if config.teacher is not None:
        reason = f"query whose document the teacher ranks below {config.teacher}"
        made = keep(made, rank[made.index] <= config.teacher, reason, dropped)
    return made


def _source_document_scores(generated: Dataset, config: RoundTripConfig, judges: Judges) -> pd.DataFrame:
    """Query id -> ``rank`` (from 1) and ``score`` of its source document among the candidates, by the teacher."""
    assert judges.score is not None
    queries, judged = generated.queries(copies.SPLIT), generated.qrels(copies.SPLIT)
    found = with_relevant(judges.find(queries, config.candidates).top(config.candidates), judged)
    trained = copies.training_view(generated, copies.SPLIT)
    scored = judges.score(found, generated)
    frame = scored.frame.assign(rank=scored.frame.groupby("query_id", sort=False).cumcount() + 1)
    relevant = trained.qrels(copies.SPLIT)
    own = [doc in relevant[query] for query, doc in scored.pairs]
    return frame[own].set_index("query_id")[["rank", "score"]]
