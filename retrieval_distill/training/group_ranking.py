"""The nDCG@10 of an untrained encoder on training groups, by which variants of a student are compared.

Knows groups and judgements; must not know how a student is built.
"""

from __future__ import annotations

import numpy as np
from sentence_transformers import SentenceTransformer

from retrieval_distill.data.run import Run
from retrieval_distill.data.training_set import TrainingSet
from retrieval_distill.evaluation import measures, self_hits
from retrieval_distill.student import encoder
from retrieval_distill.training.groups import Group

QUERIES = 200
"""Number of training queries at most; the same sample for every encoder."""


def ndcg(model: SentenceTransformer, groups: list[Group], training_set: TrainingSet) -> float:
    """Mean nDCG@10 of a bi-encoder ranking the candidates of some training queries against their judgements."""
    sample = [groups[row] for row in np.random.default_rng(0).permutation(len(groups))[:QUERIES]]
    query_ids = [group.query_id for group in sample]
    doc_ids = list(dict.fromkeys(doc for group in sample for doc in group.doc_ids))
    row = {doc: number for number, doc in enumerate(doc_ids)}
    query_vectors = encoder.encode(model, training_set.queries.take(query_ids), "query")
    document_vectors = encoder.encode(model, training_set.documents.take(doc_ids), "document")
    run = Run.from_dict(
        {
            group.query_id: dict(
                zip(group.doc_ids, document_vectors[[row[doc] for doc in group.doc_ids]] @ query, strict=True)
            )
            for group, query in zip(sample, query_vectors, strict=True)
        }
    )
    judged = {id_: training_set.qrels[id_] for id_ in query_ids}
    filtered = self_hits.drop_self_hits(run, training_set.queries, training_set.documents, judged)
    values = measures.evaluate(filtered, judged, ["nDCG@10"])
    return float(values["nDCG@10"].mean())
