"""Workers that embed texts into committed shards, on every device of this machine or of a Ray cluster.

Pieces of a shard are committed every few seconds, and an interrupted attempt resumes from them. Knows bi-encoders,
storage and shards; must not know which texts need embedding.
"""

from __future__ import annotations

import copy
import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from retrieval_distill import endpoints
from retrieval_distill.data.dataset import Texts
from retrieval_distill.embedding import shards, vector_checks
from retrieval_distill.embedding.pieces import Part, Pieces, join
from retrieval_distill.embedding.shards import Shard
from retrieval_distill.embedding.storage import Storage
from retrieval_distill.runtime import cluster
from retrieval_distill.runtime.batching import batch_by_time
from retrieval_distill.runtime.parallel import map_in_order

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from retrieval_distill.llm.embeddings import Embedder
    from retrieval_distill.student.encoder import Kind
    from retrieval_distill.student.exported import Exported
    from retrieval_distill.student.lengths import Truncation

Advance = Callable[[int], None]
"""Called with the number of texts just finished."""

Encode = Callable[[Sequence[str], np.ndarray], Iterable[Part]]
"""(texts, which of them are done, bool [texts]) -> the vectors of the others, in parts.

A vector must not depend on which texts are done, so batches are formed over all texts."""

SECONDS_PER_COMMIT = 20.0
"""Time between pieces of a shard, and so the most a crash costs; a cluster returns whole shards."""

Item = tuple[int, Texts]
"""A shard's number and its texts."""


@dataclass(frozen=True)
class Encoding:
    """How to embed texts: model, dtype, token limit, prompt and place.

    ``engine`` is ``"local"``, all devices of this machine, or ``"ray"``, those of a Ray cluster; ``backend`` is
    ``"torch"`` or a runtime of ``student.backends``, which chooses its own dtype.
    """

    model: str
    dtype: str
    max_length: int | None
    kind: Kind
    engine: str = "local"
    backend: str = "torch"

    def encoders(self) -> list[Encode]:
        """The encoders that can work in parallel."""
        if endpoints.is_one(self.model):
            return [partial(_encode_by_endpoint, endpoints.embedder(self.model), self.kind)]
        return ENGINES[self.engine](self)

    def announce(self, batches: Iterable[Texts]) -> None:
        """Say what the texts cost, where an endpoint embeds them."""
        if endpoints.is_one(self.model):
            endpoints.embedder(self.model).announce((texts.take() for texts in batches), self.kind)

    def cut(self, texts: Texts) -> Truncation | None:
        """How many texts of a sample exceed the token limit, see :func:`student.lengths.report_truncation`.

        ``None``: an endpoint embeds them.
        """
        if endpoints.is_one(self.model):
            return None
        from retrieval_distill.student import lengths

        return lengths.report_truncation(self.model, self.loaded, texts, self.kind)

    @cached_property
    def loaded(self) -> SentenceTransformer | Exported:
        """The model."""
        from retrieval_distill.student import loading

        return loading.load(self.model, self.dtype, self.max_length, self.backend)


def _local_encoders(encoding: Encoding) -> list[Encode]:
    """The model on every device; two encoders per GPU, so that one tokenises while the other embeds."""
    from retrieval_distill.student.exported import Exported

    model = encoding.loaded
    if isinstance(model, Exported):  # its runtime uses all cores
        return [partial(_encode, model, encoding.kind)]
    from retrieval_distill.hardware import devices

    found: list[Encode] = []
    for number, device in enumerate(devices.devices()):
        replica = model if number == 0 else copy.deepcopy(model).to(device)
        found += [partial(_encode, replica, encoding.kind)] * (2 if device.startswith("cuda") else 1)
    return found


