"""Locates the parts of a search: in the folder of a run, or given one by one.

Knows folders; must not know how anything is searched.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from retrieval_distill import endpoints
from retrieval_distill.config import ReadConfig, RetrieveConfig, parse_recipe
from retrieval_distill.data import sources
from retrieval_distill.data.dataset import Dataset
from retrieval_distill.data.dataset_loader import load
from retrieval_distill.data.formats.names import KNOWN, columns
from retrieval_distill.errors import UserError
from retrieval_distill.runtime import stages


@dataclass(frozen=True, eq=False)
class SearchLocation:
    """The parts of a search.

    Args:
        index: Folder of the index.
        model: The bi-encoder.
        source: Name of the dataset, where the table of documents is looked for.
        cache: Folder of datasets that are built or downloaded.
        search_folder: Folder for what a search builds: BM25, fusion weights, a teacher's scores.
        read: Loads the dataset.
        bm25: BM25's options.
        dev: Split that decides how a run is searched; ``None``: none.
        id_names: Possible names of the column of ids in the table of documents.
    """

    index: Path
    model: str
    source: str
    cache: Path
    search_folder: Path
    read: Callable[[], Dataset]
    bm25: dict[str, Any]
    dev: str | None = None
    id_names: tuple[str, ...] = KNOWN["documents"]["id"]

    @classmethod
    def of_run(cls, folder: Path) -> SearchLocation:
        """The parts of a finished run, with its student.

        Raises:
            UserError: The folder holds no finished run.
        """
        recipe = folder / "recipe.json"
        if not recipe.is_file() or not (folder / "index-student").is_dir():
            raise UserError(
                f"{folder}: no finished run there; create one with: retrieval-distill run RECIPE --out {folder}"
            )
        parsed, cache = parse_recipe(stages.read_json(recipe), str(recipe)), folder / "dataset"
        endpoints.declare(parsed.endpoints, folder / endpoints.FOLDER)
        names = (*columns(parsed.dataset, "documents")["id"], *KNOWN["documents"]["id"])
        source = sources.located(parsed.dataset, cache).source
        return cls(
            folder / "index-student", str(folder / "student"), source, cache, folder / "search",
            lambda: sources.of_run(parsed, cache), parsed.retrieve.bm25, parsed.dataset.dev,
            names,
        )  # fmt: skip

    def with_model(self, model: str | None) -> SearchLocation:
        """The same with another model for the queries, such as an exported one; ``None``: its own."""
        return self if model is None else replace(self, model=model)

    @classmethod
    def of_parts(
        cls, index: Path, model: str, dataset: str, cache: Path, options: ReadConfig | None = None
    ) -> SearchLocation:
        """An index, the model that embedded its documents, and their dataset with its read options."""
        folder = index.with_name(f"{index.name}-search")
        return cls(index, model, dataset, cache, folder, lambda: load(dataset, cache, options), RetrieveConfig().bm25)

    @cached_property
    def dataset(self) -> Dataset:
        """The documents' texts, and queries and judgements if there are any."""
        return self.read()
