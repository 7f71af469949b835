"""The dataset of a run: the recipe's one, or a mixture of several, prepared if the recipe says so.

Knows a recipe's sections ``dataset``, ``datasets`` and ``prepare``, and where a run has their files; must not know how
a source is read or prepared.
"""

from __future__ import annotations

from pathlib import Path

from retrieval_distill.config import DatasetConfig, Recipe, SourceConfig
from retrieval_distill.data import generated, sample
from retrieval_distill.data.dataset import Dataset, Qrels, Texts
from retrieval_distill.data.dataset_loader import load
from retrieval_distill.data.mixture import join_datasets
from retrieval_distill.errors import UserError
from retrieval_distill.runtime import files

WORKING_DIRECTORY = "working-directory.txt"
"""File of a run's folder of datasets: where the run was made."""


def of_run(recipe: Recipe, folder: Path) -> Dataset:
    """The dataset of a run, after its first stage.

    Args:
        recipe: The run's recipe.
        folder: The run's folder of datasets.

    Raises:
        UserError: A source is missing or defective, or lacks a split that the recipe names.
    """
    if not recipe.datasets:
        return _sample(with_dev(_open("", recipe.dataset, recipe, folder), recipe), recipe)
    parts = {name: _open(name, source, recipe, folder) for name, source in recipe.datasets.items()}
    return join_datasets({name: _select_splits(part, recipe.datasets[name], recipe) for name, part in parts.items()})


def remember_working_directory(recipe: Recipe, folder: Path) -> None:
    """Keep where a run was made, in its folder of datasets: relative sources start there, wherever it is read."""
    named = [recipe.dataset.source, *(source.source for source in recipe.datasets.values())]
    if any(Path(source).exists() for source in named):
        folder.mkdir(parents=True, exist_ok=True)
        files.write_text(folder / WORKING_DIRECTORY, f"{Path.cwd()}\n")


def located(source: DatasetConfig | SourceConfig, folder: Path) -> DatasetConfig | SourceConfig:
    """A source; its relative paths that lead nowhere from here start where the run was made."""
    kept = folder / WORKING_DIRECTORY
    if not kept.is_file():
        return source
    root = Path(kept.read_text(encoding="utf-8").strip())

    def path(given: str) -> str:
        return str(root / given) if not Path(given).exists() and (root / given).exists() else given

    queries = source.queries and path(source.queries)
    qrels = {split: path(file) for split, file in source.qrels.items()}
    return source.model_copy(update={"source": path(source.source), "queries": queries, "qrels": qrels})


def prepared_folder(folder: Path, name: str) -> Path:
    """Folder of a prepared dataset; ``name`` is empty if it is the only one."""
    return folder / "prepared" / (name or "dataset")


def _open(name: str, source: DatasetConfig | SourceConfig, recipe: Recipe, folder: Path) -> Dataset:
    if recipe.prepare is None:
        found = located(source, folder)
        return load(found.source, folder, found)
    return load(str(prepared_folder(folder, name)), folder).replace(name=name or Path(source.source).name)


def with_dev(dataset: Dataset, recipe: Recipe) -> Dataset:
    """With a dev split of training queries, where the dataset has none and the recipe's section asks for one.

    Of generated queries, the others of the same documents are left out altogether.
    """
    config = recipe.dataset
    train = generated.training_split(dataset, config.train)
    if not config.dev_queries or not config.dev or dataset.qrels.get(config.dev) or train not in dataset.qrels:
        return dataset
    judged, left_out = dataset.qrels(train), set[str]()
    if train == generated.SPLIT and dataset.generated is not None:
        dev, left_out = generated.hold_out(dataset, config.dev_queries, recipe.seed)
    else:
        dev = set(dataset.queries(train).sample(min(config.dev_queries, len(judged) // 5), recipe.seed))
    parts: dict[str, Qrels] = {train: {}, config.dev: {}}
    for id_, grades in judged.items():
        if id_ not in left_out:
            parts[config.dev if id_ in dev else train][id_] = grades
    return dataset.replace(qrels={**dataset.qrels, **parts})


def _sample(dataset: Dataset, recipe: Recipe) -> Dataset:
    """As many documents as the recipe's section ``dataset`` takes, with the training queries that it takes."""
    config = recipe.dataset
    if config.documents is None:
        return dataset
    train = generated.training_split(dataset, config.train)
    qrels = dict(dataset.qrels)
    if train in qrels:
        qrels[train] = {id_: qrels[train][id_] for id_ in _training_queries(dataset, train, config, recipe.seed)}
    answered = (train, *filter(None, (config.dev, config.test)), *recipe.evaluate.other_splits(train))
    sampled = dataset.replace(qrels=qrels)
    return sample.sample_documents(sampled, config.documents, answered=answered, seed=recipe.seed)


def _training_queries(dataset: Dataset, train: str, config: DatasetConfig | SourceConfig, seed: int) -> Texts:
    return dataset.queries(train).sample(config.train_queries, seed)


def _select_splits(part: Dataset, source: SourceConfig, recipe: Recipe) -> Dataset:
    """A dataset with the splits that its section names, renamed to the recipe's names, and other splits to measure."""
    train = None if source.train is None else generated.training_split(part, source.train)
    qrels = {}
    for role, split in (("train", train), ("dev", source.dev), ("test", source.test)):
        if split is not None:
            try:
                qrels[getattr(recipe.dataset, role) or role] = part.qrels(split)
            except UserError as error:
                raise UserError(f"{error}; or set its {role} to null, if it has none") from None
    qrels |= {split: part.qrels[split] for split in recipe.evaluate.other_splits(train, source.dev, source.test)
              if split in part.qrels}  # fmt: skip
    if train is not None:
        drawn = _training_queries(part, train, source, recipe.seed)
        qrels[recipe.dataset.train] = {id_: part.qrels(train)[id_] for id_ in drawn}
    return part.replace(qrels=qrels)
