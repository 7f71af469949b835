"""Verbs of datasets: ``load_dataset``, ``convert``, ``prepare``, ``generate``.

Knows datasets and where they are kept; must not know any file format, or how queries are made.
"""

from __future__ import annotations

from collections.abc import Sequence
from os import fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retrieval_distill.bounds import Count, bounded
from retrieval_distill.config import GenerateConfig, PrepareConfig, ReadConfig, TeacherConfig, configured
from retrieval_distill.data.dataset import Dataset, Texts
from retrieval_distill.data.run import Run
from retrieval_distill.data.unknown_ids import refuse_unknown
from retrieval_distill.errors import UserError
from retrieval_distill.runtime import stages
from retrieval_distill.runtime.files import CACHE

if TYPE_CHECKING:
    import pandas as pd

    from retrieval_distill.api.nouns import Model
    from retrieval_distill.index.index import Index
    from retrieval_distill.retrieval.bm25 import BM25
    from retrieval_distill.scores.teacher_contract import Teacher


def load_dataset(
    source: str | Path, *, cache: str | Path = CACHE, config: ReadConfig | None = None, **options: Any
) -> Dataset:
    """Load a dataset.

    Args:
        source: A folder, file or archive; ``beir:NAME``, ``nanobeir:NAME``, ``hf:NAME``, ``ir:ID`` or ``python-docs``.
        cache: Folder that keeps datasets that had to be built, downloaded or unpacked.
        config: How to read it; ``None``: the format is recognised, and the first bad row is refused.
        options: Its keys by name, such as ``columns={"id": "doc_id", "text": "body"}``.

    Raises:
        UserError: No such source, a download that failed, or a defect in the files.

    Example:
        >>> import retrieval_distill as rd
        >>> data = rd.load_dataset("data/sample")
        >>> len(data.documents) > 0, "train" in data.qrels
        (True, True)
    """
    from retrieval_distill.data.dataset_loader import load

    return load(str(source), cache, configured(ReadConfig, config, options, "load_dataset"))


@bounded
def convert(
    dataset: Dataset, *, out: str | Path, to: str, scores: Run | None = None, split: str = "train", negatives: Count = 7
) -> Path:
    """Write a dataset in another format; a folder that holds it already is kept.

    Args:
        dataset: What to write.
        out: Folder to write, absent, empty or written by ``convert``; with ``sentence-transformers`` a file
            (``.parquet``, ``.jsonl``, ``.csv``).
        to: ``beir``, ``jsonl``, ``csv``, ``parquet``, ``hugging-face``, ``ms-marco``, ``trec`` (judgements only) or
            ``sentence-transformers``.
        scores: Teacher scores, for a training table.
        split: Split of a training table.
        negatives: Negatives in each row of a training table.

    Returns:
        What was written.

    Raises:
        UserError: No such format, the format cannot hold a text or an id, a training table lacks its scores, the
            dataset lacks a text of theirs, or the folder holds what ``convert`` did not write.
    """
    from retrieval_distill.data import formats, generated
    from retrieval_distill.data.formats.reading import Export
    from retrieval_distill.data.formats.training_table import TRAINING_TABLE

    write = formats.writer(to)
    if scores is not None:
        known = generated.with_copies(dataset)
        refuse_unknown(generated.use_copies(scores, dataset), dataset.queries, known, "the run of scores")
    if to == TRAINING_TABLE.name:
        write(dataset, Path(out), Export(scores, split, negatives))
        return Path(out)

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
    return Path(out)


def prepare(dataset: Dataset, *, out: str | Path, config: PrepareConfig | None = None, **options: Any) -> Dataset:
    """Clean, segment and check a dataset; ``load_dataset(out)`` loads the result too.

    Args:
        dataset: What to prepare.
        out: Where the result and its ``report.json`` go; a finished one is kept.
        config: The recipe's section ``prepare``.
        options: Its keys by name, such as ``duplicates="near"``.

    Raises:
        UserError: An option is unknown, or what a step needs is missing.
    """
    from retrieval_distill.data.formats import beir
    from retrieval_distill.data.prepare import prepare as prepare_into

    manifest = prepare_into(dataset, out, configured(PrepareConfig, config, options, "prepare"))
    return beir.load(out).replace(manifest=manifest)


