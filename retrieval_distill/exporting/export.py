"""``export_model``: a student or a cross-encoder as a folder that runs without PyTorch, checked against the model.

Knows which graphs a model has, what is tried and which of that is written; must not know how a graph is made smaller,
or what a folder tells people.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from retrieval_distill import models
from retrieval_distill.data.dataset import Dataset
from retrieval_distill.errors import UserError, first_line, nearest
from retrieval_distill.exporting import check, precision, presentation
from retrieval_distill.exporting.check import Outcome, Sample
from retrieval_distill.hardware import devices
from retrieval_distill.runtime import files, stages
from retrieval_distill.runtime.progress import progress
from retrieval_distill.student import backends, encoder, exported, graph, routes
from retrieval_distill.student.exported import RUNTIMES, Exported, FastTokenizer, Scorer, Side
from retrieval_distill.teacher import cross_encoder, modules, teacher_loader
from retrieval_distill.teacher.shared_prefix import is_decoder

logger = logging.getLogger("retrieval_distill")

SCRATCH = "trials"
"""Folder of what is tried, within the export while that is made."""

DTYPES = ("float32", "float16", "int8")

CALIBRATION_TOKENS, CALIBRATION_BATCHES = 512, 64
"""Size of a batch of the sample that a way to 8 bits may look at, and their number."""


@dataclass(frozen=True)
class Part:
    """What reads the texts of a kind, or pairs; several may share a graph, which a folder of the export holds."""

    folder: str
    """``"."``: the export itself."""
    tokenizer: FastTokenizer
    max_length: int
    prompt: str
    write: Callable[[Path], Path]
    """Writes the float32 graph."""

    def side(self, run: exported.Run) -> Side:
        """The same with a graph that runs."""
        return Side(self.tokenizer, run, self.max_length, self.prompt)


@dataclass(frozen=True)
class Source:
    """A model to export."""

    name: str
    kind: str
    """``"bi-encoder"`` or ``"cross-encoder"``"""
    parts: dict[str, Part]
    """By what it reads: ``query`` and ``document``, or ``pair``."""
    facts: dict[str, Any]
    """What the card says of this kind."""
    outcome: Outcome
    """What the model itself makes of the sample."""
    ask: Callable[[dict[str, Side]], Outcome]
    """What graphs make of it."""
    keep: Callable[[Path], None]
    """Saves what sentence-transformers needs beside the graph."""


def export_model(
    model: str,
    out: str | Path,
    to: str,
    dtype: str = "float32",
    dataset: Dataset | None = None,
    split: str = "dev",
    label: int | None = None,
    force: bool = False,
) -> stages.Manifest:
    """Export a model; a finished export is kept.

    Args:
        model: A student, another bi-encoder, or a cross-encoder: a folder, hub id or packaged name; ``bi-encoder:NAME``
            where the folder does not tell.
        out: Folder of the export.
        to: ``"onnx"`` or ``"openvino"``.
        dtype: ``"float32"``, ``"float16"`` (weights in 16 bits) or ``"int8"``.
        dataset: Texts and judgements to check it on; ``None``: English paragraphs that come with Python.
        split: Split whose queries and judgements are used.
        label: Which label of a cross-encoder is relevance, if it has several.
        force: Write 8 bits even if they rank worse than :func:`check.passes` asks for.

    Raises:
        UserError: See :func:`retrieval_distill.api.students.export_model`.
    """
    if to not in RUNTIMES:
        raise UserError(f"--to {to}: there is no such runtime{nearest(to, RUNTIMES)}")
    if dtype not in DTYPES:
        raise UserError(f"--dtype {dtype}: an export has another{nearest(dtype, DTYPES)}")
    backends.require_installed(to)
    if (to, dtype) == ("openvino", "int8") and not backends.find_spec("nncf"):
        raise UserError("--to openvino --dtype int8 needs: pip install 'retrieval-distill[openvino]' (nncf is missing)")
    kind, name = kind_of(model)
    inputs = {
        "model": models.fingerprint(name),
        "kind": kind,
        "to": to,
        "dtype": dtype,
        "label": label,
        "dataset": dataset and [dataset.documents.fingerprint, dataset.queries.fingerprint, split],
        "force": force,
        "format": exported.FORMAT,
    }

    def work(folder: Path) -> dict[str, Any]:
        sample = Sample.of(dataset, split) if dataset else Sample.of_python()
        source = _bi_encoder(name, sample) if kind == "bi-encoder" else _cross_encoder(name, label, sample)
        return _export(source, folder, to, dtype, sample, force)

    return stages.stage("export", out, inputs, work, scratch=(SCRATCH,))


def kind_of(model: str) -> tuple[str, str]:
    """Kind and name of a model to export.

    Raises:
        UserError: It is not to be had, an export already, or a teacher without a graph.
    """
    kind, name = teacher_loader.split(model)
    if kind not in ("bi-encoder", "cross-encoder"):
        raise UserError(
            f"{model}: only bi-encoders and cross-encoders can be exported; a teacher of the kind {kind} is no model "
            "with a graph of its own"
        )
    folder = models.resolve(name)
    exported.refuse(name, folder)
    return ("bi-encoder" if kind == "bi-encoder" else _kind(folder)), name


def _kind(folder: Path) -> str:
    """``"cross-encoder"`` if a folder says so: by its library, its head, or as an adapter."""
    saved = folder / "config_sentence_transformers.json"
    if models.adapter_base(folder) is not None:
        return "cross-encoder"
    if saved.is_file() and "model_type" in (told := models.settings(saved)):
        return "cross-encoder" if told["model_type"] == "CrossEncoder" else "bi-encoder"
    if (folder / "modules.json").is_file() or not (folder / "config.json").is_file():
        return "bi-encoder"
    classes = models.settings(folder / "config.json").get("architectures") or [""]
    return "cross-encoder" if "Classification" in classes[0] else "bi-encoder"


def _bi_encoder(name: str, sample: Sample) -> Source:
    model = encoder.load(name, "float32")
    encoder.require_transformers(name, model)
    if not encoder.is_plain(model):
        raise UserError(
            f"model {name!r} does more than to run a transformer and to pool its states: its prompt is left out of the "
            "pooling, or it has routes beside queries and documents; one graph cannot hold that"
        )
    similarity, routed = models.similarity(name), routes.is_routed(model)
    dimensions = int(model.get_embedding_dimension() or 0)
    parts = {}
    for kind in routes.KINDS:
        modules = routes.path(model, kind)
        parts[str(kind)] = Part(
            kind if routed else ".", graph.tokenizer(name, modules[0]), encoder.limit(model, kind) or 0,
            model.prompts.get(kind) or "", partial(graph.write_encoder, modules),
        )  # fmt: skip

    def ask(sides: dict[str, Side]) -> Outcome:
        return check.of_vectors(Exported(name, dimensions, sides.__getitem__).encode, sample, similarity)

    def keep(folder: Path) -> None:
        model.save_pretrained(str(folder), create_model_card=False)
        (folder / "model.safetensors").unlink(missing_ok=True)  # the graph holds these weights
        if routed:  # two graphs, of which the library's own backends know nothing
            for path in folder.iterdir():
                if path.is_dir() and path.name not in parts:
                    shutil.rmtree(path)
            (folder / "modules.json").unlink()

    facts = {"dimensions": dimensions, "similarity": similarity, "read_by_sentence_transformers": not routed}
    own = check.of_vectors(partial(encoder.encode, model), sample, similarity)
    return Source(name, "bi-encoder", parts, facts, own, ask, keep)


def _cross_encoder(name: str, label: int | None, sample: Sample) -> Source:
    teacher = cross_encoder.load(name, dtype="float32", label=label, devices=["cpu"])
    if not teacher.plain or len(teacher.model) > 1 or modules.prompt(teacher.model) or is_decoder(teacher.model):
        raise UserError(
            f"teacher {name!r} does more than to encode a pair and to classify it (a prompt, a chat template, several "
            "modules, no padding); one graph cannot hold that"
        )
    model: Any = teacher.model
    has_types = "token_type_ids" in model.tokenizer.model_input_names
    relevance = partial(cross_encoder.relevance, label=label)
    write = partial(graph.write_scorer, model.model, relevance, has_types=has_types)
    part = Part(".", graph.tokenizer(name, model, teacher.max_length), teacher.max_length, "", write)

    def keep(folder: Path) -> None:
        model.save_pretrained(str(folder), create_model_card=False)
        (folder / "model.safetensors").unlink(missing_ok=True)

    facts = {"label": label, "has_types": has_types, "read_by_sentence_transformers": True}
    own = check.of_pairs(partial(_library_scores, model, label), sample)
    return Source(
        name, "cross-encoder", {"pair": part}, facts, own,
        lambda sides: check.of_pairs(Scorer(sides["pair"]).score, sample), keep,
    )  # fmt: skip


def _library_scores(model: Any, label: int | None, pairs: Sequence[tuple[str, str]]) -> np.ndarray:
    logits = model.predict(list(pairs), batch_size=16, show_progress_bar=False, convert_to_tensor=True)
    return cross_encoder.relevance(logits.reshape(len(pairs), -1), label).cpu().numpy()


def _export(source: Source, folder: Path, to: str, dtype: str, sample: Sample, force: bool) -> dict[str, Any]:
    """Try the ways, and write the fastest whose results are good enough."""
    ways = precision.WAYS[to, dtype]
    with _emptied(folder / SCRATCH) as scratch, progress(f"exporting in {dtype}", len(ways), "way") as advance:
        trial = Trial(source, sample, to, scratch)
        exact = trial.outcome("float32", "exact")
        if not check.is_exact(exact):
            raise UserError(
                f"model {source.name!r}: its graph does not compute what the model does ({check.sentence(exact)}); the "
                "exporter does not support this architecture"
            )
        tried: dict[str, dict[str, Any]] = {}
        for way in ways:
            try:
                tried[way] = exact if dtype == "float32" else trial.outcome(dtype, way)
            except (UserError, OSError, MemoryError):
                raise
            except Exception as error:  # a way that does not support this graph, in its library's own words
                logger.info("%s by %s failed: %s", dtype, way, first_line(error))
            else:
                logger.info("%s by %s: %s", dtype, way, check.sentence(tried[way]))
            advance(1)
        way = _choose(source, tried, dtype, force)
        shutil.copytree(trial.place(dtype, way), folder, dirs_exist_ok=True)
    source.keep(folder)
    for part in source.parts.values():  # last, since the library saves one too
        files.write_text(folder / part.folder / exported.TOKENIZER, part.tokenizer.backend_tokenizer.to_str())
    seconds = {"float32, PyTorch": source.outcome.seconds}
    seconds |= {f"{dtype}, {to} ({name})": told.pop("seconds") for name, told in tried.items()}
    card = {
        "format": exported.FORMAT,
        "kind": source.kind,
        "runtime": to,
        "dtype": dtype,
        "way": way,
        "model": {"name": source.name, "fingerprint": models.fingerprint(source.name)},
        "encoders": {
            name: {"folder": part.folder, "max_length": part.max_length, "prompt": part.prompt}
            for name, part in source.parts.items()
        },
        **source.facts,
        "checked": tried[way],
        "passed": check.passes(tried[way]),
        "instructions": devices.instructions(),
    }
    files.write_json(folder / exported.CARD, card)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.suffix in (".onnx", ".bin", ".xml"))
    presentation.write(folder, card, size, seconds)
    return {"kind": source.kind, "dtype": dtype, "way": way, "bytes": size, "cpu_seconds": seconds, **tried[way]}


@contextmanager
def _emptied(folder: Path) -> Iterator[Path]:
    """A folder that is empty, also after a kill, and is removed at the end."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True)
