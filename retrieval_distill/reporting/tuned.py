"""What a search for settings found, for people: a table, Markdown, and a page with plots.

Knows ``tuning.json``; must not know how it was measured.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from retrieval_distill.evaluation.seed_summary import Seeds
from retrieval_distill.evaluation.significance import ALPHA, Mean
from retrieval_distill.formatting import counted, interval, listed, number, p_value, share, short, signed
from retrieval_distill.reporting.plain import plain
from retrieval_distill.reporting.plots import charts, lines_of_trials, slices
from retrieval_distill.reporting.plots.lines_of_trials import Axis
from retrieval_distill.reporting.templating import render
from retrieval_distill.reporting.tuning_file import RUNGS, Compared, FinalistSummary, Trial, TuningReport
from retrieval_distill.runtime.progress import clock

ENDED = {"pruned": "ended early", "fail": "failed", "complete": "", "running": "under way"}

OWN = "own"

COSTS = {
    "latency": ("ms per query vector", 1),
    "parameters": ("million parameters", 1_000_000),
    "dimensions": ("dimensions", 1),
}
"""What may be compared with quality -> its unit, and how much makes one."""


def chosen(report: TuningReport) -> str:
    """What was chosen, in a sentence without a verdict."""
    best, measure, tried = report.chosen, report.measure, counted(len(report.trials), "trial")
    if best.name == OWN:
        return f"The recipe's own settings: none of {tried} was better on dev ({measure})."
    trained = counted(best.seeds, "seed")
    own = report.own.mean
    return (
        f"The best of {tried} on dev is {best.name}: {measure} {number(best.mean)} against "
        f"{number(own)} of the recipe's own settings ({trained} each)."
    )


def verdict(report: TuningReport) -> str:
    """What was chosen, and what test queries, which chose nothing, say of it."""
    tested, first = report.test, chosen(report)
    if tested is None:
        why = "test was not asked" if report.chosen.name == OWN else "there is no test split to confirm it"
        return f"{first} {_sentence(why)}"
    found = tested.measures[report.measure]
    difference, better = found.difference, found.difference.mean > 0
    said = "better" if better else "worse"
    shown = f"is {said}" if found.p < ALPHA else "is not shown to be better"
    times = len(tested.asked)
    again = f" Test was asked {times} times in this search, which makes its p too small." if times > 1 else ""
    return (
        f"{first} On {counted(tested.queries, 'test query')} it {shown}: {number(found.tuned.mean)} against "
        f"{number(found.own.mean)}, {signed(difference.mean)} "
        f"({signed(difference.low)} to {signed(difference.high)}, {p_value(found.p)}).{again}"
    )


def notes(report: TuningReport) -> list[str]:
    """What a reader has to know before taking the best for the best."""
    dev, found = report.dev, []
    detectable = report.detectable
    if detectable is not None:
        found.append(
            f"{counted(dev.queries, 'dev query', 'show')} a difference of {number(detectable)} four times in five; "
            "smaller ones between trials are mostly chance."
        )
    if report.trials and not report.worse:
        found.append(
            "Dev is too small to tell any trial from the best: take more dev queries, a wider space, or the cheapest "
            "settings."
        )
    if failed := [trial for trial in report.trials if trial.state == "fail"]:
        errors = "; ".join(f"trial {trial.number}: {trial.facts['error']}" for trial in failed)
        found.append(f"{len(failed)} failed: {errors}")
    return found


def headings(report: TuningReport) -> list[str]:
    """Of the table of trials."""
    return [
        "trial",
        *(_short_key(key, report.space).replace("_", " ") for key in report.space),
        report.measure,
        "",
        "seconds",
    ]


def rows(report: TuningReport) -> list[list[str]]:
    """The trials, best first, those that were ended early after those that were not."""
    order = {"complete": 0, "pruned": 1, "fail": 2, "running": 3}
    trials = sorted(report.trials, key=lambda trial: (order[trial.state], -(trial.value or 0)))
    return [
        [
            f"{trial.number}{' (chosen)' if report.is_chosen(trial) else ''}",
            *(_value(trial.settings[key]) for key in report.space),
            "" if trial.value is None else number(trial.value),
            _ended(trial, report),
            short(round(trial.facts.get("seconds", 0.0))),
        ]
        for trial in trials
    ]


def table(report: TuningReport) -> str:
    """The trials, the verdict and what to know about it, for a terminal."""
    from rich.table import Table

    grid = Table()
    for heading in headings(report):
        grid.add_column(heading, justify="right")
    for row in rows(report):
        grid.add_row(*row)
    said = [verdict(report), *notes(report), level(report), front(report)]
    return "\n".join([plain(120, grid), *filter(None, said)])


def level(report: TuningReport) -> str:
    """The settings that dev cannot tell from the best, cheapest first."""
    others = [name for name in report.level if name != report.chosen.name]
    return f"Not told from the best on dev, the cheapest first: {', '.join(others)}." if others else ""


def compared(report: TuningReport, found: Compared) -> str:
    """A student that no other beats in quality and cost at once, in a sentence."""
    return f"Not beaten: {_point(report, found)} (dev {report.measure})."


def front(report: TuningReport) -> str:
    """The students that no other beats in quality and cost at once, cheapest first."""
    if report.against is None:
        return ""
    points = "; ".join(_point(report, found) for found in report.front)
    return f"Not beaten in dev {report.measure} and {report.against} at once: {points}."


def front_rows(report: TuningReport) -> list[list[str]]:
    """The same, a row each."""
    return [[found.name, number(found.value), short(_cost(report, found))] for found in report.front]


def _point(report: TuningReport, found: Compared) -> str:
    unit, _ = COSTS[report.against or ""]
    return f"{found.name}, {number(found.value)} at {short(_cost(report, found))} {unit}"


def _cost(report: TuningReport, found: Compared) -> float:
    _, one = COSTS[report.against or ""]
    return found.cost / one


def tested_rows(report: TuningReport) -> list[list[str]]:
    """A row per measure of what test says."""
    if report.test is None:
        return []
    return [
        [measure, _mean(found.tuned), _mean(found.own), _difference(found.difference), p_value(found.p)]
        for measure, found in report.test.measures.items()
    ]


def finalist_rows(report: TuningReport) -> list[list[str]]:
    """A row per finalist of what dev says of all its seeds."""
    return [
        [found.name, _mean(found), ", ".join(map(number, found.means)), number(found.standard_deviation, 4)]
        for found in sorted(report.finalists, key=lambda found: -found.mean)
    ]


def markdown(report: TuningReport) -> str:
    """All of it."""
    return render("tuned.md", **_values(report))


def page(report: TuningReport) -> str:
    """All of it, with plots; an HTML page that needs nothing else."""
    importance = [(_short_key(key, report.space), value) for key, value in report.importance.items()]
    plots = [(key, _slice(report, key)) for key in report.space if _placed(report, key)]
    return render(
        "tuned.html",
        kicker="Settings, tuned",
        sections=[("plots", "What was tried"), ("trials", "Trials"), ("sure", "How sure it is"), ("how", "How")],
        plots=plots,
        parallel=_parallel(report),
        curves=_curves(report),
        chart=_front_chart(report),
        bars=charts.bars("Importance", importance, share) if importance else None,
        **_values(report),
    )


def _values(report: TuningReport) -> dict[str, Any]:
    return {
        "title": f"Settings for {report.recipe}",
        "report": report,
        "verdict": verdict(report),
        "notes": notes(report),
        "level": level(report),
        "front": front_rows(report),
        "unit": COSTS[report.against][0] if report.against else "",
        "headings": headings(report),
        "rows": rows(report),
        "finalists": finalist_rows(report),
        "tested": tested_rows(report),
        "counts": _counts(report),
        "seconds": _seconds(report),
    }


def _front_chart(report: TuningReport) -> Any:
    """Quality against cost, with a line along what is not beaten; ``None``: quality alone counts."""
    if report.against is None:
        return None
    marks = [
        slices.Mark(_cost(report, found), found.value, not found.front, found.name == report.chosen.name)
        for found in report.compared
    ]
    line = [(_cost(report, found), found.value) for found in report.front]
    return slices.slice_(f"{report.measure} against {COSTS[report.against][0]}", marks, report.measure, line=line)


def _parallel(report: TuningReport) -> Any:
    """All settings and the measure, a line per trial; ``None``: there are not two trials, or not two keys."""
    keys = report.space.keys()
    placed = [trial for trial in report.trials if trial.value is not None and trial.settings.keys() >= keys]
    if len(placed) < 2 or len(keys) < 2:
        return None
    axes = [_axis(report, key, placed) for key in keys]
    axes.append(Axis(f"dev {report.measure}", [trial.value or 0.0 for trial in placed]))
    return lines_of_trials.parallel("Settings of every trial", axes, _chosen(report, placed))


def _curves(report: TuningReport) -> Any:
    """The measure over the training, a line per trial; ``None``: nothing was measured on the way."""
    seen = [trial for trial in report.trials if trial.rungs]
    if not seen:
        return None
    lines = [[(RUNGS[rung], value) for rung, value in sorted(trial.rungs.items())] for trial in seen]
    for trial, line in zip(seen, lines, strict=True):
        if trial.state == "complete":
            line.append((1.0, trial.value or 0.0))
    return lines_of_trials.curves("Over the training", lines, _chosen(report, seen), report.measure)


def _chosen(report: TuningReport, trials: Sequence[Trial]) -> int | None:
    """Place of the chosen trial."""
    return next((i for i, trial in enumerate(trials) if report.is_chosen(trial)), None)


def _slice(report: TuningReport, key: str) -> Any:
    placed = _placed(report, key)
    axis = _axis(report, key, placed)
    marks = [
        slices.Mark(value, trial.value or 0.0, trial.state == "pruned", report.is_chosen(trial))
        for value, trial in zip(axis.values, placed, strict=True)
    ]
    return slices.slice_(key, marks, report.measure, axis.log, axis.names)


def _axis(report: TuningReport, key: str, trials: Sequence[Trial]) -> Axis:
    """The values of a key in some trials, in a plot."""
    label, log = _short_key(key, report.space).replace("_", " "), report.space[key].endswith(" log")
    values = [trial.settings[key] for trial in trials]
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return Axis(label, [float(value) for value in values], log)
    names = sorted({_value(value) for value in values})
    return Axis(label, [float(names.index(_value(value))) for value in values], names=names)


def _placed(report: TuningReport, key: str) -> list[Trial]:
    return [trial for trial in report.trials if trial.value is not None and key in trial.settings]


def _counts(report: TuningReport) -> str:
    states = [trial.state for trial in report.trials]
    words = {"complete": "trained to the end", "pruned": "ended early", "fail": "failed"}
    return listed([f"{states.count(state)} {word}" for state, word in words.items() if state in states])


def _seconds(report: TuningReport) -> str:
    def total(key: str) -> float:
        return sum(trial.facts.get(key, 0.0) for trial in report.trials if trial.state == "complete")

    everything, training, dev = (total(key) for key in ("seconds", "training", "dev"))
    if not everything:
        return ""
    other = max(0.0, 1 - (training + dev) / everything)
    tokens = sum(trial.facts.get("tokens", 0) for trial in report.trials)
    seen = f" All trials were trained on {tokens:,} tokens." if tokens else ""
    return (
        f"Trials that were trained to the end took {clock(everything)}, of which training took {clock(training)}, dev "
        f"{clock(dev)}, and all else {share(other)}.{seen}"
    )


def _ended(trial: Trial, report: TuningReport) -> str:
    if trial.state == "complete" and trial.name in report.level and not report.is_chosen(trial):
        return "not told from the best"
    return ENDED[trial.state]


def _short_key(key: str, keys: dict[str, str]) -> str:
    """The last part of a key, where no other has the same."""
    last = key.rpartition(".")[2]
    return last if [other.rpartition(".")[2] for other in keys].count(last) == 1 else key


def _value(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return value if isinstance(value, str) else json.dumps(value)


def _mean(found: Seeds | FinalistSummary) -> str:
    return f"{number(found.mean)} ({interval(found.low, found.high)})"


def _difference(found: Mean) -> str:
    return f"{signed(found.mean)} ({signed(found.low)} to {signed(found.high)})"


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."
