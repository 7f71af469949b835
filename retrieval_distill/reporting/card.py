"""The student's model card within its run: what the run measured, beside what the student's own card says.

Knows findings and how a card is made; says only what the run measured or its recipe states.
"""

from __future__ import annotations

import re
from typing import Any

from huggingface_hub import EvalResult

from retrieval_distill.config import MemberConfig
from retrieval_distill.data import generated
from retrieval_distill.formatting import code, counted, md
from retrieval_distill.reporting import systems
from retrieval_distill.reporting.findings import STUDENT, Findings
from retrieval_distill.reporting.report_file import RunReport
from retrieval_distill.reporting.run_folder import RunFolder
from retrieval_distill.reporting.templating import render
from retrieval_distill.runtime.progress import clock
from retrieval_distill.student import card as student_card

SCORED_ELSEWHERE = ("scores:", "llm:", "api:")
"""Teachers whose limit of tokens is not ours."""


def card(run: RunFolder, findings: Findings) -> str:
    """The ``README.md`` of a finished run's student, measured or not."""
    recipe, made, measured = run.recipe, run.stages["distill"], bool(findings.rows)
    split = generated.SPLIT if recipe["generate"] else recipe["dataset"]["train"]
    name, data = f"{recipe['name']} student", findings.data_name
    where = "trained and measured" if measured else "trained"
    return student_card.card(
        student_card.header(recipe, name, results(run.report) if run.report else ()),
        f"{md(recipe['name'])}: a bi-encoder distilled for {md(data)}",
        [
            md(findings.headline) if measured else f"Not measured. {md(run.unmeasured)}",
            md(findings.use),
            student_card.about(recipe, made.counts),
            student_card.use(run.path / "student", recipe),
            "## How it was made",
            "\n".join(
                [
                    student_card.start(recipe),
                    _teachers(recipe),
                    student_card.examples(data, split, made.counts),
                    _mining(recipe),
                    student_card.objectives(recipe),
                    student_card.training(recipe, made.counts, clock(made.seconds)),
                ]
            ),
            _results(run, findings) if measured else "",
            student_card.limits(
                recipe,
                f"It was {where} on {md(data)} alone: on other texts, measure it before you rely on it.",
                "It learnt to agree with its teacher, mistakes and biases included.",
                *(["The intervals hold for other queries of the same kind, not for other collections."] * measured),
            ),
            student_card.recipe_section(recipe),
        ],
    )


def results(report: RunReport) -> list[EvalResult]:
    """The student's measures as the hub reads them."""
    dataset = report.dataset.name
    return [
        EvalResult(
            task_type="information-retrieval",
            task_name="Information Retrieval",
            dataset_type=dataset,
            dataset_name=dataset,
            dataset_split=report.recipe["dataset"]["test"],
            metric_type=re.sub(r"\W+", "_", measure).strip("_").lower(),
            metric_name=measure,
            metric_value=round(report.values(measure)[STUDENT].mean, 4),
        )
        for measure in report.measures
    ]


def _teachers(recipe: dict[str, Any]) -> str:
    members = recipe["teacher"]["ensemble"] or [recipe["teacher"]]
    return f"* **Teacher:** {' + '.join(map(_teacher, members))}"


def _teacher(member: dict[str, Any]) -> str:
    limit = None if member["model"].startswith(SCORED_ELSEWHERE) else MemberConfig.model_construct(**member).tokens
    return md(member["model"]) + (f" ({limit} tokens)" if limit else "")


def _mining(recipe: dict[str, Any]) -> str:
    config, retrievers = recipe["retrieve"], recipe.get("mining", {}).get("retrievers", ("bm25", "start"))
    return (
        f"* **Mining:** {', '.join(map(code, retrievers))}, {counted(config['depth'], 'document')} each; the best "
        f"{config['keep']} and every judged relevant document are scored by the teacher"
    )


def _results(run: RunFolder, findings: Findings) -> str:
    return render(
        "card_results.md",
        findings=findings,
        recipe=run.recipe,
        costs=systems.cost_table(findings.rows),
    ).strip()
