"""Layers chosen by how well the encoder made of them already does, before any training.

Knows layers and a score to ask for; must not know what is scored, or data.

Source: the choice of layers decides what is left to learn: Sajjad et al., "On the Effect of Dropping Layers of
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
    """Sets of ``keep`` layers worth a try: spaced evenly, and every run of neighbours (first and last among them).

    Raises:
        UserError: The model has fewer layers.
    """
    spaced = encoder_layers.chosen(model, f"spaced:{keep}")
    runs = [tuple(range(start, start + keep)) for start in range(encoder_layers.count(model) - keep + 1)]
    return [found for found in dict.fromkeys([spaced, *runs]) if encoder_layers.fits(model, found)]


def choose(
    model: SentenceTransformer,
    tried: Sequence[tuple[int, ...]],
    score: Callable[[SentenceTransformer], float],
) -> tuple[int, ...]:
    """The set of layers whose encoder scores highest; of equals, the one named first.

    Args:
        model: The whole encoder; it is left as it is.
        tried: Sets of layers.
        score: What to ask of the encoder made of each, such as a retrieval measure; higher is better.

    Raises:
        UserError: There is nothing to choose from.
    """
    if not tried:
        raise UserError("student.layers: no set of layers to choose from")
    scores = {}
    for layers in tried:
        slim = copy.deepcopy(model)
        encoder_layers.keep(slim, layers)
        scores[layers] = score(slim)
        logger.info("layers %s: %.4f", list(layers), scores[layers])
    best = max(tried, key=lambda layers: scores[layers])
    logger.info("student keeps the layers %s", list(best))
    return best
