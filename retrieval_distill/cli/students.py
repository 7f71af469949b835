"""Commands of students: ``compress``, ``distill``, ``push``.

Knows options; must not know any maths. Heavy imports happen inside commands, so that ``--help`` is instant.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from retrieval_distill import api
from retrieval_distill.cli import shell
from retrieval_distill.cli.commands import ARGUMENT, Spelled, command
from retrieval_distill.formatting import counted


@command("Train")
def compress(
    source: shell.Source,
    out: Path,
    model: str,
    keys: shell.Keys = None,
    **options: Any,
) -> None:
    """Make a small encoder of a larger one on a dataset's plain documents; no queries are needed.

    Example: retrieval-distill compress --dataset python-docs --model packaged:all-MiniLM-L6-v2
    --set layers=spaced:3 --set tokens=500000 --out small

    Options:
        model: Encoder that the student is made of, and learns from if no teacher is set.
    """
    from retrieval_distill.config import CompressConfig, parse

    config = parse(CompressConfig, {"model": model}, "compress", keys or ())
    shell.check_models(config.model, config.teacher)
    counts = api.compress(source.load(), out=out, config=config, **options).manifest["counts"]
    shell.say(
        f"{out}: {counted(counts['layers'], 'layer')} of width {counts['width']}, {counts['parameters']:,} parameters, "
        f"after {counts['tokens']:,} tokens"
    )


@command("Train")
def distill(
    scored: shell.ScoredFile,
    source: shell.Source,
    out: Path,
    recipe: str,
    overrides: Annotated[shell.Repeated, Spelled("--set", "KEY=VALUE", act="run")] = None,
    dev: Path | None = None,
    dev_split: str = "dev",
    **options: Any,
) -> None:
    """Train a student on a run of teacher scores; on several GPUs, start it with `torchrun -m retrieval_distill`.

    Example: retrieval-distill distill scored.parquet --dataset python-docs --recipe demo --out student

    Options:
        dev: Run of dev queries, as `retrieve` writes it, for ``training.evaluate_steps``.
        dev_split: Split that judges them.
    """
    from retrieval_distill.config import load_recipe
    from retrieval_distill.data.run import Run

    chosen, run = load_recipe(recipe, overrides or ()), Run.load(scored, missing_scores=True)
    asked = (Run.load(dev), dev_split) if dev else None
    counts = api.distill(run, source.load(), out=out, recipe=chosen, dev=asked, **options).manifest["counts"]
    shell.say(f"{out}: student of {counts['parameters']:,} parameters after {counted(counts['steps'], 'step')}")


@command("Search and serve")
def push(
    student: Annotated[str, ARGUMENT],
    repo: Annotated[str, ARGUMENT],
    **options: Any,
) -> None:
    """Publish a student on the Hugging Face hub, with its card; without --upload, say what would be published.

    Example: retrieval-distill push runs/demo/student me/python-docs-retriever
    """
    found = api.push(student, repo, **options)
    shell.say(str(found))
    shell.say(f"published: {found.url}" if found.url else "nothing was uploaded; add --upload to do it")
