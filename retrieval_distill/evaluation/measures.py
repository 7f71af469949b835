"""Evaluates a Run query by query, with the field's measures and BEIR's conventions.

Knows Runs and judgements; must not know models, and leaves means and intervals to ``significance``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import ir_measures
import pandas as pd

from retrieval_distill.data.dataset import Qrels
from retrieval_distill.data.run import Run
from retrieval_distill.errors import UserError, nearest

DEFAULT_MEASURES = ("nDCG@10", "RR@10", "R@100", "AP@100", "Success@5")

_TREC_EVAL = ir_measures.pytrec_eval
_SUPPORTED = {measure.NAME for measure in _TREC_EVAL.SUPPORTED_MEASURES}
_NAMES = sorted(name for name, measure in ir_measures.measures.registry.items() if measure.NAME in _SUPPORTED)


def parse_measures(names: Sequence[str]) -> list[ir_measures.Measure]:
    """Parse measures, named as in ir_measures: ``nDCG@10``, ``P(rel=2)@5``.

    Raises:
        UserError: trec_eval does not compute a measure, or a parameter is missing or invalid.
    """
    return [_parse(name) for name in names]


def evaluate(run: Run, qrels: Qrels, measures: Sequence[str] = DEFAULT_MEASURES) -> pd.DataFrame:
    """The value of every measure for every judged query, as trec_eval computes it.

    Index ``query_id``: each query of ``qrels`` with at least one judgement, in their order; one column per measure,
    named as given. Gains are the grades themselves (linear); results for unjudged queries are ignored. A judged query
    without results, or without any relevant document, counts as 0 (BEIR's script excludes the former from its mean).
    Grades below 0 mean not relevant, like 0.

    All documents count, including one with the query's id; if queries are documents themselves, remove these first
    (:mod:`retrieval_distill.evaluation.self_hits`; BEIR's script does so whenever ids are equal).

    Equal scores are evaluated in descending order of document id. trec_eval uses single precision: scores that differ
    only beyond that are equal to it.

    Raises:
        UserError: A measure is unknown, no query is judged, or the run has a NaN score or a document twice in a query.
    """
    parsed = dict(zip(measures, parse_measures(measures), strict=True))
    judged = {query_id: grades for query_id, grades in qrels.items() if grades}
    if not judged:
        raise UserError("the judgements contain no judged query; evaluation needs at least one")
    values = _trec_eval(list(parsed.values()), judged, _comparable(run, judged))
    by_name = {name: values[measure] for name, measure in parsed.items()}
    columns = {name: [found[query_id] for query_id in judged] for name, found in by_name.items()}
    return pd.DataFrame(columns, index=pd.Index(list(judged), name="query_id"), dtype=float)


def _parse(name: str) -> ir_measures.Measure:
    name = name.strip()
    base: str = re.split(r"[@(]", name, maxsplit=1)[0]
    if base not in _NAMES:
        known = {known.lower(): known for known in _NAMES}.get(base.lower(), base)
        raise UserError(f"unknown measure {name!r}{nearest(known, _NAMES, name[len(base) :])}")
    try:
        measure = ir_measures.parse_measure(name)
        measure.validate_params()
    except (ValueError, TypeError, AssertionError) as error:
        raise UserError(f"measure {name!r}: {error}; write it as 'nDCG@10' or 'P(rel=2)@5'") from None
    if "cutoff" in measure.params and (measure["cutoff"] is True or measure["cutoff"] < 1):
        raise UserError(f"measure {name!r}: the cut-off after '@' must be 1 or more")  # trec_eval aborts the process
    if not _TREC_EVAL.supports(_without_rank_cutoff(measure)):
        raise UserError(f"measure {name!r}: trec_eval does not compute {base} with these parameters")
    return measure


def _refuse_ambiguous(run: Run) -> None:
    """Refuse what trec_eval would silently rank anyhow: NaN scores and repeated documents."""
    for rows, fault in (
        (run.frame["score"].isna(), "has the score NaN"),
        (run.frame.duplicated(["query_id", "doc_id"]), "appears twice"),
    ):
        if rows.any():
            first = run.frame[rows].iloc[0]
            raise UserError(
                f"run: query {first['query_id']!r}, document {first['doc_id']!r} {fault} ({rows.sum():,} such rows); "
                "give each document of a query exactly one score"
            )


def _comparable(run: Run, judged: Qrels) -> dict[str, dict[str, float]]:
    """The run's results for judged queries."""
    results = run.as_dict()
    if run.frame["score"].isna().any() or sum(map(len, results.values())) < len(run):
        _refuse_ambiguous(run)
    return {query_id: found for query_id, found in results.items() if found and query_id in judged}


def _trec_eval(
    measures: list[ir_measures.Measure], judged: Qrels, results: dict[str, dict[str, float]]
) -> dict[ir_measures.Measure, dict[str, float]]:
    """Measure -> query id -> value."""
    computed = list(dict.fromkeys(_without_rank_cutoff(measure) for measure in measures))
    values: dict[ir_measures.Measure, dict[str, float]] = {measure: {} for measure in computed}
    for batch in _batches(computed):
        for metric in _TREC_EVAL.iter_calc(batch, judged, results):
            values[metric.measure][metric.query_id] = metric.value
    return {measure: _cut(measure, values[_without_rank_cutoff(measure)]) for measure in measures}


def _batches(measures: list[ir_measures.Measure]) -> list[list[ir_measures.Measure]]:
    """One batch, with nDCG with custom gains apart, since ir_measures would let it overwrite the others."""
    together = [measure for measure in measures if "gains" not in measure.params]
    alone = [[measure] for measure in measures if "gains" in measure.params]
    return [together, *alone] if together else alone


def _without_rank_cutoff(measure: ir_measures.Measure) -> ir_measures.Measure:
    """``RR@10`` -> ``RR``; other measures are unchanged.

    trec_eval has no cut-off for RR, and ir_measures' other providers of RR break ties the other way.
    """
    if measure.NAME != "RR":
        return measure
    return type(measure)(**{name: value for name, value in measure.params.items() if name != "cutoff"})


def _cut(measure: ir_measures.Measure, values: dict[str, float]) -> dict[str, float]:
    """Set reciprocal ranks beyond the cut-off to 0; trec_eval itself applies the cut-off of other measures."""
    if measure.NAME != "RR" or "cutoff" not in measure.params:
        return values
    least = 1 / measure["cutoff"]
    return {query_id: value if value >= least else 0.0 for query_id, value in values.items()}
