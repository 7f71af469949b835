"""The command ``tune``: a search for better settings.

Knows options; must not know any maths. Heavy imports happen inside commands, so that ``--help`` is instant.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from retrieval_distill.cli import shell
from retrieval_distill.cli.commands import ARGUMENT, Spelled, command
from retrieval_distill.cli.runs import Overrides

TUNE = "config.tune.TuneConfig"


@command("Train")
def tune(
    recipe: Annotated[str, ARGUMENT],
    out: Path,
    overrides: Overrides,
    jobs: int,
    storage: str | None,
    space: Annotated[shell.Repeated, Spelled(metavar="KEY=RANGE", act=TUNE)] = None,
    budget: Annotated[str | None, Spelled(act=TUNE)] = None,
    sampler: Annotated[str | None, Spelled(act=TUNE)] = None,
    pruning: Annotated[str | None, Spelled(act=TUNE)] = None,
    against: Annotated[str | None, Spelled(act=TUNE)] = None,
    finalists: Annotated[int | None, Spelled(act=TUNE)] = None,
    seeds: Annotated[int | None, Spelled(act=TUNE)] = None,
) -> None:
    """Search better settings for a recipe: dev queries choose, test queries are asked once.

    The same command continues a killed search; with a larger budget it goes on.

    Example: retrieval-distill tune demo --out runs/tuned --budget "20 trials"

    Example: retrieval-distill tune my.yaml --out runs/tuned --budget "1e8 tokens" --against parameters --jobs 2

    Example: retrieval-distill tune my.yaml --out runs/tuned --space "training.learning_rate=1e-5..5e-5 log"
    --space "mining=[hybrid, bm25-hard]"
    """
    from retrieval_distill import tuning
    from retrieval_distill.config import load_recipe, plain_yaml

    given = {
        "budget": budget, "sampler": sampler, "pruning": pruning, "against": against, "finalists": finalists,
        "seeds": seeds,
    }  # fmt: skip
    options: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if space:
        values = shell.pairs("--space", space)
        options["space"] = {key: plain_yaml.load(value, f"--space {key}") for key, value in values.items()}
    found = tuning.tune(load_recipe(recipe, overrides or ()), out=out, jobs=jobs, storage=storage, **options)
    shell.say(str(found))
    shell.say(f"{out / 'best.yaml'}: the chosen settings; {out / 'tuning.html'}: the same with plots")
