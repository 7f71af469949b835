"""The report of a run that had nothing to measure its student on: it says so.

Knows finished stages; must not know how they did their work.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from retrieval_distill.config import Recipe
from retrieval_distill.data.dataset import Dataset
from retrieval_distill.runtime.files import write_text
from retrieval_distill.runtime.stages import Manifest, write_json

logger = logging.getLogger("retrieval_distill")

FILE = "unmeasured.json"


def write(out: Path, dataset: Dataset, recipe: Recipe, manifests: dict[str, Manifest]) -> dict[str, Any]:
    """Write and say why nothing was measured: ``unmeasured`` (why), ``agreement`` (with the teacher), ``recipe``."""
    from retrieval_distill.reporting import publish

    why = (
        f"Nothing could be measured: dataset {dataset.name!r} has no judged split {recipe.dataset.test!r}, so nobody "
        "knows whether the student is better than the model it started from. Judge some 50 queries and name their "
        "split as dataset.test."
    )
    told = {
        "unmeasured": why,
        "agreement": manifests["distill"]["counts"]["agreement"],
        "recipe": recipe.model_dump(mode="json"),
    }
    write_json(out / FILE, told)
    write_text(out / "report.txt", why + "\n")
    page = publish.report(out, dataset=dataset)
    logger.warning("%s The student is in %s; report: %s", why, out / "student", page)
    return told
