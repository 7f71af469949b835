"""Verbs of students: ``compress``, ``distill``, ``export_model``, ``push``.

Knows what decides a student, which is what its stage is known by; must not know how one is trained.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from os import fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retrieval_distill import endpoints, models
from retrieval_distill.api.nouns import documents_of
from retrieval_distill.config import CompressConfig, Recipe, configured, load_recipe
from retrieval_distill.data import generated
from retrieval_distill.data.dataset import Dataset
from retrieval_distill.data.run import Run
from retrieval_distill.data.training_set import TrainingSet
from retrieval_distill.data.unknown_ids import refuse_unknown
from retrieval_distill.errors import UserError
from retrieval_distill.runtime import processes, stages
from retrieval_distill.runtime.files import write_text
from retrieval_distill.student.student import Student
from retrieval_distill.training import CHECKPOINTS

if TYPE_CHECKING:
    from transformers import TrainerCallback

    from retrieval_distill.api.nouns import Documents, Model
    from retrieval_distill.retrieval.bm25 import BM25
    from retrieval_distill.student.exported import Scorer
    from retrieval_distill.student.publication import Publication

TRAINS = {"student", "objectives", "views", "embedding_teacher", "training"}
"""Sections of a recipe that decide what the student learns."""


def compress(
    documents: Documents, *, out: str | Path, seed: int = 7, config: CompressConfig | None = None, **options: Any
) -> Student:
    """Make a small encoder of a larger one, on plain text; a killed training continues, a finished one is kept.

    Args:
        documents: What to learn from: ``Texts``, a ``Dataset``, ``{id: text}`` or a list of texts.
        out: Folder of the student, a model for sentence-transformers.
        seed: Random seed.
        config: The recipe's section ``compress``.
        options: Its keys by name, such as ``model="my-encoder"`` or ``layers="spaced:3"``; ``model`` or ``teacher`` is
            needed.

    Raises:
        UserError: Several processes were started, or see ``retrieval_distill.compress.training``.
    """
    chosen, texts = configured(CompressConfig, config, options, "compress"), documents_of(documents)

    def work(folder: Path) -> dict[str, Any]:
        from retrieval_distill.compress import training
        from retrieval_distill.student import card

        if processes.count() > 1:
            raise UserError("compress trains in one process; start it without torchrun, then the rest with it")
        counts = training.compress(chosen, texts, folder, seed)
        told = card.compression_card(folder, chosen.model_dump(mode="json"), counts)
        write_text(folder / card.FILE, told)
        return counts

    named = {name for name in (chosen.model, chosen.teacher) if name}
    inputs = {
        "texts": texts.fingerprint,
        "models": {name: models.fingerprint(name) for name in sorted(named)},
        "seed": seed,
        "config": chosen.model_dump(mode="json"),
    }
    return Student(str(out), manifest=stages.stage("compress", out, inputs, work, scratch=(CHECKPOINTS,)))


def distill(
    scored: Run,
    dataset: Dataset,
    *,
    out: str | Path,
    model: Model | None = None,
    recipe: Recipe | str = "own-corpus",
    split: str = "train",
    dev: tuple[Run, str] | None = None,
    callbacks: Sequence[TrainerCallback] = (),
    bm25: Callable[[], BM25] | None = None,
    **sections: Any,
) -> Student:
    """Train a student on raw teacher scores; a killed training continues, a finished one is kept.

    Args:
        scored: Candidates of the split's queries under teacher scores, as ``score`` gives them.
        dataset: Texts and judgements.
        out: Folder of the student, a model for sentence-transformers.
        model: What the student starts from: hub id, folder or packaged name; in Python also a ``Student``; ``None``: as
            the recipe says.
        recipe: A recipe, its file or the name of a shipped one. Its sections ``student``, ``objectives``, ``views``,
            ``embedding_teacher`` and ``training`` and its ``seed`` are used; with ``dev``, ``evaluate`` too.
        split: Split whose judgements tell relevant candidates from the others.
        dev: First-stage candidates of other queries and the split that judges them, for ``training.evaluate_steps``.
        callbacks: Called while training, as in ``transformers.Trainer``; they do not count for what is kept.
        bm25: Returns BM25 over the documents, with the options of the recipe's section ``retrieve``; called only if
            ``training.lexical_weight`` needs it. ``None``: it is built anew.
        sections: The recipe's sections on top of it, such as ``training={"steps": 200}``.

    Raises:
        UserError: The dataset lacks a text of the run, ``training.evaluate_steps`` without ``dev``, or see
            ``retrieval_distill.training.distillation``.
    """
    chosen = load_recipe(recipe) if isinstance(recipe, str) else recipe
    if model is not None:
        sections = {**sections, "student": {**sections.get("student", {}), "model": fspath(model)}}
    chosen = configured(Recipe, chosen, sections, "distill")
    asked = None
    if dev:
        from retrieval_distill.training.dev_retrieval import DevSet

        candidates, held_out = dev
        view = generated.held_out_view(dataset, held_out)
        candidates = generated.in_view(candidates, dataset, view)
        asked = DevSet.pool(candidates, held_out, view, chosen.training.dev_documents, chosen.seed)
    seen = generated.training_view(dataset, split)
    training_set = TrainingSet(generated.use_copies(scored, dataset), seen.qrels(split), seen.queries, seen.documents)
    refuse_unknown(training_set.scored, seen.queries, seen.documents)

    def work(folder: Path) -> dict[str, Any]:
        from retrieval_distill.retrieval.bm25 import BM25
        from retrieval_distill.student import card
        from retrieval_distill.training import distillation

        build = bm25 or partial(BM25, seen.documents, **chosen.retrieve.bm25)
        scores = build().score_matrix if chosen.training.lexical_weight else None
        counts = distillation.distill(training_set, chosen, folder, asked, callbacks, scores)
        if processes.rank() == 0:
            told = chosen.model_dump(mode="json", include={"name", "seed", "compress", *TRAINS})
            write_text(folder / card.FILE, card.training_card(folder, dataset.name, split, told, counts))
        return counts

    endpoints.declare(chosen.endpoints)
    embedding_teacher, query_model = chosen.embedding_teacher.model, chosen.student.query_model
    inputs = {
        **training_set.inputs,
        "model": models.fingerprint(chosen.student.model),
        "embedding_teacher_model": (
            None if embedding_teacher in (None, "start") else models.fingerprint(str(embedding_teacher))
        ),
        "query_model": query_model and models.fingerprint(query_model),
        "seed": chosen.seed,
        "dev": [asked.fingerprint, chosen.evaluate.measures[0], chosen.evaluate.depth] if asked else None,
        "bm25": chosen.retrieve.bm25 if chosen.training.lexical_weight else None,
        "datasets": {name: source.weight for name, source in chosen.datasets.items()},
        **chosen.model_dump(mode="json", include=TRAINS, exclude={"training": {"report_to"}}),
    }
    made = stages.stage("distill", out, inputs, work, together=True, scratch=(CHECKPOINTS,))
    return Student(str(out), manifest=made)


def push(student: str | Path | Student, repo: str, *, upload: bool = False, private: bool = False) -> Publication:
    """Publish a student on the Hugging Face hub, with its card; without ``upload``, say what would be published.

    Example:
        >>> import retrieval_distill as rd
        >>> rd.push("runs/demo/student", "me/python-docs-retriever")  # doctest: +SKIP

    Args:
        student: A student, or its folder.
        repo: Repository, ``USER/NAME``; made if there is none.
        upload: Upload it; the token is that of ``hf auth login``, or the environment's ``HF_TOKEN``.
        private: Make the repository private, where it has to be made.

    Raises:
        UserError: No model is there, it has no card, or the hub refuses.
    """
    from retrieval_distill.student.publication import publish

    return publish(fspath(student), repo, upload=upload, private=private)


def export_model(
    model: Model,
    *,
    out: str | Path,
    to: str,
    dtype: str = "float32",
    dataset: Dataset | None = None,
    split: str = "dev",
    label: int | None = None,
    force: bool = False,
) -> Student | Scorer:
    """Export a student or a cross-encoder to a folder that runs without PyTorch, checked against the model.

    The folder holds one graph (transformer, pooling, projection, normalisation; two of a model with separate encoders),
    the tokenizer, prompts, ``export.json`` with what it was checked on, and an example. Of several ways to 8 bits the
    fastest is taken that keeps 99.5 % of nDCG@10, or without judgements a mean cosine to float32 of 0.998 (a
    cross-encoder: Kendall's tau of 0.95).

    Args:
        model: A student, another bi-encoder or a cross-encoder: hub id, folder or packaged name; in Python also a
            ``Student``.
        out: Folder of the export.
        to: ``"onnx"`` or ``"openvino"``.
        dtype: ``"float32"``, ``"float16"``, which stores weights in 16 bits, or ``"int8"``.
        dataset: Texts and judgements to check it on; ``None``: English paragraphs that come with Python.
        split: Split of the dataset whose queries and judgements are used.
        label: Which label of a cross-encoder means relevant; ``None``: it has one.
        force: Write 8 bits even if they rank worse.

    Returns:
        What the folder holds: a ``Student`` that encodes, or what scores pairs.

    Raises:
        UserError: The model cannot be loaded or has no such graph, the runtime is unknown or not installed, 8 bits rank
            worse than asked for, or the folder cannot be written.
    """
    from retrieval_distill.exporting import export
    from retrieval_distill.student.exported import Scorer

    made = export.export_model(fspath(model), out, to, dtype, dataset, split, label, force)
    return Scorer.open(out) if made["counts"]["kind"] == "cross-encoder" else Student(str(out), manifest=made)
