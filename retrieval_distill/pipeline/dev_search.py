"""BM25 and dense search for dev queries; of generated ones the documents lack what was taken from them.

Knows the run's indexes and the documents that dev queries see otherwise; must not know what the results are for.
"""

from __future__ import annotations

import pandas as pd

from retrieval_distill import api
from retrieval_distill.data.dataset import Texts
from retrieval_distill.data.run import Run
from retrieval_distill.pipeline.job import Job
from retrieval_distill.retrieval import exact


def lexical(job: Job, queries: Texts, depth: int) -> Run:
    """BM25's best documents, as dev queries see them."""
    if job.dev is job.dataset:
        return job.lexical(queries, depth)
    return api.retrieve(queries, job.dev, depth=depth, **job.recipe.retrieve.bm25)


def dense(job: Job, name: str, queries: Texts, depth: int) -> Run:
    """A bi-encoder's best documents, as dev queries see them: those of its index, and the others, embedded here.

    Args:
        job: The run.
        name: The bi-encoder's name in the report.
        queries: Some dev queries.
        depth: Documents per query.
    """
    model, dtype = job.model(name), job.recipe.embed.dtype
    if job.dev is job.dataset:
        return job.dense(name, model, queries, depth)
    others = job.dev.documents.select([id_ for id_ in job.dev.documents.ids if id_ not in job.dataset.documents])
    found = job.dense(name, model, queries, depth + len(others))
    vectors, options = job.embeddings(name), job.manifests[f"index-{name}"]["inputs"]
    similarity = options["similarity"]
    changed = api.embed(
        others, model, out=job.out / f"embeddings-{name}-dev", dtype=dtype, max_length=options["max_length"]
    )
    near = exact.search(changed, model, queries, len(others), similarity, dtype)
    seen = [doc in job.dev.documents for doc in found.frame["doc_id"]]
    unchanged = Run(found.frame[seen].reset_index(drop=True))
    kept = exact.rescore(unchanged, vectors, model, queries, similarity, dtype)  # both on one scale
    both = pd.concat([kept.frame, near.frame])
    return Run.from_columns(both["query_id"], both["doc_id"], both["score"]).top(depth)
