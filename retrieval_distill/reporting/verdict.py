"""What a report says first: is the student better than what one could have had without training, and what to do now.

Knows ``report.json``; must not know how it is shown or where it lies.
"""

from __future__ import annotations

from collections.abc import Mapping

from retrieval_distill.evaluation import rivals
from retrieval_distill.evaluation.rivals import HYBRIDS, TEACHER
from retrieval_distill.evaluation.significance import ALPHA
from retrieval_distill.formatting import counted, interval, listed, number, p_value, share, signed
from retrieval_distill.reporting.letters import beaten
from retrieval_distill.reporting.report_distillation import BestUntrained, Gate
from retrieval_distill.reporting.report_file import RunReport
from retrieval_distill.reporting.report_seeds import OverSeeds, SeedDifference
from retrieval_distill.reporting.wins import Difference

Compared = BestUntrained | Difference
"""The student against another system: ``mean`` (above 0 where the student is better), its interval and p, corrected."""

CALLED = {
    "bm25": "BM25",
    "start": "the model it started from",
    "hybrid-start": "BM25 fused with the model it started from",
    "student": "the student",
    "hybrid-student": "BM25 fused with the student",
    "teacher": "the teacher",
}
"""Systems in a sentence; others by their names."""


def called(name: str) -> str:
    """A system in a sentence."""
    return CALLED.get(name, name)


def best_untrained(report: RunReport) -> str:
    """The name of the best system that needs no training; of a report that does not say, by its means."""
    told = report.distillation.best_untrained
    return told.system if told else rivals.best_untrained(report.values(report.headline))


def headline(report: RunReport, against: Compared | None) -> str:
    """The student and the best untrained system in a sentence that begins with what is not shown; then the teacher.

    Args:
        report: A finished one.
        against: What the student has on that system; ``None``: nobody knows.
    """
    own = report.values(report.headline)["student"]
    reaches = f"{report.headline} {number(own.mean)} ({share(0.95)} interval {interval(*own.interval)})"
    where = f"{counted(queries_measured(report), 'test query')} of {report.dataset.name}"
    if against is None:
        return f"On {where} the student reaches {reaches}.{_kept(report)}"
    rival = f"{called(against.theirs)}, the best here that needs no training"
    gain = f"{signed(against.mean)} ({signed(against.low)} to {signed(against.high)}), {p_value(against.p)}"
    if against.p < ALPHA and against.mean > 0:
        return f"On {where} the student reaches {reaches}: {gain}, against {rival}.{_kept(report)}"
    less = "is worse than" if against.p < ALPHA else "is not shown to be better than"
    return f"The student {less} {rival}: on {where} it reaches {reaches}, a difference of {gain}.{_kept(report)}"


def use(report: RunReport) -> str:
    """Which of the student and its fusion with BM25 to use here; empty for a report that measured no fusion."""
    if "hybrid-student" not in report.systems:
        return ""
    decided = report.distillation.use
    if decided is None:
        people = "of people's " if report.recipe.get("generate") else ""
        return (
            f"No dev query {people}is judged, so nothing here can choose between the student and its fusion with BM25 "
            "without looking at the test queries: judge some and name their split as dataset.dev."
        )
    fused, alone = (of[report.headline].mean for of in (decided.dev.fused, decided.dev.student))
    minus = (
        f"{signed(decided.minus_best_untrained)} ({signed(decided.low)} to {signed(decided.high)}), "
        f"{p_value(decided.p)}"
    )
    chosen = "use the fusion" if decided.system in HYBRIDS else "use the student alone"
    return (
        f"Of the student and its fusion with BM25, {chosen}: on {decided.decided_on} queries "
        f"the fusion, tuned on them, has {report.headline} {number(fused)} and the student alone {number(alone)}. On "
        f"the test queries what is chosen has {minus}, against {called(decided.best_untrained)}."
    )


def ways_out(report: RunReport, against: Compared | None) -> list[str]:
    """What can be done where the student is not shown to be better than the best untrained system; else nothing."""
    if against is None or (against.p < ALPHA and against.mean > 0):
        return []
    rival, decided = against.theirs, report.distillation.use
    ways = []
    if decided and decided.system in HYBRIDS and decided.p < ALPHA and decided.minus_best_untrained > 0:
        ways.append(f"Use {called(decided.system)}: that is shown to be better than {called(rival)}.")
    if rival in beaten(TEACHER, report.values(report.headline)):
        ways.append(
            f"The teacher is shown to be better than {called(rival)}, so there is more to learn: train longer "
            "(training.steps), on more queries (dataset.train_queries, or generate), with more candidates "
            "(retrieve.keep, training.candidates)."
        )
    else:
        ways.append(
            f"The teacher, reordering the best {report.recipe['evaluate']['rerank_depth']} documents, is not shown "
            f"to be better than {called(rival)} either, and a student seldom passes its teacher: take a better one, "
            "fit this one to your judgements (fit-teacher), or give it more tokens (teacher.max_length)."
        )
    if detectable := report.minimum_detectable.get(report.headline):
        ways.append(
            f"{queries_measured(report):,} test queries reliably show a difference from {number(detectable)} on: judge "
            "more of them to see smaller ones."
        )
    ways.append(f"Otherwise use {called(rival)}: it needs no training.")
    return ways


