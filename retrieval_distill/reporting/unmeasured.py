"""The report of a run that had nothing to measure its student on: it says so.

Knows finished stages; must not know how they did their work.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from retrieval_distill.config import Recipe
from retrieval_distill.data.dataset import Dataset
from retrieval_distill.runtime.files import write_text
from retrieval_distill.runtime.stages import Manifest, write_json

FILE = "unmeasured.json"


def write(out: Path, dataset: Dataset, recipe: Recipe, manifests: dict[str, Manifest]) -> dict[str, Any]:
    """Write why nothing was measured: ``unmeasured`` (why), ``agreement`` (with the teacher), ``recipe``."""
    test = recipe.dataset.test
    lacking = "dataset.test is null" if test is None else f"dataset {dataset.name!r} has no judged split {test!r}"
    why = (
        f"Nothing could be measured: {lacking}, so nobody knows whether the student is better than the model it "
        "started from. Next: judge some 50 queries and name their split as dataset.test."
    )
    told = {
        "unmeasured": why,
        "agreement": manifests["distill"]["counts"]["agreement"],
        "recipe": recipe.model_dump(mode="json"),
    }
    write_json(out / FILE, told)
    write_text(out / "report.txt", why + "\n")
    return told
