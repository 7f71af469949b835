"""Mining itself: retrievers' lists in, the candidates of every query out.

Knows lists, texts, judgements and vectors of documents; must not know which retriever made a list, or a teacher.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pandas as pd

from retrieval_distill.config.mining import MiningConfig
from retrieval_distill.data.dataset import Qrels, Texts
from retrieval_distill.data.run import Run
from retrieval_distill.embedding.embed import Embeddings
from retrieval_distill.errors import UserError
from retrieval_distill.mining.draw import Pool, draw
from retrieval_distill.mining.duplicates import without_copies
from retrieval_distill.mining.relevant import at_most
from retrieval_distill.mining.topics import documents_by_topic
from retrieval_distill.retrieval.fusion import reciprocal_rank_fusion, weighted_sum
from retrieval_distill.training.groups import with_relevant

FUSIONS: dict[str, Callable[..., Run]] = {"rrf": reciprocal_rank_fusion, "weighted": weighted_sum}


@dataclass(frozen=True)
class Mined:
    """``drawn`` by source, and all of it together with the relevant documents.

    ``copies`` of relevant documents were left out, and ``beyond`` so many relevant documents over the limit.
    """

    drawn: dict[str, Run]
    candidates: Run
    copies: int
    beyond: int


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
) -> Mined:
    """Fuse the retrievers' lists, draw from them and from pools, and leave out copies of relevant documents.

    Args:
        lists: Retriever -> its list, in the order of ``config.weights``.
        queries: Whose candidates are mined.
        qrels: Judgements of these queries.
        documents: The corpus.
        config: Fusion and draw are used.
        keep: Candidates of a query; its relevant documents are added to them.
        seed: Of every draw.
        vectors: The documents', for the draw ``in-topic``.
        most_relevant: Relevant documents of a query at most, see :func:`retrieval_distill.mining.relevant.at_most`.

    Raises:
        UserError: ``in-topic`` is asked for without vectors, or with more topics than documents.
    """
    relevant = {id_: [doc for doc, grade in qrels.get(id_, {}).items() if grade > 0] for id_ in queries.ids}
    pools: dict[str, Pool] = {"random": lambda query: documents.ids}
    if "in-topic" in config.draw:
        if vectors is None:
            raise UserError("in-topic draws need the vectors of a retriever that has some: name a bi-encoder")
        pools["in-topic"] = documents_by_topic(vectors, relevant, config.topics, seed)
    fused = FUSIONS[config.fusion](list(lists.values()), weights=config.weights)
    drawn = draw(fused, queries.ids, config.draw, keep, pools, relevant, seed)
    frame = pd.concat([run.frame for run in drawn.values()])
    union = Run.from_columns(frame["query_id"], frame["doc_id"], frame["score"])
    found = with_relevant(union, {id_: qrels.get(id_, {}) for id_ in queries.ids})
    distinct = without_copies(found, qrels, queries, documents)
    candidates = at_most(distinct, qrels, most_relevant)
    return Mined(drawn, candidates, len(found) - len(distinct), len(distinct) - len(candidates))
