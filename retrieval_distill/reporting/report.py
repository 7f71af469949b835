"""The report: what a run measured, as ``report.json`` and as a table to read.

Knows finished stages; must not know how they did their work.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from retrieval_distill.config import Recipe
from retrieval_distill.data.dataset import Dataset
from retrieval_distill.data.mixture import source_of
from retrieval_distill.data.run import Run
from retrieval_distill.evaluation import compare, rivals
from retrieval_distill.evaluation.compare import Measured
from retrieval_distill.evaluation.passages import by_document
from retrieval_distill.hardware import devices
from retrieval_distill.reporting import distillation, fidelity, other_splits, seeds, verdict
from retrieval_distill.reporting.letters import TEST, beaten, marks
from retrieval_distill.reporting.plain import plain
from retrieval_distill.reporting.provenance import by_dataset
from retrieval_distill.reporting.report_file import Costs, RunReport
from retrieval_distill.reporting.report_systems import DatasetFacts, System
from retrieval_distill.runtime import files
from retrieval_distill.runtime.stages import Manifest, read_json


def write(
    out: Path, dataset: Dataset, recipe: Recipe, manifests: dict[str, Manifest], also: Sequence[str]
) -> RunReport:
    """Measure the runs in ``out`` and write ``report.json`` and ``per_query.parquet`` there; returns the report.

    Args:
        out: The run's folder.
        dataset: The run's.
        recipe: The run's.
        manifests: Its stages' by name.
        also: The splits that were measured beside the test split.
    """
    speeds = read_json(out / "runs" / "speed.json")
    names = list(dict.fromkeys([*rivals.SYSTEMS, *speeds]))
    runs = {name: Run.load(out / "runs" / f"{name}.parquet") for name in names}
    measured, qrels = by_document(runs, dataset, dataset.qrels(recipe.dataset.measured))
    values = compare.per_query(measured, qrels, recipe.evaluate.measures)
    with files.atomic(out / "per_query.parquet") as temporary:
        values.to_parquet(temporary, index=False)
    systems = {
        name: System(**reached, trained=name in rivals.TRAINED, **speeds.get(name, {}))
        for name, reached in compare.summarise(values).items()
    }
    for name in rivals.HYBRIDS:
        systems[name].fusion = distillation.fusion(out, name, "tune-fusion" in manifests, dataset, recipe)
    source = values["query_id"].map(source_of)
    finished = RunReport(
        dataset=DatasetFacts(
            name=dataset.name,
            docs=len(dataset.documents),
            queries={split: len(judged) for split, judged in dataset.qrels.items()},
        ),
        systems=systems,
        also={split: other_splits.measure(out, dataset, split, names, recipe.evaluate.measures) for split in also},
        datasets={name: compare.summarise(of) for name, of in values.groupby(source) if name in dataset.sources},
        seeds=seeds.section(out, dataset, recipe, values, systems),
        distillation=distillation.section(systems, recipe.evaluate.measures[0], out),
        fidelity=fidelity.section(out, runs["teacher"], values, dataset, recipe),
        minimum_detectable=compare.minimum_detectable(values),
        stages={name: Costs.of(manifest) for name, manifest in manifests.items()},
        environment={**devices.describe(), "versions": manifests["distill"]["versions"]},
        recipe=recipe.model_dump(mode="json"),
    )
    finished.write(out)
    files.write_text(out / "report.txt", table(finished) + "\n")
    return finished


def table(finished: RunReport) -> str:
    """The report as text: what it shows and what to do, a row per system with letters for significant wins, doubts."""
    from rich.table import Table
    from rich.text import Text

    measures, values = finished.measures, {measure: finished.values(measure) for measure in finished.measures}
    grid = Table(caption=_legend(finished), caption_justify="left")
    grid.add_column("system")
    for measure in measures:
        grid.add_column(measure, justify="right")
    for heading in ("95 % of " + measures[0], "parameters", "ms/query", "docs/s"):
        grid.add_column(heading, justify="right")
    for name, system in finished.systems.items():
        grid.add_row(name, *(_cell(name, values[measure]) for measure in measures), *_facts(system, measures[0]))
    against = finished.distillation.best_untrained
    ways = [f"* {way}" for way in verdict.ways_out(finished, against)]
    shown = (verdict.headline(finished, against), *ways, verdict.use(finished))
    text = plain(120, *map(Text, shown), grid, *map(Text, verdict.doubts(finished)))
    datasets = (by_dataset(name, systems) for name, systems in finished.datasets.items())
    return "\n".join([text, *datasets]) + seeds.text(finished.seeds) + other_splits.text(finished)


def _cell(name: str, values: Mapping[str, Measured]) -> str:
    mark = marks(values)
    wins = ",".join(mark[other] for other in beaten(name, values))
    return f"{values[name].mean:.3f} {wins:<{2 * len(values) - 3}}"


def _facts(system: System, headline: str) -> list[str]:
    reached = system.measures[headline]
    parameters = "" if system.parameters is None else f"{system.parameters / 1e6:.1f} M"
    latency_ms = "" if system.latency_ms is None else f"{system.latency_ms.p50:.1f}"
    rate = "" if system.documents_per_second is None else f"{system.documents_per_second:.0f}"
    return [f"{reached.low:.3f}-{reached.high:.3f}", parameters, latency_ms, rate]


def _legend(finished: RunReport) -> str:
    letters = ", ".join(f"{mark} = better than {name}" for name, mark in marks(finished.systems).items())
    detectable = finished.minimum_detectable.get(finished.headline)
    shown = (
        f"; so many queries reliably show differences in {finished.headline} from {detectable:.3f} on by a single test"
        if detectable
        else ""
    )
    return f"{letters} ({TEST}){shown}"
