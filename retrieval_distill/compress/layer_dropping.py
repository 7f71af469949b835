"""Trains one student for several depths, by skipping layers in some batches.

Knows layers; must not know transfers or training.

Source: Fan et al., "Reducing Transformer Depth on Demand with Structured Dropout", 2019, arXiv:1909.11556; here the
layers kept are those of :func:`retrieval_distill.student.layers.spaced`, so that training and serving use the same
layers at each depth.
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
    """Refuse depths that the student cannot have.

    Raises:
        UserError: A depth is not below its number of layers, or its layers cannot be skipped.
    """
    whole = layers.count(model)
    for depth in depths:
        if depth >= whole:
            raise UserError(f"compress.depths: {depth}: the student has only {whole} layers; give smaller numbers")
        if not layers.fits(model, layers.spaced(whole, depth)):
            raise UserError(f"compress.depths: {depth}: this model's layers differ, so none can be skipped")


def draw_layers(depths: Sequence[int], whole: int, number: int, seed: int) -> tuple[int, ...]:
    """The layers of a batch: all, or those of one of the depths, with equal probability."""
    depth = (whole, *depths)[np.random.default_rng([seed, number]).integers(len(depths) + 1)]
    return layers.spaced(whole, depth)


@contextmanager
def skip_other_layers(model: SentenceTransformer, kept: Collection[int]) -> Iterator[None]:
    """Skip all layers but ``kept``; hooks on skipped layers see their input."""
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
