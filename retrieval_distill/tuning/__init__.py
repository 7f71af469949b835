"""``tune``: the best settings for this corpus, by a search that pays for each stage and each score once.

    own settings -> trials, compared on dev -> the best few with more seeds -> the chosen ones and the recipe's on test

Knows the order of a search; must not know how a student is trained. The folder of a search:

    trials/NAME         a run for every setting that was tried; the students of the best few are kept
    scores              teacher scores of all of them
    study.db            what was suggested, and what became of it (Optuna, SQLite), unless a storage is named
    best.yaml           the recipe with the chosen settings
    front/NAME.yaml     recipes that none beats in quality and cost at once, where both count
    tuning.json         what was found; ``tuning.md`` and ``tuning.html`` show it
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retrieval_distill.bounds import Count, bounded
from retrieval_distill.config import Recipe, TuneConfig, configured, load_recipe
from retrieval_distill.errors import UserError
from retrieval_distill.formatting import counted
from retrieval_distill.runtime import destination, files, lock, processes
from retrieval_distill.runtime.progress import clock
from retrieval_distill.tuning import results, space, workers
from retrieval_distill.tuning import storage as storages
from retrieval_distill.tuning.results import ASKED, Tuning
from retrieval_distill.tuning.study import NAME

if TYPE_CHECKING:
    from retrieval_distill.tuning.search import Search

logger = logging.getLogger("retrieval_distill")

GOES_ON = {"budget", "finalists", "seeds"}
"""Keys of the section ``tune`` that may change when a search goes on."""


@bounded
def tune(
    recipe: Recipe | str | Path,
    *,
    out: str | Path,
    overrides: Sequence[str] = (),
    jobs: Count = 1,
    storage: str | None = None,
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
        jobs: Processes on this machine that try settings at the same time and share its cores.
        storage: Database of the trials, where several machines search together, each in a folder of its own:
            ``postgresql://USER@HOST/DATABASE``. ``None``: a file in the folder.
        config: What to search; ``None``: the recipe's section ``tune``.
        options: Its keys by name, such as ``budget="20 trials"`` or ``space={"training.learning_rate": "1e-5..5e-5
            log"}``.

    Returns:
        What was found; printed, a table and a verdict. ``best`` is the recipe with the chosen settings.

    Raises:
        UserError: A key of the space does not exist or is refused by the recipe, no dev queries are judged, the folder
            belongs to another search, the storage cannot be reached, or Optuna is not installed.

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
    name = NAME if storage is None else f"{NAME}-{whole.name}-{files.fingerprint(asked)[:12]}"
    _check_latency(whole.tune, jobs, storage)
    if storage is not None:
        asked["storage"] = storages.shown(storage)
    _check_owner(folder, asked)
    with lock.exclusive(folder):
        files.make_folder(folder)
        files.write_json(folder / ASKED, asked)
        return _tuned(whole, folder, jobs, storage, name)


def _tuned(recipe: Recipe, folder: Path, jobs: int, storage: str | None, name: str) -> Tuning:
    """All of a search, in order; ``name`` is the search's in its storage."""
    from retrieval_distill.tuning.search import begun

    with begun(recipe, folder, storage, name) as search:
        _say_what_is_ahead(search)
        with workers.beside(jobs, recipe, folder, storage, name):
            search.run()
        if storage is None:
            return _concluded(search)
        logger.info("every trial has ended; one machine trains the finalists and asks test, and the others wait for it")
        with search.study.claims.wait("finals"):
            return _adopted(search) or _concluded(search)


def _say_what_is_ahead(search: Search) -> None:
    """Before the first trial: what one costs, and what dev can tell.

    Raises:
        UserError: The trials so far were compared by other dev queries.
    """
    from retrieval_distill.tuning import finals
    from retrieval_distill.tuning.trials import dev_values

    judge, config, study = search.judge, search.recipe.tune, search.study
    queries = files.fingerprint([judge.dev.queries.fingerprint, judge.dev.qrels])
    with study.claims.wait("begin"):
        if study.noted("dev") not in (None, queries):
            raise UserError(
                f"other dev queries compared {counted(len(study.trials), 'trial')} so far: give every machine the same "
                "dataset, or choose another --out folder"
            )
        study.note("dev", queries)
    value, facts = judge.judged(search.own)
    logger.info(
        "the recipe's own settings: dev %s %.3f, in %s and %s tokens; a trial takes about as much, the budget is %s",
        judge.measure, value, clock(facts["training"] + facts["dev"]), f"{facts['tokens']:,}", config.budget,
    )  # fmt: skip
    if study.trials:
        logger.info("the search has %s so far", counted(len(study.trials), "trial"))
    judged = len(search.own.dataset.qrels(search.own.dev_split()))
    left_out = judged - len(judge.dev.qrels) if config.dev_queries else 0
    finals.foretell(dev_values(search.own.out), judge.measure, left_out)


def _concluded(search: Search) -> Tuning:
    """What the trials have shown, asked of the best of them once more."""
    from retrieval_distill.tuning import finals

    found = finals.finalists(search)
    best = finals.chosen(found)
    doubts = {**finals.doubt(search, best, found), "compared": finals.compared(search, found[0])}
    made = results.write(search, found, best, doubts, finals.ask_test(search, best, found[0]))
    written = (made.folder / made.report.file).read_text()
    search.study.note("report", {"of": _state(search), "by": _place(search), "report": written})
    return made


def _adopted(search: Search) -> Tuning | None:
    """What another machine concluded from the same trials; ``None``: none has."""
    kept = search.study.noted("report")
    if kept is None or kept["of"] != _state(search) or kept["by"] == _place(search):
        return None
    logger.info("the same search was concluded in %s", kept["by"])
    return results.adopt(search.recipe, search.out, kept["report"])


def _state(search: Search) -> str:
    """Fingerprint of all that a conclusion is drawn from."""
    trials = [(trial.name, trial.state, trial.value) for trial in search.study.trials]
    return files.fingerprint([trials, search.recipe.tune.model_dump(include=GOES_ON - {"budget"})])


def _place(search: Search) -> str:
    return f"{files.HOST}:{search.out.resolve()}"


def _check_latency(config: TuneConfig, jobs: int, storage: str | None) -> None:
    """Refuse to measure latency where it would be another one in every trial."""
    if config.against == "latency" and (jobs > 1 or storage is not None):
        raise UserError(
            "against=latency is measured by one process on one machine that does nothing else: leave out "
            f"{'jobs' if jobs > 1 else 'storage'}, or search against=parameters"
        )


def _asked(recipe: Recipe, searched: dict[str, str]) -> dict[str, Any]:
    """What makes a search another one, in plain values."""
    how = recipe.tune.model_dump(mode="json", exclude={*GOES_ON, "space"})
    own = recipe.model_dump(mode="json", exclude={"tune": True, "evaluate": {"seeds"}})
    return {"recipe": own, "space": searched, **how}


def _check_owner(folder: Path, asked: dict[str, Any]) -> None:
    """Refuse a folder of another search, or of something else."""
    mark = folder / ASKED
    destination.check_appendable(folder, "tune", lambda folder: mark.is_file())
    if not mark.is_file():
        return
    flat, other = (_flat(values) for values in (asked, files.read_json(mark)))
    if differ := sorted(key for key in flat.keys() | other.keys() if flat.get(key) != other.get(key)):
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
