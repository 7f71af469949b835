"""Hybrid search: fuses BM25 and dense search, with weights tuned on judged queries and saved in a file.

Knows Runs and judgements; must not know indexes or models. Tuning tries convex combinations of scaled scores and
weighted reciprocal ranks, as compared by Bruch, Gai and Ingber (2022, arXiv 2210.11934).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from pydantic import Field

from retrieval_distill.data.dataset import Qrels
from retrieval_distill.data.run import Run
from retrieval_distill.errors import UserError
from retrieval_distill.evaluation.significance import Mean, mean_with_interval
from retrieval_distill.formatting import counted
from retrieval_distill.retrieval.fusion import reciprocal_rank_fusion, weighted_sum
from retrieval_distill.runtime import stages
from retrieval_distill.runtime.documents import Document, Part

METHODS: dict[str, Callable[..., Run]] = {"rank": reciprocal_rank_fusion, "score": weighted_sum}

WEIGHTS = tuple(step / 10 for step in range(11))
"""Weights of dense search to try; BM25 gets the rest to 1."""

FUSION_DEPTH = 100
"""Fewest documents that dense search and BM25 each contribute to fusion."""

MEASURE = "nDCG@10"


@dataclass(frozen=True)
class Fusion:
    """How to fuse two Runs: by ``"rank"`` or ``"score"``, and the weight of dense search, from 0 to 1.

    Untuned it is by scores, both sides alike: on the dev queries of three collections that is better than reciprocal
    ranks, for start models and students alike (``scripts/study_fusion.md``).
    """

    method: str = "score"
    dense: float = 0.5

    def fuse(self, lexical: Run, dense: Run) -> Run:
        """The fused Run; a document that only one found gets nothing from the other."""
        return METHODS[self.method]([lexical, dense], weights=[1 - self.dense, self.dense])

    def __str__(self) -> str:
        """The form that :func:`parse` reads."""
        return f"{self.method}:{self.dense:g}"


class TriedFusion(Part):
    """A way to fuse, and its mean on the queries of the tuning."""

    method: str
    dense: float
    mean: float


class DevMean(Part):
    """A mean over dev queries."""

    mean: float
    low: float | None = None
    high: float | None = None


class Dev(Part):
    """The student and its fusion on the queries that chose between them, by measure."""

    student: dict[str, DevMean]
    fused: dict[str, DevMean] = Field(alias="hybrid-student")
    difference: Mean | None = None
    """The fusion minus the student alone."""


class FusionTuning(Document):
    """Fusions tried on judged queries, and the best one.

    Intervals are over the queries that chose it, so they are optimistic.
    """

    file = "fusion.json"
    noun = "file of fusion weights"
    remedy = "tune again with --tune SPLIT"

    chosen: Fusion
    """The best; of equal ones the one whose weight is nearest to one half."""
    mean: float
    low: float
    high: float
    """The 95 % interval of the chosen one's mean is from ``low`` to ``high``."""
    alone: float
    """The mean of dense search alone."""
    gain: Mean
    """The chosen one minus dense search alone."""
    measure: str
    queries: int
    tried: list[TriedFusion]
    split: str | None = None
    """The split of the queries."""
    use: str | None = None
    """For a student, which is better on these queries: ``student`` or ``hybrid-student``."""
    dev: Dev | None = None
    """For a student, both on these queries."""
    key: str | None = None
    """Hash of the index and the documents that it was tuned for; missing: not known."""

    def decide(self) -> None:
        """Set ``use`` and ``dev``, for the fusion of a student."""
        fused = DevMean(mean=self.mean, low=self.low, high=self.high)
        self.use = "hybrid-student" if self.gain.mean > 0 else "student"
        self.dev = Dev(
            student={self.measure: DevMean(mean=self.alone)}, fused={self.measure: fused}, difference=self.gain
        )

    def table(self) -> str:
        """The fusions tried, a line per method."""
        asked = counted(self.queries, "query")
        lines = [f"{self.measure} over {asked}, by the weight of dense search (0 is BM25 alone)"]
        for method in METHODS:
            means = (f"{tried.dense:g}: {tried.mean:.3f}" for tried in self.tried if tried.method == method)
            lines.append(f"{method:5} {' '.join(means)}")
        kept = f"kept: {self.chosen}, {self.mean:.3f} ({self.low:.3f} to {self.high:.3f})"
        return "\n".join([*lines, kept, str(self)])

    def __str__(self) -> str:
        """The result, and what is served, in a sentence."""
        gain = self.gain
        return (
            f"{self.measure} on {counted(self.queries, 'query')} of {self.split}: fused ({self.chosen}) "
            f"{self.mean:.3f}, the student alone {self.alone:.3f}, a difference of {gain.mean:+.3f} "
            f"({gain.low:+.3f} to {gain.high:+.3f}); "
            f"served: {'fused' if gain.mean > 0 else 'the student alone'} (change it with --hybrid)"
        )


def tune(
    lexical: Run,
    dense: Run,
    qrels: Qrels,
    pool: Callable[[Run], Run] = lambda run: run,
    measure: str = MEASURE,
) -> FusionTuning:
    """Try every method and weight on judged queries.

    Args:
        lexical: BM25's Run.
        dense: Dense search's Run.
        qrels: Judgements of the queries.
        pool: Converts a Run to what is judged: passages to their documents.
        measure: The measure to maximise.
    """
    # slow to import, and rarely needed
    from retrieval_distill.evaluation.measures import evaluate

    def evaluated(run: Run) -> np.ndarray:
        return evaluate(pool(run), qrels, [measure])[measure].to_numpy()

    values = {
        fusion: evaluated(fusion.fuse(lexical, dense))
        for fusion in (Fusion(method, weight) for method in METHODS for weight in WEIGHTS)
    }
    best = max(values, key=lambda fusion: (round(values[fusion].mean(), 12), -abs(fusion.dense - 0.5)))
    alone = evaluated(dense)
    return FusionTuning(
        chosen=best,
        **asdict(mean_with_interval(values[best])),
        alone=float(alone.mean()),
        gain=mean_with_interval(values[best] - alone),
        measure=measure,
        queries=len(values[best]),
        tried=[TriedFusion(**asdict(fusion), mean=float(found.mean())) for fusion, found in values.items()],
    )


def tuned_for(folder: Path, key: str) -> FusionTuning | None:
    """The tuning in a folder; ``None`` if there is none, it is unreadable, or it was tuned for something else."""
    try:
        found = FusionTuning.read(folder)
    except (OSError, UserError):
        return None
    return found if found and found.key == key else None


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
