"""A benchmark for a person: systems down, datasets across, the average at the end.

Knows the benchmark's numbers; must not know how they were measured.
"""

from __future__ import annotations

from typing import Any

from retrieval_distill.evaluation.compare import Measured
from retrieval_distill.reporting.letters import TEST, beaten, marks
from retrieval_distill.reporting.plain import plain


def table(report: dict[str, Any]) -> str:
    """The headline measure with its 95 % interval and the letters of the systems beaten on the same dataset."""
    from rich.table import Table

    measure, datasets, tasks = report["measures"][0], report["datasets"], report["tasks"]
    names = list(dict.fromkeys(name for part in (*_systems(datasets), *tasks.values()) for name in part))
    mark = marks(names)
    grid = Table("system", title_justify="left", caption_justify="left", caption=_legend(mark) if datasets else None)
    for name in datasets:
        grid.add_column(f"{name}\n{measure}", justify="right")
    if report["average"]:
        grid.add_column(f"average\n{measure}", justify="right")
    for name, numbers in tasks.items():
        grid.add_column(f"{name}\n{next(iter(numbers.values()))['measure']}", justify="right")
    for name in names:
        cells = [_value(systems[name][measure]) + _letters(name, measure, systems, mark) if name in systems else ""
                 for systems in _systems(datasets)]  # fmt: skip
        averages = [_value(report["average"][name][measure]) if name in report["average"] else ""]
        others = [_value(numbers[name]) if name in numbers else "" for numbers in tasks.values()]
        grid.add_row(name, *cells, *(averages if report["average"] else []), *others)
    return plain(20 + 26 * (len(datasets) + len(tasks) + 1), grid)


def _systems(datasets: dict[str, Any]) -> list[dict[str, Any]]:
    return [dataset["systems"] for dataset in datasets.values()]


def _value(number: dict[str, Any]) -> str:
    """A mean, with its interval where there is one."""
    interval = "" if number["low"] is None else f" ({number['low']:.3f}-{number['high']:.3f})"
    return f"{number['mean']:.3f}{interval}"


def _letters(name: str, measure: str, systems: dict[str, Any], mark: dict[str, str]) -> str:
    values = {system: Measured(**found[measure]) for system, found in systems.items()}
    return f" {','.join(mark[other] for other in beaten(name, values)):<{2 * len(systems) - 3}}"


def _legend(mark: dict[str, str]) -> str:
    return f"{', '.join(f'{letter} = better than {name}' for name, letter in mark.items())} ({TEST})"