def generate(
    dataset: Dataset,
    *,
    out: str | Path,
    index: Index | str | Path | None = None,
    model: Model | None = None,
    bm25: BM25 | None = None,
    teacher: Teacher | Sequence[Teacher] | None = None,
    store: str | Path | None = None,
    teacher_config: TeacherConfig | None = None,
    seed: int = 7,
    corpus: bool = True,
    config: GenerateConfig | None = None,
    **options: Any,
) -> Dataset:
    """Make queries from a dataset's documents; ``load_dataset(out)`` loads the result too.

    The dataset's own queries and judgements stay; the generated ones are the split ``generated``, and
    ``generated.parquet`` tells how each was made.

    Args:
        dataset: Its documents are what queries are made from.
        out: Where the result and its ``report.json`` go; a killed attempt continues, a finished one is kept.
        index: For ``round_trip``: folder of an index over the documents, whose search is fused with BM25's; in Python
            also the ``Index``. ``None``: BM25 alone tells whether a query leads back to its document.
        model: The bi-encoder that embedded the documents of ``index``.
        bm25: BM25 over the documents, built before; ``None``: it is built here.
        teacher: For ``round_trip.teacher`` and ``round_trip.score``: one, or several that score together.
        store: Score store of the teacher.
        teacher_config: The recipe's section ``teacher``, for the scale of ``round_trip.score``; ``None``: raw scores.
        seed: Random seed.
        corpus: Write the whole dataset (BEIR layout); ``False``: the generated queries alone.
        config: The recipe's section ``generate``.
        options: Its keys by name, such as ``ways={"titles": 1, "sentences": 2}`` or ``min_words=2``.

    Raises:
        UserError: An option is unknown or missing, or no query is left.
    """
    import pandas as pd

    from retrieval_distill.api.candidates import retrieve
    from retrieval_distill.api.teachers import score
    from retrieval_distill.data import generated
    from retrieval_distill.data.formats import beir
    from retrieval_distill.data.formats.sidecars import GENERATED
    from retrieval_distill.generate.generate import generate as generate_into
    from retrieval_distill.generate.round_trip import Judges
    from retrieval_distill.retrieval.bm25 import BM25

    if teacher is not None and store is None:
        raise UserError("a teacher needs a score store: name a folder for it")
    chosen, lexical = configured(GenerateConfig, config, options, "generate"), bm25
    name = None if model is None else fspath(model)

    def find(queries: Texts, depth: int) -> Run:
        nonlocal lexical
        lexical = lexical or BM25(dataset.documents)
        return retrieve(queries, dataset, depth=depth, index=index, model=name, bm25=lexical)

    def scored(run: Run, made: Dataset) -> Run:
        assert teacher is not None and store is not None
        return score(run, made, teacher=teacher, store=store, config=teacher_config)

    def save(made: pd.DataFrame, folder: Path) -> None:
        if corpus:
            beir.save(generated.add_generated(dataset, made), folder)
        else:
            made.to_parquet(folder / GENERATED, index=False)

    judges = Judges(find, scored if teacher else None, _identity(index, bm25, teacher, teacher_config))
    manifest = generate_into(dataset, out, chosen, seed, judges, save)
    if corpus:
        return beir.load(out).replace(manifest=manifest)
    return generated.add_generated(dataset, pd.read_parquet(Path(out) / GENERATED)).replace(manifest=manifest)


def _identity(index: Any, bm25: Any, teacher: Any, config: TeacherConfig | None) -> dict[str, Any]:
    """What tells these judges of a round trip from others, as JSON values."""
    folder = getattr(index, "folder", index)
    teachers = teacher if isinstance(teacher, Sequence) else [teacher] if teacher else []
    return {
        "index": None if folder is None else (stages.read_manifest(folder) or {}).get("fingerprint"),
        "bm25": None if bm25 is None else bm25.options,
        "teachers": [one.fingerprint for one in teachers],
        "scale": config and config.model_dump(include={"ensemble", "normalise", "weight", "weights", "squashed"}),
    }
