"""Which settings are used in the end, and how sure that is: finalists on dev with several seeds, then test, once.

Knows finished trials and the values of their queries; must not know how settings were suggested.
"""

from __future__ import annotations

import logging
import math
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from retrieval_distill.evaluation import compare, seed_summary
from retrieval_distill.evaluation.passages import by_document
from retrieval_distill.evaluation.significance import (
    ALPHA,
    differences_with_intervals,
    holm,
    minimum_detectable_difference,
    paired_p,
)
from retrieval_distill.formatting import counted, number
from retrieval_distill.index.operating_points import not_beaten
from retrieval_distill.pipeline.job import Job
from retrieval_distill.reporting.tuning_file import Compared, FinalistSummary, TestedMeasure, TestResult, Trial
from retrieval_distill.runtime import files, stages
from retrieval_distill.tuning.search import Search
from retrieval_distill.tuning.trials import OWN, RUNS, answers, dev_values, train

logger = logging.getLogger("retrieval_distill")

ASKED = "asked"
"""Of what the study keeps, the fingerprint of every question that was put to test."""

ALIKE = 0.9
"""How two settings' values of the same queries are taken to correlate, while there are none to ask. The spread of their
differences follows from it: of values with a standard deviation of 0.35, it is 0.16."""

LARGE = 0.05
"""A difference between settings that dev has to show, or it cannot tell trials apart."""


def foretell(values: np.ndarray, measure: str, left_out: int) -> None:
    """Say, before the first trial, which differences so many dev queries can show, and warn where they are too few.

    Args:
        values: The measure of every dev query, by the recipe's own settings.
        measure: Its name.
        left_out: Dev queries that are not asked.
    """
    room = max(0.0, 1 - float(values.mean()))
    asked = counted(len(values), "dev query")
    shown, wanted = minimum_detectable_difference(values * math.sqrt(2 * (1 - ALIKE))), min(LARGE, room)
    least = f"a difference of about {number(shown)}" if math.isfinite(shown) else "no difference"
    seen = f"{asked} can show {least} in {measure} four times in five"
    if not room:
        logger.warning("the recipe's own settings reach the best %s on every dev query: none can be better", measure)
    elif shown < wanted:
        logger.info("%s", seen)
    else:
        more = f", and no settings can gain more than {number(room)}" if room < LARGE else ""
        needed = len(values) * (shown / wanted) ** 2
        enough = f"; for {number(wanted)} it takes about {needed:,.0f}" if math.isfinite(needed) else ""
        others = f"; tune.dev_queries leaves out {left_out:,}" if left_out else ""
        logger.warning("dev is too small to tell trials apart: %s%s%s%s", seen, more, enough, others)


@dataclass(frozen=True, eq=False)
class Finalist:
    """Settings that were trained with several seeds.

    Args:
        trial: Whose settings; ``None``: the recipe's own.
        jobs: A run for every seed.
        values: The measure of every dev query, shape [seeds, queries].
        facts: What the first training cost.
    """

    trial: Trial | None
    jobs: list[Job]
    values: np.ndarray
    facts: dict[str, Any]

    @property
    def name(self) -> str:
        """For tables."""
        return OWN if self.trial is None else self.trial.name

    @property
    def by_query(self) -> np.ndarray:
        """The measure of every dev query, averaged over the seeds."""
        return self.values.mean(axis=0)

    @cached_property
    def summary(self) -> FinalistSummary:
        """As ``tuning.json`` has it."""
        settings = {} if self.trial is None else self.trial.settings
        means = self.values.mean(axis=1).tolist()
        seeds = asdict(seed_summary.summarise(self.values))
        return FinalistSummary(name=self.name, settings=settings, **seeds, means=means)


def finalists(search: Search) -> list[Finalist]:
    """The recipe's own settings, then the best trials' in the order of their means, each trained with every seed."""
    best = [_finalist(search, trial) for trial in search.best(search.recipe.tune.finalists)]
    return [_finalist(search, None), *sorted(best, key=lambda found: -found.by_query.mean())]


def chosen(found: list[Finalist]) -> Finalist:
    """The best on dev; the recipe's own settings, which come first, unless others are better."""
    return max(found, key=lambda finalist: finalist.by_query.mean())


def doubt(search: Search, best: Finalist, found: list[Finalist]) -> dict[str, Any]:
    """Which trials so many dev queries cannot tell from the best, cheapest first, and which differences they can show.

    Cheapest is the student that costs least of what the search compares the measure with, then the one of fewest
    parameters, of fewest dimensions, and the one that learnt from fewest queries. p-values are corrected for the number
    of comparisons (Holm).
    """
    values = {trial.name: search.values(trial) for trial in _complete(search)}
    values |= {finalist.name: finalist.by_query for finalist in found}
    facts = _facts(search, found[0])
    costs = [*filter(None, [search.recipe.tune.against]), "parameters", "dimensions", "queries"]
    others = {name: row for name, row in values.items() if name != best.name}
    p = holm({name: paired_p(best.by_query, row) for name, row in others.items()})
    level = [best.name, *(name for name in others if p[name] >= ALPHA)]
    gaps = [minimum_detectable_difference(best.by_query - row) for row in others.values()]
    return {
        "level": sorted(level, key=lambda name: [facts[name][key] for key in costs]),
        "p_holm": p,
        "worse": [name for name in others if p[name] < ALPHA],
        "detectable": float(np.median(gaps)) if gaps and np.isfinite(gaps).all() else None,
    }


