"""A task of MTEB by its name, for what retrieval does not show: classification, clustering, pair classification, STS.

The package ``mteb`` loads the data, runs the task and names its main score. Knows that package; must not know corpora.
"""

from __future__ import annotations

from typing import Any

from retrieval_distill.errors import UserError


def measure(task: str, model: str, dtype: str = "auto") -> dict[str, Any]:
    """A model's main score in a task.

    Args:
        task: Such as ``"STSBenchmark"`` or ``"Banking77Classification"``.
        model: A bi-encoder.
        dtype: What it computes in.

    Returns:
        ``measure`` and ``mean``; ``low`` and ``high`` are ``None``, for the package keeps no values to draw from.

    Raises:
        UserError: The package is not installed, or the task is unknown or its data not to be had.
    """
    try:
        import mteb
    except ImportError:
        raise UserError(f"mteb:{task} needs: pip install 'retrieval-distill[mteb]'") from None
    from retrieval_distill.student import encoder

    try:
        asked = mteb.get_task(task)
        result = mteb.evaluate(encoder.load(model, dtype), asked, cache=None, show_progress_bar=False)
    except (KeyError, OSError, ValueError) as error:
        raise UserError(f"mteb:{task}: {str(error).strip() or type(error).__name__}") from None
    return {
        "measure": asked.metadata.main_score, "mean": float(result.task_results[0].get_score()),
        "low": None, "high": None,
    }  # fmt: skip
