"""Retrieval quality on dev queries during training, over a bounded pool of documents.

The pool holds hard candidates and the relevant documents, so values are higher than over the whole corpus and only
comparable within one training. Knows datasets, students and measures; must not know the trainer.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sentence_transformers import SentenceTransformer

from retrieval_distill.data.dataset import Dataset, Qrels, Texts
from retrieval_distill.data.run import Run
from retrieval_distill.data.unknown_ids import refuse_unknown
from retrieval_distill.evaluation import checks, self_hits
from retrieval_distill.evaluation.measures import evaluate
from retrieval_distill.evaluation.significance import mean_with_interval
from retrieval_distill.runtime import stages
from retrieval_distill.student import encoder
from retrieval_distill.training.lexical_term import LexicalTerm


@dataclass(frozen=True, eq=False)
class DevSet:
    """Dev queries, their judgements, and the pool of documents to search."""

    queries: Texts
    qrels: Qrels
    documents: Texts

    @classmethod
    def pool(cls, candidates: Run, split: str, dataset: Dataset, size: int, seed: int) -> DevSet:
        """The queries of a Run with a pool of ``size`` documents.

        The pool holds all relevant documents, even if they are more than that: a query whose answers are left out tells
        nothing. It is filled up with candidates (first ranks first), then with random documents.

        Args:
            candidates: First-stage results of the dev queries.
            split: Split of the judgements.
            dataset: Texts and judgements.
            size: Size of the pool.
            seed: Random seed of the documents that fill the pool up.

        Raises:
            UserError: There is no such split, it has no judgements of these queries, or a text is missing.
        """
        judged = dataset.qrels(split)
        checks.check_run("dev", candidates, judged)
        qrels = {query: judged[query] for query in candidates.query_ids if query in judged}
        refuse_unknown(candidates.select(list(qrels)), dataset.queries, dataset.documents, "the run of dev queries")
        relevant = dict.fromkeys(doc for judged in qrels.values() for doc, grade in judged.items() if grade > 0)
        frame = candidates.frame
        by_rank = frame["doc_id"].iloc[np.argsort(frame.groupby("query_id").cumcount(), kind="stable")]
        count = len(dataset.documents)
        random_rows = np.random.default_rng(seed).choice(count, min(size, count), replace=False)
        ids = list(dict.fromkeys([*relevant, *by_rank, *dataset.documents.at(random_rows).ids]))
        pool = dataset.documents.select(ids[: max(size, len(relevant))])
        return cls(dataset.queries.select(list(qrels)), qrels, pool)

    @property
    def fingerprint(self) -> str:
        """Hash of texts and judgements."""
        return stages.fingerprint([self.queries.fingerprint, self.qrels, self.documents.fingerprint])


def log_key(measure: str) -> str:
    """A measure's key in the log."""
    return f"eval_{measure}"


def retrieve(
    student: SentenceTransformer, dev: DevSet, depth: int, lexical: LexicalTerm | None = None, scale: float = 1.0
) -> Run:
    """The student's ``depth`` best documents of the pool for every dev query.

    With ``lexical``, scores are as in training: similarities times ``scale``, plus the lexical term.
    """
    student.eval()
    queries = encoder.encode(student, dev.queries.take(), "query")
    scores = queries @ encoder.encode(student, dev.documents.take(), "document").T
    if lexical is not None:
        scores = scale * scores + lexical(dev.queries, dev.documents.ids)
    best = np.argsort(-scores, axis=1, kind="stable")[:, :depth]
    query_ids = np.repeat(np.array(dev.queries.ids, dtype=object), best.shape[1])
    doc_ids = np.array(dev.documents.ids, dtype=object)[best.ravel()]
    return Run.from_columns(query_ids, doc_ids, np.take_along_axis(scores, best, axis=1).ravel())


def measure(
    student: SentenceTransformer,
    dev: DevSet,
    measure: str,
    depth: int,
    lexical: LexicalTerm | None = None,
    scale: float = 1.0,
) -> dict[str, float]:
    """The measure's mean over the dev queries with its 95 % interval, as a row of the log.

    Args:
        student: The bi-encoder.
        dev: Queries, judgements and pool.
        measure: As ir_measures names it, such as ``"nDCG@10"``.
        depth: Documents retrieved per query.
        lexical: The lexical term used in training; ``None``: none.
        scale: Multiplies similarities, as in training; only with ``lexical``.

    Returns:
        ``eval_MEASURE``, ``eval_low``, ``eval_high``, ``eval_queries``.
    """
    found = self_hits.drop_self_hits(
        retrieve(student, dev, depth, lexical, scale), dev.queries, dev.documents, dev.qrels
    )
    values = evaluate(found, dev.qrels, [measure])[measure].to_numpy()
    interval = mean_with_interval(values)
    return {
        log_key(measure): interval.mean,
        "eval_low": interval.low,
        "eval_high": interval.high,
        "eval_queries": len(values),
    }
