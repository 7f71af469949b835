"""Experiment trackers that the trainer can report to: TensorBoard, Weights & Biases, trackio, MLflow and others.

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
"""Packages to install, where their name differs from the tracker's."""


def trackers(names: Sequence[str], folder: Path | None = None) -> list[TrainerCallback]:
    """The trainer's callbacks for these trackers, which report every row of the log.

    Args:
        names: The library's names, such as ``"tensorboard"``.
        folder: TensorBoard's events are written to its subfolder ``tensorboard``; ``None``: to the library's default.

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