class Trial:
    """Graphs of a model, made in several ways in a scratch folder and compared with it."""

    source: Source
    sample: Sample
    to: str
    scratch: Path

    def place(self, dtype: str, way: str) -> Path:
        """Where the graphs made in a way are, as in the export."""
        return self.scratch / f"{dtype}-{way}"

    def outcome(self, dtype: str, way: str) -> dict[str, Any]:
        """Make the graphs in a way, and compare what they compute with the model."""
        file, parts = RUNTIMES[self.to].file, {part.folder: part for part in self.source.parts.values()}
        for folder, part in parts.items():
            exact = self.scratch / folder / "exact.onnx"
            exact.parent.mkdir(exist_ok=True)
            if not exact.is_file():
                part.write(exact)
            out = self.place(dtype, way) / folder / file
            out.parent.mkdir(parents=True, exist_ok=True)
            precision.WAYS[self.to, dtype][way](exact, out, self._batches(folder))
        runs = {folder: RUNTIMES[self.to].open(self.place(dtype, way) / folder / file) for folder in parts}
        found = self.source.ask({name: part.side(runs[part.folder]) for name, part in self.source.parts.items()})
        return {**check.compare(found, self.source.outcome, self.sample), "seconds": round(found.seconds, 3)}

    def _batches(self, folder: str) -> list[precision.Batch]:
        """Inputs of a graph, of all lengths, from the sample's texts."""
        found: list[precision.Batch] = []
        for name, part in self.source.parts.items():
            if part.folder == folder:
                found += part.side(_never).batches(self.sample.texts(name), CALIBRATION_TOKENS)
        places = np.linspace(0, len(found) - 1, min(len(found), CALIBRATION_BATCHES))
        return [found[place] for place in places.astype(int)]


def _never(features: precision.Batch) -> np.ndarray:
    """The graph of a side that only tokenises."""
    raise AssertionError


def _choose(source: Source, tried: dict[str, dict[str, Any]], dtype: str, force: bool) -> str:
    """The fastest way that passes; if none does and it is forced, the best.

    Raises:
        UserError: None passes, and it is not forced; or none works.
    """
    if not tried:
        raise UserError(f"model {source.name!r} cannot be written in {dtype}: no way to it works; use --dtype float32")
    good = [way for way, told in tried.items() if dtype != "int8" or check.passes(told)]
    if good:
        return min(good, key=lambda way: tried[way]["seconds"])
    best = max(tried, key=lambda way: check.rank(tried[way]))
    if not force:
        raise UserError(
            f"int8 does not keep the ranking: {check.sentence(tried[best])}; {check.demand(tried[best])} is asked for. "
            "Use --dtype float16, or --force to write it all the same"
        )
    logger.warning("int8 does not keep the ranking, but is written as asked: %s", check.sentence(tried[best]))
    return best
