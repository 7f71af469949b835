"""Loads a dataset by name: the embedded ``python-docs``, ``beir:NAME``, ``nanobeir:NAME``, or a source of any format.

Knows where datasets come from; must not know how they are used.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from retrieval_distill.config import ReadConfig, UnpackConfig
from retrieval_distill.data import formats, nanobeir, python_docs
from retrieval_distill.data.dataset import Dataset
from retrieval_distill.data.formats import archive, beir
from retrieval_distill.data.formats.reading import Reading
from retrieval_distill.errors import UserError, nearest
from retrieval_distill.runtime import files, manifests, stages

PYTHON_DOCS = "python-docs"

BEIR_URL = "https://public.ukp.informatik.tu-darmstadt.de/thakur/BEIR/datasets/{name}.zip"

BEIR_NAMES = tuple(
    "arguana climate-fever cqadupstack dbpedia-entity fever fiqa hotpotqa msmarco nfcorpus nq quora scidocs "
    "scifact trec-covid webis-touche2020".split()
)
"""The public BEIR collections; ``cqadupstack`` has twelve parts, such as ``cqadupstack/android``."""


def load(source: str, cache: str | Path, options: ReadConfig | None = None) -> Dataset:
    """Load a dataset.

    Args:
        source: A folder, file or archive; ``beir:NAME``, ``nanobeir:NAME`` (``nanobeir:NAME@REPOSITORY`` for another
            language, or a folder in that layout), ``hf:NAME``, ``ir:ID`` or ``python-docs``.
        cache: Folder for datasets that are built, downloaded, unpacked or mapped, and read from there the next time.
        options: How to read it; ``None``: recognise the format, and refuse bad rows.

    Raises:
        UserError: There is no such source, a download failed, the files are defective, or a file of a folder that
            ``prepare``, ``generate`` or ``convert`` wrote is missing or was altered.
    """
    cache, reading = Path(cache), Reading.of(options or ReadConfig(), Path(cache))
    if source == PYTHON_DOCS:
        source = str(cache / PYTHON_DOCS)
        written = files.checksum(python_docs.WRITTEN)
        inputs = {"source": PYTHON_DOCS, "version": python_docs.VERSION, "questions": written}
        stages.stage("dataset", source, inputs, _build_python_docs, cache=True)
    elif source.startswith("nanobeir:"):
        name, _, repository = source.removeprefix("nanobeir:").partition("@")
        return nanobeir.load(name, repository or nanobeir.REPOSITORY, cache / "nanobeir")
    elif source.startswith("beir:"):
        source = str(_download(source.removeprefix("beir:"), cache, reading.options.unpack))
    elif archive.recognises(source):
        source = str(archive.unpack(source, cache, reading.options.unpack))
    else:
        manifests.verified_manifest(source, message=manifests.altered_input_error)
    dataset = formats.read(source, reading)
    reading.bad.report()
    return dataset.replace(left_out=reading.bad.as_dict())


def _build_python_docs(folder: Path) -> dict[str, int]:
    dataset = python_docs.build()
    beir.save(dataset, folder)
    counts = {"documents": len(dataset.documents), **{f"{name} queries": len(q) for name, q in dataset.qrels.items()}}
    return counts | {reason: int(str(case["count"])) for reason, case in dataset.left_out.items()}


def _download(name: str, cache: Path, limits: UnpackConfig) -> Path:
    collection = name.partition("/")[0]
    if (cache / name / "corpus.jsonl").is_file() and not (cache / collection / manifests.FILE).is_file():
        return cache / name  # put there by the user
    if collection not in BEIR_NAMES:
        raise UserError(f"dataset 'beir:{name}' is unknown{nearest(name, BEIR_NAMES)}")
    inputs = {"source": f"beir:{collection}"}
    stages.stage("dataset", cache / collection, inputs, lambda out: _fetch(collection, out, limits), cache=True)
    parts = [path.parent.name for path in (cache / collection).glob("*/corpus.jsonl")]
    if parts and not (cache / name / "corpus.jsonl").is_file():
        raise UserError(
            f"dataset 'beir:{name}' has parts; use beir:{collection}/PART with one of: {', '.join(sorted(parts))}"
        )
    return cache / name


def _fetch(collection: str, out: Path, limits: UnpackConfig) -> dict[str, int]:
    from beir import util

    packed, unpacked = out / f"{collection}.zip", out / "unpacked"
    try:
        util.download_url(BEIR_URL.format(name=collection), str(packed), 1024)
        archive.extract(packed, unpacked, limits)
        for path in list((unpacked / collection).iterdir()):
            path.replace(out / path.name)
    except Exception as error:
        packed.unlink(missing_ok=True)
        if isinstance(error, UserError):
            raise UserError(f"dataset 'beir:{collection}' could not be downloaded: {error}") from None
        raise UserError(
            f"dataset 'beir:{collection}' could not be downloaded ({type(error).__name__}); use a folder in BEIR layout"
        ) from None
    shutil.rmtree(unpacked)
    packed.unlink()
    return {"bytes": sum(path.stat().st_size for path in out.rglob("*") if path.is_file())}
