"""A task of MTEB by its name, for what retrieval does not show: classification, clustering, pair classification, STS.

The package ``mteb`` loads the data, runs the task and names its main score. Knows that package; must not know corpora.
"""

from __future__ import annotations

from typing import Any

from retrieval_distill import hub
from retrieval_distill.errors import UserError


def measure(task: str, model: str, dtype: str = "auto") -> dict[str, Any]:
    """A model's main score in a task, the mean over the task's splits and languages.

    The model's ``query`` and ``document`` prompts, if it has them, are used where the task tells queries from
    documents; elsewhere texts are embedded as they are.

    Args:
        task: Such as ``"STSBenchmark"`` or ``"Banking77Classification"``.
        model: A bi-encoder.
        dtype: What it computes in.

    Returns:
        ``measure`` and ``mean``; ``low`` and ``high`` are ``None``, for the package keeps no values to draw from.

    Raises:
        UserError: The package is not installed, or the task is unknown, not for texts, or its data not to be had.
    """
    try:
        import mteb
    except ImportError:
        raise UserError(f"mteb:{task} needs: pip install 'retrieval-distill[mteb]'") from None
    from retrieval_distill.student import encoder

    loaded = encoder.load(model, dtype)
    try:
        asked = mteb.get_task(task)
        with hub.offline_if_unreachable():
            results = mteb.evaluate(loaded, asked, cache=None, show_progress_bar=False).task_results
    except (ImportError, KeyError, OSError, ValueError) as error:
        reason = error.args[0] if isinstance(error, KeyError) else error  # whose own text is in quotes
        raise UserError(f"mteb:{task}: {str(reason).strip() or type(error).__name__}") from None
    if not results:
        raise UserError(f"mteb:{task}: its data is not public; ask for access and log in to the hub")
    return {"measure": asked.metadata.main_score, "mean": float(results[0].get_score()), "low": None, "high": None}
