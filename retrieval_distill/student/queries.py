"""Queries to vectors by a bi-encoder: many by the library's model, one alone by a light encoder where there is one.

PyTorch and the library take seconds to import, a light encoder a tenth of one. Knows models by name; must not know
indexes, or where queries come from.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from retrieval_distill import models
from retrieval_distill.errors import UserError
from retrieval_distill.runtime import stages
from retrieval_distill.student.light import LightEncoder, write

logger = logging.getLogger("retrieval_distill")

VERSION = 1
"""Raised when light encoders are kept in another form."""


@dataclass(frozen=True, eq=False)
class QueryEncoder:
    """The query encoder of a model: ``encoder(texts)`` are their vectors, float32 [texts, dimensions].

    Args:
        model: See :func:`retrieval_distill.models.resolve`.
        dtype: What it computes in.
        max_length: Token limit; ``None`` keeps the model's own.
        light: For a text alone; ``None``: the model takes that too.
    """

    model: str
    dtype: str = "float32"
    max_length: int | None = None
    light: LightEncoder | None = None

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """Vectors of queries, in their order."""
        if len(texts) == 1 and self.light is not None:
            return self.light(texts[0])[None]
        from retrieval_distill.student import encoder

        return encoder.encode(self.loaded, texts, "query")

    @cached_property
    def loaded(self) -> Any:
        """The library's model, loaded when it is first needed."""
        from retrieval_distill.student import encoder

        return encoder.load(self.model, self.dtype, self.max_length)

    def lightened(self, folder: Path, fingerprint: str, texts: Sequence[str]) -> QueryEncoder:
        """The same with a light encoder, if one gives this model's vectors, else loaded; that is tried once, and kept.

        Args:
            folder: Where a light encoder is kept; one that cannot be written to is none.
            fingerprint: Of the model.
            texts: Tried on these.
        """
        inputs = {"model": fingerprint, "max_length": self.max_length, "dtype": self.dtype, "version": VERSION}
        own = models.resolve(self.model)
        try:
            tried = stages.stage("light-encoder", folder, inputs, lambda out: write(self.loaded, own, out, texts))
            if tried["counts"]["usable"]:
                return replace(self, light=LightEncoder.open(folder, own))
        except (OSError, UserError) as error:
            logger.debug("no light encoder: %s", error)
        _ = self.loaded
        return self
