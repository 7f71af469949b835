"""Asking retrievers by name: BM25, the start model and any bi-encoders, by their indexes or, without one, exactly.

Knows names of retrievers and where their vectors are kept; must not know judgements or what a list is for. Memory is
bounded however large the corpus (``retrieval.exact``).
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
from retrieval_distill.data.mixture import apart
from retrieval_distill.data.run import Run
from retrieval_distill.embedding.embed import Embeddings, embed
from retrieval_distill.errors import UserError
from retrieval_distill.index import faiss_index
from retrieval_distill.index.index import Index
from retrieval_distill.retrieval import exact
from retrieval_distill.retrieval.bm25 import BM25


def default_retrievers(config: MiningConfig | None, options: Mapping[str, Any], start: str | None) -> dict[str, Any]:
    """The options, with BM25 alone as the retriever where none is named and there is no start model."""
    named = options.keys() | (config.model_fields_set if config else set())
    if start is None and not named & {"retrievers", "preset"}:
        return {**options, "retrievers": [LEXICAL]}
    return dict(options)


@dataclass(frozen=True, eq=False)
class Retrievers:
    """Retrievers of one dataset.

    Args:
        dataset: Whose documents are found; of several that were joined, each query finds its own one's.
        indexes: Indexes, or their folders, by retriever.
        folder: Keeps the vectors of retrievers without an index, a folder for each; ``None``: there are none.
        start: The model that the name ``start`` stands for; ``None``: it stands for nothing.
        lexical: BM25 over the documents; ``None``: built when it is asked.
        dtype: What models compute in.
    """

    dataset: Dataset
    indexes: Mapping[str, Index | str | Path]
    folder: Path | None
    start: str | None
    lexical: BM25 | None
    dtype: str

    def lists(self, config: MiningConfig, queries: Texts, depth: int) -> dict[str, Run]:
        """Each retriever's list of every query: ``depth`` documents, or as many as the bands of ranks need.

        Raises:
            UserError: A retriever is no model, or has neither an index nor a place for its vectors.
        """
        deep, places = config.depth(depth), self._places(config)
        for model in places:
            models.resolve(model)
        return {
            name: self._lexical(queries, deep)
            if name == LEXICAL
            else self._dense(name, self._model(name), places[self._model(name)], queries, deep)
            for name in config.retrievers
        }

    def vectors(self, config: MiningConfig) -> Embeddings | None:
        """The vectors of the first retriever that has some of its own."""
        for name in config.retrievers:
            if name != LEXICAL and name not in self.indexes and self.folder is not None:
                return Embeddings.open(self.folder / self._places(config)[self._model(name)])
        return None

    def _places(self, config: MiningConfig) -> dict[str, str]:
        """The folder's name of every model."""
        named = [self._model(name) for name in config.retrievers if name != LEXICAL]
        return {model: short for short, model in models.by_short_name(named, [LEXICAL], "retrievers").items()}

    def _model(self, name: str) -> str:
        if name != START:
            return name
        if self.start is None:
            raise UserError(
                "retriever 'start' is the student of a recipe before training: name the model itself, or bm25"
            )
        return self.start

    def _lexical(self, queries: Texts, depth: int) -> Run:
        found = (self._bm25.search(own, depth, allowed) for own, allowed in apart(self.dataset, queries))
        return Run.joined(found)

    @cached_property
    def _bm25(self) -> BM25:
        return self.lexical or BM25(self.dataset.documents)

    def _dense(self, name: str, model: str, short: str, queries: Texts, depth: int) -> Run:
        if name in self.indexes:
            index = self.indexes[name]
            opened = index if isinstance(index, Index) else Index.open(index)
            return faiss_index.search_dataset(opened, model, queries, depth, self.dataset, self.dtype)
        if self.folder is None:
            raise UserError(f"retriever {name!r} has neither an index nor a folder for its vectors: name one")
        if self.dataset.sources:
            raise UserError(f"retriever {name!r}: of several datasets as one, a bi-encoder needs an index: name one")
        embed(model, self.dataset.documents, self.folder / short, self.dtype)
        vectors = Embeddings.open(self.folder / short)
        return exact.search(vectors, model, queries, depth, models.similarity(model), self.dtype)
