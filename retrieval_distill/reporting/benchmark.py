"""``benchmark.json``: what ``benchmark`` measured, as a type and as a table.

Knows the shape of the result; must not know how it was measured.
"""

from __future__ import annotations

from itertools import chain
from typing import Any

from retrieval_distill.evaluation.compare import Measured
from retrieval_distill.evaluation.significance import Mean
from retrieval_distill.reporting.letters import TEST, beaten, marks
from retrieval_distill.reporting.plain import plain
from retrieval_distill.runtime.documents import Document, Part


class DatasetResult(Part):
    """The systems on one dataset."""

    docs: int
    queries: int
    systems: dict[str, dict[str, Measured]]
    """System -> measure -> result."""
    minimum_detectable: dict[str, float | None]
    """By measure, the difference that so many queries show four times in five; ``null`` for a single query."""


class TaskResult(Part):
    """A model on one task that is not retrieval."""

    measure: str
    mean: float
    low: float | None
    high: float | None
    """The 95 % interval is from ``low`` to ``high``; ``null`` for tasks of MTEB."""
    sentences: int | None = None
    pairs: int | None = None


class BenchmarkReport(Document):
    """Systems on many datasets and tasks; printed, a table."""

    file = "benchmark.json"
    noun = "report of a benchmark"
    remedy = "run the benchmark again"

    measures: list[str]
    """The headline first."""
    datasets: dict[str, DatasetResult]
    average: dict[str, dict[str, Mean]]
    """System -> measure -> mean over datasets, each with the same weight; empty for fewer than two datasets."""
    tasks: dict[str, dict[str, TaskResult]]
    """Task -> model -> result."""
    environment: dict[str, Any]
    """The machine."""

    def __str__(self) -> str:
        """Systems down, datasets across, the average at the end.

        The headline measure with its 95 % interval, and the letters of the systems beaten on the same dataset.
        """
        from rich.table import Table

        measure = self.measures[0]
        by_dataset = {name: dataset.systems for name, dataset in self.datasets.items()}
        names = list(dict.fromkeys([*chain(*by_dataset.values()), *chain(*self.tasks.values())]))
        mark = marks(names)
        legend = f"{', '.join(f'{letter} = better than {name}' for name, letter in mark.items())} ({TEST})"
        grid = Table("system", title_justify="left", caption_justify="left", caption=legend if by_dataset else None)
        for name in by_dataset:
            grid.add_column(f"{name}\n{measure}", justify="right")
        if self.average:
            grid.add_column(f"average\n{measure}", justify="right")
        for name, results in self.tasks.items():
            grid.add_column(f"{name}\n{next(iter(results.values())).measure}", justify="right")
        for name in names:
            cells = [_cell(name, measure, systems, mark) if name in systems else "" for systems in by_dataset.values()]
            averages = [_value(self.average[name][measure]) if name in self.average else ""] if self.average else []
            tasks = [_value(results[name]) if name in results else "" for results in self.tasks.values()]
            grid.add_row(name, *cells, *averages, *tasks)
        return plain(20 + 26 * (len(self.datasets) + len(self.tasks) + 1), grid)


def _cell(name: str, measure: str, systems: dict[str, dict[str, Measured]], mark: dict[str, str]) -> str:
    values = {system: measures[measure] for system, measures in systems.items()}
    letters = ",".join(mark[other] for other in beaten(name, values))
    return f"{_value(values[name])} {letters:<{2 * len(systems) - 3}}"


def _value(found: Mean | TaskResult) -> str:
    """A mean, with its interval if there is one."""
    interval = "" if found.low is None else f" ({found.low:.3f}-{found.high:.3f})"
    return f"{found.mean:.3f}{interval}"
