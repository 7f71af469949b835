"""The modules after the transformer: pooling, a projection, normalisation.

Knows the library's modules; must not know layers, vocabularies, data or training.
"""

from __future__ import annotations

from typing import Literal

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Pooling

from retrieval_distill.errors import UserError

MODES = {"mean": "mean", "cls": "cls", "last": "lasttoken", "max": "max", "weightedmean": "weightedmean"}
"""The recipe's name of a pooling -> the library's."""


def set_pooling(model: SentenceTransformer, pooling: str) -> None:
    """Set the pooling of token vectors, in place.

    Args:
        model: A bi-encoder with one pooling module.
        pooling: A key of :data:`MODES`.

    Raises:
        UserError: The model has no pooling.
    """
    for place, module in enumerate(model):
        if isinstance(module, Pooling):
            model[place] = Pooling(module.embedding_dimension, MODES[pooling], include_prompt=module.include_prompt)
            return
    raise UserError(f"student.pooling={pooling}: this model has no pooling to set; leave it out")


def set_similarity(model: SentenceTransformer, similarity: Literal["cosine", "dot"]) -> None:
    """Set the similarity, in place; for ``cosine`` the model normalises its vectors."""
    normalized = isinstance(model[-1], Normalize)
    if similarity == "cosine" and not normalized:
        model.append(Normalize())
    if similarity == "dot" and normalized:
        del model[-1]
    model.similarity_fn_name = similarity


def project(model: SentenceTransformer, dimensions: int) -> None:
    """Change the dimensions by a linear map, without bias or activation, before normalisation.

    The map is initialised randomly with orthonormal rows (columns, if dimensions are added). It treats all directions
    alike and so preserves inner products in expectation, up to a common factor, and exactly if dimensions are added.
    Keeping the first ``dimensions`` coordinates would be arbitrary in a model not trained for it, where some
    coordinates are far larger than others.

    Source: Johnson and Lindenstrauss, 1984; Timkey and van Schijndel, "All Bark and No Bite", 2021, arXiv:2109.04404
    (coordinates that dominate similarities).
    """
    width = model.get_embedding_dimension()
    if width is None or width == dimensions:
        return
    weight = torch.nn.init.orthogonal_(torch.empty(dimensions, width))
    dense = Dense(width, dimensions, bias=False, activation_function=None, init_weight=weight).to(model.device)
    model.insert(len(model) - isinstance(model[-1], Normalize), dense)
