"""Statistics of a teacher's stored scores, and warnings of problems that would spoil a distillation.

Computed out of core: the scores are never loaded into Python. Knows hashes, scores and SQL; must not know texts or
models.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from retrieval_distill.scores import lookup
from retrieval_distill.scores.store import ScoreStore

if TYPE_CHECKING:
    import duckdb

SATURATION_SHARE = 0.01
"""Share of scores at one end of the scale above which they count as saturated."""

SIGMOID_END = 1e-4
"""Distance from 0 or 1 within which a score between them counts as at the end of its scale."""

MIN_SPREAD = 1e-3
"""Spread within a query, as a share of the spread of all scores, below which the teacher does not discriminate."""


OVERALL = (
    "SELECT count(*) AS pairs, count(DISTINCT query) AS queries, count(DISTINCT document) AS documents, "
    "min(score) AS minimum, max(score) AS maximum, avg(score) AS mean, stddev_pop(score) AS standard_deviation "
    "FROM pairs"
)
"""Statistics of all scores."""

WITHIN_QUERY = (
    "SELECT count(*) AS queries, median(deviation) AS standard_deviation, median(range) AS range FROM "
    "(SELECT stddev_pop(score) AS deviation, max(score) - min(score) AS range FROM pairs "
    "GROUP BY query HAVING count(*) > 1)"
)
"""Statistics within queries that have at least two scores."""


def statistics(store: ScoreStore, teacher: str, bins: int = 20) -> dict[str, Any]:
    """Describe one teacher's scores, each pair once.

    Args:
        store: The score store.
        teacher: The teacher's fingerprint.
        bins: Number of histogram bins.

    Returns:
        ``pairs``, ``queries``, ``documents``; ``minimum``, ``maximum``, ``mean``, ``standard_deviation``;
        ``histogram`` (``edges`` [bins + 1], ``counts`` [bins]); ``within_query``, medians over the queries with at
        least two scores (``None`` if there are none): ``queries``, ``standard_deviation``, ``range``; ``warnings``,
        plain sentences. Standard deviations are population values, not sample estimates.

    Raises:
        UserError: The store holds no scores of this teacher.
    """
    with lookup.database(store.scored_shards(teacher)) as connection:
        connection.execute(
            f"CREATE TEMP TABLE pairs AS SELECT query, document, score::DOUBLE AS score FROM ({lookup.DISTINCT})"
        )
        found = _row(connection, OVERALL)
        found["histogram"] = _histogram(connection, found["minimum"], found["maximum"], bins)
        found["within_query"] = _row(connection, WITHIN_QUERY)
        at_ends = _at_ends(connection, found["minimum"], found["maximum"])
    return {**found, "warnings": _warnings(found, at_ends)}


def _histogram(connection: duckdb.DuckDBPyConnection, low: float, high: float, bins: int) -> dict[str, list[Any]]:
    """Counts between equally spaced edges; a bin includes its lower edge, the last one its upper edge too."""
    edges = np.histogram_bin_edges([low, high], bins)
    below = "".join(f"count(*) FILTER (score < ?) AS below{i}, " for i in range(1, bins))
    found = _row(connection, f"SELECT {below} count(*) AS pairs FROM pairs", edges[1:-1].tolist())
    return {"edges": edges.tolist(), "counts": np.diff([0, *found.values()]).tolist()}


def _at_ends(connection: duckdb.DuckDBPyConnection, low: float, high: float) -> dict[str, int]:
    """Number of scores equal to the minimum, equal to the maximum, and close to 0 or 1."""
    return _row(
        connection,
        "SELECT count(*) FILTER (score = ?) AS lowest, count(*) FILTER (score = ?) AS highest, "
        "count(*) FILTER (score <= ? OR score >= ?) AS squashed FROM pairs",
        [low, high, SIGMOID_END, 1 - SIGMOID_END],
    )


def _row(connection: duckdb.DuckDBPyConnection, query: str, numbers: Sequence[float] = ()) -> dict[str, Any]:
    """The single row of a query, by column. ``numbers`` are parameters, since SQL literals would be decimals."""
    row = connection.execute(query, list(numbers)).fetchone() or ()
    return dict(zip((column[0] for column in connection.description or ()), row, strict=True))


def _warnings(found: dict[str, Any], at_ends: dict[str, int]) -> list[str]:
    squashed = found["minimum"] >= 0 and found["maximum"] <= 1
    within = found["within_query"]
    warnings = []
    if squashed:
        warnings.append(
            "all scores lie between 0 and 1, as after a sigmoid: margins are then too small to learn from; "
            "store raw logits instead"
        )
    if squashed and _is_saturated(at_ends["squashed"], found["pairs"]):
        share = at_ends["squashed"] / found["pairs"]
        warnings.append(f"{share:.1%} of the scores are within {SIGMOID_END} of 0 or 1: their differences are lost")
    for end, value in (("lowest", found["minimum"]), ("highest", found["maximum"])):
        if _is_saturated(at_ends[end], found["pairs"]):
            share = at_ends[end] / found["pairs"]
            warnings.append(f"{share:.1%} of the scores are the {end} one, {value:g}: the scale looks clipped there")
    if not within["queries"]:
        warnings.append("there is only one score per query: nothing can be compared; score more documents per query")
    elif within["standard_deviation"] <= MIN_SPREAD * found["standard_deviation"]:
        warnings.append(
            f"the scores of a query hardly differ (standard deviation {within['standard_deviation']:.2g}, "
            f"of all scores {found['standard_deviation']:.2g}): the teacher hardly discriminates between documents"
        )
    return warnings


def _is_saturated(at_end: int, pairs: int) -> bool:
    """Whether too many scores are at one end; one always is."""
    return at_end > max(1, SATURATION_SHARE * pairs)
