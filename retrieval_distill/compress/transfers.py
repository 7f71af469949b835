"""Transfers by name, mixed by weight, as data.

    transfers:
      relations: 1.0
      hidden_states: {weight: 0.5, mapping: skip}
      embedding: {weight: [0.0, 1.0]}             # from 0 up to 1 over the course of training

Knows names and weights; must not know models or texts.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from retrieval_distill.compress.attention_maps import AttentionMaps
from retrieval_distill.compress.contract import Ask, Pair, Seen, Transfer
from retrieval_distill.compress.embedding import Embedding
from retrieval_distill.compress.hidden_states import HiddenStates
from retrieval_distill.compress.logits import Logits
from retrieval_distill.compress.relations import Relations
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
    """A weighted sum of transfers; its components stay visible.

    Args:
        parts: The mix, see :func:`retrieval_distill.objectives.mixing.read`, which also says what is refused.
        pair: Student and teacher.

    Raises:
        UserError: An option does not suit the pair.
    """

    def __init__(self, parts: Mapping[str, Value], pair: Pair) -> None:
        super().__init__()
        self.parts: dict[str, Part[Transfer]] = read(SECTION, TRANSFERS, parts)
        for part in self.parts.values():
            part.objective.bind(pair)
        self.trained = nn.ModuleDict({name: part.objective for name, part in self.parts.items()})

    @property
    def student_asks(self) -> set[Ask]:
        """All that is asked of the student."""
        return {ask for part in self.parts.values() for ask in part.objective.student_asks}

    @property
    def teacher_asks(self) -> set[Ask]:
        """All that is asked of the teacher."""
        return {ask for part in self.parts.values() for ask in part.objective.teacher_asks}

    @property
    def token_by_token(self) -> list[str]:
        """Names of those for which both must cut texts into the same tokens."""
        return [name for name, part in self.parts.items() if part.objective.token_by_token]

    def forward(
        self, student: Seen, teacher: Seen, mask: Tensor, progress: float = 1.0
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The weighted sum, and each active transfer without its weight; ``progress`` is the share that is done."""
        active = {name: part for name, part in self.parts.items() if part.schedule.active(progress)}
        components = {name: part.objective(student, teacher, mask) for name, part in active.items()}
        weighted = [part.schedule.at(progress) * components[name] for name, part in active.items()]
        return sum(weighted, start=mask.new_zeros((), dtype=weighted[0].dtype)), components
