"""Building a FAISS index from vectors on disk, block by block, or adding to the one that is there.

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
from retrieval_distill.index.kinds import KINDS, Kind, empty_index, encoded, training_vectors
from retrieval_distill.index.vectors import Prepared
from retrieval_distill.runtime import stages
from retrieval_distill.runtime.files import checksum, remember
from retrieval_distill.runtime.progress import progress

FILE, IDS = "index.faiss", "ids.parquet"

BUILT = "built.json"
"""What tells a killed attempt that its index was whole: it is in the folder until the stage's manifest is."""


def write(out: Path, name: str, prepared: Prepared, rescore: int, before: Path | None = None) -> dict[str, Any]:
    """Build an index of a kind in a folder.

    Args:
        out: Where its files go.
        name: The kind.
        prepared: The vectors.
        rescore: Rescoring depth; above 0 the vectors are stored too.
        before: An index that may only have to be added to; ``None``: build anew.

    Returns:
        The manifest's counts: ``kind``, ``documents``, ``dimensions`` (kept), ``embedded_dimensions``, ``bytes`` (of
        the FAISS index, which a search holds in memory), ``disk_bytes`` (of all files), ``added`` (vectors that were
        not there before), ``trained_on`` (how many there were when it was trained), ``digest`` (of all vectors),
        ``search`` (how it is asked) and ``files``.

    Raises:
        UserError: The disk has no room for it, or a vector holds a NaN.
    """
    kind, path = KINDS[name], out / FILE
    built = _finished(out)
    if built is None:
        refuse_if_full(out, kind, prepared, rescore)
        begun = start(before, prepared, kind)
        write_faiss(_built(kind, prepared, begun), path, kind)
        built = {
            "added": prepared.documents - begun.documents,
            "trained_on": begun.trained_on,
            "digest": begun.digest.hexdigest(),
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
    """A FAISS index; ``mapped`` leaves its arrays on disk until they are touched.

    Raises:
        UserError: It is not one, or damaged.
    """
    read = faiss.read_index_binary if binary else faiss.read_index
    try:
        return read(str(path), faiss.IO_FLAG_MMAP_IFC if mapped else 0)
    except RuntimeError as error:
        raise UserError(f"{path}: FAISS cannot read it ({_reason(error)}); build the index again") from None


def write_faiss(index: Any, path: Path, kind: Kind) -> None:
    """Write a FAISS index.

    Raises:
        UserError: The disk is full, or takes no more of the file.
    """
    try:
        (faiss.write_index_binary if kind.binary else faiss.write_index)(index, str(path))
    except RuntimeError as error:
        raise UserError(f"{path}: the index could not be written ({_reason(error)}): make room") from None


def refuse_if_full(out: Path, kind: Kind, prepared: Prepared, rescore: int) -> None:
    """Say before hours of work that its result would not fit on the disk.

    Raises:
        UserError: It would not.
    """
    stored = prepared.dimensions * 4 if rescore else 0
    needed, free = prepared.documents * (kind.bytes(prepared.dimensions) + stored), shutil.disk_usage(out).free
    if needed > free:
        raise UserError(f"{out}: the index needs about {size(needed)}, the disk has {size(free)} left: make room")


def fingerprints(folder: Path, names: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """Size and SHA-256 of files, by name."""
    return {
        name: {"bytes": (folder / name).stat().st_size, "sha256": remember(folder / name, checksum(folder / name))}
        for name in names
    }


def _finished(out: Path) -> dict[str, Any] | None:
    """What a killed attempt wrote of the index that it had built, if the file is as it was then."""
    if not (out / BUILT).is_file():
        return None
    built = stages.read_json(out / BUILT)
    whole = (out / FILE).is_file() and fingerprints(out, (FILE,)) == built["files"]
    return built if whole else None


def _built(kind: Kind, prepared: Prepared, begun: Start) -> Any:
    """The index with all vectors in it; the start's digest is that of all of them then."""
    if begun.folder is not None:
        built = read_faiss(begun.folder / FILE, kind.binary, mapped=False)
    else:
        built = empty_index(kind, prepared.documents, prepared.dimensions)
        built = gpu.onto(built) if kind.gpu else built
        if count := training_vectors(kind, prepared.documents):
            built.train(prepared.sample(count))
    what = f"indexing {prepared.embeddings.folder.name}"
    with progress(what, prepared.documents, "documents", begun.documents) as advance:
        for block in begun.blocks:
            begun.digest.update(block.data)
            built.add(encoded(kind, block))
            advance(len(block))
    return gpu.back(built) if kind.gpu else built


def _reason(error: RuntimeError) -> str:
    return str(error).rpartition("Error: ")[2].strip()[:200]
