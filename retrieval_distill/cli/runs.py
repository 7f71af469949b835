"""Commands for a whole recipe: ``demo``, ``run``.

Knows options; must not know any maths. Heavy imports happen inside commands, so that ``--help`` is instant.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from retrieval_distill.cli import shell
from retrieval_distill.cli.commands import ARGUMENT, Spelled, command

Overrides = Annotated[shell.Repeated, Spelled("--set", "KEY=VALUE")]


@command("Start here")
def demo(out: Path, overrides: Overrides) -> None:
    """Run the embedded demo: no network, no data, about eleven minutes on two cores with AVX-512 bfloat16.

    Example: retrieval-distill demo --out runs/demo
    """
    run("demo", out, overrides)


@command("Start here")
def run(recipe: Annotated[str, ARGUMENT], out: Path, overrides: Overrides) -> None:
    """Run a whole recipe: corpus and teacher in, measured student out.

    Finished stages are kept, so the same command continues a killed run.

    Example: retrieval-distill run my.yaml --out runs/mine --set training.steps=200
    """
    from retrieval_distill.config import load_recipe

    chosen = load_recipe(recipe, overrides or ())
    from retrieval_distill import pipeline  # imports much

    pipeline.run(chosen, out=out)