def compared(search: Search, own: Finalist) -> tuple[Compared, ...]:
    """The measure and what is to be small, of the recipe's own settings and of every trial that was trained to the end.

    Each is the student of one seed. Empty where the measure alone counts.
    """
    against = search.recipe.tune.against
    if against is None:
        return ()
    measured = {OWN: float(own.values[0].mean())} | {trial.name: trial.value or 0.0 for trial in _complete(search)}
    costs = {name: facts[against] for name, facts in _facts(search, own).items()}
    front = not_beaten(list(measured), lambda name: (-measured[name], costs[name]))
    return tuple(Compared(name=name, value=measured[name], cost=costs[name], front=name in front) for name in measured)


def ask_test(search: Search, best: Finalist, own: Finalist) -> TestResult | None:
    """What the test queries say of the chosen settings and of the recipe's own.

    ``None``: there is no test split, or the recipe's own were chosen, so that there is no question.
    """
    job = own.jobs[0]
    if best is own or not job.measurable:
        return None
    measures = job.recipe.evaluate.measures
    qrels = job.dataset.qrels(job.recipe.dataset.measured)
    sides = {"tuned": best, OWN: own}

    def work(folder: Path) -> dict[str, Any]:
        runs = {f"{side} {i}": answers(job) for side, of in sides.items() for i, job in enumerate(of.jobs)}
        found, judged = by_document(runs, job.dataset, qrels)
        compare.per_query(found, judged, measures).to_parquet(folder / "per_query.parquet")
        return {"queries": len(judged)}

    inputs = {
        "students": {side: [job.manifests["distill"]["fingerprint"] for job in of.jobs] for side, of in sides.items()},
        "measures": measures,
        "qrels": stages.fingerprint(qrels),
    }
    manifest = stages.stage("test", search.out / "test", inputs, work)
    table = pd.read_parquet(search.out / "test" / "per_query.parquet")
    found = {measure: _compared(table, measure, len(best.jobs)) for measure in measures}
    queries = manifest["counts"]["queries"]
    return TestResult(queries=queries, measures=found, asked=_asked(search, manifest))


def _finalist(search: Search, trial: Trial | None) -> Finalist:
    recipe = search.recipe if trial is None else search.settled(trial)
    folder = search.out / RUNS / OWN if trial is None else search.folder(trial)
    jobs, facts = [], []
    for seed in range(search.recipe.tune.seeds):
        again = folder.with_name(f"{folder.name}-seed-{recipe.seed + seed}") if seed else folder
        jobs.append(train(recipe, again, seed))
        facts.append(search.judge.judged(jobs[-1])[1])
    return Finalist(trial, jobs, np.stack([dev_values(job.out) for job in jobs]), facts[0])


def _facts(search: Search, own: Finalist) -> dict[str, dict[str, Any]]:
    """What the recipe's own settings cost, and every trial that was trained to the end."""
    return {OWN: own.facts} | {trial.name: trial.facts for trial in _complete(search)}


def _complete(search: Search) -> list[Trial]:
    return [trial for trial in search.study.trials if trial.state == "complete"]


def _compared(table: pd.DataFrame, measure: str, count: int) -> TestedMeasure:
    """One measure of both sides: each with its interval, their difference with its own, and p."""
    values = {}
    for side in ("tuned", OWN):
        rows = [table.loc[table["system"] == f"{side} {seed}", measure].to_numpy() for seed in range(count)]
        values[side] = np.stack(rows)
    tuned, own = (values[side].mean(axis=0) for side in ("tuned", OWN))
    p = {"": paired_p(tuned, own)}
    difference = differences_with_intervals({"": tuned - own}, p)[""]
    sides = {side: seed_summary.summarise(rows) for side, rows in values.items()}
    return TestedMeasure(**sides, difference=difference, p=p[""])


def _asked(search: Search, manifest: stages.Manifest) -> list[str]:
    """The fingerprint of every question that was put to test in this search, the last one included."""
    path = search.out / "asked-of-test.json"
    before = files.read_json(path) if path.is_file() else []  # an earlier version kept them there alone
    after = list(dict.fromkeys([*before, *(search.study.noted(ASKED) or []), manifest["fingerprint"]]))
    search.study.note(ASKED, after)
    files.write_json(path, after)
    return after
