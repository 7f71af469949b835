"""Verbs of datasets: ``convert``, ``prepare``, ``generate``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from retrieval_distill.api.candidates import retrieve
from retrieval_distill.api.teachers import score
from retrieval_distill.config import GenerateConfig, parse
from retrieval_distill.data import generated
from retrieval_distill.data.dataset import Dataset, Texts
from retrieval_distill.data.run import Run
from retrieval_distill.errors import UserError, nearest
from retrieval_distill.runtime import stages
from retrieval_distill.runtime.stages import Manifest
from retrieval_distill.scores.contract import Teacher
from retrieval_distill.teacher.ensemble import Ensemble


def convert(
    dataset: Dataset, out: str | Path, to: str, run: Run | None = None, split: str = "train", negatives: int = 7
) -> None:
    """Write a dataset in another format; a folder that holds it already is kept.

    Args:
        dataset: What to write.
        out: Folder to write, absent, empty or written by ``convert``; with ``sentence-transformers`` a file
            (``.parquet``, ``.jsonl``, ``.csv``).
        to: ``beir``, ``jsonl``, ``csv``, ``parquet``, ``hugging-face``, ``ms-marco``, ``trec`` (judgements only) or
            ``sentence-transformers``.
        run: Teacher scores, for a training table.
        split: Split of a training table.
        negatives: Negatives in each row of a training table.

    Raises:
        UserError: No such format, the format cannot hold a text or an id, a training table lacks its scores, or the
            folder holds what ``convert`` did not write.
    """
    from retrieval_distill.data.formats import FORMATS
    from retrieval_distill.data.formats.contract import Export
    from retrieval_distill.data.formats.training_table import TRAINING_TABLE

    written = [name for name, format_ in FORMATS.items() if format_.write is not None]
    write = FORMATS[to].write if to in FORMATS else None
    if write is None:
        raise UserError(f"format {to!r} is not written{nearest(to, written)}")
    if to == TRAINING_TABLE.name:
        write(dataset, Path(out), Export(run, split, negatives))
        return

    def work(folder: Path) -> dict[str, Any]:
        write(dataset, folder, Export())
        return {"documents": len(dataset.documents), "queries": len(dataset.queries)}

    inputs = {
        "texts": [dataset.documents.fingerprint, dataset.queries.fingerprint],
        "qrels": stages.fingerprint(dataset.qrels),
        "parents": None if dataset.parents is None else stages.fingerprint(dataset.parents.to_pylist()),
        "generated": None if dataset.generated is None else stages.fingerprint(dataset.generated.to_pylist()),
        "to": to,
    }
    stages.stage("convert", out, inputs, work)


def prepare(dataset: Dataset, folder: str | Path, overrides: Sequence[str] = (), **options: Any) -> Manifest:
    """Clean, segment and check a dataset; ``load_dataset(folder, cache)`` loads the result.

    Args:
        dataset: What to prepare.
        folder: Where the result and its ``report.json`` go; a finished one is kept.
        overrides: Keys of ``PrepareConfig``, as ``"duplicates=near"``.
        options: The same as Python values.

    Raises:
        UserError: An option is unknown, or what a step needs is missing.
    """
    from retrieval_distill.config import PrepareConfig
    from retrieval_distill.data.prepare import prepare as prepare_into

    return prepare_into(dataset, folder, parse(PrepareConfig, dict(options), "prepare", overrides))


def generate(
    dataset: Dataset, folder: str | Path, overrides: Sequence[str] = (), teacher: Teacher | Ensemble | None = None,
    store: str | Path | None = None, seed: int = 7, **options: Any,
) -> Manifest:  # fmt: skip
    """Make queries from a dataset's documents; ``load_dataset(folder, cache)`` loads the result, BEIR layout.

    The dataset's own queries and judgements stay; the generated ones are the split ``generated``, and
    ``generated.parquet`` tells how each was made.

    Args:
        dataset: Its documents are asked.
        folder: Where the result and its ``report.json`` go; a killed attempt continues, a finished one is kept.
        overrides: Keys of ``GenerateConfig``, as ``"ways={titles: 1, sentences: 2}"``.
        teacher: For ``round_trip.teacher`` and ``round_trip.score``; retrieval is BM25.
        store: Score store of the teacher.
        seed: Of every draw.
        options: The same as Python values.

    Raises:
        UserError: An option is unknown or missing, or no query is left.
    """
    from retrieval_distill.data.formats import beir
    from retrieval_distill.generate.generate import generate as generate_into
    from retrieval_distill.generate.round_trip import Asked

    def scored(run: Run, queries: Texts, documents: Texts) -> Run:
        assert teacher is not None and store is not None
        return score(run, queries, documents, teacher, store)[0]

    if teacher is not None and store is None:
        raise UserError("a teacher needs a score store: name a folder for it")
    config = parse(GenerateConfig, dict(options), "generate", overrides)
    asked = Asked(lambda queries, depth: retrieve(dataset.documents, queries, depth), scored if teacher else None,
                  {"teacher": teacher and teacher.fingerprint})  # fmt: skip
    return generate_into(
        dataset, folder, config, seed, asked, lambda made, out: beir.save(generated.merged(dataset, made), out)
    )
