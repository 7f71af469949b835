"""A cross-encoder on a Ray cluster: batches are formed and results kept here, scored on the nodes.

Batches, and therefore scores, are bit-identical to those of a single machine. Knows cross-encoders and clusters; must
not know stores or Runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from sentence_transformers import CrossEncoder

from retrieval_distill.errors import UserError
from retrieval_distill.hardware import devices
from retrieval_distill.runtime import cluster
from retrieval_distill.teacher.cross_encoder import CrossEncoderTeacher, forward


class ClusterTeacher(CrossEncoderTeacher):
    """A cross-encoder that sends each batch to a free GPU or CPU core of a cluster."""

    def _replicas(self) -> Iterator[Any]:
        yield from [cluster.share(self.model)] * (2 * cluster.connect())

    def _forward(self, model: Any, features: dict[str, np.ndarray]) -> np.ndarray:
        return cluster.call(_forward_remote, model, features, self.label)


def on_cluster(teacher: object, *others: object) -> ClusterTeacher:
    """The same teacher on the nodes of a Ray cluster.

    Raises:
        UserError: No cluster answers, or the teacher is not a cross-encoder of the usual kind.
    """
    if others or not isinstance(teacher, CrossEncoderTeacher) or not teacher.plain:
        raise UserError("--engine ray works only with a single cross-encoder without a prompt; leave the option out")
    cluster.connect()
    return ClusterTeacher(
        teacher.model, teacher.fingerprint, teacher.description, teacher.max_length, teacher.label, teacher.devices
    )


def _forward_remote(
    model: cluster.Shared[CrossEncoder], features: dict[str, np.ndarray], label: int | None
) -> np.ndarray:
    return forward(model.get().to(devices.device()), features, label)
