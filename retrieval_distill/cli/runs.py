"""Commands for a whole recipe: ``run``, ``demo``, and ``report`` in its folder.

Knows options; must not know any maths. Heavy imports happen inside commands, so that ``--help`` is instant.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from retrieval_distill.cli.options import OutFolder, SetOption, say

app = typer.Typer()


@app.command()
def run(
    recipe: Annotated[str, typer.Argument(help="Recipe file, or the name of a shipped recipe.")],
    out: OutFolder,
    overrides: SetOption = None,
) -> None:
    """Run a whole recipe: corpus and teacher in, measured student out.

    Finished stages are kept, so the same command continues a killed run.

    Example: retrieval-distill run my.yaml --out runs/mine --set training.steps=200
    """
    from retrieval_distill.config import load_recipe

    chosen = load_recipe(recipe, overrides or ())
    from retrieval_distill import pipeline  # imports much

    pipeline.run(chosen, out=out)


@app.command()
def demo(
    out: OutFolder = Path("runs/demo"),
    overrides: SetOption = None,
) -> None:
    """Run the embedded demo: no network, no data, about ten minutes on two cores.

    Example: retrieval-distill demo --out runs/demo
    """
    from retrieval_distill.config import load_recipe

    load_recipe("demo", overrides or ())
    from retrieval_distill import pipeline  # imports much

    pipeline.demo(out=out, overrides=overrides or ())


@app.command()
def report(
    run_folders: Annotated[list[Path], typer.Argument(help="Folder of a run, such as runs/demo, or of several.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", help="HTML file; if not given report.html in the run's folder, or comparison.html."),
    ] = None,
) -> None:
    """Write a run's report, finished or not, or compare several finished runs on one page.

    Example: retrieval-distill report runs/demo runs/mine --out comparison.html
    """
    from retrieval_distill.reporting import publish

    say(f"{publish.report(run_folders, out)}: open it in a browser")
