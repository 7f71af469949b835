"""Splits measured beside the test split: what every system has on them, with tables of their own.

Knows Runs in a run's folder, judgements and measured systems; must not know the test split's results, or what any page
looks like. Nothing is trained or tuned on these splits, and no headline or advice rests on them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from retrieval_distill.data.dataset import Dataset
from retrieval_distill.data.run import Run
from retrieval_distill.evaluation import compare, rivals
from retrieval_distill.evaluation.passages import by_document
from retrieval_distill.formatting import counted
from retrieval_distill.reporting import systems
from retrieval_distill.reporting.letters import CORRECTED
from retrieval_distill.reporting.report_file import RunReport
from retrieval_distill.reporting.report_systems import Split, System
from retrieval_distill.reporting.results import Report
from retrieval_distill.reporting.systems import Row
from retrieval_distill.runtime import files

SEEN = "Success@5"
"""The first measure of these splits: how often an answer is among the five documents that people look at."""


@dataclass(frozen=True)
class OtherSplit:
    """One split's results, ready to be shown; ``told``: what BM25 fused with the student has on it fused with the start
    model.
    """

    split: str
    queries: int
    measures: list[str]
    rows: list[Row]
    legend: str
    told: str


def measure(out: Path, dataset: Dataset, split: str, names: Sequence[str], measures: Sequence[str]) -> Split:
    """Measure the Runs of a split in ``out``; writes ``per_query-SPLIT.parquet`` there.

    Args:
        out: The run's folder.
        dataset: The run's.
        split: Which split.
        names: The systems.
        measures: As the test split's; Success@5 goes before them.
    """
    runs = {name: Run.load(out / f"runs-{split}" / f"{name}.parquet") for name in names}
    measured, qrels = by_document(runs, dataset, dataset.qrels(split))
    asked = list(dict.fromkeys([SEEN, *measures]))
    values = compare.per_query(measured, qrels, asked)
    with files.atomic(out / f"per_query-{split}.parquet") as temporary:
        values.to_parquet(temporary, index=False)
    found = compare.summarise(values).items()
    return Split(
        queries=len(qrels),
        measures=asked,
        systems={name: System(**reached, trained=name in rivals.TRAINED) for name, reached in found},
        minimum_detectable=compare.minimum_detectable(values),
    )


def collect(report: RunReport) -> list[OtherSplit]:
    """The splits of a finished report."""
    return [
        OtherSplit(split, found.queries, found.measures, systems.rows(found), systems.legend(found), _told(found))
        for split, found in report.also.items()
    ]


def text(report: RunReport) -> str:
    """The same as text."""
    return "\n".join(
        f"\n{split}, {counted(found.queries, 'query')} beside the test split:\n{_report(found).grid()}\n{_told(found)}"
        for split, found in report.also.items()
    )


def _told(found: Split) -> str:
    """What BM25 fused with the student has on BM25 fused with the start model, in the first measure."""
    theirs, ours = rivals.HYBRIDS
    return f"{_report(found).difference(ours, theirs)}. {CORRECTED}"


def _report(found: Split) -> Report:
    return Report({name: system.measures for name, system in found.systems.items()}, tuple(found.measures))
