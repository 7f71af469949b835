"""``embed``: a corpus to vectors on disk, shard by shard, resumable within seconds and within a fixed memory.

A corpus that changed keeps the vectors of the texts that stayed: their shards are taken over as files, and only new
texts are embedded, into shards behind them. Knows which texts are due and what makes a folder of vectors whole; must
not know FAISS or judgements.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from retrieval_distill import models
from retrieval_distill.data import columns
from retrieval_distill.data.dataset import AnyTexts, Texts
from retrieval_distill.embedding import backend_choice, pieces, shards
from retrieval_distill.embedding import changes as changed
from retrieval_distill.embedding.changes import Changes
from retrieval_distill.embedding.embeddings import Embeddings, comparable
from retrieval_distill.embedding.pieces import Pieces
from retrieval_distill.embedding.queries import embed_queries
from retrieval_distill.embedding.shards import Shard
from retrieval_distill.embedding.storage import Storage, check
from retrieval_distill.embedding.workers import ENGINES, Encoding, Item, Maker, make
from retrieval_distill.errors import UserError, nearest
from retrieval_distill.runtime import destination, disk, manifests, stages
from retrieval_distill.runtime.progress import progress

if TYPE_CHECKING:
    from retrieval_distill.student.encoder import Kind

__all__ = ["Embeddings", "comparable", "embed", "embed_queries"]

logger = logging.getLogger("retrieval_distill")

SHARD = 8192
"""Documents of one shard: what is held in memory. Much less is lost in a crash, see ``embedding.pieces``."""


def embed(
    model: str,
    documents: AnyTexts,
    folder: str | Path,
    dtype: str = "auto",
    max_length: int | None = None,
    kind: Kind = "document",
    storage: str = "float32",
    engine: str = "local",
    backend: str = "torch",
) -> stages.Manifest:
    """Embed documents into a folder; a rerun resumes a killed or stopped attempt, a finished one is kept.

    Where the folder holds the vectors of other documents, made the same way, the vectors of texts that stayed are
    kept, those of texts that are gone are left out, and only new texts are embedded. A text is known by its hash, so
    an id may change. Until all is done the old vectors can be read.

    Args:
        model: Bi-encoder, see :func:`retrieval_distill.models.resolve`.
        documents: What to embed: ``Texts``, or what :meth:`Texts.of` makes them of, as a list of strings.
        folder: Where the vectors go.
        dtype: What the model computes in. ``"auto"``: bfloat16 where it is native.
        max_length: Token limit; ``None`` keeps the model's own.
        kind: Which of the model's prompts applies: its ``document`` or its ``query`` prompt, if it has one.
        storage: ``"float32"``, ``"float16"`` (half the bytes), ``"int8"`` (a quarter; see ``embedding.storage``) or
            ``"binary"`` (signs, a 32nd).
        engine: ``"local"``: all devices of this machine; ``"ray"``: those of a Ray cluster (``RAY_ADDRESS``), whose
            vectors come back here and are stored here. The result does not depend on it.
        backend: ``"torch"``, ``"onnx"`` or ``"openvino"`` (see ``student.backends``; ``dtype`` is then theirs), or
            ``"auto"``: the fastest of those installed, measured on texts of the corpus and remembered.

    Returns:
        The stage's manifest; its counts say how many vectors are ``new`` and ``kept``, and how many are ``gone``.

    Raises:
        UserError: An option is unknown, another process embeds into the folder, the disk is full (finished shards
            are kept), no cluster answers, or the model gives NaN or infinite vectors.
    """
    check(storage)
    if engine not in ENGINES:
        raise UserError(f"engine {engine!r} is unknown{nearest(engine, ENGINES)}")
    if engine != "local" and backend != "torch":
        raise UserError(f"--backend {backend} works on this machine alone; with --engine {engine} use torch")
    folder, texts = Path(folder), Texts.of(documents)
    encoding = Encoding(model, dtype, max_length, kind, engine, backend)
    wanted = {
        "model": models.fingerprint(model),
        "documents": texts.fingerprint,
        "dtype": dtype,
        "max_length": max_length,
        "shard": SHARD,
        "kind": kind,
        "storage": storage,
        "backend": backend,
    }

    def work(out: Path) -> dict[str, Any]:
        with disk.room(folder, "the last shard could not be stored; every finished one is kept"):
            old = Embeddings.open(folder) if _after(folder, wanted)["updates"] else None
            return _embed(encoding, texts, out, old, storage)

    return stages.stage("embed", folder, lambda: _after(folder, wanted), work, scratch=(pieces.FOLDER,))


def _after(folder: Path, wanted: dict[str, Any]) -> dict[str, Any]:
    """The stage's inputs: what is wanted, and the fingerprint of the vectors that are brought up to date.

    Rows stand in another order in vectors that were brought up to date than in those made at once, so indexes have
    to tell the two apart. ``None``: made at once, as vectors are that are no longer whole.
    """
    for place in (destination.work_folder(folder), folder):
        manifest = manifests.find(place)
        had = manifest["inputs"] if manifest else {}
        if manifest and had == {**wanted, "updates": had.get("updates")}:
            return had if not had["updates"] or manifests.is_whole(place, manifest) else {**wanted, "updates": None}
    done = manifests.find(folder)
    same = done and manifests.is_whole(folder, done) and {**done["inputs"], "documents": None, "updates": None} == {
        **wanted, "documents": None, "updates": None,
    }  # fmt: skip
    return {**wanted, "updates": done["fingerprint"] if done and same else None}


def _embed(encoding: Encoding, documents: Texts, out: Path, old: Embeddings | None, storage: str) -> dict[str, Any]:
    changes, finished = changed.between(old, documents), shards.finished(out)
    kept = _keep(changes, out, finished)
    encoding, measured = backend_choice.runtime(encoding, documents, out, old)
    starts = range(0, len(changes.new_documents), SHARD)
    due = [start for start in starts if kept + start // SHARD not in finished]
    done = len(changes.new_documents) - sum(min(SHARD, len(changes.new_documents) - start) for start in due)
    done += sum(Pieces(out, kept + start // SHARD).count() for start in due)
    encoders = encoding.encoders() if due or old is None else []
    form = backend_choice.storage(storage, encoding, documents, out, old, encoders)
    truncated = old.manifest["counts"].get("truncated") if old and not encoders else encoding.cut(documents)
    _say_cost(changes, form, out)

    def items() -> Iterator[Item]:
        for start in due:
            yield kept + start // SHARD, documents.at(changes.new_documents[start : start + SHARD])

    what = {"document": "documents", "query": "queries"}[encoding.kind]
    if due:
        with progress(f"embedding {what}", len(changes.new_documents), what, done, kept=out) as advance:
            for shard in make(Maker(encoding, form, out), encoders, items(), advance):
                finished[shard.number] = shard
    order = np.concatenate([changes.kept_documents, changes.new_documents])
    _write_ids(documents, order, changes.hashes, out / "ids.parquet")
    stages.write_json(out / "shards.json", shards.record(finished[number] for number in sorted(finished)))
    return {
        "documents": len(documents),
        "new": len(changes.new_documents),
        "kept": len(changes.kept_documents),
        "gone": changes.gone,
        "embedded": len(changes.new_documents) - done,
        "dimensions": form.dimensions,
        "bytes": form.vector_bytes * len(documents),
        "backend": encoding.backend,
        "measured": measured,
        "truncated": truncated,
    }


def _keep(changes: Changes, out: Path, finished: dict[int, Shard]) -> int:
    """Take over the shards of which something stays, and say how many: whole ones as files, others without the rest."""
    for number, (shard, rows) in enumerate(changes.kept):
        if number in finished:
            continue
        shard.verify()
        whole = len(rows) == shard.rows
        finished[number] = shards.keep(shard, out, number) if whole else shards.write(out, number, shard.open()[rows])
    return len(changes.kept)


def _write_ids(documents: Texts, order: np.ndarray, hashes: np.ndarray, path: Path) -> None:
    """Ids and hashes of texts in the order of the rows, a part at a time."""
    ids = documents.table.select(["id"]).to_batches()
    schema = pa.schema([("id", pa.string()), ("hash", pa.uint64())])
    with pq.ParquetWriter(path, schema) as writer:
        for start in range(0, len(order), columns.ROWS_PER_BATCH):
            rows = order[start : start + columns.ROWS_PER_BATCH]
            found = columns.gather(ids, rows)["id"]
            writer.write_table(pa.table({"id": found.cast(pa.string()), "hash": hashes[rows]}, schema=schema))


def _say_cost(changes: Changes, form: Storage, out: Path) -> None:
    new, kept = len(changes.new_documents), len(changes.kept_documents)
    megabytes, free = new * form.vector_bytes / 1e6, shutil.disk_usage(out).free / 1e9
    logger.info(
        "%s new, %s gone, %s kept; the new vectors take %s MB of the %s GB that are free",
        f"{new:,}", f"{changes.gone:,}", f"{kept:,}", f"{megabytes:,.1f}", f"{free:,.0f}",
    )  # fmt: skip
