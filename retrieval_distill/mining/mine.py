"""Mining: retrievers' lists in, candidates of every query out.

Knows lists, texts, judgements and document vectors; must not know which retriever made a list, or a teacher.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from retrieval_distill.config.mining import MiningConfig
from retrieval_distill.data.dataset import Qrels, Texts
from retrieval_distill.data.relevance import with_relevant
from retrieval_distill.data.run import Run
from retrieval_distill.embedding.embed import Embeddings
from retrieval_distill.errors import UserError
from retrieval_distill.mining import mining_report
from retrieval_distill.mining.draw import Pool, draw
from retrieval_distill.mining.duplicates import drop_copies
from retrieval_distill.mining.relevant import limit_relevant
from retrieval_distill.mining.topic_pools import documents_by_topic
from retrieval_distill.retrieval.fusion import reciprocal_rank_fusion, weighted_sum

FUSIONS: dict[str, Callable[..., Run]] = {"rrf": reciprocal_rank_fusion, "weighted": weighted_sum}


@dataclass(frozen=True, eq=False)
class Candidates(Run):
    """Mined candidates, with the lists they come from.

    Args:
        lists: Retriever -> its list.
        drawn: Source of ``config.draw`` -> the candidates drawn from it.
        report: The mining report, see :func:`retrieval_distill.mining.mining_report.of_lists`, plus the number of
            ``copies`` of relevant documents dropped and of relevant documents over the limit (``relevant_left_out``).
    """

    lists: Mapping[str, Run] = field(default_factory=dict)
    drawn: Mapping[str, Run] = field(default_factory=dict)
    report: Mapping[str, Any] = field(default_factory=dict)


def mine(
    lists: Mapping[str, Run],
    queries: Texts,
    qrels: Qrels,
    documents: Texts,
    config: MiningConfig,
    keep: int,
    seed: int,
    vectors: Embeddings | None = None,
    most_relevant: int | None = None,
) -> Candidates:
    """Fuse the retrievers' lists, draw from them and from pools, and drop copies of relevant documents.

    Args:
        lists: Retriever -> its list, in the order of ``config.weights``.
        queries: The queries.
        qrels: Judgements of these queries.
        documents: The corpus.
        config: Its fusion and draw.
        keep: Candidates per query; relevant documents are added to them.
        seed: Random seed.
        vectors: Document vectors, for the draw ``in-topic``.
        most_relevant: Most relevant documents per query, see :func:`retrieval_distill.mining.relevant.limit_relevant`.

    Raises:
        UserError: ``in-topic`` has no vectors, or more topics than documents.
    """
    relevant = {id_: [doc for doc, grade in qrels.get(id_, {}).items() if grade > 0] for id_ in queries.ids}
    pools: dict[str, Pool] = {"random": lambda query: documents.ids}
    if "in-topic" in config.draw:
        if vectors is None:
            raise UserError("in-topic draws need document vectors; name a bi-encoder among the retrievers")
        pools["in-topic"] = documents_by_topic(vectors, relevant, config.topics, seed)
    fused = FUSIONS[config.fusion](list(lists.values()), weights=config.weights)
    drawn = draw(fused, queries.ids, config.draw, keep, pools, relevant, seed)
    frame = pd.concat([run.frame for run in drawn.values()])
    union = Run.from_columns(frame["query_id"], frame["doc_id"], frame["score"])
    found = with_relevant(union, {id_: qrels.get(id_, {}) for id_ in queries.ids})
    distinct = drop_copies(found, qrels, queries, documents)
    kept = limit_relevant(distinct, qrels, most_relevant)
    left_out = {"copies": len(found) - len(distinct), "relevant_left_out": len(distinct) - len(kept)}
    return Candidates(
        kept.frame, lists=lists, drawn=drawn, report={**mining_report.of_lists(lists, drawn, qrels), **left_out}
    )
