"""``tune``: the best settings for this corpus, by a search that pays for each stage and each score once.

    own settings -> trials, compared on dev -> the best few with more seeds -> the chosen ones and the recipe's on test

Knows the order of a search; must not know how a student is trained. The folder of a search:

    trials/NAME         a run for every setting that was tried; the students of the best few are kept
    scores              teacher scores of all of them
    study.db            what was suggested, and what became of it (Optuna, SQLite)
    best.yaml           the recipe with the chosen settings
    tuning.json         what was found; ``tuning.md`` and ``tuning.html`` show it
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from retrieval_distill.config import Recipe, TuneConfig, configured, load_recipe
from retrieval_distill.errors import UserError
from retrieval_distill.runtime import destination, files, lock, processes
from retrieval_distill.runtime.progress import clock
from retrieval_distill.tuning import space
from retrieval_distill.tuning.results import ASKED, Tuning
from retrieval_distill.tuning.study import Study

logger = logging.getLogger("retrieval_distill")

GOES_ON = {"budget", "finalists", "seeds"}
"""Keys of the section ``tune`` that may change when a search goes on."""


def tune(
    recipe: Recipe | str | Path,
    *,
    out: str | Path,
    overrides: Sequence[str] = (),
    config: TuneConfig | None = None,
    **options: Any,
) -> Tuning:
    """Search better settings for a recipe; a search that was killed goes on, one with a larger budget too.

    Dev queries compare the settings; test queries are asked once, at the end, whether those that were chosen are
    better than the recipe's own.

    Args:
        recipe: A recipe, its file, or the name of a shipped one.
        out: Folder of the search.
        overrides: ``key=value`` on top of a recipe that is named, as on the command line.
        config: What to search; ``None``: the recipe's section ``tune``.
        options: Its keys by name, such as ``budget="20 trials"`` or ``space={"training.learning_rate": "1e-5..5e-5
            log"}``.

    Returns:
        What was found; printed, a table and a verdict. ``best`` is the recipe with the chosen settings.

    Raises:
        UserError: A key of the space does not exist or is refused by the recipe, no dev queries are judged, the folder
            belongs to another search, or Optuna is not installed.

    Example:
        >>> import retrieval_distill as rd
        >>> found = rd.tune("demo", out="runs/tuned", budget="20 trials")  # doctest: +SKIP
        >>> found.best.training.learning_rate  # doctest: +SKIP
        4.21e-05
    """
    if processes.count() > 1:
        raise UserError("tune tries settings in one process; start it without torchrun")
    whole = recipe if isinstance(recipe, Recipe) else load_recipe(recipe, overrides)
    whole = whole.model_copy(update={"tune": configured(TuneConfig, config or whole.tune, options, "tune")})
    searched, folder = space.read(whole), Path(out)
    asked = _asked(whole, {key: str(knob) for key, knob in searched.items()})
    _check_owner(folder, asked)
    with lock.exclusive(folder):
        files.make_folder(folder)
        files.write_json(folder / ASKED, asked)
        study = Study(folder, searched, whole.tune.sampler, whole.seed)
        try:
            return _tuned(whole, folder, study)
        finally:
            study.close()


def _tuned(recipe: Recipe, folder: Path, study: Study) -> Tuning:
    """All of a search, in order."""
    from retrieval_distill.tuning import finals, results
    from retrieval_distill.tuning.search import Search
    from retrieval_distill.tuning.trials import OWN, RUNS, Judge, train

    own = train(recipe, folder / RUNS / OWN)
    judge = Judge.of(own, folder)
    value, facts = judge.judged(own)
    logger.info(
        "the recipe's own settings: dev %s %.3f, in %s; a trial takes about as long, and the budget is %s",
        judge.measure, value, clock(facts["training"] + facts["dev"]), recipe.tune.budget,
    )  # fmt: skip
    search = Search(recipe, folder, study, judge)
    search.run()
    found = finals.finalists(search)
    best = finals.chosen(found)
    doubt, tested = finals.doubt(search, best, found), finals.ask_test(search, best, found[0])
    return results.write(search, found, best, doubt, tested)


def _asked(recipe: Recipe, searched: dict[str, str]) -> dict[str, Any]:
    """What makes a search another one, in plain values."""
    how = recipe.tune.model_dump(mode="json", exclude={*GOES_ON, "space"})
    return {"recipe": recipe.model_dump(mode="json", exclude={"tune"}), "space": searched, **how}


def _check_owner(folder: Path, asked: dict[str, Any]) -> None:
    """Refuse a folder of another search, or of something else."""
    mark = folder / ASKED
    destination.check_appendable(folder, "tune", lambda folder: mark.is_file())
    if not mark.is_file():
        return
    before = files.read_json(mark)
    if files.fingerprint(before) != files.fingerprint(asked):
        flat, other = (_flat(values) for values in (asked, before))
        differ = sorted(key for key in flat.keys() | other.keys() if flat.get(key) != other.get(key))
        raise UserError(
            f"{folder} holds a search that differs in {', '.join(differ[:5])}: choose another --out folder, or give "
            "what it was given"
        )


def _flat(values: Any, path: str = "") -> dict[str, Any]:
    """Nested values by their dotted keys."""
    if not isinstance(values, dict):
        return {path: values}
    return {
        name: value
        for key, inner in values.items()
        for name, value in _flat(inner, f"{path}.{key}" if path else key).items()
    }
