"""A tiny corpus with metadata, embedded and indexed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from retrieval_distill.data.dataset import Dataset
from retrieval_distill.data.formats import beir
from retrieval_distill.embedding.embed import embed
from retrieval_distill.index.faiss_index import index
from retrieval_distill.search.searcher import Searcher


@dataclass
class Corpus:
    """Folders of one corpus and its parts."""

    folder: Path
    dataset: Dataset
    model: str

    @property
    def index(self) -> Path:
        return self.folder / "index"

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def options(self) -> list[str]:
        """How the command line names them."""
        return ["--index", str(self.index), "--model", self.model, "--dataset", str(self.data)]

    def searcher(self) -> Searcher:
        return Searcher.open(self.index, self.model, self.dataset)


@pytest.fixture(scope="session")
def corpus(dataset, encoders, tmp_path_factory) -> Corpus:
    """60 documents; each has a year (2000 to 2009, by its number) and a source."""
    folder = tmp_path_factory.mktemp("corpus")
    beir.save(dataset, folder / "data")
    path = folder / "data" / "corpus.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for number, row in enumerate(rows):
        row |= {"year": 2000 + number % 10, "meta": {"source": "NIH" if number % 2 else "it's ours"}}
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    embed(encoders["bert"], dataset.documents, folder / "vectors", "float32")
    index(folder / "vectors", folder / "index", "flat")
    return Corpus(folder, dataset, encoders["bert"])
