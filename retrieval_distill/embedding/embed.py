"""``embed``: embeds a corpus into shards on disk, in constant memory; a restart loses only seconds of work.

When a corpus changes, the vectors of unchanged texts are kept: their shards are linked, and only new texts are
embedded, into further shards. Knows which texts to embed and what a complete folder of vectors is; must not know FAISS
or judgements.
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

from retrieval_distill import endpoints, models
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
from retrieval_distill.embedding.workers import ENGINES, Encoding, Item, ShardWriter, make_shards
from retrieval_distill.errors import UserError, nearest
from retrieval_distill.formatting import plural
from retrieval_distill.runtime import destination, disk, manifests, stages
from retrieval_distill.runtime.progress import progress

if TYPE_CHECKING:
    from retrieval_distill.student.encoder import Kind

__all__ = ["Embeddings", "comparable", "embed", "embed_queries"]

logger = logging.getLogger("retrieval_distill")

SHARD = 8192
"""Documents per shard, which are held in memory. A crash loses far fewer, see ``embedding.pieces``."""


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
    """Embed documents into a folder. A rerun resumes an interrupted attempt and skips a finished one.

    If the folder holds vectors of an earlier version of the corpus, made with the same options, those of unchanged
    texts are kept, those of removed texts dropped, and only new texts embedded. Texts are matched by hash, so ids may
    change. The old vectors stay readable until the new ones are complete.

    Args:
        model: Bi-encoder, see :func:`retrieval_distill.models.resolve`, or ``api:NAME``.
        documents: What to embed: ``Texts``, or anything that :meth:`Texts.of` accepts, such as a list of strings.
        folder: Where the vectors go.
        dtype: Number format of the computation. ``"auto"``: bfloat16 where it is native.
        max_length: Token limit; ``None``: the model's own.
        kind: Which of the model's prompts to use: ``document`` or ``query``, if it has one.
        storage: ``"float32"``, ``"float16"`` (half the bytes), ``"int8"`` (a quarter; see ``embedding.storage``) or
            ``"binary"`` (signs, a 32nd).
        engine: ``"local"``: all devices of this machine; ``"ray"``: those of a Ray cluster (``RAY_ADDRESS``), with the
            vectors sent back and stored here. The result does not depend on it.
        backend: ``"torch"``, ``"onnx"`` or ``"openvino"`` (which choose their own dtype, see ``student.backends``), or
            ``"auto"``: the fastest one installed, measured once on texts of the corpus.

    Returns:
        The stage's manifest; its counts include the vectors that are ``new``, ``kept`` and ``gone``.

    Raises:
        UserError: An option is unknown, another process embeds into the folder, the disk is full (finished shards
            are kept), no cluster answers, or the model gives NaN or infinite vectors.
    """
    check(storage)
    if engine not in ENGINES:
        raise UserError(f"engine {engine!r} is unknown{nearest(engine, ENGINES)}")
    if endpoints.is_one(model) and (engine, backend, max_length) != ("local", "torch", None):
        raise UserError(
            f"{model} computes on its server: leave out engine, backend and max_length; its endpoint's "
            "max_characters cuts texts"
        )
    if engine != "local" and backend != "torch":
        raise UserError(f"--backend {backend} works only on this machine; with --engine {engine} use torch")
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
        with disk.explain_full_disk(folder, "the last shard could not be stored; every finished one is kept"):
            old = Embeddings.open(folder) if _stage_inputs(folder, wanted)["updates"] else None
            return _embed(encoding, texts, out, old, storage)

    return stages.stage("embed", folder, lambda: _stage_inputs(folder, wanted), work, scratch=(pieces.FOLDER,))


def _stage_inputs(folder: Path, wanted: dict[str, Any]) -> dict[str, Any]:
    """The stage's inputs: what is wanted, and ``updates``, the fingerprint of the vectors that are updated.

    Updated vectors have their rows in another order than vectors made from scratch, so indexes must distinguish the
    two. ``None``: made from scratch, as when the old vectors are damaged.
    """
    for place in (destination.work_folder(folder), folder):
        manifest = manifests.find(place)
        existing = manifest["inputs"] if manifest else {}
        if manifest and existing == {**wanted, "updates": existing.get("updates")}:
            return (
                existing
                if not existing["updates"] or manifests.is_intact(place, manifest)
                else {**wanted, "updates": None}
            )
    done = manifests.find(folder)
    same = done and manifests.is_intact(folder, done) and {**done["inputs"], "documents": None, "updates": None} == {
        **wanted, "documents": None, "updates": None,
    }  # fmt: skip
    return {**wanted, "updates": done["fingerprint"] if done and same else None}


def _embed(encoding: Encoding, documents: Texts, out: Path, old: Embeddings | None, storage: str) -> dict[str, Any]:
    changes, finished = changed.compare(old, documents), shards.recover(out)
    kept = _keep_shards(changes, out, finished)
    encoding, measured = backend_choice.choose_runtime(encoding, documents, out, old)
    starts = range(0, len(changes.new_documents), SHARD)
    due = [start for start in starts if kept + start // SHARD not in finished]
    done = len(changes.new_documents) - sum(min(SHARD, len(changes.new_documents) - start) for start in due)
    done += sum(Pieces(out, kept + start // SHARD).count() for start in due)
    encoding.announce(documents.at(changes.new_documents[start : start + SHARD]) for start in due)
    encoders = encoding.encoders() if due or old is None else []
    form = backend_choice.choose_storage(storage, encoding, documents, out, old, encoders)
    truncated = old.manifest["counts"].get("truncated") if old and not encoders else encoding.cut(documents)
    _log_cost(changes, form, out)

    def items() -> Iterator[Item]:
        for start in due:
            yield kept + start // SHARD, documents.at(changes.new_documents[start : start + SHARD])

    if due:
        what = f"embedding {plural(encoding.kind)}"
        with progress(what, len(changes.new_documents), encoding.kind, done, saved_in=out) as advance:
            for shard in make_shards(ShardWriter(encoding, form, out), encoders, items(), advance):
                finished[shard.number] = shard
    order = np.concatenate([changes.kept_documents, changes.new_documents])
    _write_ids(documents, order, changes.hashes, out / "ids.parquet")
    stages.write_json(out / "shards.json", shards.describe(finished[number] for number in sorted(finished)))
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


def _keep_shards(changes: Changes, out: Path, finished: dict[int, Shard]) -> int:
    """Link shards that are kept in full, rewrite those kept in part, and return their number."""
    for number, (shard, rows) in enumerate(changes.kept):
        if number in finished:
            continue
        shard.verify()
        unchanged = len(rows) == shard.rows
        finished[number] = (
            shards.link(shard, out, number) if unchanged else shards.write(out, number, shard.open()[rows])
        )
    return len(changes.kept)


def _write_ids(documents: Texts, order: np.ndarray, hashes: np.ndarray, path: Path) -> None:
    """Write the ids and hashes of texts in row order, in batches."""
    ids = documents.table.select(["id"]).to_batches()
    schema = pa.schema([("id", pa.string()), ("hash", pa.uint64())])
    with pq.ParquetWriter(path, schema) as writer:
        for start in range(0, len(order), columns.ROWS_PER_BATCH):
            rows = order[start : start + columns.ROWS_PER_BATCH]
            found = columns.gather(ids, rows)["id"]
            writer.write_table(pa.table({"id": found.cast(pa.string()), "hash": hashes[rows]}, schema=schema))


def _log_cost(changes: Changes, form: Storage, out: Path) -> None:
    new, kept = len(changes.new_documents), len(changes.kept_documents)
    megabytes, free = new * form.vector_bytes / 1e6, shutil.disk_usage(out).free / 1e9
    logger.info(
        "%s new, %s gone, %s kept; the new vectors take %s MB of %s GB free",
        f"{new:,}", f"{changes.gone:,}", f"{kept:,}", f"{megabytes:,.1f}", f"{free:,.0f}",
    )  # fmt: skip
