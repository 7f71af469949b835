"""One student for several depths: layers that are passed over for a batch.

Knows layers; must not know transfers or training.

Source: Fan et al., "Reducing Transformer Depth on Demand with Structured Dropout", 2019, arXiv:1909.11556; here the
layers that stay are those that :func:`retrieval_distill.student.layers.spaced` keeps, so that a depth in training is
the depth that is served.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from sentence_transformers import SentenceTransformer

from retrieval_distill.compress.families import family_of
from retrieval_distill.errors import UserError
from retrieval_distill.student import layers


def check(model: SentenceTransformer, depths: Sequence[int]) -> None:
    """Refuse depths that the student cannot serve at.

    Raises:
        UserError: One is not below its number of layers, or the layers kept could not stand alone.
    """
    whole = layers.count(model)
    for depth in depths:
        if depth >= whole:
            raise UserError(f"compress.depths: {depth} - the student has {whole} layers; give smaller numbers")
        if not layers.fits(model, layers.spaced(whole, depth)):
            raise UserError(f"compress.depths: {depth} - this model's layers cannot stand in for one another")


def drawn(depths: Sequence[int], whole: int, number: int, seed: int) -> tuple[int, ...]:
    """The layers that a batch goes through: all, or those of one of the depths, each as likely."""
    depth = (whole, *depths)[np.random.default_rng([seed, number]).integers(len(depths) + 1)]
    return layers.spaced(whole, depth)


@contextmanager
def only(model: SentenceTransformer, kept: Collection[int]) -> Iterator[None]:
    """Pass over all other layers; hooks on them see what goes by."""
    stack = layers.stack(model)[1]
    passed = [layer for number, layer in enumerate(stack) if number not in kept]
    tuples = bool(passed) and family_of(model[0].auto_model).tuples

    def go_by(hidden: Any, *_: Any, **__: Any) -> Any:
        return (hidden,) if tuples else hidden

    try:
        for layer in passed:
            layer.forward = go_by
        yield
    finally:
        for layer in passed:
            del layer.forward
