"""Hybrid search: fuses BM25 and dense search, with weights tuned on judged queries and saved in a file.

Knows Runs and judgements; must not know indexes or models. Tuning tries convex combinations of scaled scores and
weighted reciprocal ranks, as compared by Bruch, Gai and Ingber (2022, arXiv 2210.11934).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from retrieval_distill.data.dataset import Qrels
from retrieval_distill.data.run import Run
from retrieval_distill.errors import UserError
from retrieval_distill.retrieval.fusion import reciprocal_rank_fusion, weighted_sum
from retrieval_distill.runtime import stages

METHODS: dict[str, Callable[..., Run]] = {"rank": reciprocal_rank_fusion, "score": weighted_sum}

FILE = "fusion.json"
"""File of the weights."""

WEIGHTS = tuple(step / 10 for step in range(11))
"""Weights of dense search to try; BM25 gets the rest to 1."""

FUSION_DEPTH = 100
"""Fewest documents that dense search and BM25 each contribute to fusion."""

MEASURE = "nDCG@10"


@dataclass(frozen=True)
class Fusion:
    """How to fuse two Runs: by ``"rank"`` or ``"score"``, and the weight of dense search, from 0 to 1."""

    method: str = "rank"
    dense: float = 0.5

    def fuse(self, lexical: Run, dense: Run) -> Run:
        """The fused Run; a document that only one found gets nothing from the other."""
        return METHODS[self.method]([lexical, dense], weights=[1 - self.dense, self.dense])

    def __str__(self) -> str:
        """The form that :func:`parse` reads."""
        return f"{self.method}:{self.dense:g}"


def tune(
    lexical: Run,
    dense: Run,
    qrels: Qrels,
    pool: Callable[[Run], Run] = lambda run: run,
    measure: str = MEASURE,
) -> dict[str, Any]:
    """Try every method and weight on judged queries.

    Args:
        lexical: BM25's Run.
        dense: Dense search's Run.
        qrels: Judgements of the queries.
        pool: Converts a Run to what is judged: passages to their documents.
        measure: The measure to maximise.

    Returns:
        ``chosen`` (the best :class:`Fusion` as values, of equal ones the weight nearest to one half), its ``mean``,
        ``low`` and ``high``, ``measure``, ``queries``, and ``tried``, each with its ``mean``; ``alone``, the mean of
        dense search alone, and ``gain``, the chosen one's difference from it: ``mean``, ``low``, ``high``. The
        intervals are of the queries tuned on, so they are optimistic.
    """
    # slow to import, and rarely needed
    from retrieval_distill.evaluation.measures import evaluate
    from retrieval_distill.evaluation.significance import mean_with_interval

    def measured(run: Run) -> np.ndarray:
        return evaluate(pool(run), qrels, [measure])[measure].to_numpy()

    values = {
        fusion: measured(fusion.fuse(lexical, dense))
        for fusion in (Fusion(method, weight) for method in METHODS for weight in WEIGHTS)
    }
    best = max(values, key=lambda fusion: (round(values[fusion].mean(), 12), -abs(fusion.dense - 0.5)))
    alone = measured(dense)
    return {
        "chosen": asdict(best),
        **asdict(mean_with_interval(values[best])),
        "alone": float(alone.mean()),
        "gain": asdict(mean_with_interval(values[best] - alone)),
        "measure": measure,
        "queries": len(values[best]),
        "tried": [{**asdict(fusion), "mean": float(found.mean())} for fusion, found in values.items()],
    }


def decide(tuned: Mapping[str, Any]) -> dict[str, Any]:
    """Choose between a student and its fusion with BM25: the better one on the queries used for tuning.

    Args:
        tuned: The result of :func:`tune` for the student.

    Returns:
        ``use``, ``"hybrid-student"`` or ``"student"``, and ``dev``, the measure of each, with the ``difference``.
    """
    measure, gain = tuned["measure"], tuned["gain"]
    fused = {key: tuned[key] for key in ("mean", "low", "high")}
    return {
        "use": "hybrid-student" if gain["mean"] > 0 else "student",
        "dev": {
            "student": {measure: {"mean": tuned["alone"]}},
            "hybrid-student": {measure: fused},
            "difference": gain,
        },
    }


def load(path: Path) -> Fusion | None:
    """The saved weights; ``None`` if there are none.

    Raises:
        UserError: The file holds something else.
    """
    if not path.is_file():
        return None
    try:
        return Fusion(**stages.read_json(path)["chosen"])
    except (KeyError, TypeError):
        raise UserError(f"{path}: this file holds no fusion weights") from None


def beats_dense(path: Path, key: str) -> bool | None:
    """Whether saved weights beat dense search alone on the queries they were tuned on.

    Args:
        path: File of the weights.
        key: What they must be tuned for.

    Returns:
        ``None`` if unknown: there are none, or they were tuned for something else.
    """
    try:
        found = stages.read_json(path)
        return found["gain"]["mean"] > 0 if found["key"] == key else None
    except (OSError, UserError, KeyError, TypeError, ValueError):
        return None


def key(index: str, documents: str) -> str:
    """What weights are tuned for: the fingerprints of the index (and so the student), and of BM25's documents."""
    return stages.fingerprint({"index": index, "documents": documents})


def parse(text: str) -> Fusion:
    """Parse weights: ``score:0.7`` gives dense search 0.7 of the scores.

    Raises:
        UserError: The text has another form.
    """
    method, _, weight = text.partition(":")
    try:
        fusion = Fusion(method, float(weight))
    except ValueError:
        fusion = Fusion("", -1)
    if fusion.method not in METHODS or not 0 <= fusion.dense <= 1:
        raise UserError(f"fusion {text!r}: write rank or score and the weight of dense search, such as score:0.7")
    return fusion


def table(found: dict[str, Any]) -> str:
    """The fusions tried, a line per method."""
    lines: list[str] = []
    for method in METHODS:
        row: Sequence[dict[str, Any]] = [tried for tried in found["tried"] if tried["method"] == method]
        lines.append(f"{method:5} " + " ".join(f"{tried['dense']:g}: {tried['mean']:.3f}" for tried in row))
    return "\n".join(
        [
            f"{found['measure']} over {found['queries']} queries, by the weight of dense search (0 is BM25 alone)",
            *lines,
            f"kept: {Fusion(**found['chosen'])}, {found['mean']:.3f} ({found['low']:.3f} to {found['high']:.3f})",
            sentence(found),
        ]
    )


def sentence(found: dict[str, Any]) -> str:
    """The result of tuning, and what is served, in a sentence."""
    gain = found["gain"]
    return (
        f"{found['measure']} on {found['queries']:,} queries of {found['split']}: fused ({Fusion(**found['chosen'])}) "
        f"{found['mean']:.3f}, the student alone {found['alone']:.3f}, a difference of {gain['mean']:+.3f} "
        f"({gain['low']:+.3f} to {gain['high']:+.3f}); served: {'fused' if gain['mean'] > 0 else 'the student alone'} "
        "(change it with --hybrid)"
    )
