"""ListNet."""

from __future__ import annotations

from pydantic import validate_call
from torch import Tensor

from retrieval_distill.objectives.contract import CandidateLists, Objective, Positive, masked_log_softmax


class ListNet(Objective):
    """Cross-entropy of the student's top-one probabilities under the teacher's.

    | uses | how |
    |---|---|
    | student, teacher | softmax over the list: probability of each candidate to be the best one |
    | labels | not used |

    ``- sum_i p_i log q_i`` with ``p = softmax(teacher / teacher_temperature)`` and
    ``q = softmax(student / student_temperature)``, averaged over queries. It is forward ``listwise_kl`` plus the
    teacher's entropy: the same gradient, another value.

    Source: Cao et al., "Learning to Rank: From Pairwise Approach to Listwise Approach", ICML 2007.

    Args:
        teacher_temperature: Above 1 softens the teacher.
        student_temperature: Above 1 softens the student.
    """

    @validate_call
    def __init__(self, teacher_temperature: Positive = 1.0, student_temperature: Positive = 1.0) -> None:
        self.teacher_temperature = teacher_temperature
        self.student_temperature = student_temperature

    def __call__(self, lists: CandidateLists) -> Tensor:
        """The mean cross-entropy over queries."""
        target = masked_log_softmax(lists.teacher / self.teacher_temperature, lists.mask).exp()
        student = masked_log_softmax(lists.student / self.student_temperature, lists.mask)
        return -(target * student).sum(dim=-1).mean()