def _cluster_encoders(encoding: Encoding) -> list[Encode]:
    """The model on every GPU or CPU core of a cluster; two encoders each, so that none waits for texts.

    All nodes use the dtype that ``"auto"`` means on this machine, so they give the same vectors.
    """
    from retrieval_distill.student import encoder

    # an exported model stays on its machine: a runtime's session cannot be sent
    loaded = encoder.load(encoding.model, encoding.dtype, encoding.max_length)
    slots, model = cluster.connect(), cluster.share(loaded)

    def encode(texts: Sequence[str], done: np.ndarray) -> Iterator[Part]:
        vectors = cluster.call(_encode_on_node, model, encoding.kind, list(texts))
        yield np.flatnonzero(~done), vectors[~done]

    return [encode] * (2 * slots)


ENGINES: dict[str, Callable[[Encoding], list[Encode]]] = {"local": _local_encoders, "ray": _cluster_encoders}


@dataclass(frozen=True)
class ShardWriter:
    """Embeds and writes the shards of a folder."""

    encoding: Encoding
    storage: Storage
    folder: Path

    stop: threading.Event = field(default_factory=threading.Event)
    """Once set, no new batch starts; finished ones are committed."""

    def make(self, encode: Encode, item: Item, advance: Advance) -> Shard:
        """Embed the texts of one shard, except those an earlier attempt finished, and commit it.

        Raises:
            UserError: The model's vectors are NaN or infinite.
            KeyboardInterrupt: ``stop`` was set.
        """
        number, documents = item
        pieces = Pieces(self.folder, number)
        parts = pieces.read()
        done = np.zeros(len(documents), bool)
        for rows, _ in parts:
            done[rows] = True
        for held in batch_by_time(
            self._until_stopped(encode, documents.take(), done.copy(), advance), SECONDS_PER_COMMIT
        ):
            parts.append(join(held))
            done[parts[-1][0]] = True
            if not done.all():  # else the whole shard is committed
                pieces.keep(parts[-1])
        shard = shards.write(self.folder, number, self.storage.encode(self._whole(parts, documents)))
        pieces.remove()
        return shard

    def _until_stopped(
        self, encode: Encode, texts: Sequence[str], done: np.ndarray, advance: Advance
    ) -> Iterator[Part]:
        if done.all():
            return
        for part in encode(texts, done):
            yield part
            advance(len(part[0]))
            if self.stop.is_set():
                raise KeyboardInterrupt

    def _whole(self, parts: list[Part], documents: Texts) -> np.ndarray:
        """The shard's vectors, float32 [documents, dimensions]."""
        rows, found = join(parts)
        vectors = np.empty((len(documents), found.shape[1]), np.float32)
        vectors[rows] = found
        vector_checks.check(self.encoding.model, vectors, documents.ids, self.encoding.kind)
        return vectors


def make_shards(
    maker: ShardWriter, encoders: Sequence[Encode], items: Iterable[Item], advance: Advance
) -> Iterator[Shard]:
    """Make shards, each with a free encoder, in the order of the items."""
    free: queue.SimpleQueue[Encode] = queue.SimpleQueue()
    for encode in encoders:
        free.put(encode)

    def work(item: Item) -> Shard:
        encode = free.get()
        try:
            return maker.make(encode, item, advance)
        finally:
            free.put(encode)

    yield from map_in_order(work, items, len(encoders), maker.stop)


def encode_all(encode: Encode, texts: Sequence[str]) -> np.ndarray:
    """The vectors of texts, float32 [texts, dimensions]."""
    rows, found = join(list(encode(texts, np.zeros(len(texts), bool))))
    return found[np.argsort(rows)]


def _encode(
    model: SentenceTransformer | Exported, kind: Kind, texts: Sequence[str], done: np.ndarray
) -> Iterator[Part]:
    from retrieval_distill.student import loading

    yield from loading.encode_parts(model, texts, kind, done)


def _encode_by_endpoint(model: Embedder, kind: Kind, texts: Sequence[str], done: np.ndarray) -> Iterator[Part]:
    yield from model.parts(texts, kind, done)


def _encode_on_node(model: cluster.Shared[SentenceTransformer], kind: Kind, texts: Sequence[str]) -> np.ndarray:
    from retrieval_distill.hardware import devices
    from retrieval_distill.student import encoder

    return encoder.encode(model.get().to(devices.device()), texts, kind)