def reconciled(report: RunReport | None, gate: Gate | None) -> str:
    """Why the gate and the table may say different things of the teacher; empty where they do not, or are not there."""
    if not report or not gate or gate.better is None or TEACHER not in report.systems:
        return ""
    asked = [name for name in gate.against if name in report.systems]
    won = [name for name in beaten(TEACHER, report.values(report.headline)) if name in asked]
    if gate.better == (len(won) == len(asked)):
        return ""
    shown = f"shown to be better than {listed([called(name) for name in won])}" if won else "not shown to be better"
    depth = report.recipe["evaluate"]["rerank_depth"]
    return (
        f"On the {counted(queries_measured(report), 'test query')} it is {shown}. The two do not contradict each "
        f"other: these are other queries ({gate.queries:,} on dev) and another task (there it reorders each one's own "
        f"best, here the best {depth} documents of both, fused), and what so few queries do not show may still be so."
    )


def doubts(report: RunReport) -> list[str]:
    """What the report's intervals and p-values hold for, and what they leave out."""
    if not all(value.p_holm_vs for value in report.values(report.headline).values()):
        return []
    return [
        f"Intervals beside means are {share(0.95)} bootstrap intervals over queries, each by itself. Intervals of "
        f"differences, and every p, are corrected together for the {comparisons(report)} comparisons of a measure "
        "(paired randomisation test, Holm), so an interval excludes 0 exactly where p is below 0.05.",
        _seeds(report),
        *_lengths(report),
        *_documents(report),
    ]


def _seeds(report: RunReport) -> str:
    """How far the students of several seeds lie apart, and what they have on untrained systems; or how to find out."""
    found = report.seeds
    if found is None:
        return (
            f"All of it is for this one student, that of seed {report.recipe['seed']}: how far another seed's would "
            "lie from it is not in any interval. Run the recipe again in this folder with --set evaluate.seeds=3 to "
            "see: two more students learn from the same lists, and all else is kept."
        )
    reached = ". ".join(
        _over_seeds(name, report.headline, of[report.headline], found.against[name])
        for name, of in found.systems.items()
    )
    corrected_for = counted(sum(len(of) for of in found.against.values()), "comparison")
    return (
        f"{counted(len(found.seeds), 'student')}, of seeds {listed(list(map(str, found.seeds)))}, learnt from the same "
        f"lists; all else here is about the first of them. Over seeds and queries, {reached}. What each has on another "
        f"system is that of its mean over the seeds, query by query, and corrected for {corrected_for}."
    )


def _over_seeds(name: str, measure: str, reached: OverSeeds, against: Mapping[str, SeedDifference]) -> str:
    """One of the two trained systems: mean, interval, spread, and what its mean over the seeds has on others."""
    minus = [
        f"{signed(won.mean)} ({signed(won.low)} to {signed(won.high)}), {p_value(won.p)}, against {called(other)}"
        for other, won in against.items()
    ]
    return (
        f"{called(name)} has {measure} {number(reached.mean)} ({interval(reached.low, reached.high)}), standard "
        f"deviation between seeds {number(reached.standard_deviation)}: {listed(minus)}"
    )


def _lengths(report: RunReport) -> list[str]:
    """What start model and student read, where either is known to be cut."""
    start, student = (report.systems[name].max_length for name in ("start", "student"))
    if start is None or student is None or "start_length" not in report.recipe["evaluate"]:
        return []
    is_own = report.recipe["evaluate"]["start_length"] == "own"
    whose = "as it does by itself" if is_own else "as the student does"
    return [
        f"As a rival the start model reads {start:,} tokens of a document, {whose} (evaluate.start_length); the "
        f"student reads {student:,}."
    ]


def _documents(report: RunReport) -> list[str]:
    """That the corpus is a part of the dataset's documents, where it is."""
    if report.recipe["dataset"].get("documents") is None:
        return []
    return [
        f"Searched are {counted(report.dataset.docs, 'document')} drawn from the dataset's "
        "(dataset.documents): among all of them every system finds less, so compare these values with each other only."
    ]


def comparisons(report: RunReport) -> int:
    """Pairs of systems that are tested against each other, which p-values and intervals are corrected for."""
    count = len(report.systems)
    return count * (count - 1) // 2


def queries_measured(report: RunReport) -> int:
    """Test queries that were measured."""
    return report.dataset.queries[report.recipe["dataset"]["test"]]


def _kept(report: RunReport) -> str:
    """A sentence on the share of the teacher's quality that the student has; empty where that cannot be told."""
    said = retention(report)
    return f" The student's {report.headline} is {said} of the teacher's." if said else ""


def retention(report: RunReport) -> str:
    """The same as a number with its doubt; empty where the teacher has no quality to keep."""
    kept, found = report.distillation.retention, report.fidelity and report.fidelity.retention
    if not kept:
        return ""
    return share(kept) + (f" ({share(found.low)} to {share(found.high)})" if found else "")
