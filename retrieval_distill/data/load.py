"""A dataset by name: the embedded ``python-docs``, ``beir:NAME``, ``nanobeir:NAME``, or a folder in BEIR layout.

Knows where datasets come from; must not know what is done with them.
"""

from __future__ import annotations

from pathlib import Path

from retrieval_distill import artifacts
from retrieval_distill.data import beir, nanobeir, python_docs
from retrieval_distill.data.dataset import Dataset
from retrieval_distill.errors import UserError, nearest

PYTHON_DOCS = "python-docs"

BEIR_URL = "https://public.ukp.informatik.tu-darmstadt.de/thakur/BEIR/datasets/{name}.zip"

BEIR_NAMES = tuple(
    "arguana climate-fever cqadupstack dbpedia-entity fever fiqa hotpotqa msmarco nfcorpus nq quora scidocs "
    "scifact trec-covid webis-touche2020".split()
)
"""The public BEIR collections; ``cqadupstack`` has twelve parts, such as ``cqadupstack/android``."""


def load(source: str, cache: str | Path) -> Dataset:
    """Load a dataset.

    Args:
        source: A folder, ``beir:NAME``, ``nanobeir:NAME`` (``nanobeir:NAME@REPOSITORY`` for another language, or a
            folder in that layout) or ``python-docs``.
        cache: Folder that keeps what had to be built or downloaded; a second call reads it from there.

    Raises:
        UserError: No such folder or name, a download that failed, or a defect in the files.
    """
    cache = Path(cache)
    if source == PYTHON_DOCS:
        folder = cache / PYTHON_DOCS
        artifacts.stage("dataset", folder, {"source": source, "version": python_docs.VERSION}, _build_python_docs)
        return beir.load(folder)
    if source.startswith("beir:"):
        return beir.load(_download(source.removeprefix("beir:"), cache))
    if source.startswith("nanobeir:"):
        name, _, repository = source.removeprefix("nanobeir:").partition("@")
        return nanobeir.load(name, repository or nanobeir.REPOSITORY, cache / "nanobeir")
    if not Path(source).is_dir():
        choices = f"a folder in BEIR layout, beir:NAME, nanobeir:NAME or {PYTHON_DOCS}"
        raise UserError(f"dataset {source!r}: no such folder; use {choices}")
    return beir.load(source)


def _build_python_docs(folder: Path) -> dict[str, int]:
    dataset = python_docs.build()
    beir.save(dataset, folder)
    return {"documents": len(dataset.documents), **{f"{name} queries": len(q) for name, q in dataset.qrels.items()}}


def _download(name: str, cache: Path) -> Path:
    if (cache / name / "corpus.jsonl").is_file():
        return cache / name
    archive = name.partition("/")[0]
    if archive not in BEIR_NAMES:
        raise UserError(f"dataset 'beir:{name}' is unknown{nearest(name, BEIR_NAMES)}")
    from beir import util

    cache.mkdir(parents=True, exist_ok=True)
    try:
        util.download_and_unzip(BEIR_URL.format(name=archive), str(cache))
    except Exception as error:
        (cache / f"{archive}.zip").unlink(missing_ok=True)  # beir would take a torn archive for a whole one
        raise UserError(
            f"dataset 'beir:{name}' could not be downloaded ({type(error).__name__}); use a folder in BEIR layout"
        ) from None
    parts = [path.parent.name for path in (cache / archive).glob("*/corpus.jsonl")]
    if parts and not (cache / name / "corpus.jsonl").is_file():
        raise UserError(
            f"dataset 'beir:{name}' has parts; use beir:{archive}/PART with one of: {', '.join(sorted(parts))}"
        )
    return cache / name
