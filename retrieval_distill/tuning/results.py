"""What a search found: kept as ``tuning.json`` and ``best.yaml``, shown as Markdown and as a page.

Knows finalists, trials and reports; must not know how they were made.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from retrieval_distill.config import Recipe, load_recipe
from retrieval_distill.errors import UserError
from retrieval_distill.reporting import tuned
from retrieval_distill.reporting.tuning_file import DevSplit, TestResult, TuningReport
from retrieval_distill.runtime import files
from retrieval_distill.tuning import space

if TYPE_CHECKING:
    from retrieval_distill.tuning.finals import Finalist
    from retrieval_distill.tuning.search import Search

logger = logging.getLogger("retrieval_distill")

ASKED, BEST = "search.json", "best.yaml"

FRONT = "front"
"""Folder of the recipes that no other beats in quality and cost at once."""


@dataclass(frozen=True, eq=False)
class Tuning:
    """A finished search; printed, a table of what was tried and the verdict.

    Args:
        folder: Where it is.
        report: What ``tuning.json`` holds.
    """

    folder: Path
    report: TuningReport

    @classmethod
    def open(cls, folder: str | Path) -> Tuning:
        """The search of a folder.

        Raises:
            UserError: The folder holds no finished search.
        """
        if (report := TuningReport.read(Path(folder))) is None:
            raise UserError(
                f"{folder}: no finished search there; make one with: retrieval-distill tune RECIPE --out {folder}"
            )
        return cls(Path(folder), report)

    @property
    def details(self) -> dict[str, Any]:
        """All of ``tuning.json`` in plain values."""
        return self.report.plain()

    @property
    def best(self) -> Recipe:
        """The recipe with the chosen settings."""
        return load_recipe(self.folder / BEST)

    @property
    def settings(self) -> dict[str, Any]:
        """Key of the recipe -> the chosen value; empty: the recipe's own settings were not beaten."""
        return self.report.chosen.settings

    @property
    def verdict(self) -> str:
        """What was chosen, and how sure it is that it is better."""
        return tuned.verdict(self.report)

    def __str__(self) -> str:
        return tuned.table(self.report)


def write(
    search: Search, found: list[Finalist], best: Finalist, doubts: dict[str, Any], tested: TestResult | None
) -> Tuning:
    """Keep what a search found in its folder.

    Args:
        search: What was searched.
        found: The finalists, the recipe's own settings first.
        best: The chosen one.
        doubts: What dev can tell, see :mod:`retrieval_distill.tuning.finals`, as ``tuning.json`` has it.
        tested: What test says; ``None``: it was not asked.
    """
    recipe, out, dev = search.recipe, search.out, search.judge.dev
    report = TuningReport(
        recipe=recipe.name,
        measure=search.judge.measure,
        space={key: str(knob) for key, knob in search.study.space.items()},
        **recipe.tune.model_dump(mode="json", include={"sampler", "pruning", "budget", "seeds", "against"}),
        dev=DevSplit(split=recipe.dataset.dev, queries=len(dev.queries), documents=len(dev.documents)),
        own=found[0].summary,
        trials=search.study.trials,
        importance=search.study.importance(),
        finalists=[finalist.summary for finalist in found],
        chosen=best.summary,
        **doubts,
        test=tested,
    )
    report.write(out)
    return _presented(recipe, out, report)


def adopt(recipe: Recipe, out: Path, written: str) -> Tuning:
    """Keep what another machine found out in the same search.

    Args:
        recipe: With its section ``tune``.
        out: Folder of the search on this machine.
        written: The other's ``tuning.json``.
    """
    files.write_text(out / TuningReport.file, written)
    report = TuningReport.read(out)
    assert report is not None
    return _presented(recipe, out, report)


def _presented(recipe: Recipe, out: Path, report: TuningReport) -> Tuning:
    """Write what people and ``run`` read of a report."""
    settings = {trial.name: trial.settings for trial in report.trials}
    front = {f"{FRONT}/{found.name.replace(' ', '-')}.yaml": found for found in report.front}
    for name, found in front.items():
        _write_recipe(recipe, out, name, settings.get(found.name, {}), tuned.compared(report, found))
    for path in (out / FRONT).glob("*.yaml"):
        if f"{FRONT}/{path.name}" not in front:  # of when the search was shorter
            path.unlink()
    _write_recipe(recipe, out, BEST, report.chosen.settings, tuned.chosen(report))
    files.write_text(out / "tuning.md", tuned.markdown(report))
    files.write_text(out / "tuning.html", tuned.page(report))
    return Tuning(out, report)


def _write_recipe(recipe: Recipe, out: Path, name: str, settings: dict[str, Any], said: str) -> None:
    comment = f"# {said}\n# retrieval-distill run {out / name} --out FOLDER\n"
    values = yaml.safe_dump(space.as_values(recipe, settings), sort_keys=False, allow_unicode=True)
    files.write_text(out / name, comment + values)
