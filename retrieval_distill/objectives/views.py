"""Views of a student's vectors: the forms in which an index will store them, and on which objectives are computed.

    views:
      full: 1.0            # the unchanged vectors
      128: 0.5             # their first 128 dimensions
      int8: 0.5            # documents with one byte per dimension
      128/binary: 0.5      # the first 128 dimensions, documents with one bit each

Every objective is computed in every view, and summed with the views' weights, so the same vectors serve at every size.
Knows vectors; must not know objectives, models or indexes.

* Fewer dimensions (Kusupati et al., "Matryoshka Representation Learning", 2022, arXiv:2205.13147): a truncated vector
  is scaled back to the length of the full one. Cosines do not need this, but dot products would shrink with the number
  of dimensions, while margins keep their size.
* Fewer bits: documents are quantised like in the index, and queries are not, like in search. Gradients pass the
  quantisation unchanged (the straight-through estimator: Bengio et al., "Estimating or Propagating Gradients
  Through Stochastic Neurons", 2013, arXiv:1308.3432).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from retrieval_distill.errors import UserError, nearest
from retrieval_distill.objectives.contract import Vectors

FULL = "full"
"""The view of unchanged vectors."""


def shorten(vectors: Tensor, dimensions: int) -> Tensor:
    """The first dimensions of vectors [rows, all], scaled to the full vectors' lengths: [rows, dimensions]."""
    cut = vectors[:, :dimensions]
    return cut * (vectors.norm(dim=1, keepdim=True) / cut.norm(dim=1, keepdim=True).clamp(min=1e-12))


def int8(vectors: Tensor) -> Tensor:
    """Vectors [rows, dimensions] quantised to 8 bits, with each dimension's range in these rows (FAISS's ``SQ8``)."""
    low, high = vectors.detach().aminmax(dim=0)
    width = (high - low).clamp(min=1e-12)
    codes = ((vectors.detach() - low) / width * 255).floor().clamp(0, 255)
    return _straight_through(vectors, low + (codes + 0.5) / 255 * width)


def binary(vectors: Tensor) -> Tensor:
    """Vectors [rows, dimensions] as signs, with their original lengths."""
    signs = torch.where(vectors > 0, 1.0, -1.0).to(vectors) * vectors.shape[1] ** -0.5
    return _straight_through(vectors, signs * vectors.detach().norm(dim=1, keepdim=True))


def _straight_through(vectors: Tensor, quantised: Tensor) -> Tensor:
    return vectors + (quantised - vectors).detach()


PRECISIONS: dict[str, Callable[[Tensor], Tensor]] = {"int8": int8, "binary": binary}


@dataclass(frozen=True)
class View:
    """A view and its weight; ``None``: all dimensions, or all bits."""

    name: str
    weight: float
    dimensions: int | None = None
    precision: str | None = None

    def __call__(self, vectors: Vectors) -> Vectors:
        """The vectors in this view."""
        queries, documents = vectors.queries, vectors.documents
        if self.dimensions is not None:
            queries, documents = shorten(queries, self.dimensions), shorten(documents, self.dimensions)
        return Vectors(queries, PRECISIONS[self.precision](documents) if self.precision else documents)


def parse_views(weights: Mapping[Any, Any]) -> list[View]:
    """Parse the views of a recipe, without those of weight 0.

    Raises:
        UserError: A name is not ``full``, a number of dimensions, ``int8``, ``binary`` or ``DIMENSIONS/int8``, a
            weight is negative, or all are 0.
    """
    views = [_parse(str(name), float(weight)) for name, weight in weights.items()]
    kept = [view for view in views if view.weight > 0]
    if not kept:
        raise UserError("views: at least one view needs a weight above 0")
    return kept


def _parse(name: str, weight: float) -> View:
    if weight < 0:
        raise UserError(f"views.{name}: a weight cannot be negative (got {weight:g})")
    dimensions, precision = None, None
    for part in name.split("/"):
        if part.isdecimal() and int(part) > 0 and dimensions is None and precision is None:
            dimensions = int(part)
        elif part in PRECISIONS and precision is None:
            precision = part
        elif name != FULL:
            raise UserError(
                f"views: {name!r} is unknown{nearest(part, [FULL, *PRECISIONS])}; write full, a number of dimensions, "
                "int8, binary, or 128/int8"
            )
    return View(name, weight, dimensions, precision)
