"""What a log says of the relevance of documents: clicks weighted by inverse propensity, and explicit judgements.

Searches with the same words (whatever their case and spaces) are one query. Over its searches that show a document,

    relevance = sum over clicks of min(1 / propensity of their rank, clip) / number of searches that show it

is an unbiased estimate of its relevance, up to a factor and as far as weights are not clipped: Joachims, Swaminathan,
Schnabel: Unbiased learning-to-rank with biased feedback, WSDM 2017, arXiv:1608.04468, section 3. A few clicks far down
would give wild estimates, so documents are compared by a lower bound, as Swaminathan and Joachims learn from one
(Counterfactual risk minimization, ICML 2015, arXiv:1502.02362): the square root of a count has a standard deviation of
about 1/2 (Freeman and Tukey: Transformations related to the angular and the square root, 1950), of which ``caution``
are taken off the root of the effective number of clicks, (sum of weights)^2 / sum of squared weights.

Hard negatives are documents that people skipped to click below: Joachims: Optimizing search engines using clickthrough
data, KDD 2002, section 2.3.

Knows searches and propensities; must not know corpora or datasets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import pandas as pd

from retrieval_distill.config import FeedbackConfig
from retrieval_distill.data.hashes import text_hash
from retrieval_distill.feedback.log import GRADES, Search, normalised

COLUMNS = {
    "query_id": "str", "query": "str", "doc_id": "str", "shown": "int64", "clicks": "int64", "skipped": "int64",
    "judged": "int64", "relevance": "float64", "value": "float64", "grade": "int64", "negative": "bool",
}  # fmt: skip
"""Columns of the estimates, a row for each document shown for a query. ``judged``: number of explicit judgements,
``relevance``: estimated by clicks, ``value``: its lower bound relative to the query's best, or from judgements, -1 to
1, ``grade``: 0 to 3, ``negative``: whether it is a hard negative."""


@dataclass
class _Shown:
    """What happened to a document in all searches of a query."""

    shown: int = 0
    clicks: int = 0
    weighted: float = 0.0
    squares: float = 0.0
    skipped: int = 0
    grades: list[int] = field(default_factory=list)

    @property
    def relevance(self) -> float:
        """Estimated by its clicks."""
        return self.weighted / self.shown

    def bound(self, caution: float) -> float:
        """The relevance that it has at least, so many standard deviations below the estimate."""
        if not self.clicks:
            return 0.0
        effective = self.weighted**2 / self.squares
        return self.relevance * max(0.0, 1 - caution / (2 * effective**0.5)) ** 2


def estimate(
    searches: Iterable[Search], propensity: Callable[[int], float], config: FeedbackConfig | None = None
) -> pd.DataFrame:
    """The relevance of every document that was shown, by query; explicit judgements override clicks.

    Args:
        searches: What was shown, clicked and judged.
        propensity: Rank, from 1 -> the probability that people look at it, relative to that of rank 1.
        config: Its ``clip``, ``caution``, ``min_clicks`` and ``relevant``; ``None``: the defaults.

    Returns:
        The columns ``COLUMNS``, in the order in which queries and documents were first shown.
    """
    config = config or FeedbackConfig()
    spelled: dict[str, str] = {}
    found: dict[str, dict[str, _Shown]] = {}
    for search in searches:
        words = normalised(search.query)
        spelled.setdefault(words, " ".join(search.query.split()))
        _add(found.setdefault(words, {}), search, propensity, config.clip)
    rows = [
        (f"feedback:{text_hash(words):016x}", spelled[words], doc_id, *row)
        for words, documents in found.items()
        for doc_id, row in _graded(documents, config)
    ]
    return pd.DataFrame(rows, columns=[*COLUMNS]).astype(COLUMNS)


def _add(documents: dict[str, _Shown], search: Search, propensity: Callable[[int], float], clip: float) -> None:
    lowest = max((search.rank(doc_id) for doc_id in search.clicks), default=0)
    for rank, doc_id in enumerate(search.shown, search.offset + 1):
        of = documents.setdefault(doc_id, _Shown())
        of.shown += 1
        if doc_id in search.clicks:
            of.clicks += 1
            weight = min(1 / propensity(rank), clip)
            of.weighted += weight
            of.squares += weight**2
        elif rank < lowest:
            of.skipped += 1
        if doc_id in search.judgements:
            of.grades.append(search.judgements[doc_id])


def _graded(
    documents: dict[str, _Shown], config: FeedbackConfig
) -> Iterable[tuple[str, tuple[int, int, int, int, float, float, int, bool]]]:
    bounds = {id_: of.bound(config.caution) for id_, of in documents.items() if of.clicks >= config.min_clicks}
    best = max(bounds.values(), default=0.0)
    for doc_id, of in documents.items():
        value, grade = 0.0, 0
        if of.grades:
            mean = sum(of.grades) / len(of.grades)
            value, grade = (mean / max(GRADES) if mean > 0 else mean), max(0, round(mean))
        elif doc_id in bounds:
            value = bounds[doc_id] / best
            if value >= config.relevant:
                above = (value - config.relevant) / (1 - config.relevant) if config.relevant < 1 else 1.0
                grade = 1 + int(2 * above)
        negative = grade == 0 if of.grades else of.skipped > 0 and not of.clicks
        yield (
            doc_id,
            (of.shown, of.clicks, of.skipped, len(of.grades), of.relevance, value, grade, negative),
        )
