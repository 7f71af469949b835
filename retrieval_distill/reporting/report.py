"""The report: what a run measured, as ``report.json`` and as a table to read.

Knows finished stages; must not know how they did their work.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from retrieval_distill.config import Recipe
from retrieval_distill.data.dataset import Dataset
from retrieval_distill.data.mixture import source_of
from retrieval_distill.data.run import Run
from retrieval_distill.evaluation import compare, rivals
from retrieval_distill.evaluation.passages import by_document
from retrieval_distill.hardware import devices
from retrieval_distill.reporting import beside, distillation, fidelity, verdict
from retrieval_distill.reporting.letters import TEST, beaten, marks
from retrieval_distill.reporting.plain import plain
from retrieval_distill.reporting.provenance import by_dataset
from retrieval_distill.runtime import files
from retrieval_distill.runtime.stages import Manifest, read_json, write_json


def write(
    out: Path, dataset: Dataset, recipe: Recipe, manifests: dict[str, Manifest], also: Sequence[str]
) -> dict[str, Any]:
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
    systems, source = compare.summarise(values), values["query_id"].map(source_of)
    for name, system in systems.items():
        system |= {"trained": name in rivals.TRAINED, **speeds.get(name, {})}
    for name in rivals.HYBRIDS:
        systems[name]["fusion"] = distillation.fusion(out, name, "tune-fusion" in manifests, dataset, recipe)
    finished = {
        "dataset": {
            "name": dataset.name,
            "docs": len(dataset.documents),
            "queries": {split: len(judged) for split, judged in dataset.qrels.items()},
        },
        "systems": systems,
        "also": {split: beside.measure(out, dataset, split, names, recipe.evaluate.measures) for split in also},
        "datasets": {name: compare.summarise(of) for name, of in values.groupby(source) if name in dataset.sources},
        "distillation": distillation.section(systems, recipe.evaluate.measures[0], out),
        "fidelity": fidelity.section(out, runs["teacher"], values, dataset, recipe),
        "minimum_detectable": compare.minimum_detectable(values),
        "stages": {name: _costs(manifest) for name, manifest in manifests.items()},
        "environment": {**devices.describe(), "versions": manifests["distill"]["versions"]},
        "recipe": recipe.model_dump(mode="json"),
    }
    write_json(out / "report.json", finished)
    files.write_text(out / "report.txt", table(finished) + "\n")
    return finished


def _costs(manifest: Manifest) -> dict[str, Any]:
    """A stage's seconds, peak memory, counts and, where it counts units, its rate."""
    costs = {key: manifest[key] for key in ("seconds", "peak_memory_bytes", "counts", "skipped")}
    units = {"scored": "pairs_per_second", "embedded": "documents_per_second", "steps": "steps_per_second"}
    for count, rate in units.items():
        if manifest["counts"].get(count):
            costs[rate] = round(manifest["counts"][count] / max(manifest["seconds"], 1e-9), 2)
    return costs


def table(finished: dict[str, Any]) -> str:
    """The report as text: what it shows and what to do, a row per system with letters for significant wins, doubts."""
    from rich.table import Table
    from rich.text import Text

    measures = finished["recipe"]["evaluate"]["measures"]
    grid = Table(caption=_legend(finished), caption_justify="left")
    grid.add_column("system")
    for measure in measures:
        grid.add_column(measure, justify="right")
    for heading in ("95 % of " + measures[0], "parameters", "ms/query", "docs/s"):
        grid.add_column(heading, justify="right")
    for name, system in finished["systems"].items():
        cells = [_cell(name, measure, finished["systems"]) for measure in measures]
        grid.add_row(name, *cells, *_facts(system, measures[0]))
    against = verdict.compared(finished)
    ways = [f"* {way}" for way in verdict.ways_out(finished, against)]
    shown = (verdict.headline(finished, against), *ways, verdict.use(finished))
    text = plain(120, *map(Text, shown), grid, *map(Text, verdict.doubts(finished)))
    return "\n".join(
        [text, *(by_dataset(name, systems) for name, systems in finished["datasets"].items())]
    ) + beside.text(finished)


def _cell(name: str, measure: str, systems: dict[str, Any]) -> str:
    mark = marks(systems)
    wins = ",".join(mark[other] for other in beaten(name, measure, systems))
    return f"{systems[name][measure]['mean']:.3f} {wins:<{2 * len(systems) - 3}}"


def _facts(system: dict[str, Any], headline: str) -> list[str]:
    interval = f"{system[headline]['low']:.3f}-{system[headline]['high']:.3f}"
    parameters = f"{system['parameters'] / 1e6:.1f} M" if "parameters" in system else ""
    latency_ms = f"{system['latency_ms']['p50']:.1f}" if "latency_ms" in system else ""
    rate = f"{system['documents_per_second']:.0f}" if "documents_per_second" in system else ""
    return [interval, parameters, latency_ms, rate]


def _legend(finished: dict[str, Any]) -> str:
    letters = ", ".join(f"{mark} = better than {name}" for name, mark in marks(finished["systems"]).items())
    headline = finished["recipe"]["evaluate"]["measures"][0]
    detectable = finished["minimum_detectable"][headline]
    shown = (
        f"; so many queries reliably show differences in {headline} from {detectable:.3f} on by a single test"
        if detectable
        else ""
    )
    return f"{letters} ({TEST}){shown}"
