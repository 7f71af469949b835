"""Shards in the making: texts in, a committed file of vectors out, on every device of this machine or of a Ray cluster.

Within a shard what is embedded is committed every few seconds; a killed or stopped attempt goes on from there. Knows
bi-encoders, storage and shards; must not know which texts are due.
"""

from __future__ import annotations

import copy
import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from retrieval_distill.data.dataset import Texts
from retrieval_distill.embedding import shards, sound
from retrieval_distill.embedding.pieces import Part, Pieces, joined
from retrieval_distill.embedding.shards import Shard
from retrieval_distill.embedding.storage import Storage
from retrieval_distill.hardware import devices
from retrieval_distill.runtime import cluster
from retrieval_distill.runtime.commits import gathered
from retrieval_distill.runtime.parallel import in_order

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from retrieval_distill.student.encoder import Kind

Advance = Callable[[int], None]
"""Told how many texts were just finished."""

Encode = Callable[[Sequence[str], np.ndarray], Iterable[Part]]
"""(texts, which of them are done, bool [texts]) -> the vectors of the others, some at a time.

A vector must not depend on which others are done: batches are laid over all of the texts."""

SECONDS_PER_COMMIT = 20.0
"""Time between pieces of a shard: the most that a crash costs; on a cluster a shard comes as a whole."""

Item = tuple[int, Texts]
"""A shard's number and its texts."""


@dataclass(frozen=True)
class Encoding:
    """How texts become vectors: a model, what it computes in, its token limit, which of its prompts applies, and where.

    ``engine`` is ``"local"``, for all devices of this machine, or ``"ray"``, for those of a Ray cluster; ``backend`` is
    ``"torch"`` or a runtime of ``student.backends``, which computes in a dtype of its own.
    """

    model: str
    dtype: str
    max_length: int | None
    kind: Kind
    engine: str = "local"
    backend: str = "torch"

    def encoders(self) -> list[Encode]:
        """What can encode at once."""
        return ENGINES[self.engine](self)

    def cut(self, texts: Texts) -> dict[str, Any]:
        """How many of a sample of texts are longer than the model takes; see :func:`student.lengths.cut`."""
        from retrieval_distill.student import lengths

        return lengths.cut(self.model, self.loaded, texts, self.kind)

    @cached_property
    def loaded(self) -> SentenceTransformer:
        """The model."""
        from retrieval_distill.student import backends, encoder

        if self.backend == "torch":
            return encoder.load(self.model, self.dtype, self.max_length)
        return backends.load(self.model, self.backend, self.max_length)


def _here(encoding: Encoding) -> list[Encode]:
    """The model on every device; twice on a GPU, so that one shard's texts are cut while another's are embedded."""
    model = encoding.loaded
    found: list[Encode] = []
    for number, device in enumerate(devices.devices()):
        replica = model if number == 0 else copy.deepcopy(model).to(device)
        found += [partial(_encode, replica, encoding.kind)] * (2 if device.startswith("cuda") else 1)
    return found


def _on_cluster(encoding: Encoding) -> list[Encode]:
    """The model on every GPU or CPU core of a cluster; twice, so that none waits for its next texts.

    What dtype ``"auto"`` is here it is everywhere, so all nodes give the same vectors.
    """
    slots, model = cluster.connect(), cluster.share(encoding.loaded)

    def encode(texts: Sequence[str], done: np.ndarray) -> Iterator[Part]:
        vectors = cluster.call(_encode_there, model, encoding.kind, list(texts))
        yield np.flatnonzero(~done), vectors[~done]

    return [encode] * (2 * slots)


ENGINES: dict[str, Callable[[Encoding], list[Encode]]] = {"local": _here, "ray": _on_cluster}


@dataclass(frozen=True)
class Maker:
    """Makes shards of a folder."""

    encoding: Encoding
    storage: Storage
    folder: Path

    stop: threading.Event = field(default_factory=threading.Event)
    """Once set, no further batch is begun; what is finished is committed."""

    def make(self, encode: Encode, item: Item, advance: Advance) -> Shard:
        """Embed the texts of one shard, but for those that an earlier attempt did, and commit it.

        Raises:
            UserError: The model gives NaN or infinite vectors.
            KeyboardInterrupt: ``stop`` was set.
        """
        number, documents = item
        pieces = Pieces(self.folder, number)
        parts = pieces.read()
        done = np.zeros(len(documents), bool)
        for rows, _ in parts:
            done[rows] = True
        for held in gathered(self._until_stopped(encode, documents.take(), done.copy(), advance), SECONDS_PER_COMMIT):
            parts.append(joined(held))
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
        rows, found = joined(parts)
        vectors = np.empty((len(documents), found.shape[1]), np.float32)
        vectors[rows] = found
        sound.check(self.encoding.model, vectors, documents.ids, self.encoding.kind)
        return vectors


def make(maker: Maker, encoders: Sequence[Encode], items: Iterable[Item], advance: Advance) -> Iterator[Shard]:
    """Make shards, each by whichever encoder is free, in the order of the items."""
    free: queue.SimpleQueue[Encode] = queue.SimpleQueue()
    for encode in encoders:
        free.put(encode)

    def work(item: Item) -> Shard:
        encode = free.get()
        try:
            return maker.make(encode, item, advance)
        finally:
            free.put(encode)

    yield from in_order(work, items, len(encoders), maker.stop)


def vectors(encode: Encode, texts: Sequence[str]) -> np.ndarray:
    """The vectors of all of some texts, float32 [texts, dimensions]."""
    rows, found = joined(list(encode(texts, np.zeros(len(texts), bool))))
    return found[np.argsort(rows)]


def _encode(model: SentenceTransformer, kind: Kind, texts: Sequence[str], done: np.ndarray) -> Iterator[Part]:
    from retrieval_distill.student import encoder

    yield from encoder.encode_parts(model, texts, kind, done)


def _encode_there(model: cluster.Shared[SentenceTransformer], kind: Kind, texts: Sequence[str]) -> np.ndarray:
    from retrieval_distill.student import encoder

    return encoder.encode(model.get().to(devices.device()), texts, kind)
