"""The report's section on what distillation gave: how much of the teacher, and what beyond the best without training.

Knows measured systems and what dev decided; must not know how anything was measured or how the section looks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from retrieval_distill.config import Recipe
from retrieval_distill.data.dataset import Dataset
from retrieval_distill.data.run import Run
from retrieval_distill.evaluation import rivals
from retrieval_distill.evaluation.compare import Measured
from retrieval_distill.evaluation.measures import evaluate
from retrieval_distill.evaluation.passages import by_document
from retrieval_distill.evaluation.significance import mean_with_interval
from retrieval_distill.reporting.report_distillation import BestUntrained, Distillation, Use, read_gate
from retrieval_distill.reporting.report_systems import Fused, System
from retrieval_distill.retrieval.hybrid import Fusion, FusionTuning


def section(systems: Mapping[str, System], measure: str, out: Path) -> Distillation:
    """How much of the teacher arrived in the student, what the student has on the best system that needs no training,
    and which system dev chose.
    """
    values = {name: system.measures[measure] for name, system in systems.items()}
    student, start, teacher = (values[name].mean for name in ("student", "start", "teacher"))
    best = rivals.best_untrained(values)
    won, p = values["student"].difference_vs[best], values["student"].p[best]
    return Distillation(
        retention=student / teacher if teacher > 0 else None,
        gain_kept=(student - start) / (teacher - start) if teacher > start else None,
        gate=read_gate(out),
        best_untrained=BestUntrained(
            system=best, student_minus=won.mean, low=won.low, high=won.high, p=p, **{measure: values[best].mean}
        ),
        use=_use(systems["hybrid-student"].fusion, values, measure, best),
    )


def _use(decided: Fused | None, values: Mapping[str, Measured], measure: str, rival: str) -> Use | None:
    """Which of the student and its fusion to use here, and what it has on the best untrained system; ``None`` where no
    dev query is judged, for the test queries must not choose.
    """
    if decided is None or decided.use is None or decided.split is None or decided.dev is None:
        return None
    chosen = values[decided.use]
    won = chosen.difference_vs[rival]
    return Use(
        system=decided.use, decided_on=decided.split, dev=decided.dev, best_untrained=rival,
        minus_best_untrained=won.mean, low=won.low, high=won.high, p=chosen.p[rival], **{measure: chosen.mean},
    )  # fmt: skip


def fusion(out: Path, name: str, is_tuned: bool, dataset: Dataset, recipe: Recipe) -> Fused:
    """How a hybrid fuses, whether that was tuned, and what it would reach otherwise."""
    run = Run.load(out / "runs" / "untuned" / f"{name}.parquet")
    measured, qrels = by_document({name: run}, dataset, dataset.qrels(recipe.dataset.measured))
    untuned = evaluate(measured[name], qrels, recipe.evaluate.measures)
    means = {measure: mean_with_interval(untuned[measure].to_numpy()) for measure in untuned}
    tuned = FusionTuning.read(out / "fusion", f"{name}.json") if is_tuned else None
    if tuned is None:
        return Fused(tuned=False, **asdict(Fusion()), untuned=means)
    known = {key: getattr(tuned, key) for key in ("split", "use", "dev") if key in tuned.model_fields_set}
    return Fused(tuned=True, **asdict(tuned.chosen), **known, untuned=means)
