"""Transfer of a masked language model's output distribution. Knows heads; must not know texts.

Source: Sanh et al., "DistilBERT", 2019, arXiv:1910.01108, section 2; Hinton et al., 2015, arXiv:1503.02531 (softened
by a temperature, gradients scaled by its square).
"""

from __future__ import annotations

from typing import Any

import torch
from pydantic import validate_call
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import AutoConfig, AutoModelForMaskedLM
from transformers.modeling_outputs import BaseModelOutput

from retrieval_distill import models, weights
from retrieval_distill.compress.transfer import ActivationKey, Activations, ModelPair, Transfer, projection
from retrieval_distill.errors import UserError
from retrieval_distill.objectives.contract import Positive

BLOCK = 1 << 24
"""Logits [tokens, vocabulary] computed at once: 64 MiB in float32; the backward pass recomputes them."""


class Logits(Transfer):
    """KL divergence of the teacher's distribution over its vocabulary from the student's, at every real token.

    Both go through the teacher's frozen language-model head; if widths differ, the student's tokens first go through a
    linear projection, trained and then discarded. The student keeps no head.

    Args:
        temperature: Divides logits; the value is multiplied by its square.
    """

    student_keys: tuple[ActivationKey, ...] = (("tokens", 0),)
    teacher_keys: tuple[ActivationKey, ...] = (("tokens", 0),)

    @validate_call
    def __init__(self, temperature: Positive = 2.0) -> None:
        super().__init__()
        self.temperature = temperature
        self.projection: nn.Module = nn.Identity()
        self._head: tuple[Any, ...] = ()  # in a tuple, so that it is neither trained nor saved

    def bind(self, pair: ModelPair) -> None:
        """See :meth:`Transfer.bind`."""
        self.projection = projection(pair, pair.student.width, pair.teacher.width)
        self._head = (language_head(pair.teacher_name),)

    def forward(self, student: Activations, teacher: Activations, mask: Tensor) -> Tensor:
        """See :meth:`Transfer.forward`."""
        own = self.projection(student["tokens", 0].float())[mask]
        wanted = teacher["tokens", 0].float()[mask]
        head = self._head[0].to(own.device)
        shares = (1 / mask.sum(dim=1, keepdim=True)).expand(mask.shape)[mask] / len(mask)
        at_once = max(1, BLOCK // head.config.vocab_size)
        blocks = zip(own.split(at_once), wanted.split(at_once), shares.split(at_once), strict=True)
        values = [checkpoint(self._block, *block, use_reentrant=False) for block in blocks]
        return torch.stack(values).sum() * self.temperature**2

    def _block(self, own: Tensor, wanted: Tensor, shares: Tensor) -> Tensor:
        head = self._head[0]
        found = (head(inputs_embeds=own[None]).logits[0] / self.temperature).log_softmax(dim=-1)
        with torch.no_grad():
            target = (head(inputs_embeds=wanted[None]).logits[0] / self.temperature).log_softmax(dim=-1)
        return (nn.functional.kl_div(found, target, reduction="none", log_target=True).sum(dim=-1) * shares).sum()


class _PassThrough(nn.Module):
    """Replaces the encoder under a head: returns its input."""

    def forward(self, *_: Any, inputs_embeds: Tensor, **__: Any) -> BaseModelOutput:
        return BaseModelOutput(last_hidden_state=inputs_embeds)


def language_head(name: str) -> Any:
    """The frozen masked-language-model head of a saved model, as a model that takes hidden states as embeddings.

    Raises:
        UserError: The model was saved without one.
    """
    folder = models.resolve(name)
    with weights.loading(folder):
        saved = AutoConfig.from_pretrained(folder, trust_remote_code=False).architectures or []
    if not any(architecture.endswith("ForMaskedLM") for architecture in saved):
        raise UserError(
            f"compress.transfers.logits: {name!r} was saved without a masked-language-model head "
            f"({', '.join(saved) or 'no architecture named'}); use the transfer embedding, which needs "
            "only sentence vectors"
        )
    with weights.loading(folder) as loaded:
        model = AutoModelForMaskedLM.from_pretrained(folder, dtype=torch.float32, trust_remote_code=False)
    weights.require_whole(folder, loaded)
    setattr(model, model.base_model_prefix, _PassThrough())
    return model.requires_grad_(False).eval()
