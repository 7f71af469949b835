"""The dataset that a run works on: the recipe's, or its several as one, cleaned where the recipe says so.

Knows a recipe's sections ``dataset``, ``datasets`` and ``prepare``, and where a run keeps their files; must not know
how a source is read or cleaned.
"""

from __future__ import annotations

from pathlib import Path

from retrieval_distill.config import DatasetConfig, Recipe, SourceConfig
from retrieval_distill.data import generated
from retrieval_distill.data.dataset import Dataset
from retrieval_distill.data.load import load
from retrieval_distill.data.mixture import joined
from retrieval_distill.errors import UserError


def of_run(recipe: Recipe, folder: Path) -> Dataset:
    """The dataset of a run, as its first stage left it.

    Args:
        recipe: The run's.
        folder: The run's folder for its datasets.

    Raises:
        UserError: A source is gone or defective, or lacks a split that the recipe names.
    """
    if not recipe.datasets:
        return _opened("", recipe.dataset, recipe, folder)
    parts = {name: _opened(name, source, recipe, folder) for name, source in recipe.datasets.items()}
    return joined({name: _asked(part, recipe.datasets[name], recipe) for name, part in parts.items()})


def prepared(folder: Path, name: str) -> Path:
    """Where a dataset is kept once it is cleaned; ``name`` is empty for one that is alone."""
    return folder / "prepared" / (name or "dataset")


def _opened(name: str, source: DatasetConfig | SourceConfig, recipe: Recipe, folder: Path) -> Dataset:
    if recipe.prepare is None:
        return load(source.source, folder, source)
    return load(str(prepared(folder, name)), folder).replaced(name=name or Path(source.source).name)


def _asked(part: Dataset, source: SourceConfig, recipe: Recipe) -> Dataset:
    """A dataset with the splits that its section names, under the names that the recipe has for them; and those that
    are measured beside them.
    """
    train = None if source.train is None else generated.training_split(part, source.train)
    qrels = {}
    for role, split in (("train", train), ("dev", source.dev), ("test", source.test)):
        if split is not None:
            try:
                qrels[getattr(recipe.dataset, role) or role] = part.qrels(split)
            except UserError as error:
                raise UserError(f"{error}; a dataset may do without: set its {role} to null") from None
    qrels |= {split: part.qrels[split] for split in recipe.evaluate.beside(train, source.dev, source.test)
              if split in part.qrels}  # fmt: skip
    if train is not None:
        drawn = part.queries(train).drawn(source.train_queries, recipe.seed)
        qrels[recipe.dataset.train] = {id_: part.qrels(train)[id_] for id_ in drawn}
    return part.replaced(qrels=qrels)
