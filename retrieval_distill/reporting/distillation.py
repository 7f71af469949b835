"""The report's section on what distillation gave: how much of the teacher, and what beyond the best without training.

Knows measured systems and what dev decided; must not know how anything was measured or how the section looks.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from retrieval_distill.config import Recipe
from retrieval_distill.data.dataset import Dataset
from retrieval_distill.data.run import Run
from retrieval_distill.evaluation import rivals
from retrieval_distill.evaluation.measures import evaluate
from retrieval_distill.evaluation.passages import by_document
from retrieval_distill.evaluation.significance import mean_with_interval
from retrieval_distill.retrieval.hybrid import Fusion
from retrieval_distill.runtime.stages import read_json


def section(systems: dict[str, dict[str, Any]], measure: str, out: Path) -> dict[str, Any]:
    """How much of the teacher arrived in the student (``None`` where the teacher gains nothing over the start), what
    the student has on the best system that needs no training, and which system dev chose.
    """
    means = {name: system[measure]["mean"] for name, system in systems.items()}
    gain, gate = means["teacher"] - means["start"], out / "gate" / "gate.json"
    best = rivals.best_untrained(systems, measure)
    return {
        "retention": means["student"] / means["teacher"] if means["teacher"] > 0 else None,
        "gain_kept": (means["student"] - means["start"]) / gain if gain > 0 else None,
        "gate": read_json(gate) if gate.is_file() else None,
        "best_untrained": best,
        "use": _use(systems, measure, best["system"]),
    }


def _use(systems: dict[str, dict[str, Any]], measure: str, rival: str) -> dict[str, Any] | None:
    """Which of the student and its fusion to use here, and what it has on the best untrained system; ``None`` where no
    dev query is judged, for the test queries must not choose.
    """
    decided = systems["hybrid-student"]["fusion"]
    if not decided["tuned"]:
        return None
    chosen = decided["use"]
    return {
        "system": chosen,
        "decided_on": decided["split"],
        "dev": decided["dev"],
        measure: systems[chosen][measure]["mean"],
        "best_untrained": rival,
        **rivals.difference(systems, chosen, rival, measure, "minus_best_untrained"),
    }


def fusion(out: Path, name: str, is_tuned: bool, dataset: Dataset, recipe: Recipe) -> dict[str, Any]:
    """How a hybrid fuses (``method``, ``dense``: the bi-encoder's weight), whether that was ``tuned``, on which
    ``split``, and what it would be ``untuned``: each measure's mean with its 95 % interval.
    """
    kept, run = out / "fusion" / f"{name}.json", Run.load(out / "runs" / "untuned" / f"{name}.parquet")
    measured, qrels = by_document({name: run}, dataset, dataset.qrels(recipe.dataset.measured))
    untuned = evaluate(measured[name], qrels, recipe.evaluate.measures)
    means = {measure: asdict(mean_with_interval(untuned[measure].to_numpy())) for measure in untuned}
    tuned = read_json(kept) if is_tuned else {}
    how = {"tuned": True, **tuned["chosen"]} if tuned else {"tuned": False, **asdict(Fusion())}
    return {**how, **{key: tuned[key] for key in ("split", "use", "dev") if key in tuned}, "untuned": means}
