"""Where a search finds its parts: in the folder of a run, or named one by one.

Knows folders; must not know how anything is searched.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from retrieval_distill.config import ReadConfig, RetrieveConfig, parse_recipe
from retrieval_distill.data import sources
from retrieval_distill.data.dataset import Dataset
from retrieval_distill.data.formats.names import KNOWN, columns
from retrieval_distill.data.load import load
from retrieval_distill.errors import UserError
from retrieval_distill.runtime import stages


@dataclass(frozen=True, eq=False)
class Place:
    """The parts of a search.

    Args:
        index: Folder of the index.
        model: The bi-encoder.
        source: The dataset by name, where the table of its documents is looked for.
        cache: Keeps datasets that are built or downloaded.
        beside: Folder that keeps what searching builds: BM25, weights of fusion, a teacher's scores.
        read: Loads the dataset.
        bm25: BM25's options.
        dev: Split that decides how a run is searched; ``None``: none does.
        id_names: Names that the column of ids may have in the table of documents.
    """

    index: Path
    model: str
    source: str
    cache: Path
    beside: Path
    read: Callable[[], Dataset]
    bm25: dict[str, Any]
    dev: str | None = None
    id_names: tuple[str, ...] = KNOWN["documents"]["id"]

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
        asked, cache = parse_recipe(stages.read_json(recipe), str(recipe)), folder / "dataset"
        names = (*columns(asked.dataset, "documents")["id"], *KNOWN["documents"]["id"])
        return cls(
            folder / "index-student", str(folder / "student"), asked.dataset.source, cache, folder / "search",
            lambda: sources.of_run(asked, cache), asked.retrieve.bm25, asked.dataset.dev,
            names,
        )  # fmt: skip

    @classmethod
    def of_parts(cls, index: Path, model: str, dataset: str, cache: Path, options: ReadConfig | None = None) -> Place:
        """An index, the model that embedded its documents, and their dataset, read as the options say."""
        beside = index.with_name(f"{index.name}-search")
        return cls(index, model, dataset, cache, beside, lambda: load(dataset, cache, options), RetrieveConfig().bm25)

    @cached_property
    def dataset(self) -> Dataset:
        """The documents' texts, and queries and judgements if there are any."""
        return self.read()
