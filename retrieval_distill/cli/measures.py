"""Commands that measure: ``evaluate``, ``benchmark``, ``report``.

Knows options; must not know any maths. Heavy imports happen inside commands, so that ``--help`` is instant.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from retrieval_distill import api
from retrieval_distill.cli import shell
from retrieval_distill.cli.commands import ARGUMENT, Spelled, command


@command("Measure")
def evaluate(
    run_files: shell.RunFiles,
    source: shell.Source,
    measures: shell.Measures,
    split: shell.Split = "test",
    json_file: Annotated[Path | None, Spelled("--json")] = None,
    csv_file: Annotated[Path | None, Spelled("--csv")] = None,
    latex_file: Annotated[Path | None, Spelled("--latex")] = None,
) -> None:
    """Measure runs against judgements: means, intervals and paired tests between the runs.

    Example: retrieval-distill evaluate bm25.trec reranked.trec --dataset python-docs --measure nDCG@10

    Options:
        json_file: Write the numbers here too.
        csv_file: Write a row per run here.
        latex_file: Write a LaTeX table of means and letters here.
    """
    from retrieval_distill.runtime.stages import write_json

    runs, names, data = shell.runs(run_files), shell.checked_measures(measures), source.load()
    report = api.evaluate(runs, data.qrels(split), measures=names, dataset=data)
    if json_file:
        write_json(json_file, report.systems)
    if csv_file:
        report.to_csv(csv_file)
    if latex_file:
        latex_file.write_text(report.to_latex(), encoding="utf-8")
    shell.say(str(report))


@command("Measure")
def benchmark(
    on: list[str],
    out: Path,
    models: Annotated[shell.Repeated, Spelled("", "model")] = None,
    runs: Annotated[shell.Repeated, Spelled("--run", "NAME=FILE")] = None,
    *,
    measures: Annotated[list[str], Spelled("--measure")],
    **options: Any,
) -> None:
    """Measure models, BM25 and runs from elsewhere on many datasets: a table with intervals, tests and the average.

    What is measured is kept: the same command continues a killed benchmark, a longer one adds to it.

    Example: retrieval-distill benchmark runs/demo/student --on python-docs --on beir:scifact --out benchmark

    Example: retrieval-distill benchmark student --on a --on b --run splade=runs/{dataset}.trec --out benchmark
    """
    from retrieval_distill.runtime.files import write_text

    names, files = shell.checked_measures(measures), shell.pairs("--run", runs, "FILE")
    shell.check_models(*models or ())
    found = str(api.benchmark(models or (), on=on, out=out, runs=files, measures=names, **options))
    write_text(out / "benchmark.txt", f"{found}\n")
    shell.say(found)
    shell.say(f"{out}: benchmark.json, benchmark.txt")


@command("Measure")
def report(folders: Annotated[list[Path], ARGUMENT], out: Path | None) -> None:
    """Write a run's report, finished or not, or compare several finished runs on one page.

    Example: retrieval-distill report runs/demo runs/mine --out comparison.html
    """
    from retrieval_distill.reporting import publish

    shell.say(f"{publish.report(folders, out)}: open it in a browser")
