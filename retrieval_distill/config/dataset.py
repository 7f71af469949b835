"""What a recipe works on."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from retrieval_distill.config.section import Section


class ReadConfig(Section):
    """How a dataset's source is read."""

    format: str | None = None
    """Name of the source's format; ``None``: its prefix, ending or files tell."""
    columns: dict[str, str] = {}
    """Names of columns that differ: ``{id: doc_id, text: body, title: name, queries.id: qid, qrels.score: grade}``."""
    queries: str | None = None
    """Table of queries, for a source that holds documents only."""
    qrels: dict[str, str] = {}
    """Split -> file of judgements (a table, or TREC), for a source that holds none."""
    encoding: str = "utf-8"
    """Encoding of text files; a byte that it does not allow is a bad row, never guessed at."""
    on_bad: Literal["refuse", "skip"] = "refuse"
    """What to do with a row that cannot be read: stop and name it, or leave it out, counted and named."""


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
    test: str | None = "test"
    """Split that the report measures; ``None``: nothing is measured."""
    train_queries: int | None = Field(None, ge=1)
    """Training queries used, drawn by the seed; ``None`` uses all."""

    @property
    def measured(self) -> str:
        """``test``, in a run that measures."""
        assert self.test is not None
        return self.test
