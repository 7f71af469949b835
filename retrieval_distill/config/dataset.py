"""What a recipe works on."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from retrieval_distill.config.section import Section


class UnpackConfig(Section):
    """What an archive may unpack to; one that goes beyond is refused, and nothing of it is kept."""

    gigabytes: float = Field(50.0, gt=0)
    """All files together, in units of 10^9 bytes."""
    ratio: float = Field(200.0, gt=0)
    """Unpacked bytes for every byte of the archive; text seldom goes beyond 20. Looked at from 16 MB on."""
    files: int = Field(1_000_000, ge=1)
    """Files and folders."""
    depth: int = Field(32, ge=1)
    """Parts of a name: folders within one another, and the file."""


class ReadConfig(Section):
    """How a dataset's source is read."""

    format: str | None = None
    """Name of the source's format; ``None``: its prefix, ending or files tell."""
    columns: dict[str, str] = {}
    """Names of columns that differ: ``{id: doc_id, text: body, title: name, queries.id: qid, qrels.score: grade}``.
    Case does not count; points lead into objects, as in ``_source.title``."""
    queries: str | None = None
    """Table of queries, for a source that holds documents only."""
    qrels: dict[str, str] = {}
    """Split -> file of judgements (a table, or TREC), for a source that holds none."""
    encoding: str = "utf-8"
    """Encoding of text files without a byte-order mark, such as ``cp1252``; a byte that it does not allow is a bad row,
    never guessed at."""
    delimiter: str | None = Field(None, pattern=r'^([^"\r\n]|tab)$')
    """What separates the fields of CSV files, such as ``;`` or ``tab``; ``None``: what their first line says
    (``sep=;``), or a comma."""
    on_bad: Literal["refuse", "skip"] = "refuse"
    """What to do with a row that cannot be read: ``refuse`` it and stop, or ``skip`` it, counted and named."""
    unpack: UnpackConfig = UnpackConfig()
    """Limits on what an archive may unpack to, against archives that fill the disk: ``gigabytes``, ``ratio``, ``files``
    and ``depth``."""


class SourceConfig(ReadConfig):
    """One of several datasets that one student learns from; candidates of its queries are its own documents."""

    source: str
    """As for ``dataset``."""
    train: str | None = "train"
    """Split whose queries train the student, as for ``dataset``; ``None``: the dataset is only measured."""
    dev: str | None = None
    """Split whose queries the gate asks; ``None``: none of this dataset."""
    test: str | None = "test"
    """Split that the report measures; ``None``: the dataset is only learnt from."""
    train_queries: int | None = Field(None, ge=1)
    """Training queries used, drawn by the seed; ``None`` uses all."""
    weight: float = Field(1.0, gt=0)
    """Factor on the dataset's share of the batches; see ``training.dataset_exponent``."""


class DatasetConfig(ReadConfig):
    """What to work on."""

    source: str = "python-docs"
    """A folder or file of any format read, ``beir:NAME``, ``nanobeir:NAME``, ``hf:NAME``, ``ir:NAME``, or the embedded
    ``python-docs``."""
    train: str = "train"
    """Split whose queries train the student. A dataset without a split ``train`` that has generated queries trains on
    those; with ``generate`` it is not used."""
    dev: str | None = "dev"
    """Split whose queries the gate asks; ``None``, or a split the dataset lacks: it only reports agreement."""
    dev_queries: int | None = Field(None, ge=1)
    """Where the dataset has no split ``dev``: training queries, drawn by the seed, that become it and train nothing, at
    most a fifth of them; ``None``: it stays without. Generated queries become it one of a document, whose others train
    nothing either, and are asked over documents without them (as ``generate.keep`` says)."""
    test: str | None = "test"
    """Split that the report measures; ``None``: nothing is measured."""
    train_queries: int | None = Field(None, ge=1)
    """Training queries used, drawn by the seed; ``None`` uses all."""
    documents: int | None = Field(None, ge=1)
    """Documents used, for a short trial: those that answer the queries that train and measure, and others drawn by the
    seed. Fewer documents are easier to search, for every system alike. ``None`` uses all."""

    @property
    def measured(self) -> str:
        """``test``, in a run that measures."""
        assert self.test is not None
        return self.test
