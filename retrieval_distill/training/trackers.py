"""Experiment trackers: TensorBoard, Weights & Biases, trackio, MLflow and the others that the trainer can report to.

Knows their names and packages; must not know what is reported.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import TrainerCallback
from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK, get_available_reporting_integrations

from retrieval_distill.errors import UserError, nearest

PACKAGES = {"azure_ml": "azureml-sdk", "comet_ml": "comet-ml"}
"""What to install where the package is not called as the tracker is."""


def trackers(names: Sequence[str], folder: Path | None = None) -> list[TrainerCallback]:
    """The trainer's callbacks of these trackers, which are given every row of the log.

    Args:
        names: As the library knows them, such as ``"tensorboard"``.
        folder: Where TensorBoard's events go, in ``tensorboard``; ``None``: where the library puts them.

    Raises:
        UserError: No such tracker, or its package is not installed.
    """
    callbacks: list[Any] = [_tracker(name) for name in names]
    for callback in callbacks:
        if folder and getattr(callback, "logging_dir", folder) is None:
            callback.logging_dir = str(folder / "tensorboard")
    return callbacks


def _tracker(name: str) -> TrainerCallback:
    if name not in INTEGRATION_TO_CALLBACK:
        raise UserError(f"training.report_to: {name!r} is unknown{nearest(name, INTEGRATION_TO_CALLBACK)}")
    if name not in get_available_reporting_integrations():
        raise UserError(f"training.report_to: {name!r} needs: pip install {PACKAGES.get(name, name)}")
    return INTEGRATION_TO_CALLBACK[name]()
