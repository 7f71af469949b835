"""The student's model card: what the hub reads in its header, and what a person needs to use the model.

Knows findings and the hub's metadata; says only what the run measured or its recipe states.
"""

from __future__ import annotations

import re
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from retrieval_distill.models import PACKAGED
from retrieval_distill.reporting import systems
from retrieval_distill.reporting.findings import STUDENT, Findings
from retrieval_distill.reporting.run_folder import RunFolder
from retrieval_distill.reporting.templating import render

HUB_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+")
"""What a hub id looks like; local folders begin otherwise or are deeper."""


def card(run: RunFolder, findings: Findings) -> str:
    """The ``README.md`` of a measured student."""
    recipe, student = run.recipe, run.report["systems"][STUDENT]
    return render(
        "card.md",
        metadata=metadata(run.report).to_yaml(),
        findings=findings,
        recipe=recipe,
        student=student,
        teachers=recipe["teacher"]["ensemble"] or [recipe["teacher"]],
        costs=systems.cost_table(findings.rows),
        training=run.stages["distill"],
        objectives={name: _weight(value) for name, value in recipe["objectives"].items()},
    )


def metadata(report: dict[str, Any]) -> ModelCardData:
    """The card's header: what the hub can know of a student, its measures among it."""
    recipe, dataset = report["recipe"], report["dataset"]["name"]
    results = [
        EvalResult(
            task_type="information-retrieval",
            task_name="Information Retrieval",
            dataset_type=dataset,
            dataset_name=dataset,
            dataset_split=recipe["dataset"]["test"],
            metric_type=re.sub(r"\W+", "_", measure).strip("_").lower(),
            metric_name=measure,
            metric_value=round(report["systems"][STUDENT][measure]["mean"], 4),
        )
        for measure in systems.measures(report)
    ]
    return ModelCardData(
        library_name="sentence-transformers",
        pipeline_tag="sentence-similarity",
        base_model=hub_id(recipe["student"]["model"]),
        tags=["sentence-transformers", "feature-extraction", "sentence-similarity", "retrieval", "distillation"],
        model_name=f"{recipe['name']} student",
        eval_results=results,
    )


def hub_id(model: str) -> str | None:
    """The hub's name of a recipe's model, or ``None`` for a local folder."""
    if model == PACKAGED:
        return "sentence-transformers/all-MiniLM-L6-v2"
    return model if HUB_ID.fullmatch(model) else None


def _weight(value: Any) -> str:
    """An objective's weight in words: ``1.0``, or its options one by one."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {option}" for key, option in value.items())
    return f"weight {value}"
