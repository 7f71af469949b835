"""The teacher's side of a report: is it better here, what are its scores like, how did training go, who agrees.

Knows what a run left; must not know comparisons of systems, HTML or Markdown.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from retrieval_distill.data import generated
from retrieval_distill.formatting import number, p_value, share, short, signed
from retrieval_distill.reporting.report_distillation import Fidelity, Gate, GateComparison, Reordered
from retrieval_distill.reporting.run_folder import RunFolder

FIDELITY = {
    "kl": "KL divergence from the teacher, nats",
    "spearman": "rank correlation, Spearman",
    "kendall": "rank correlation, Kendall",
    "retention": "share of the teacher's quality",
    "gain_kept": "share of the teacher's gain over the start",
}
"""Means of the report's section on fidelity, in words; the overlaps follow."""

NAMES = {
    "loss": "loss, weighted sum",
    "learning_rate": "learning rate",
    "grad_norm": "gradient norm",
    "tokens_per_second": "tokens per second",
    "padding_share": "padding, share of tokens",
    "agreement_kl": "KL from the teacher, nats",
    "agreement_spearman": "rank correlation with it",
    "agreement_top1": "its best one found",
    "agreement_top3": "its best three found, share",
}
"""Logged quantities in words."""

NO_CURVES = {"step", "epoch", "kept", "tokens", "eval_low", "eval_high", "eval_queries"}
"""What a training log holds beside quantities."""

ALONE = "Intervals and p are not corrected here, for it has to beat every one of them."
"""Of the gate's comparisons."""

BINS = 30
"""Bins of the teacher's scores."""


@dataclass(frozen=True, eq=False)
class Histogram:
    """Teacher scores of training candidates: bin ``edges`` [bins + 1], counts [bins] of either kind."""

    edges: np.ndarray
    counts: dict[str, np.ndarray]


@dataclass(frozen=True)
class Curve:
    """A logged quantity by step; ``band`` holds (step, low, high) of its 95 % interval where it has one."""

    key: str
    points: list[tuple[float, float]]
    band: list[tuple[float, float, float]]

    @property
    def name(self) -> str:
        """The quantity in words; objectives are named as in the recipe."""
        return name_of(self.key)


def curves(log: Sequence[dict[str, float]], objectives: Sequence[str]) -> list[Curve]:
    """Every quantity of a training log: the loss and its parts first, then the rest as logged.

    What was logged only once makes no curve.
    """
    logged = dict.fromkeys(key for row in log for key in row)
    first = ("loss", *objectives, "learning_rate", "tokens_per_second", "padding_share")
    found = []
    for key in dict.fromkeys([*(key for key in first if key in logged), *logged]):
        points = [(row["step"], row[key]) for row in log if key in row]
        if key not in NO_CURVES and len(points) > 1:
            rows = [row for row in log if key.startswith("eval_") and key in row and "eval_low" in row]
            found.append(Curve(key, points, [(row["step"], row["eval_low"], row["eval_high"]) for row in rows]))
    return found


def name_of(key: str) -> str:
    """A logged quantity in words: ``eval_nDCG@10`` is a measure of dev queries."""
    return NAMES.get(key, re.sub("^(eval|dev)_", "dev queries, ", key))


def agreement_rows(run: RunFolder) -> list[list[str]]:
    """Agreement of the student with its teacher on training candidates: name, at the start, in the end."""
    found = run.counts("distill").get("agreement", {})
    start, end = found.get("start", {}), found.get("end", {})
    return [[name_of(key), short(start[key]), short(end[key])] for key in start if key in end]


def fidelity_rows(fidelity: Fidelity | None) -> list[list[str]]:
    """How the student orders the test queries' pool against its teacher: name, mean, 95 % interval."""
    if fidelity is None:
        return []
    means = {name: getattr(fidelity, key) for key, name in FIDELITY.items()}
    for depth, value in fidelity.overlap.items():
        means[f"teacher's best {depth} among the student's best {depth}"] = value
    return [
        [name, number(value.mean), f"{number(value.low)} to {number(value.high)}"]
        for name, value in means.items()
        if value
    ]


def gate_rows(verdict: Gate | None) -> list[tuple[str, str]]:
    """A row per baseline: what the teacher did to its order on the dev queries."""
    return [(name, _against(verdict, found)) for name, found in verdict.against.items()] if verdict else []


def _against(verdict: Gate, found: GateComparison) -> str:
    if isinstance(found, Reordered):
        return (
            f"not judged; best document kept for {share(found.same_first)} of the queries, rank correlation "
            f"{number(found.spearman, 2)}"
        )
    return (
        f"{verdict.measure} {number(found.baseline)} becomes {number(found.teacher)} on {verdict.queries:,} dev "
        f"queries: {signed(found.difference)} ({signed(found.low)} to {signed(found.high)}), {p_value(found.p)}"
    )


def verdict(found: Gate | None) -> str:
    """What the gate says of the teacher in one sentence; empty where it was not asked."""
    said = {
        True: f"The teacher is shown to be better than each of them. {ALONE}",
        False: f"The teacher is not shown to be better than each of them: it may have little to teach. {ALONE}",
        None: "Nobody can know whether the teacher is better: no dev query is judged.",
    }
    return said[found.better] if found else ""


def score_histogram(run: RunFolder) -> Histogram | None:
    """How the teacher scores relevant documents and how the other candidates; ``None`` before it has."""
    split = generated.SPLIT if run.recipe.get("generate") else run.recipe["dataset"]["train"]
    if run.scores is None or run.dataset is None or split not in run.dataset.qrels:
        return None
    qrels, frame = generated.training_view(run.dataset, split).qrels(split), run.scores.frame
    relevant = np.array([qrels.get(query, {}).get(doc, 0) > 0 for query, doc in run.scores.pairs])
    scores = frame["score"].to_numpy()
    edges = np.histogram_bin_edges(scores, BINS)
    kinds = {"relevant": scores[relevant], "other candidates": scores[~relevant]}
    return Histogram(edges, {kind: np.histogram(values, edges)[0] for kind, values in kinds.items()})
