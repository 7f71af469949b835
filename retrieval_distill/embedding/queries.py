"""Embeds queries, only with the model that embedded the documents.

Knows bi-encoders and manifests; must not know indexes or judgements.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from retrieval_distill import endpoints, models
from retrieval_distill.data.dataset import Texts
from retrieval_distill.embedding import vector_checks
from retrieval_distill.errors import UserError
from retrieval_distill.runtime import stages
from retrieval_distill.student import exported


def embed_queries(
    model: str, queries: Texts, manifest: stages.Manifest, folder: Path, dtype: str = "auto"
) -> np.ndarray:
    """Vectors of queries, float32 [queries, dimensions], by the model that embedded the documents.

    Args:
        model: The query encoder.
        queries: Embedded with the model's ``query`` prompt, if it has one.
        manifest: Manifest of the embedded documents, or of an index over them.
        folder: Their folder, for the message.
        dtype: Number format of the computation.

    Raises:
        UserError: The model's weights differ from those that embedded the documents, or its vectors are NaN or
            infinite.
    """
    from retrieval_distill.student import lengths, loading

    require_same_model(model, manifest, folder)
    if endpoints.is_one(model):
        return _by_endpoint(model, queries.take())
    loaded = loading.load(model, dtype, manifest["inputs"]["max_length"])
    lengths.report_truncation(model, loaded, queries, "query")
    vectors = loading.encode(loaded, queries.take(), "query")
    vector_checks.check(model, vectors, queries.ids, "query")
    return vectors


def _by_endpoint(model: str, queries: list[str]) -> np.ndarray:
    """Each query by itself, as a search would ask, so that the time it takes is known too."""
    embedder = endpoints.embedder(model)
    embedder.announce([queries], "query", batch=1)
    return embedder.vectors(queries, "query", batch=1)


def require_same_model(model: str, manifest: stages.Manifest, folder: Path) -> None:
    """Refuse a query encoder that did not embed the documents; an exported one may stand for the model that did.

    Raises:
        UserError: The model's weights differ from those that embedded the documents.
    """
    made_of = None if endpoints.is_one(model) else exported.stands_for(models.resolve(model))
    if manifest["inputs"]["model"] not in (models.fingerprint(model), made_of):
        raise UserError(
            f"{folder}: this {manifest['stage']} was not built with {model!r}; embed the corpus with it first"
        )
