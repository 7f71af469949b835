"""Chooses the layers whose encoder scores best before any training.

Knows layers and a score function; must not know what it measures, or data.

Source, on the effect of the choice of layers: Sajjad et al., "On the Effect of Dropping Layers of
Pre-trained Transformer Models", 2020, arXiv:2004.03844.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Sequence

from sentence_transformers import SentenceTransformer

from retrieval_distill.errors import UserError
from retrieval_distill.student import layers as encoder_layers

logger = logging.getLogger("retrieval_distill")


def candidates(model: SentenceTransformer, keep: int) -> list[tuple[int, ...]]:
    """Sets of ``keep`` layers to try: evenly spaced ones, and all runs of consecutive ones.

    Raises:
        UserError: The model has fewer layers.
    """
    spaced = encoder_layers.select(model, f"spaced:{keep}")
    runs = [tuple(range(start, start + keep)) for start in range(encoder_layers.count(model) - keep + 1)]
    return [found for found in dict.fromkeys([spaced, *runs]) if encoder_layers.fits(model, found)]


def choose(
    model: SentenceTransformer,
    tried: Sequence[tuple[int, ...]],
    score: Callable[[SentenceTransformer], float],
) -> tuple[int, ...]:
    """The set of layers whose encoder scores highest; ties go to the first.

    Args:
        model: The full encoder; it is not changed.
        tried: Sets of layers.
        score: Score of an encoder, such as a retrieval measure; higher is better.

    Raises:
        UserError: There is nothing to choose from.
    """
    if not tried:
        raise UserError("student.layers: no set of layers to choose from")
    scores = {}
    for layers in tried:
        slim = copy.deepcopy(model)
        encoder_layers.keep_only(slim, layers)
        scores[layers] = score(slim)
        logger.info("layers %s: %.4f", list(layers), scores[layers])
    best = max(tried, key=lambda layers: scores[layers])
    logger.info("student keeps the layers %s", list(best))
    return best
