"""``Student``: a trained bi-encoder in its folder.

Knows the folder and the sentence-transformers model in it; must not know corpora, indexes or training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from retrieval_distill import models
from retrieval_distill.runtime import stages

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from retrieval_distill.student.exported import Exported


@dataclass(frozen=True, eq=False)
class Student:
    """A bi-encoder: the result of ``distill`` or ``compress``, an exported one, or any sentence-transformers model.

    Args:
        name: Its folder, a hub id or a packaged name.
        dtype: Number format of the computation: ``"float32"``, ``"bfloat16"``, ``"float16"``, or ``"auto"``, the
            device's fastest.
        manifest: The manifest of ``distill``, ``compress`` or ``export``; empty for other models.
    """

    name: str
    dtype: str = "float32"
    manifest: stages.Manifest = field(default_factory=stages.Manifest)

    @classmethod
    def open(cls, folder: str | Path, *, dtype: str = "float32") -> Student:
        """Open the student in a folder.

        Raises:
            UserError: There is no such model.
        """
        models.resolve(str(folder))
        return cls(str(folder), dtype, stages.read_manifest(folder) or {})

    @cached_property
    def model(self) -> SentenceTransformer:
        """The sentence-transformers model, loaded when first needed.

        Raises:
            UserError: The folder holds an exported model, which is none.
        """
        from retrieval_distill.student import encoder

        return encoder.load(self.name, self.dtype)

    def encode_queries(self, texts: Sequence[str]) -> np.ndarray:
        """Vectors of queries, float32 [texts, dimensions], with the model's prompt for queries if it has one."""
        return self._encode(texts, "query")

    def encode_documents(self, texts: Sequence[str]) -> np.ndarray:
        """Vectors of documents, float32 [texts, dimensions], with the model's prompt for documents if it has one."""
        return self._encode(texts, "document")

    def _encode(self, texts: Sequence[str], kind: Any) -> np.ndarray:
        from retrieval_distill.student import loading

        return loading.encode(self._encoder, list(texts), kind)

    @cached_property
    def _encoder(self) -> SentenceTransformer | Exported:
        from retrieval_distill.student import exported

        if exported.is_exported(models.resolve(self.name)):
            return exported.Exported.open(self.name)
        return self.model

    @property
    def similarity(self) -> str:
        """The similarity of its vectors: ``"cosine"`` or ``"dot"``."""
        return models.similarity(self.name)

    def __fspath__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        counts = self.manifest.get("counts", {})
        facts = [f"{counts[key]:,} {key}" for key in ("parameters", "dimensions", "steps") if key in counts]
        return f"Student({self.name!r}{''.join(f', {fact}' for fact in facts)})"
