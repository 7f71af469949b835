"""Checks that a run belongs to judgements: mismatches are counted with a warning, or refused.

Knows Runs, judgements and ids; must not know measures or texts.

| mismatch | consequence |
|---|---|
| no result for any judged query, or only unknown documents | refused: the run is of another dataset |
| results for queries without judgements | left out, with a warning that counts them |
| judged queries without results | count as 0, with a warning |
| documents not in the corpus | keep their ranks, as in trec_eval, with a warning |
| negative grades | not relevant, gain 0, as in trec_eval, with a warning |
| a document twice in a query, a score of NaN, no judged query at all | refused by ``measures.evaluate`` |
| equal scores | evaluated in descending order of document id, as in trec_eval |
"""

from __future__ import annotations

import logging
from collections.abc import Container

from retrieval_distill.data.dataset import Qrels
from retrieval_distill.data.run import Run
from retrieval_distill.errors import UserError
from retrieval_distill.formatting import counted

logger = logging.getLogger("retrieval_distill")


def check_run(name: str, run: Run, qrels: Qrels, documents: Container[str] | None = None) -> dict[str, int]:
    """Compare a run's ids with those of judgements and corpus, and warn of every mismatch.

    Args:
        name: Name of the run, for messages.
        run: The run; an empty one passes, since a system may find nothing.
        qrels: Judgements by query.
        documents: The corpus's ids; ``None``: do not check documents.

    Returns:
        Counts: ``unjudged_queries``, ``missing_queries``, ``unknown_documents``, ``negative_grades``.

    Raises:
        UserError: The run has results, but for none of the judged queries, or only for unknown documents.
    """
    judged = {query_id: grades for query_id, grades in qrels.items() if grades}
    answered = dict.fromkeys(run.query_ids)
    unknown = [] if documents is None else [id_ for id_ in run.frame["doc_id"].unique() if id_ not in documents]
    found = {
        "unjudged_queries": [id_ for id_ in answered if id_ not in judged],
        "missing_queries": [id_ for id_ in judged if id_ not in answered],
        "unknown_documents": unknown,
        "negative_grades": [id_ for id_, grades in judged.items() if min(grades.values()) < 0],
    }
    if len(run) and len(found["unjudged_queries"]) == len(answered):
        raise UserError(
            f"run {name!r} answers none of the {len(judged):,} judged queries (its first is "
            f"{next(iter(answered))!r}, theirs {next(iter(judged), None)!r}): it is of another dataset or split"
        )
    if len(run) and len(unknown) == run.frame["doc_id"].nunique():
        raise UserError(f"run {name!r} names no document of the corpus, first {unknown[0]!r}: it is of another dataset")
    for what, ids in found.items():
        if ids:
            noun, verb, meaning = _MEANING[what]
            logger.warning("run %r: %s %s (first %r)", name, counted(len(ids), noun, verb), meaning, ids[0])
    return {what: len(ids) for what, ids in found.items()}


_MEANING = {
    "unjudged_queries": ("query", "have", "no judgements: left out"),
    "missing_queries": ("judged query", "have", "no results: counted as 0"),
    "unknown_documents": ("document", "are", "not in the corpus: ranks are kept"),
    "negative_grades": ("query", "have", "negative grades, which count as not relevant"),
}
