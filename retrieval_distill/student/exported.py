"""An exported model at work: texts -> vectors, or pairs -> scores, in ONNX Runtime or OpenVINO alone.

Neither PyTorch nor transformers is imported, which would take seconds. Knows the folder that ``exporting`` writes; must
not know how a graph is made, corpora or indexes.

    export.json         the card: what the model is, and what it was checked on
    tokenizer.json      with truncation and padding
    onnx/model.onnx     or openvino/openvino_model.xml and .bin: token ids -> vectors, or scores

A model with separate encoders has tokenizer and graph of each in ``query/`` and ``document/``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from retrieval_distill import models
from retrieval_distill.data.tokens import Tokens, padded, token_batches, tokenize
from retrieval_distill.errors import UserError

if TYPE_CHECKING:
    from retrieval_distill.student.routes import Kind

CARD, TOKENIZER = models.EXPORT_CARD, "tokenizer.json"

FORMAT = 1
"""The version of the folder's layout."""

TOKENS_AT_ONCE = 2048
"""Padded tokens per run of a graph, which use a CPU's cache well."""

Batch = dict[str, np.ndarray]
"""A graph's inputs by name, int64 [texts, tokens]."""

Numbered = tuple[np.ndarray, Batch]
"""The numbers of some texts, and a graph's inputs for them."""

Run = Callable[[Batch], np.ndarray]
"""A graph's inputs, int64 [texts, tokens] -> its last output, float32 [texts, dimensions] or [pairs]."""


def threads() -> int:
    """Threads of a runtime: ``OMP_NUM_THREADS``, or as many as this process has cores."""
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    if wanted.isdigit() and int(wanted):
        return int(wanted)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _open_onnx(path: Path, precision: str = "f32") -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads()
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    wanted, inputs = [session.get_outputs()[-1].name], [given.name for given in session.get_inputs()]
    return lambda features: session.run(wanted, {name: features[name] for name in inputs})[0]


def _open_openvino(path: Path, precision: str = "f32") -> Run:
    import openvino

    options: dict[str, Any] = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": threads()}
    # from a file, because openvino.convert_model, which takes a module, reports each use to its vendor
    compiled = openvino.Core().compile_model(str(path), "CPU", options)
    last, inputs = len(compiled.outputs) - 1, [given.get_any_name() for given in compiled.inputs]
    return lambda features: np.array(compiled({name: features[name] for name in inputs})[last])


@dataclass(frozen=True)
class Runtime:
    """A runtime of graphs."""

    package: str
    """What must be installed to run a graph; the extra of the runtime's name installs it."""
    file: str
    """A graph's file in its folder, where sentence-transformers' own backend looks for it."""
    open: Callable[..., Run]
    """A graph's file, and for OpenVINO what it computes in (``"f32"``, ``"bf16"``) -> what runs it."""


RUNTIMES = {
    "onnx": Runtime("onnxruntime", "onnx/model.onnx", _open_onnx),
    "openvino": Runtime("openvino", "openvino/openvino_model.xml", _open_openvino),
}


def is_exported(folder: str | Path) -> bool:
    """Whether a folder holds an exported model."""
    return (Path(folder) / CARD).is_file()


def card(folder: str | Path) -> dict[str, Any]:
    """The card of an exported model.

    Raises:
        UserError: It is damaged, or of a later version.
    """
    found = models.settings(Path(folder) / CARD)
    if found.get("format") != FORMAT:
        raise UserError(f"{folder}: exported by another version of the toolkit; export the model again")
    return found


def refuse(name: str, folder: Path) -> None:
    """Refuse an exported model where its weights are needed, as for training.

    Raises:
        UserError: It is one.
    """
    if is_exported(folder):
        raise UserError(
            f"{name}: an exported {card(folder)['kind']}, which only embed, search and its own example can run; "
            f"here the model that it was made of is needed ({card(folder)['model']['name']})"
        )


def stands_for(folder: Path) -> str | None:
    """Fingerprint of the model that an exported one was made of; ``None``: the folder holds none."""
    return card(folder)["model"]["fingerprint"] if is_exported(folder) else None


@dataclass(frozen=True, eq=False)
class FastTokenizer:
    """A tokenizer of the library ``tokenizers``, as :func:`retrieval_distill.data.tokens.tokenize` takes it."""

    backend_tokenizer: Any

    @property
    def truncation_side(self) -> str:
        """The end of a text that is cut, ``"right"`` or ``"left"``."""
        return (self.backend_tokenizer.truncation or {}).get("direction", "right")

    @property
    def pad_id(self) -> int:
        """The id that fills shorter rows."""
        return (self.backend_tokenizer.padding or {}).get("pad_id", 0)


