"""Tasks of MTEB other than retrieval: classification, clustering, pair classification, STS.

The package ``mteb`` loads the data, runs the task and names its main score. Knows that package; must not know corpora.
"""

from __future__ import annotations

from typing import Any

from retrieval_distill import hub
from retrieval_distill.errors import UserError


def measure(task: str, model: str, dtype: str = "auto") -> dict[str, Any]:
    """A model's main score in a task, averaged over the task's splits and languages.

    The model's ``query`` and ``document`` prompts, if any, are used in tasks with queries and documents; otherwise
    texts are embedded without a prompt.

    Args:
        task: Such as ``"STSBenchmark"`` or ``"Banking77Classification"``.
        model: A bi-encoder.
        dtype: The compute dtype.

    Returns:
        ``measure`` and ``mean``; ``low`` and ``high`` are ``None``, because the package keeps no single values.

    Raises:
        UserError: The package is not installed, or the task is unknown, not for texts, or its data are not available.
    """
    try:
        import mteb
    except ImportError:
        raise UserError(f"mteb:{task} needs: pip install 'retrieval-distill[mteb]'") from None
    from retrieval_distill.student import encoder

    loaded = encoder.load(model, dtype)
    try:
        selected = mteb.get_task(task)
        with hub.offline_if_unreachable():
            results = mteb.evaluate(loaded, selected, cache=None, show_progress_bar=False).task_results
    except (ImportError, KeyError, OSError, ValueError) as error:
        reason = error.args[0] if isinstance(error, KeyError) else error  # str() of a KeyError has quotes
        raise UserError(f"mteb:{task}: {str(reason).strip() or type(error).__name__}") from None
    if not results:
        raise UserError(f"mteb:{task}: its data is not public; ask for access and log in to the hub")
    return {"measure": selected.metadata.main_score, "mean": float(results[0].get_score()), "low": None, "high": None}
