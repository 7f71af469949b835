"""A weighted mix of transfers, read from the recipe.

    transfers:
      relations: 1.0
      hidden_states: {weight: 0.5, mapping: skip}
      embedding: {weight: [0.0, 1.0]}             # from 0 to 1 over the course of training

Knows names and weights; must not know models or texts.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from retrieval_distill.compress.attention_maps import AttentionMaps
from retrieval_distill.compress.embedding import Embedding
from retrieval_distill.compress.hidden_states import HiddenStates
from retrieval_distill.compress.logits import Logits
from retrieval_distill.compress.relations import Relations
from retrieval_distill.compress.transfer import ActivationKey, Activations, ModelPair, Transfer
from retrieval_distill.objectives.mixing import Part, Value, read

TRANSFERS: dict[str, type[Transfer]] = {
    "relations": Relations,
    "attention_maps": AttentionMaps,
    "hidden_states": HiddenStates,
    "logits": Logits,
    "embedding": Embedding,
}

SECTION = "compress.transfers"


class Transfers(nn.Module):
    """A weighted sum of transfers, which also returns its components.

    Args:
        parts: The mix, see :func:`retrieval_distill.objectives.mixing.read`, which also lists the errors.
        pair: Student and teacher.

    Raises:
        UserError: An option does not fit the pair.
    """

    def __init__(self, parts: Mapping[str, Value], pair: ModelPair) -> None:
        super().__init__()
        self.parts: dict[str, Part[Transfer]] = read(SECTION, TRANSFERS, parts)
        for part in self.parts.values():
            part.objective.bind(pair)
        self.trained = nn.ModuleDict({name: part.objective for name, part in self.parts.items()})

    @property
    def student_keys(self) -> set[ActivationKey]:
        """All activations needed of the student."""
        return {ask for part in self.parts.values() for ask in part.objective.student_keys}

    @property
    def teacher_keys(self) -> set[ActivationKey]:
        """All activations needed of the teacher."""
        return {ask for part in self.parts.values() for ask in part.objective.teacher_keys}

    @property
    def token_by_token(self) -> list[str]:
        """Names of the transfers that need identical tokens in both encoders."""
        return [name for name, part in self.parts.items() if part.objective.token_by_token]

    def forward(
        self, student: Activations, teacher: Activations, mask: Tensor, progress: float = 1.0
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The weighted sum, and each active transfer unweighted; ``progress`` is the share of training completed."""
        active = {name: part for name, part in self.parts.items() if part.schedule.active(progress)}
        components = {name: part.objective(student, teacher, mask) for name, part in active.items()}
        weighted = [part.schedule.at(progress) * components[name] for name, part in active.items()]
        return sum(weighted, start=mask.new_zeros((), dtype=weighted[0].dtype)), components
