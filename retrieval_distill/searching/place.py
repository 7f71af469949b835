"""Where a search finds its parts: in the folder of a run, or named one by one.

Knows folders; must not know how anything is searched.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from retrieval_distill import artifacts
from retrieval_distill.config import DatasetConfig, parse
from retrieval_distill.data.dataset import Dataset
from retrieval_distill.data.load import load
from retrieval_distill.errors import UserError


@dataclass(frozen=True, eq=False)
class Place:
    """The parts of a search.

    Args:
        index: Folder of the index.
        model: The bi-encoder.
        source: What to load the dataset from, and how.
        cache: Keeps datasets that are built or downloaded.
        beside: Folder that keeps what searching builds: BM25, weights of fusion, a teacher's scores.
    """

    index: Path
    model: str
    source: DatasetConfig
    cache: Path
    beside: Path

    @classmethod
    def of_run(cls, folder: Path) -> Place:
        """The student of a finished run.

        Raises:
            UserError: The folder holds no finished run.
        """
        recipe = folder / "recipe.json"
        if not recipe.is_file() or not (folder / "index-student").is_dir():
            raise UserError(
                f"{folder}: no finished run there; make one with: retrieval-distill run RECIPE --out {folder}"
            )
        source = parse(DatasetConfig, artifacts.read_json(recipe)["dataset"], str(recipe))
        return cls(folder / "index-student", str(folder / "student"), source, folder / "dataset", folder / "search")

    @classmethod
    def of_parts(cls, index: Path, model: str, dataset: str, cache: Path) -> Place:
        """An index, the model that embedded its documents, and their dataset."""
        source = parse(DatasetConfig, {"source": dataset}, "--dataset")
        return cls(index, model, source, cache, index.with_name(f"{index.name}-search"))

    @cached_property
    def dataset(self) -> Dataset:
        """The documents' texts, and queries and judgements if there are any."""
        return load(self.source.source, self.cache, self.source)
