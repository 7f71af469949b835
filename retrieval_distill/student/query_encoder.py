"""Embeds queries: many with the library's model, a single one with a light encoder if there is one.

PyTorch and the library take seconds to import, a light encoder or an exported model a tenth of a second. Knows models
by name; must not know indexes, or where queries come from.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from retrieval_distill import endpoints, models
from retrieval_distill.errors import UserError
from retrieval_distill.runtime import stages
from retrieval_distill.student import loading
from retrieval_distill.student.exported import is_exported
from retrieval_distill.student.light_encoder import LightEncoder, extract

logger = logging.getLogger("retrieval_distill")

VERSION = 1
"""Increased whenever the files of light encoders change."""


@dataclass(frozen=True, eq=False)
class QueryEncoder:
    """The query encoder of a model: ``encoder(texts)`` gives vectors, float32 [texts, dimensions].

    Args:
        model: See :func:`retrieval_distill.models.resolve`.
        dtype: Number format of the computation.
        max_length: Token limit; ``None``: the model's own.
        light: Light encoder for single queries; ``None``: use the model.
    """

    model: str
    dtype: str = "float32"
    max_length: int | None = None
    light: LightEncoder | None = None

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """Vectors of queries, in order."""
        if len(texts) == 1 and self.light is not None:
            return self.light(texts[0])[None]
        if endpoints.is_one(self.model):
            return endpoints.embedder(self.model).vectors(texts, "query")
        return loading.encode(self.loaded, texts, "query")

    @cached_property
    def loaded(self) -> Any:
        """The library's or exported model, loaded when first needed."""
        return loading.load(self.model, self.dtype, self.max_length)

    def with_light_encoder(self, folder: Path, fingerprint: str, texts: Sequence[str]) -> QueryEncoder:
        """This encoder with a light one, if that gives the model's vectors, else with the model loaded; tried once.

        An exported model is light itself.

        Args:
            folder: Folder of the light encoder; if it cannot be written, there is none.
            fingerprint: The model's fingerprint.
            texts: Texts to compare vectors of.
        """
        if endpoints.is_one(self.model):
            return self
        if is_exported(models.resolve(self.model)):
            self.loaded.side("query")
            return self
        inputs = {"model": fingerprint, "max_length": self.max_length, "dtype": self.dtype, "version": VERSION}
        own = models.resolve(self.model)
        try:
            tried = stages.stage("light-encoder", folder, inputs, lambda out: extract(self.loaded, own, out, texts))
            if tried["counts"]["usable"]:
                return replace(self, light=LightEncoder.open(folder, own))
        except (OSError, UserError) as error:
            logger.debug("no light encoder: %s", error)
        _ = self.loaded
        return self
