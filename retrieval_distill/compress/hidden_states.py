"""Transfer of hidden states, layer by layer. Knows tensors and mappings; must not know models.

Source: Jiao et al., "TinyBERT", 2019, arXiv:1909.10351, equations 7 to 9 (hidden states through a learned projection,
embeddings too); Sanh et al., "DistilBERT", 2019, arXiv:1910.01108 (cosine).
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import validate_call
from torch import Tensor, nn

from retrieval_distill.compress.mappings import MAPPINGS, earth_mover
from retrieval_distill.compress.transfer import (
    ActivationKey,
    Activations,
    ModelPair,
    Transfer,
    mean_per_text,
    projection,
)

EMBEDDINGS: ActivationKey = ("embeddings", 0)


class HiddenStates(Transfer):
    """Distance between the outputs of the student's layers and those of the teacher's that they are mapped to.

    Mean over layers (embeddings count as one) and real tokens of a text. If widths differ, one linear projection for
    all layers is trained with the student and then discarded.

    Args:
        mapping: ``first``, ``last``, ``uniform`` (evenly spaced, including first and last), ``skip`` (the last of each
            equal part), or ``earth_mover``: every layer to several, by the cheapest transport between the two stacks,
            computed for every batch.
        distance: ``mse`` over coordinates, or ``cosine``: one minus the cosine.
        embeddings: Whether the input of the first layer is compared too.
    """

    @validate_call
    def __init__(
        self,
        mapping: Literal["first", "last", "uniform", "skip", "earth_mover"] = "uniform",
        distance: Literal["mse", "cosine"] = "mse",
        embeddings: bool = True,
    ) -> None:
        super().__init__()
        self.mapping, self.distance, self.embeddings = mapping, distance, embeddings
        self.projection: nn.Module = nn.Identity()

    def bind(self, pair: ModelPair) -> None:
        """See :meth:`Transfer.bind`."""
        own, others = pair.student.layers, pair.teacher.layers
        rule = MAPPINGS.get(self.mapping)
        mapped = rule(others, own) if rule else range(others)
        extra = (EMBEDDINGS,) if self.embeddings else ()
        self.student_keys: tuple[ActivationKey, ...] = (*(("hidden", layer) for layer in range(own)), *extra)
        self.teacher_keys: tuple[ActivationKey, ...] = (*(("hidden", layer) for layer in mapped), *extra)
        self.projection = projection(pair, pair.student.width, pair.teacher.width)

    def forward(self, student: Activations, teacher: Activations, mask: Tensor) -> Tensor:
        """See :meth:`Transfer.forward`; skipped layers of the student are left out."""
        own = {ask: self.projection(_exact(student[ask])) for ask in self.student_keys if ask in student}
        if self.mapping == "earth_mover":
            return self._earth_mover_loss(own, teacher, mask)
        pairs = zip(self.student_keys, self.teacher_keys, strict=True)
        return torch.stack([self._apart(own[a], teacher[b], mask) for a, b in pairs if a in own]).mean()

    def _earth_mover_loss(self, own: Activations, teacher: Activations, mask: Tensor) -> Tensor:
        layers = [[ask for ask in asks if ask != EMBEDDINGS] for asks in (own, self.teacher_keys)]
        distances = torch.stack(
            [torch.stack([self._apart(own[a], teacher[b], mask) for b in layers[1]]) for a in layers[0]]
        )
        shares = torch.from_numpy(earth_mover(distances.detach().double().cpu().numpy()))
        moved = (shares.to(distances) * distances).sum()
        if EMBEDDINGS not in own:
            return moved
        depth = len(layers[0])
        return (depth * moved + self._apart(own[EMBEDDINGS], teacher[EMBEDDINGS], mask)) / (depth + 1)

    def _apart(self, student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
        teacher = _exact(teacher)
        if self.distance == "cosine":
            return mean_per_text(1 - torch.cosine_similarity(student, teacher, dim=-1), mask)
        return mean_per_text((student - teacher).square().mean(dim=-1), mask)


def _exact(tensor: Tensor) -> Tensor:
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
