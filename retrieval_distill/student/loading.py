"""A bi-encoder in whatever form it is: a model of sentence-transformers, one in another runtime, or an exported one.

PyTorch and the library are imported only where the model needs them. Knows the forms; must not know how any works.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from retrieval_distill import models
from retrieval_distill.data.tokens import Tokens
from retrieval_distill.errors import UserError
from retrieval_distill.student.exported import Exported, is_exported

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from retrieval_distill.student.routes import Kind


def load(
    name: str, dtype: str = "float32", max_length: int | None = None, backend: str = "torch"
) -> SentenceTransformer | Exported:
    """Load a bi-encoder.

    Args:
        name: See :func:`retrieval_distill.models.resolve`.
        dtype: Number format of the computation; an exported model, or one in another runtime, has its own.
        max_length: Token limit; ``None``: the model's own.
        backend: ``"torch"``, or a runtime of ``student.backends``; an exported model has its own.

    Raises:
        UserError: The model cannot be loaded, or the runtime does not fit.
    """
    if is_exported(models.resolve(name)):
        if backend not in ("torch", "auto"):
            raise UserError(f"{name}: an exported model runs where it was exported to; leave --backend {backend} out")
        return Exported.open(name, max_length)
    if backend == "torch":
        from retrieval_distill.student import encoder

        return encoder.load(name, dtype, max_length)
    from retrieval_distill.student import backends

    return backends.load(name, backend, max_length)


def encode(model: SentenceTransformer | Exported, texts: Sequence[str], kind: Kind) -> np.ndarray:
    """Vectors of texts, float32 [texts, dimensions]; see :func:`retrieval_distill.student.encoder.encode`."""
    if isinstance(model, Exported):
        return model.encode(texts, kind)
    from retrieval_distill.student import encoder

    return encoder.encode(model, texts, kind)


def encode_parts(
    model: SentenceTransformer | Exported, texts: Sequence[str], kind: Kind, done: np.ndarray | None = None
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The same batch by batch; see :func:`retrieval_distill.student.encoder.encode_parts`."""
    if isinstance(model, Exported):
        return model.encode_parts(texts, kind, done)
    from retrieval_distill.student import encoder

    return encoder.encode_parts(model, texts, kind, done)


def limit(model: SentenceTransformer | Exported, kind: Kind, max_length: int | None = None) -> int | None:
    """Tokens kept of a text: ``max_length``, or the model's own limit if that is less; ``None``: all."""
    if isinstance(model, Exported):
        return min(max_length or model.limit(kind), model.limit(kind))
    from retrieval_distill.student import encoder

    return encoder.limit(model, kind, max_length)


def dimensions(model: SentenceTransformer | Exported) -> int:
    """Length of a vector."""
    return model.dimensions if isinstance(model, Exported) else int(model.get_embedding_dimension() or 0)


def tokens_beyond(model: SentenceTransformer | Exported, texts: Sequence[str], kind: Kind, max_length: int) -> Tokens:
    """Token ids, prompt included, at most ``max_length`` of a text, though the model's own limit be less."""
    if isinstance(model, Exported):
        return model.tokens_of(texts, kind, max_length)
    from retrieval_distill.student import encoder

    return encoder.tokens_of(model, texts, kind, max_length, beyond=True)
