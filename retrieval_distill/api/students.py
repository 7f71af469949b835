"""Verbs of students: ``compress``, ``distill``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from retrieval_distill import models
from retrieval_distill.config import CompressConfig, Recipe, parse
from retrieval_distill.data import generated
from retrieval_distill.data.dataset import Dataset, Texts
from retrieval_distill.data.run import Run
from retrieval_distill.errors import UserError
from retrieval_distill.runtime import processes, stages
from retrieval_distill.runtime.stages import Manifest

TRAINS = {"student", "objectives", "views", "embedding_teacher", "training"}
"""Sections of a recipe that decide what the student learns."""


def compress(
    texts: Texts, folder: str | Path, overrides: Sequence[str] = (), seed: int = 7, **options: Any
) -> Manifest:
    """Make a small encoder of a larger one, on plain text; a killed training continues, a finished one is kept.

    Args:
        texts: What to learn from, such as a dataset's ``documents``.
        folder: Where the student goes; ``SentenceTransformer(folder)`` loads it.
        overrides: Keys of ``CompressConfig``, as ``"layers=spaced:3"``.
        seed: Of all that is drawn.
        options: Keys of ``CompressConfig`` as Python values; ``model`` or ``teacher`` is needed.

    Raises:
        UserError: Several processes were started, or see ``retrieval_distill.compress.training``.
    """
    from retrieval_distill.compress import training
    from retrieval_distill.student import card

    config = parse(CompressConfig, dict(options), "compress", overrides)

    def work(out: Path) -> dict[str, Any]:
        if processes.count() > 1:
            raise UserError("compress trains in one process; start it without torchrun, then the rest with it")
        counts = training.compress(config, texts, out, seed)
        (out / card.FILE).write_text(card.compressed(out, config.model_dump(mode="json"), counts), encoding="utf-8")
        return counts

    named = {name for name in (config.model, config.teacher) if name}
    inputs = {
        "texts": texts.fingerprint,
        "models": {name: models.fingerprint(name) for name in sorted(named)},
        "seed": seed,
        "config": config.model_dump(mode="json"),
    }
    return stages.stage("compress", folder, inputs, work)


def distill(
    run: Run,
    dataset: Dataset,
    split: str,
    recipe: Recipe,
    folder: str | Path,
    dev: tuple[Run, str] | None = None,
) -> Manifest:
    """Train a student on raw teacher scores; a killed training continues, a finished one is kept.

    Args:
        run: Candidates of the split's queries under teacher scores.
        dataset: Texts and judgements.
        split: Which judgements tell relevant candidates from the others.
        recipe: Its sections ``student``, ``objectives``, ``views``, ``embedding_teacher`` and ``training`` and its
            ``seed`` are used; with ``dev``, ``evaluate`` too.
        folder: Where the student goes; ``SentenceTransformer(folder)`` loads it.
        dev: First-stage candidates of other queries and the split that judges them, for ``training.evaluate_steps``.

    Raises:
        UserError: ``training.evaluate_steps`` without ``dev``, or see ``retrieval_distill.training.trainer``.
    """
    asked = None
    if dev:
        from retrieval_distill.training.dev import DevSet

        asked = DevSet.pool(*dev, dataset, recipe.training.dev_documents, recipe.seed)
    run, seen = generated.renamed(run, dataset), generated.as_trained(dataset, split)

    def work(out: Path) -> dict[str, Any]:
        from retrieval_distill.student import card
        from retrieval_distill.training.trainer import distill

        counts = distill(run, seen.split(split), seen.queries, seen.documents, recipe, out, asked)
        if processes.rank() == 0:
            told = recipe.model_dump(mode="json", include={"name", "seed", "compress", *TRAINS})
            (out / card.FILE).write_text(card.trained(out, dataset.name, split, told, counts), encoding="utf-8")
        return counts

    embedding_teacher = recipe.embedding_teacher.model
    named = None if embedding_teacher in (None, "start") else models.fingerprint(embedding_teacher)
    inputs = {
        "scores": stages.fingerprint(run.frame.to_csv(index=False)),
        "texts": [seen.documents.fingerprint, seen.queries.fingerprint],
        "qrels": stages.fingerprint(seen.split(split)),
        "model": models.fingerprint(recipe.student.model),
        "embedding_teacher_model": named,
        "query_model": recipe.student.query_model and models.fingerprint(recipe.student.query_model),
        "seed": recipe.seed,
        "dev": [asked.fingerprint, recipe.evaluate.measures[0], recipe.evaluate.depth] if asked else None,
        "datasets": {name: source.weight for name, source in recipe.datasets.items()},
        **recipe.model_dump(mode="json", include=TRAINS, exclude={"training": {"report_to"}}),
    }
    return stages.stage("distill", folder, inputs, work, together=True)
