"""Retrievers by name: BM25, the start model and other bi-encoders, with an index or by exact search.

Knows retrievers' names and where their vectors are; must not know judgements or what a list is for. Memory is bounded,
however large the corpus (``retrieval.exact``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from retrieval_distill import models
from retrieval_distill.config.mining import LEXICAL, START, MiningConfig
from retrieval_distill.data.dataset import Dataset, Texts
from retrieval_distill.data.mixture import by_source
from retrieval_distill.data.run import Run
from retrieval_distill.embedding.embed import Embeddings, embed
from retrieval_distill.errors import UserError
from retrieval_distill.index import faiss_index
from retrieval_distill.index.index import Index
from retrieval_distill.retrieval import exact
from retrieval_distill.retrieval.bm25 import BM25


def default_retrievers(config: MiningConfig | None, options: Mapping[str, Any], start: str | None) -> dict[str, Any]:
    """The options, with BM25 as the only retriever if none is named and there is no start model."""
    named = options.keys() | (config.model_fields_set if config else set())
    if start is None and not named & {"retrievers", "preset"}:
        return {**options, "retrievers": [LEXICAL]}
    return dict(options)


@dataclass(frozen=True, eq=False)
class Retrievers:
    """Retrievers of one dataset.

    Args:
        dataset: The documents; in a mixture, each query searches only those of its own dataset.
        indexes: Indexes, or their folders, by retriever.
        folder: Folder for the vectors of retrievers without an index; ``None``: all have one.
        start: The model that the name ``start`` stands for; ``None``: the name is not available.
        lexical: BM25 over the documents; ``None``: built when needed.
        dtype: Number format of the computation.
    """

    dataset: Dataset
    indexes: Mapping[str, Index | str | Path]
    folder: Path | None
    start: str | None
    lexical: BM25 | None
    dtype: str

    def lists(self, config: MiningConfig, queries: Texts, depth: int) -> dict[str, Run]:
        """Retriever -> its list for every query: ``depth`` documents, or more if bands of ranks need them.

        Raises:
            UserError: A retriever is not a model, or has neither an index nor a folder for its vectors.
        """
        deep, places = config.depth(depth), self._places(config)
        for model in places:
            models.check(model)
        return {
            name: self._lexical(queries, deep)
            if name == LEXICAL
            else self._dense(name, self._model(name), places[self._model(name)], queries, deep)
            for name in config.retrievers
        }

    def vectors(self, config: MiningConfig) -> Embeddings | None:
        """The vectors of the first retriever that was searched without an index; ``None`` if there is none."""
        for name in config.retrievers:
            if name != LEXICAL and name not in self.indexes and self.folder is not None:
                return Embeddings.open(self.folder / self._places(config)[self._model(name)])
        return None

    def _places(self, config: MiningConfig) -> dict[str, str]:
        """Model -> name of its folder."""
        named = [self._model(name) for name in config.retrievers if name != LEXICAL]
        return {model: short for short, model in models.by_short_name(named, [LEXICAL], "retrievers").items()}

    def _model(self, name: str) -> str:
        if name != START:
            return name
        if self.start is None:
            raise UserError(
                "retriever 'start', the student before training, exists only in recipes; name the model itself or bm25"
            )
        return self.start

    def _lexical(self, queries: Texts, depth: int) -> Run:
        found = (self._bm25.search(own, depth, allowed) for own, allowed in by_source(self.dataset, queries))
        return Run.concat(found)

    @cached_property
    def _bm25(self) -> BM25:
        return self.lexical or BM25(self.dataset.documents)

    def _dense(self, name: str, model: str, short: str, queries: Texts, depth: int) -> Run:
        if name in self.indexes:
            index = self.indexes[name]
            opened = index if isinstance(index, Index) else Index.open(index)
            return faiss_index.search_dataset(opened, model, queries, depth, self.dataset, self.dtype)
        if self.folder is None:
            raise UserError(f"retriever {name!r} has neither an index nor a folder for its vectors; name one")
        if self.dataset.sources:
            raise UserError(f"retriever {name!r}: a bi-encoder on a mixture of datasets needs an index; name one")
        embed(model, self.dataset.documents, self.folder / short, self.dtype)
        vectors = Embeddings.open(self.folder / short)
        return exact.search(vectors, model, queries, depth, models.similarity(model), self.dtype)
