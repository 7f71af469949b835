"""Several runs on one page: their systems side by side, their students tested against each other, what differs.

Knows finished runs; must not know how one run's own page looks.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from retrieval_distill.errors import UserError
from retrieval_distill.evaluation.significance import holm
from retrieval_distill.formatting import interval, number
from retrieval_distill.reporting import page, systems, wins
from retrieval_distill.reporting.findings import STUDENT, latency, memory
from retrieval_distill.reporting.letters import ALPHA
from retrieval_distill.reporting.plots.charts import Point
from retrieval_distill.reporting.run_folder import RunFolder
from retrieval_distill.reporting.systems import Row
from retrieval_distill.reporting.templating import render
from retrieval_distill.reporting.wins import Difference
from retrieval_distill.runtime.progress import clock

SECTIONS = [
    ("students", "Student against student"),
    ("systems", "All systems"),
    ("cost", "Quality against cost"),
    ("stages", "What it cost"),
    ("recipes", "Where the recipes differ"),
]


@dataclass(frozen=True)
class Group:
    """A run's systems under its name."""

    run: str
    rows: list[Row]


def compare_runs(runs: Mapping[str, RunFolder]) -> str:
    """The page of several finished runs, by name.

    Raises:
        UserError: A run is not finished, or the runs have no measure in common.
    """
    reports = {name: run.report for name, run in runs.items()}
    for name, report in reports.items():
        if not report:
            raise UserError(f"{name}: this run is not finished, so there is nothing to compare")
    shared = _shared_measures(list(reports.values()))
    compared = students(runs, shared[0])
    groups = [Group(name, _rows(report, shared)) for name, report in reports.items()]
    by_latency, by_memory = (_students({n: cost(r) for n, r in reports.items()}) for cost in (latency, memory))
    return render(
        "comparison.html",
        title=f"{len(runs)} runs compared",
        kicker="Distillation report",
        sections=SECTIONS,
        headline=_headline(reports, shared[0], compared),
        differences=compared,
        groups=groups,
        measures=shared,
        costs=systems.cost_table([replace(r, name=f"{g.run}: {r.name}") for g in groups for r in g.rows]),
        pareto=page.pareto(by_latency, by_memory, shared[0]),
        stages=_stages(reports),
        names=list(reports),
        recipes=recipe_differences({name: run.recipe for name, run in runs.items()}),
    )


def students(runs: Mapping[str, RunFolder], measure: str) -> list[Difference]:
    """Every pair of students on the same test queries, better one first; p-values are Holm's over all pairs.

    Empty where the runs' data sets or test queries differ: then no paired test is possible.
    """
    tables = {name: run.paired(measure) for name, run in runs.items()}
    queries = {tuple(sorted(table.index)) for table in tables.values()}
    if len(queries) > 1 or len({str(run.report["dataset"]) for run in runs.values()}) > 1 or () in queries:
        return []
    values = {name: table[STUDENT].sort_index() for name, table in tables.items()}
    pairs = itertools.combinations(sorted(values, key=lambda name: -values[name].mean()), 2)
    found = [wins.difference(a, b, values[a], values[b]) for a, b in pairs]
    adjusted = holm({str(i): difference.p for i, difference in enumerate(found)})
    return [replace(difference, p=p) for difference, p in zip(found, adjusted.values(), strict=True)]


def recipe_differences(recipes: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    """A row per option whose value differs: its dotted name, then each recipe's value as YAML."""
    flat = [_flat(recipe) for recipe in recipes.values()]
    keys = dict.fromkeys(key for values in flat for key in values)
    shown = [[key, *[_yaml(values[key]) if key in values else "" for values in flat]] for key in keys]
    return [row for row in shown if len(set(row[1:])) > 1 and row[0] != "name"]


def names_of(paths: Sequence[Path]) -> list[str]:
    """A folder's own name for each, or the whole path where two share one."""
    own = [path.resolve().name for path in paths]
    return own if len(set(own)) == len(own) else [str(path) for path in paths]


def _shared_measures(reports: Sequence[dict[str, Any]]) -> list[str]:
    shared = [m for m in systems.measures(reports[0]) if all(m in systems.measures(report) for report in reports)]
    if not shared:
        raise UserError("the runs have no measure in common; give their recipes one in evaluate.measures")
    return shared


def _rows(report: dict[str, Any], shared: Sequence[str]) -> list[Row]:
    at = [systems.measures(report).index(measure) for measure in shared]
    return [replace(row, cells=[row.cells[i] for i in at]) for row in systems.rows(report)]


def _students(found: Mapping[str, list[Point]]) -> list[Point]:
    """Each run's student, under the run's name."""
    return [replace(point, label=name) for name, points in found.items() for point in points if point.label == STUDENT]


def _headline(reports: Mapping[str, dict[str, Any]], measure: str, compared: Sequence[Difference]) -> str:
    values = {name: report["systems"][STUDENT][measure] for name, report in reports.items()}
    best = max(values, key=lambda name: values[name]["mean"])
    found = values[best]
    against = [difference for difference in compared if difference.ours == best]
    shown = [difference.theirs for difference in against if difference.p < ALPHA]
    said = (
        "the test queries differ, so no paired test is possible"
        if not compared
        else f"shown to be better than {', '.join(shown)}"
        if shown
        else "not shown to be better than any other"
    )
    return (
        f"The student of {best} has the highest {measure}, {number(found['mean'])} "
        f"(95 % interval {interval(found['low'], found['high'])}); {said}."
    )


def _stages(reports: Mapping[str, dict[str, Any]]) -> list[list[str]]:
    """A row per stage, a column per run: its seconds; the last row is their sum."""
    stages = dict.fromkeys(name for report in reports.values() for name in report["stages"])
    seconds = [{name: costs["seconds"] for name, costs in report["stages"].items()} for report in reports.values()]
    rows = [[stage, *[clock(found[stage]) if stage in found else "" for found in seconds]] for stage in stages]
    return [*rows, ["in all", *[clock(sum(found.values())) for found in seconds]]]


def _flat(values: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{before}{key}.") if isinstance(value, dict) and value else {f"{before}{key}": value}
    return flat


def _yaml(value: Any) -> str:
    return (
        yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10_000).removesuffix("...\n").strip()
    )
