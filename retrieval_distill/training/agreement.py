"""Agreement between a student and its teacher on the order of candidates.

Measured on the full candidate lists of a fixed sample of training queries: KL divergence, Spearman correlation and
overlap of the top candidates. In hybrid-aware distillation the student's scores include BM25. Knows lists of scores,
and how a student scores them; must not know the trainer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import log_softmax
from scipy.stats import spearmanr
from sentence_transformers import SentenceTransformer

from retrieval_distill.student import encoder
from retrieval_distill.training.batches import Collator
from retrieval_distill.training.groups import Draw, Group

TOPS = (1, 3)
"""Depths at which the overlap is measured."""

LISTS_AT_ONCE = 16
"""Lists whose texts are embedded together."""


@dataclass(frozen=True, eq=False)
class Agreement:
    """Measures a student on sampled lists; ``scale`` multiplies its similarities, as in training."""

    lists: Sequence[Draw]
    collator: Collator
    scale: float
    dtype: torch.dtype | None = None

    @classmethod
    def sample(
        cls, count: int, groups: Sequence[Group], collator: Collator, scale: float, dtype: torch.dtype | None, seed: int
    ) -> Agreement:
        """A random sample of at most ``count`` groups, with all their candidates."""
        rows = np.random.default_rng(seed).choice(len(groups), min(count, len(groups)), replace=False)
        lists = [Draw(int(row), tuple(range(len(groups[row].doc_ids)))) for row in sorted(rows)]
        return cls(lists, collator, scale, dtype)

    def __call__(self, student: SentenceTransformer) -> dict[str, float]:
        """The student's :func:`agreement` with its teacher; empty if there are no lists."""
        student.eval()
        scored: list[tuple[np.ndarray, np.ndarray]] = []
        for start in range(0, len(self.lists), LISTS_AT_ONCE):
            scored += self._scores(student, self.lists[start : start + LISTS_AT_ONCE])
        return agreement(scored) if scored else {}

    @torch.no_grad()
    def _scores(self, student: SentenceTransformer, lists: Sequence[Draw]) -> list[tuple[np.ndarray, np.ndarray]]:
        batch = self.collator(lists)
        queries = len(batch["queries"])
        rows = [*batch["queries"], *batch["documents"]]
        vectors = encoder.encode_rows(student, rows, self.dtype, is_query=np.arange(len(rows)) < queries).cpu()
        scores = self.scale * vectors[:queries] @ vectors[queries:].T
        scores = (scores + batch.get("lexical", 0)).gather(1, batch["positions"])
        lists_of = zip(scores, batch["teacher"], batch["mask"], strict=True)
        return [(own[real].double().numpy(), teacher[real].double().numpy()) for own, teacher, real in lists_of]


def agreement(lists: Sequence[tuple[np.ndarray, np.ndarray]]) -> dict[str, float]:
    """Means over lists of (student scores, teacher scores), both [candidates].

    Returns:
        ``agreement_kl``: KL(teacher || student) of the softmax of the scores, in nats. ``agreement_spearman``: rank
        correlation with mean ranks for ties; lists in which all scores of one side are equal are skipped.
        ``agreement_top1``, ``agreement_top3``: share of the teacher's best candidates that are among the student's
        best; lists of no more candidates than that are skipped. A measure without any list is absent.
    """
    values: dict[str, list[float]] = {"agreement_kl": [], "agreement_spearman": []}
    for student, teacher in lists:
        own, wanted = log_softmax(student), log_softmax(teacher)
        values["agreement_kl"].append(float((np.exp(wanted) * (wanted - own)).sum()))
        if np.ptp(student) > 0 and np.ptp(teacher) > 0:
            values["agreement_spearman"].append(float(spearmanr(student, teacher).statistic))
        for top in TOPS:
            if len(student) > top:
                values.setdefault(f"agreement_top{top}", []).append(_overlap(student, teacher, top))
    return {name: float(np.mean(found)) for name, found in values.items() if found}


def _overlap(student: np.ndarray, teacher: np.ndarray, top: int) -> float:
    best, wanted = (set(np.argsort(-scores, kind="stable")[:top].tolist()) for scores in (student, teacher))
    return len(best & wanted) / top
