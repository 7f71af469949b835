"""Students of several seeds: their spread, and what they have on systems that need no training.

Knows Runs in a run's folder, judgements and values by query; must not know how a student is trained, or what any page
looks like.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd

from retrieval_distill.config import Recipe
from retrieval_distill.data.dataset import Dataset
from retrieval_distill.data.run import Run
from retrieval_distill.evaluation import compare, rivals, seed_summary
from retrieval_distill.evaluation.passages import by_document
from retrieval_distill.evaluation.rivals import TRAINED
from retrieval_distill.evaluation.significance import differences_with_intervals, holm, paired_p
from retrieval_distill.formatting import interval, number, share
from retrieval_distill.reporting.plain import plain
from retrieval_distill.reporting.report_seeds import OverSeeds, SeedDifference, SeveralSeeds
from retrieval_distill.reporting.report_systems import System
from retrieval_distill.reporting.run_folder import SEEDS
from retrieval_distill.runtime import files


def section(
    out: Path, dataset: Dataset, recipe: Recipe, values: pd.DataFrame, systems: Mapping[str, System]
) -> SeveralSeeds | None:
    """The students of all seeds; ``None`` where there is one. Writes ``seeds/per_query.parquet``.

    Args:
        out: The run's folder.
        dataset: The run's.
        recipe: The run's.
        values: Every system's values by query, the first student's among them.
        systems: Every system.
    """
    if recipe.evaluate.seeds == 1:
        return None
    measures = recipe.evaluate.measures
    seeds = [recipe.seed + later for later in range(recipe.evaluate.seeds)]
    found = {seeds[0]: values[values["system"].isin(TRAINED)]}
    for seed in seeds[1:]:
        runs = {name: Run.load(out / SEEDS / str(seed) / "runs" / f"{name}.parquet") for name in TRAINED}
        measured, qrels = by_document(runs, dataset, dataset.qrels(recipe.dataset.measured))
        found[seed] = compare.per_query(measured, qrels, measures)
    with files.atomic(out / SEEDS / "per_query.parquet") as temporary:
        pd.concat([of.assign(seed=seed) for seed, of in found.items()]).to_parquet(temporary, index=False)
    tables = list(found.values())
    matrices = {name: {measure: seed_summary.matrix(tables, name, measure) for measure in measures} for name in TRAINED}
    best = rivals.best_untrained({name: system.measures[measures[0]] for name, system in systems.items()})
    return SeveralSeeds(
        seeds=seeds,
        queries=values["query_id"].nunique(),
        systems={
            name: {measure: _over_seeds(matrix) for measure, matrix in of.items()} for name, of in matrices.items()
        },
        against=_against(
            {name: of[measures[0]].mean(axis=0) for name, of in matrices.items()},
            {name: seed_summary.matrix([values], name, measures[0])[0] for name in (best, "hybrid-start")},
        ),
    )


def table(found: SeveralSeeds | None) -> list[list[str]]:
    """A row per trained system and measure, headings first: over the seeds, then each; empty for a single seed."""
    if found is None:
        return []
    mean = f"mean over the seeds ({share(0.95)})"
    headings = ["system", "measure", mean, "standard deviation", *(f"seed {n}" for n in found.seeds)]
    rows = [
        [
            name,
            measure,
            f"{number(of.mean)} ({interval(of.low, of.high)})",
            number(of.standard_deviation),
            *map(number, of.means),
        ]
        for name, measures in found.systems.items()
        for measure, of in measures.items()
    ]
    return [headings, *rows]


def text(found: SeveralSeeds | None) -> str:
    """The same as text."""
    from rich.table import Table

    if found is None:
        return ""
    headings, *rows = table(found)
    grid = Table(*headings)
    for row in rows:
        grid.add_row(*row)
    return "\n" + plain(120, grid)


def _over_seeds(values: np.ndarray) -> OverSeeds:
    """Of values [seeds, queries]."""
    found = asdict(seed_summary.summarise(values))
    known = {name: found[name] for name in ("mean", "low", "high", "standard_deviation")}
    return OverSeeds(**known, means=values.mean(axis=1).tolist())


def _against(ours: Mapping[str, np.ndarray], theirs: Mapping[str, np.ndarray]) -> dict[str, dict[str, SeedDifference]]:
    """Every pair of ours and theirs, corrected together."""
    pairs = [(own, other) for own in ours for other in theirs]
    p = {(own, other): paired_p(ours[own], theirs[other]) for own, other in pairs}
    corrected = holm(p)
    won = differences_with_intervals({(own, other): ours[own] - theirs[other] for own, other in pairs}, p)
    return {
        own: {other: SeedDifference(**asdict(won[own, other]), p=corrected[own, other]) for other in theirs}
        for own in ours
    }
