"""A dataset by name: the embedded ``python-docs``, ``beir:NAME``, or a source of any format in ``formats``.

Knows where datasets come from; must not know what is done with them.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from retrieval_distill import artifacts
from retrieval_distill.config import ReadConfig
from retrieval_distill.data import formats, python_docs
from retrieval_distill.data.dataset import Dataset
from retrieval_distill.data.formats import archive, beir
from retrieval_distill.data.formats.contract import Reading
from retrieval_distill.errors import UserError, nearest

PYTHON_DOCS = "python-docs"

BEIR_URL = "https://public.ukp.informatik.tu-darmstadt.de/thakur/BEIR/datasets/{name}.zip"

BEIR_NAMES = tuple(
    "arguana climate-fever cqadupstack dbpedia-entity fever fiqa hotpotqa msmarco nfcorpus nq quora scidocs "
    "scifact trec-covid webis-touche2020".split()
)
"""The public BEIR collections."""


def load(source: str, cache: str | Path, options: ReadConfig | None = None) -> Dataset:
    """Load a dataset.

    Args:
        source: A folder, file or archive; ``beir:NAME``, ``hf:NAME``, ``ir:ID`` or ``python-docs``.
        cache: Folder that keeps what had to be built, downloaded, unpacked or mapped; a second call reads it there.
        options: How to read it; ``None``: the format is recognised, and the first bad row is refused.

    Raises:
        UserError: No such source, a download that failed, or a defect in the files.
    """
    cache, reading = Path(cache), Reading.of(options or ReadConfig(), Path(cache))
    if source == PYTHON_DOCS:
        source = str(cache / PYTHON_DOCS)
        artifacts.stage("dataset", source, {"source": PYTHON_DOCS, "version": python_docs.VERSION}, _build_python_docs)
    elif source.startswith("beir:"):
        source = str(_download(source.removeprefix("beir:"), cache))
    elif archive.recognises(source):
        source = str(archive.unpack(source, cache))
    dataset = formats.read(source, reading)
    reading.bad.report()
    return replace(dataset, left_out=reading.bad.as_dict())


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
    from beir import util

    cache.mkdir(parents=True, exist_ok=True)
    try:
        return Path(util.download_and_unzip(BEIR_URL.format(name=name), str(cache)))
    except Exception as error:
        (cache / f"{name}.zip").unlink(missing_ok=True)  # beir would take a torn archive for a whole one
        raise UserError(
            f"dataset 'beir:{name}' could not be downloaded ({type(error).__name__}); use a folder in BEIR layout"
        ) from None
