"""Samples tokens with noise drawn beforehand, separately for each text.

If one random generator served a whole batch, a text's tokens would depend on the other texts; here they depend only on
its own noise. The largest of (log-probability + Gumbel noise) is an exact sample. Source: Gumbel-max trick, e.g.
Maddison, Tarlow and Minka, "A* Sampling", 2014, arXiv:1411.0030, section 2. Restriction of the tokens: Fan et al.,
arXiv:1805.04833 (top-k); Holtzman et al., arXiv:1904.09751 (nucleus).

Knows logits; must not know models or texts.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from transformers import LogitsProcessor


class FixedNoiseSampler(LogitsProcessor):
    """Leaves one possible token per row: the one its noise samples from the ``top_k`` likeliest of the nucleus.

    Args:
        noise: Gumbel noise, float [rows, steps, top_k].
        top_p: The nucleus: the likeliest tokens that together reach this probability may be drawn.
        temperature: Divides the logits.
    """

    def __init__(self, noise: Tensor, top_p: float, temperature: float) -> None:
        self.noise, self.top_p, self.temperature = noise, top_p, temperature
        self._step = 0

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Logits [rows, vocabulary] -> 0 for the token drawn, minus infinity for all others."""
        top_k = min(self.noise.shape[2], scores.shape[1])
        logits, tokens = (scores.float() / self.temperature).topk(top_k, dim=1)
        probabilities = logits.softmax(dim=1)
        outside = probabilities.cumsum(dim=1) - probabilities >= self.top_p
        perturbed = (logits + self.noise[:, self._step, :top_k]).masked_fill(outside, -torch.inf)
        drawn = perturbed.argmax(dim=1, keepdim=True)
        self._step += 1
        return torch.full_like(scores, -torch.inf).scatter_(1, tokens.gather(1, drawn), 0.0)


def gumbel_noise(dice: Sequence[np.random.Generator], rows: int, steps: int, top_k: int) -> Tensor:
    """Gumbel noise, float32 [len(dice) * rows, steps, top_k]: ``rows`` rows from each generator."""
    thrown = [generator.gumbel(size=(rows, steps, top_k)).astype(np.float32) for generator in dice]
    return torch.from_numpy(np.concatenate(thrown))
