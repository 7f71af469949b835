"""Builds a FAISS index from vectors on disk, block by block, or adds to an existing one.

Knows FAISS and files; must not know models or texts.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import faiss
import pyarrow as pa
import pyarrow.parquet as pq

from retrieval_distill.errors import UserError
from retrieval_distill.formatting import size
from retrieval_distill.index import gpu, rescoring
from retrieval_distill.index.growth import Start, start
from retrieval_distill.index.kinds import KINDS, Kind, empty_index, encode, training_vectors
from retrieval_distill.index.vectors import PreparedVectors
from retrieval_distill.runtime import stages
from retrieval_distill.runtime.files import checksum, remember_checksum
from retrieval_distill.runtime.manifests import Listed
from retrieval_distill.runtime.progress import progress

FILE, IDS = "index.faiss", "ids.parquet"

BUILT = "built.json"
"""Record that the FAISS index is complete, for a killed attempt; removed once the stage's manifest is written."""


def write(out: Path, name: str, prepared: PreparedVectors, rescore: int, before: Path | None = None) -> dict[str, Any]:
    """Build an index in a folder.

    Args:
        out: The folder.
        name: The kind.
        prepared: The vectors.
        rescore: Rescoring depth; above 0 the vectors are stored too.
        before: An index that may only need new vectors added; ``None``: build from scratch.

    Returns:
        The manifest's counts: ``kind``, ``documents``, ``dimensions`` (kept), ``embedded_dimensions``, ``bytes`` (of
        the FAISS index, which a search holds in memory), ``disk_bytes`` (of all files), ``added`` (new vectors),
        ``trained_on`` (number of vectors when it was trained), ``digest`` (of all vectors), ``search`` (its search
        settings) and ``files``.

    Raises:
        UserError: The disk has too little space, or a vector holds a NaN.
    """
    kind, path = KINDS[name], out / FILE
    built = _finished_build(out)
    if built is None:
        require_disk_space(out, kind, prepared, rescore)
        origin = start(before, prepared, kind)
        write_faiss(_build(kind, prepared, origin), path, kind)
        built = {
            "added": prepared.documents - origin.documents,
            "trained_on": origin.trained_on,
            "digest": origin.digest.hexdigest(),
            "files": fingerprints(out, (FILE,)),
        }
        stages.write_json(out / BUILT, built)
    pq.write_table(pa.table({"id": prepared.embeddings.id_column}), out / IDS)
    if rescore:
        stored = out / rescoring.FILE
        rescoring.write(stored, prepared.blocks(), prepared.documents, prepared.dimensions, prepared.similarity)
    files = {**built["files"], **fingerprints(out, (IDS, *([rescoring.FILE] if rescore else [])))}
    return {
        "kind": name,
        "documents": prepared.documents,
        "dimensions": prepared.dimensions,
        "embedded_dimensions": prepared.embeddings.manifest["counts"]["dimensions"],
        "bytes": files[FILE]["bytes"],
        "disk_bytes": sum(file["bytes"] for file in files.values()),
        "search": {"setting": kind.setting, "rescore": rescore},
        **built,
        "files": files,
    }


def read_faiss(path: Path, binary: bool, mapped: bool = True) -> Any:
    """Read a FAISS index; ``mapped`` leaves its arrays on disk until they are used.

    Raises:
        UserError: The file is not a FAISS index, or is damaged.
    """
    read = faiss.read_index_binary if binary else faiss.read_index
    try:
        return read(str(path), faiss.IO_FLAG_MMAP_IFC if mapped else 0)
    except RuntimeError as error:
        raise UserError(f"{path}: FAISS cannot read it ({_reason(error)}); build the index again") from None


def write_faiss(index: Any, path: Path, kind: Kind) -> None:
    """Write a FAISS index.

    Raises:
        UserError: The disk is full, or the file would be too large.
    """
    try:
        (faiss.write_index_binary if kind.binary else faiss.write_index)(index, str(path))
    except RuntimeError as error:
        raise UserError(f"{path}: the index could not be written ({_reason(error)}); free some disk space") from None


def require_disk_space(out: Path, kind: Kind, prepared: PreparedVectors, rescore: int) -> None:
    """Refuse to start hours of work whose result would not fit on the disk.

    Raises:
        UserError: The disk has too little space.
    """
    stored = prepared.dimensions * 4 if rescore else 0
    needed, free = prepared.documents * (kind.bytes(prepared.dimensions) + stored), shutil.disk_usage(out).free
    if needed > free:
        raise UserError(f"{out}: the index needs about {size(needed)}, but the disk has only {size(free)} free")


def fingerprints(folder: Path, names: tuple[str, ...]) -> Listed:
    """Size and SHA-256 of files, by name."""
    return {
        name: {
            "bytes": (folder / name).stat().st_size,
            "sha256": remember_checksum(folder / name, checksum(folder / name)),
        }
        for name in names
    }


def _finished_build(out: Path) -> dict[str, Any] | None:
    """The record of the index that a killed attempt built, if the file is intact."""
    if not (out / BUILT).is_file():
        return None
    built = stages.read_json(out / BUILT)
    intact = (out / FILE).is_file() and fingerprints(out, (FILE,)) == built["files"]
    return built if intact else None


def _build(kind: Kind, prepared: PreparedVectors, origin: Start) -> Any:
    """The index with all vectors in it; extends the start's digest to all of them."""
    if origin.folder is not None:
        built = read_faiss(origin.folder / FILE, kind.binary, mapped=False)
    else:
        built = empty_index(kind, prepared.documents, prepared.dimensions)
        built = gpu.to_gpu(built) if kind.gpu else built
        if count := training_vectors(kind, prepared.documents):
            built.train(prepared.sample(count))
    what = f"indexing {prepared.embeddings.folder.name}"
    with progress(what, prepared.documents, "document", origin.documents) as advance:
        for block in origin.blocks:
            origin.digest.update(block.data)
            built.add(encode(kind, block))
            advance(len(block))
    return gpu.to_cpu(built) if kind.gpu else built


def _reason(error: RuntimeError) -> str:
    return str(error).rpartition("Error: ")[2].strip()[:200]
