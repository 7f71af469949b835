"""The formats of datasets, one file each; this module recognises which one a source has.

Knows names and order; must not know any format's rows.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from retrieval_distill.data.dataset import Dataset
from retrieval_distill.data.formats import beir
from retrieval_distill.data.formats.documents import DOCUMENTS
from retrieval_distill.data.formats.hugging_face import HUGGING_FACE
from retrieval_distill.data.formats.ir import IR
from retrieval_distill.data.formats.ms_marco import MS_MARCO, TRIPLES
from retrieval_distill.data.formats.reading import Export, Reading
from retrieval_distill.data.formats.tables import BY_ENDING, FILES
from retrieval_distill.data.formats.training_table import TRAINING_TABLE
from retrieval_distill.data.formats.trec import TREC
from retrieval_distill.errors import UserError, nearest

FORMATS = {
    format_.name: format_
    for format_ in (beir.BEIR, HUGGING_FACE, IR, MS_MARCO, TRIPLES, *FILES, TRAINING_TABLE, TREC, DOCUMENTS)
}
"""In the order in which they are tried; a folder of documents comes last, since any folder may contain a text file."""


def read(source: str, reading: Reading) -> Dataset:
    """Read a source in the format that its options name, or that is recognised.

    Raises:
        UserError: There is no such source or format, or a row is bad and bad rows are refused.
    """
    for format_ in FORMATS.values():
        chosen = (
            format_.recognises(source) if reading.options.format is None else format_.name == reading.options.format
        )
        if chosen and format_.read is not None:
            return format_.read(source, reading)
    if reading.options.format is not None:
        readable = [name for name, format_ in FORMATS.items() if format_.read is not None]
        raise UserError(f"format {reading.options.format!r} cannot be read{nearest(reading.options.format, readable)}")
    if Path(source).is_dir():
        return beir.load(source, reading)  # reports which file is missing
    if Path(source).is_file():
        raise UserError(f"{source}: unknown file suffix; use {', '.join(BY_ENDING)}, an archive, or a folder")
    raise UserError(f"dataset {source!r}: no such folder or file; use one, beir:NAME, hf:NAME, ir:ID or python-docs")


def writer(name: str) -> Callable[[Dataset, Path, Export], None]:
    """The function that writes a dataset in a format.

    Raises:
        UserError: The format is unknown, or can only be read.
    """
    written = {name: format_.write for name, format_ in FORMATS.items() if format_.write is not None}
    if name not in written:
        raise UserError(f"format {name!r} cannot be written{nearest(name, written)}")
    return written[name]