@dataclass(frozen=True, eq=False)
class Side:
    """What reads the texts of one kind, or pairs: a tokenizer and a graph."""

    tokenizer: FastTokenizer
    run: Run
    max_length: int
    prompt: str = ""

    @classmethod
    def open(cls, folder: Path, runtime: str, max_length: int, prompt: str = "") -> Side:
        """The tokenizer and graph in a folder.

        Raises:
            UserError: The runtime is not installed, or a file is missing or damaged.
        """
        from tokenizers import Tokenizer

        if not find_spec(RUNTIMES[runtime].package):
            raise UserError(f"{folder}: this exported model needs: pip install 'retrieval-distill[{runtime}]'")
        try:
            tokenizer = FastTokenizer(Tokenizer.from_file(str(folder / TOKENIZER)))
            run = RUNTIMES[runtime].open(folder / RUNTIMES[runtime].file)
        except Exception as error:  # each library has its own
            raise UserError(f"{folder}: this exported model is damaged ({_brief(error)}); export it again") from error
        return cls(tokenizer, run, max_length, prompt)

    def tokens(self, texts: Sequence[str], max_length: int) -> Tokens:
        """Token ids of texts, prompt included, truncated."""
        return tokenize(self.tokenizer, [self.prompt + text for text in texts], max_length)

    def batches(self, texts: Sequence[Any], budget: int) -> list[Batch]:
        """A graph's inputs for texts, or for pairs, in batches of at most ``budget`` padded tokens."""
        return [features for _, features in self.numbered_batches(texts, budget)]

    def numbered_batches(self, texts: Sequence[Any], budget: int, max_length: int | None = None) -> Iterator[Numbered]:
        """The same, one after another, each with the numbers of its texts; ``max_length`` ``None``: the model's own."""
        if texts and not isinstance(texts[0], str):
            yield from self._pairs(texts, budget)
            return
        tokens = self.tokens(texts, max_length or self.max_length)
        for batch in token_batches(tokens.lengths, budget):
            yield batch, padded([tokens[row] for row in batch], self.tokenizer.pad_id)

    def _pairs(self, pairs: Sequence[tuple[str, str]], budget: int) -> Iterator[Numbered]:
        backend = self.tokenizer.backend_tokenizer
        filled = backend.padding
        backend.no_padding()
        encoded = backend.encode_batch([tuple(pair) for pair in pairs])
        backend.enable_padding(**filled)
        for batch in token_batches(np.array([len(one.ids) for one in encoded]), budget):
            types = padded([np.array(encoded[row].type_ids) for row in batch], 0)["input_ids"]
            ids = padded([np.array(encoded[row].ids) for row in batch], self.tokenizer.pad_id)
            yield batch, {**ids, "token_type_ids": types}


def _brief(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:200]


@dataclass(frozen=True, eq=False)
class Exported:
    """An exported bi-encoder; a graph is opened when it is first needed.

    Args:
        name: Its folder, or what it was made of.
        dimensions: Length of a vector.
        open_side: Opens what reads texts of a kind.
        max_length: Token limit below the model's own; ``None``: its own.
    """

    name: str
    dimensions: int
    open_side: Callable[[Kind], Side]
    max_length: int | None = None
    _sides: dict[Kind, Side] = field(default_factory=dict)

    @classmethod
    def open(cls, folder: str | Path, max_length: int | None = None) -> Exported:
        """The bi-encoder in a folder.

        Raises:
            UserError: The folder holds another kind of model, its runtime is not installed, or a file is damaged.
        """
        place = models.resolve(str(folder))
        made = card(place)
        if made["kind"] != "bi-encoder":
            raise UserError(f"{folder}: an exported {made['kind']} scores pairs; it gives no vectors")
        opened: dict[str, Side] = {}

        def side(kind: Kind) -> Side:
            part = made["encoders"][kind]
            if part["folder"] not in opened:
                opened[part["folder"]] = Side.open(place / part["folder"], made["runtime"], part["max_length"])
            return replace(opened[part["folder"]], prompt=part["prompt"])

        return cls(str(folder), made["dimensions"], side, max_length)

    def side(self, kind: Kind) -> Side:
        """What reads texts of a kind."""
        if kind not in self._sides:
            self._sides[kind] = self.open_side(kind)
        return self._sides[kind]

    def limit(self, kind: Kind) -> int:
        """Tokens kept of a text."""
        own = self.side(kind).max_length
        return min(self.max_length or own, own)

    def tokens_of(self, texts: Sequence[str], kind: Kind, max_length: int) -> Tokens:
        """Token ids of texts, prompt included, at most ``max_length`` of each."""
        return self.side(kind).tokens(texts, max_length)

    def encode(self, texts: Sequence[str], kind: Kind) -> np.ndarray:
        """Vectors of texts, float32 [texts, dimensions]."""
        vectors = np.empty((len(texts), self.dimensions), np.float32)
        for rows, found in self.encode_parts(texts, kind):
            vectors[rows] = found
        return vectors

    def encode_parts(
        self, texts: Sequence[str], kind: Kind, done: np.ndarray | None = None
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Vectors batch by batch, as :func:`retrieval_distill.student.encoder.encode_parts` gives them."""
        side = self.side(kind)
        for batch, features in side.numbered_batches(texts, TOKENS_AT_ONCE, self.limit(kind)):
            if done is None or not done[batch].all():
                yield batch, side.run(features)


@dataclass(frozen=True)
class Scorer:
    """An exported cross-encoder."""

    side: Side

    @classmethod
    def open(cls, folder: str | Path) -> Scorer:
        """The cross-encoder in a folder.

        Raises:
            UserError: The folder holds another kind of model, its runtime is not installed, or a file is damaged.
        """
        place = models.resolve(str(folder))
        made = card(place)
        if made["kind"] != "cross-encoder":
            raise UserError(f"{folder}: an exported {made['kind']} embeds texts; it scores no pairs")
        part = made["encoders"]["pair"]
        return cls(Side.open(place / part["folder"], made["runtime"], part["max_length"]))

    def score(self, pairs: Sequence[tuple[str, str]]) -> np.ndarray:
        """Raw scores of (query, document) pairs, float32 [pairs]."""
        scores = np.empty(len(pairs), np.float32)
        for rows, features in self.side.numbered_batches(pairs, TOKENS_AT_ONCE):
            scores[rows] = self.side.run(features)
        return scores
