"""Several runs on one page: their systems side by side, their students tested against each other, what differs.

Knows finished runs; must not know how one run's own page looks.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from retrieval_distill.errors import UserError
from retrieval_distill.evaluation.rivals import TRAINED
from retrieval_distill.evaluation.significance import ALPHA, differences_with_intervals, holm, paired_p
from retrieval_distill.formatting import counted, interval, number
from retrieval_distill.reporting import page, systems, wins
from retrieval_distill.reporting.findings import STUDENT, latency, memory
from retrieval_distill.reporting.plots.charts import Point
from retrieval_distill.reporting.report_file import RunReport
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
class Shared:
    """A system, and the runs in which it has the same values; ``runs`` is empty where that is all of them."""

    row: Row
    runs: list[str]


def compare_runs(runs: Mapping[str, RunFolder]) -> str:
    """The page of several finished runs, by name.

    Raises:
        UserError: A run is not finished, or the runs have no measure in common.
    """
    reports = {}
    for name, run in runs.items():
        if run.report is None:
            raise UserError(f"{name}: this run is not finished, so there is nothing to compare")
        reports[name] = run.report
    shared = _shared_measures(list(reports.values()))
    alike = len({str(report.dataset) for report in reports.values()}) == 1
    compared = students(runs, shared[0]) if alike else []
    found = {name: _rows(report, shared) for name, report in reports.items()}
    merged = once(found)
    costs = [replace(r, name=f"{name}: {r.name}") for name, rows in found.items() for r in rows if r.name in TRAINED]
    by_latency, by_memory = (_students({n: cost(r) for n, r in reports.items()}) for cost in (latency, memory))
    return render(
        "comparison.html",
        title=f"{counted(len(runs), 'run')} compared",
        kicker="Distillation report",
        sections=SECTIONS,
        headline=_headline(reports, shared[0], compared),
        differences=compared,
        systems=merged,
        runs=[", ".join(shared.runs) or "every run" for shared in merged],
        measures=shared,
        costs=systems.cost_table(costs),
        pareto=page.pareto(by_latency, by_memory, shared[0]),
        stages=_stages(reports),
        names=list(reports),
        recipes=recipe_differences({name: run.recipe for name, run in runs.items()}),
    )


def students(runs: Mapping[str, RunFolder], measure: str) -> list[Difference]:
    """Every pair of students on the same test queries, better one first; corrected for the number of pairs (Holm).

    Empty where the test queries differ: then no paired test is possible.
    """
    tables = {name: run.paired(measure) for name, run in runs.items()}
    queries = {tuple(sorted(table.index)) for table in tables.values()}
    if len(queries) > 1 or () in queries:
        return []
    values = {name: table[STUDENT].sort_index() for name, table in tables.items()}
    pairs = list(itertools.combinations(sorted(values, key=lambda name: -values[name].mean()), 2))
    p = {pair: paired_p(*(values[name].to_numpy() for name in pair)) for pair in pairs}
    corrected = holm(p)
    won = differences_with_intervals({(a, b): (values[a] - values[b]).to_numpy() for a, b in pairs}, p)
    return [wins.difference(a, b, values[a], values[b], {**asdict(won[a, b]), "p": corrected[a, b]}) for a, b in pairs]


def once(found: Mapping[str, Sequence[Row]]) -> list[Shared]:
    """Every system once for each of its results: what is the same in several runs, as BM25 is, stands there one time.

    Its letters are those of the systems that it beats in all of these runs.

    Args:
        found: The rows of every run, by name.
    """
    groups: dict[tuple[Any, ...], list[tuple[str, Row]]] = {}
    order = dict.fromkeys(row.name for rows in found.values() for row in rows)
    for run, rows in found.items():
        for row in rows:
            result = (row.name, *((cell.mean, cell.low, cell.high) for cell in row.cells))
            groups.setdefault(result, []).append((run, row))
    shared = []
    for members in groups.values():
        row, cells = members[0][1], zip(*(row.cells for _, row in members), strict=True)
        kept = [replace(own[0], letters=_in_all([cell.letters for cell in own])) for own in cells]
        runs = [run for run, _ in members]
        shared.append(Shared(replace(row, cells=kept), [] if len(runs) == len(found) else runs))
    return sorted(shared, key=lambda one: list(order).index(one.row.name))


def _in_all(letters: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    return tuple(letter for letter in letters[0] if all(letter in others for others in letters))


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


def _shared_measures(reports: Sequence[RunReport]) -> list[str]:
    shared = [measure for measure in reports[0].measures if all(measure in report.measures for report in reports)]
    if not shared:
        raise UserError("the runs have no measure in common; give their recipes one in evaluate.measures")
    return shared


def _rows(report: RunReport, shared: Sequence[str]) -> list[Row]:
    at = [report.measures.index(measure) for measure in shared]
    return [replace(row, cells=[row.cells[i] for i in at]) for row in systems.rows(report)]


def _students(found: Mapping[str, list[Point]]) -> list[Point]:
    """Each run's student, under the run's name."""
    return [replace(point, label=name) for name, points in found.items() for point in points if point.label == STUDENT]


def _headline(reports: Mapping[str, RunReport], measure: str, compared: Sequence[Difference]) -> str:
    values = {name: report.values(measure)[STUDENT] for name, report in reports.items()}
    best = max(values, key=lambda name: values[name].mean)
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
        f"The student of {best} has the highest {measure}, {number(found.mean)} "
        f"(95 % interval {interval(*found.interval)}); {said}."
    )


def _stages(reports: Mapping[str, RunReport]) -> list[list[str]]:
    """A row per stage, a column per run: its seconds; the last row is their sum."""
    stages = dict.fromkeys(name for report in reports.values() for name in report.stages)
    seconds = [{name: costs.seconds for name, costs in report.stages.items()} for report in reports.values()]
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
