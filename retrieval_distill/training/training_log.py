"""``training_log.json``: the log of a training, kept in the finished student's folder.

A list of flat rows: one for every few steps, every checkpoint and every evaluation. A row has the keys that were
measured at its step:

* ``step``, ``epoch``; ``loss``, ``learning_rate`` (the top layer's) and ``grad_norm``; each objective's value under its
  name; ``tokens`` of the steps since the row before, ``tokens_per_second`` and ``padding_share``;
* at evaluations ``eval_MEASURE`` (such as ``eval_nDCG@10``), ``eval_low`` and ``eval_high`` (its 95 % interval),
  ``eval_queries``, see :mod:`retrieval_distill.training.dev_retrieval`;
* at evaluations, and at the step whose weights were kept, ``agreement_kl``, ``agreement_spearman``,
  ``agreement_top1``, ``agreement_top3``, see :mod:`retrieval_distill.training.agreement`;
* ``kept``, true at the step whose weights the student has, absent elsewhere.

Knows rows; must not know how values are measured.
"""

from __future__ import annotations

from collections.abc import Sequence


def rows(history: Sequence[dict[str, float]], kept: int, agreement: dict[str, float]) -> list[dict[str, float]]:
    """Merge the trainer's log into one row per step.

    Args:
        history: The trainer's rows; its summary of the whole training is left out.
        kept: The step whose weights the student has.
        agreement: The finished student's agreement, added to that step's row.
    """
    by_step: dict[float, dict[str, float]] = {}
    for row in history:
        if "loss" in row or "eval_queries" in row:
            by_step.setdefault(row["step"], {}).update(row)
    by_step[kept] |= {**agreement, "kept": True}
    return list(by_step.values())


def tokens(history: Sequence[dict[str, float]]) -> int:
    """The tokens, without padding, of all steps up to the log's last row; those of a resumed training count once."""
    return sum(int(row.get("tokens", 0)) for row in history)
