"""Exact search without an index: vectors are read block by block, and only the best of every query are kept.

Memory is that of the queries, their results and one tile of similarities, however large the corpus. Knows vectors on
disk and which student they belong to; must not know FAISS, texts of documents or judgements.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch

from retrieval_distill import hardware
from retrieval_distill.data.dataset import Texts
from retrieval_distill.errors import UserError
from retrieval_distill.indexing.embed import Embeddings, comparable, embed_queries
from retrieval_distill.retrieval.run import Run

TILE = 4096
"""Queries, and documents, of one tile of similarities: 64 MB at most."""


def search(
    embeddings: Embeddings, model: str, queries: Texts, depth: int, similarity: str = "cosine", dtype: str = "auto"
) -> Run:
    """The ``depth`` most similar documents of every query.

    Args:
        embeddings: The corpus.
        model: The query encoder; it must be the one the documents were embedded with.
        queries: Embedded with the model's ``query`` prompt, if it has one.
        depth: Documents per query.
        similarity: ``"cosine"`` or ``"dot"``.
        dtype: What the model computes in.

    Raises:
        UserError: The model's weights differ from those that embedded the documents.
    """
    asked = comparable(embed_queries(model, queries, embeddings.manifest, embeddings.folder, dtype), similarity)
    scores, rows = best(asked, (comparable(np.array(shard), similarity) for shard in embeddings.shards()), depth)
    return Run.from_best(queries.ids, embeddings.ids_of(rows), scores)


def rescore(
    run: Run, embeddings: Embeddings, model: str, queries: Texts, similarity: str = "cosine", dtype: str = "auto"
) -> Run:
    """The pairs of a Run under the similarity of their vectors; only queries are embedded.

    Args:
        run: The pairs; their own scores do not matter.
        embeddings: Holds every document of the run.
        model: The query encoder; it must be the one the documents were embedded with.
        queries: Texts of the run's queries.
        similarity: ``"cosine"`` or ``"dot"``.
        dtype: What the model computes in.

    Raises:
        UserError: The model's weights differ from those that embedded the documents, or a document has no vector.
    """
    places = {id_: row for row, id_ in enumerate(embeddings.ids)}
    unknown = [id_ for id_ in run.frame["doc_id"] if id_ not in places]
    if unknown:
        raise UserError(f"{embeddings.folder}: no vector of document {unknown[0]!r}; embed the corpus again")
    asked_texts = queries.select(run.query_ids)
    asked = comparable(embed_queries(model, asked_texts, embeddings.manifest, embeddings.folder, dtype), similarity)
    query_rows = run.frame["query_id"].map(asked_texts.rows).to_numpy()
    rows = run.frame["doc_id"].map(places).to_numpy()
    scores, start = np.empty(len(run), np.float32), 0
    for shard in embeddings.shards():
        here = np.flatnonzero((rows >= start) & (rows < start + len(shard)))
        documents = comparable(shard[rows[here] - start], similarity)
        scores[here] = np.einsum("ij,ij->i", asked[query_rows[here]], documents)
        start += len(shard)
    return run.rescored(scores)


def best(queries: np.ndarray, blocks: Iterable[np.ndarray], depth: int) -> tuple[np.ndarray, np.ndarray]:
    """The rows of largest inner product for every query.

    Of equal products at the cut-off, the document that comes first is kept, whatever the blocks.

    Args:
        queries: float32 [queries, dimensions].
        blocks: The documents' vectors in order, float32 [any number, dimensions]; each is read once.
        depth: Rows per query.

    Returns:
        Products and rows, both [queries, depth], best first, equal ones by row; rows are -1 where there are no more.
    """
    device = hardware.device()
    parts = [_Best(torch.from_numpy(queries[at : at + TILE]).to(device), depth) for at in range(0, len(queries), TILE)]
    start = 0
    for block in blocks:
        documents = torch.from_numpy(block).to(device)
        for at in range(0, len(documents), TILE):
            for part in parts:
                part.offer(documents[at : at + TILE], start + at)
        start += len(block)
    return (
        np.concatenate([part.scores.cpu().numpy() for part in parts]),
        np.concatenate([part.rows.cpu().numpy() for part in parts]),
    )


class _Best:
    """The best documents seen so far of some queries."""

    def __init__(self, queries: torch.Tensor, depth: int) -> None:
        self.queries, self.depth = queries, depth
        self.scores = torch.full((len(queries), depth), -torch.inf, device=queries.device)
        self.rows = torch.full((len(queries), depth), -1, dtype=torch.int64, device=queries.device)

    def offer(self, documents: torch.Tensor, first_row: int) -> None:
        """Take what is better than the worst that is kept; after the first documents, that is little."""
        products = self.queries @ documents.T
        query, column = (products > self._floor(products)).nonzero(as_tuple=True)
        if not len(query):
            return
        counts = torch.bincount(query, minlength=len(self.queries))
        place = torch.arange(len(query), device=query.device) - (counts.cumsum(0) - counts)[query]
        scores = self._with(self.scores, -torch.inf, int(counts.max()), query, place, products[query, column])
        rows = self._with(self.rows, -1, int(counts.max()), query, place, column + first_row)
        # stable: kept rows stand before new ones, and new ones in their order, so equal scores stay in row order
        ordered = scores.sort(dim=1, descending=True, stable=True)
        self.scores = ordered.values[:, : self.depth].contiguous()
        self.rows = rows.gather(1, ordered.indices[:, : self.depth])

    def _floor(self, products: torch.Tensor) -> torch.Tensor:
        """What a product must exceed: the worst kept, or, of the first documents, just below the last to be kept."""
        kept = self.scores[:, -1:]
        if self.rows[:, -1].min() >= 0 or products.shape[1] <= self.depth:
            return kept
        last = products.topk(self.depth, dim=1).values[:, -1:]
        return torch.maximum(kept, torch.nextafter(last, torch.full_like(last, -torch.inf)))

    def _with(
        self, kept: torch.Tensor, empty: float, width: int, query: torch.Tensor, place: torch.Tensor, new: torch.Tensor
    ) -> torch.Tensor:
        """Each query's kept values with its new ones beside them, filled up to ``width`` new ones."""
        wide = torch.full((len(kept), width), empty, dtype=kept.dtype, device=kept.device)
        wide[query, place] = new
        return torch.cat([kept, wide], dim=1)
