"""The command ``benchmark``: models and runs over datasets by name.

Knows options; must not know any maths. Heavy imports happen inside the command, so that ``--help`` is instant.
"""

from __future__ import annotations

from typing import Annotated

import typer

from retrieval_distill.cli.options import (
    CacheOption,
    DepthOption,
    DtypeOption,
    OutFolder,
    SplitOption,
    measures,
    pairs,
    say,
)
from retrieval_distill.runtime.files import CACHE

app = typer.Typer()

ON = (
    "python-docs, beir:NAME, nanobeir:NAME or a folder in BEIR layout; and, for models alone, sts:FILE, "
    "paraphrases:FILE or mteb:TASK. Repeatable."
)


@app.command()
def benchmark(
    on: Annotated[list[str], typer.Option("--on", help=ON)],
    out: OutFolder,
    model: Annotated[list[str] | None, typer.Argument(help="Bi-encoders: hub ids, folders or packaged names.")] = None,
    run: Annotated[
        list[str] | None,
        typer.Option("--run", help="NAME=FILE, a run from elsewhere; {dataset} in FILE names the dataset. Repeatable."),
    ] = None,
    split: SplitOption = "test",
    measure: Annotated[list[str] | None, typer.Option("--measure", help="e.g. nDCG@10. Repeatable.")] = None,
    depth: DepthOption = 100,
    dtype: DtypeOption = "auto",
    cache: CacheOption = CACHE,
) -> None:
    """Measure models, BM25 and runs from elsewhere on many datasets: a table with intervals, tests and the average.

    What is measured is kept: the same command continues a killed benchmark, a longer one adds to it.

    Example: retrieval-distill benchmark runs/demo/student --on python-docs --on beir:scifact --out benchmark

    Example: retrieval-distill benchmark student --on a --on b --run splade=runs/{dataset}.trec --out benchmark
    """
    from retrieval_distill import api, models
    from retrieval_distill.config import EvaluateConfig
    from retrieval_distill.reporting.benchmark import table
    from retrieval_distill.runtime.files import write_text

    names = measures(measure or list(EvaluateConfig().measures))
    for name in model or ():
        models.resolve(name)
    report = api.benchmark(
        model or (), on=on, out=out, runs=pairs("--run", run or [], "FILE"), cache=cache, split=split, measures=names,
        depth=depth, dtype=dtype,
    )  # fmt: skip
    write_text(out / "benchmark.txt", table(report) + "\n")
    say(table(report))
    say(f"{out}: benchmark.json, benchmark.txt")
