"""A dataset by name: the embedded ``python-docs``, ``beir:NAME``, or a folder in BEIR layout.

Knows where datasets come from; must not know what is done with them.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from retrieval_distill import artifacts
from retrieval_distill.data import beir, python_docs
from retrieval_distill.data.dataset import Dataset
from retrieval_distill.errors import UserError, nearest

PYTHON_DOCS = "python-docs"

BEIR_URL = "https://public.ukp.informatik.tu-darmstadt.de/thakur/BEIR/datasets/{name}.zip"

BEIR_NAMES = tuple(
    "arguana climate-fever cqadupstack dbpedia-entity fever fiqa hotpotqa msmarco nfcorpus nq quora scidocs "
    "scifact trec-covid webis-touche2020".split()
)
"""The public BEIR collections."""


def load(source: str, cache: str | Path) -> Dataset:
    """Load a dataset.

    Args:
        source: A folder, ``beir:NAME`` or ``python-docs``.
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
    if not Path(source).is_dir():
        raise UserError(f"dataset {source!r}: no such folder; use a folder in BEIR layout, beir:NAME or {PYTHON_DOCS}")
    return beir.load(source)


def _build_python_docs(folder: Path) -> dict[str, int]:
    dataset = python_docs.build()
    beir.save(dataset, folder)
    return {"documents": len(dataset.documents), **{f"{name} queries": len(q) for name, q in dataset.qrels.items()}}


def _download(name: str, cache: Path) -> Path:
    folder = cache / name
    if (folder / "corpus.jsonl").is_file():
        return folder
    if name not in BEIR_NAMES:
        raise UserError(f"dataset 'beir:{name}' is unknown{nearest(name, BEIR_NAMES)}")
    artifacts.stage("dataset", folder, {"source": f"beir:{name}"}, lambda out: _fetch(name, out))
    return folder


def _fetch(name: str, out: Path) -> dict[str, int]:
    from beir import util

    shutil.rmtree(out / name, ignore_errors=True)  # half a folder would be taken for a whole one
    try:
        unzipped = Path(util.download_and_unzip(BEIR_URL.format(name=name), str(out)))
    except Exception as error:
        (out / f"{name}.zip").unlink(missing_ok=True)
        raise UserError(
            f"dataset 'beir:{name}' could not be downloaded ({type(error).__name__}); use a folder in BEIR layout"
        ) from None
    for path in list(unzipped.iterdir()):
        path.replace(out / path.name)
    (out / f"{name}.zip").unlink()
    return {"bytes": sum(path.stat().st_size for path in out.rglob("*") if path.is_file())}
