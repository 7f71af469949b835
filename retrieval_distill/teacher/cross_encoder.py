"""A cross-encoder at work: query-passage pairs -> raw logits, on every device there is.

Knows sentence-transformers cross-encoders and the shipped starter; must not know stores, Runs or judgements.
"""

from __future__ import annotations

import copy
import logging
import queue
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, cast

import numpy as np
import torch
from sentence_transformers import CrossEncoder
from sentence_transformers.base.modules import Transformer

from retrieval_distill import models, positions, weights
from retrieval_distill.data.tokens import token_batches
from retrieval_distill.errors import UserError
from retrieval_distill.hardware import cpu, eight_bits
from retrieval_distill.hardware import devices as hardware
from retrieval_distill.hardware.fitting import Fitting
from retrieval_distill.runtime import stages
from retrieval_distill.runtime.parallel import map_in_order
from retrieval_distill.scores.teacher_contract import Pairs, ScoreStream
from retrieval_distill.student import decoder, exported
from retrieval_distill.teacher import exact_head, first_token, modernbert, modules, shared_prefix, unpadded
from retrieval_distill.teacher import pairs as pair_encoding
from retrieval_distill.teacher.cross_encoder_loader import open_model
from retrieval_distill.teacher.pairs import Assembled, Continued, Encoded, Whole

logger = logging.getLogger("retrieval_distill")

TOKENS_PER_BATCH = {"cpu": 2048, "cuda": 65536}
"""Tokens of one forward pass, padding counted, by device type; halved whenever the device runs out of memory.

More of them no longer fit into a CPU's caches, which costs a tenth."""

PAIRS_PER_BLOCK = 8192
"""Pairs whose tokens are kept at once where the library makes them; batches are laid over such a block."""


class CrossEncoderTeacher:
    """A teacher that scores pairs of texts with raw logits (identity activation).

    ``fingerprint`` covers all that changes a score: weights, maximum length, the class of dtype and the label.
    """

    def __init__(
        self,
        model: CrossEncoder,
        fingerprint: str,
        description: dict[str, Any],
        max_length: int,
        label: int | None = None,
        devices: Sequence[str] = ("cpu",),
        plain: bool = True,
        library_batch: int = 32,
    ) -> None:
        self.model = model
        self.fingerprint = fingerprint
        self.description = description
        self.max_length = max_length
        self.label = label
        self._tokens = TOKENS_PER_BATCH[torch.device(devices[0]).type]
        advice = f"use a smaller teacher.max_length for {description['model']!r}, or teacher.dtype=bfloat16"
        self._fitting = Fitting(self._tokens, "scoring", advice)
        self.devices = tuple(devices)
        self.plain = plain
        """Whether pairs are scored in batches of our own, and not by the library; see :func:`modules.obstacle`."""
        self._library_batch = library_batch
        self._said_cut = False

    def score(self, pairs: Pairs) -> ScoreStream:
        """Score the wanted pairs; batches go to whichever device is free.

        Batches are laid over all pairs and then thinned to the wanted ones. So a pair shares its batch with the same
        others whether or not a killed attempt scored part of the list, and gets the same score to the last bit.

        Yields:
            (positions, float32 scores) of one batch after another, as :func:`typical_first` orders them.
        """
        if not self.plain:
            yield from self._score_by_library(pairs)
            return
        free: queue.SimpleQueue[CrossEncoder] = queue.SimpleQueue()
        for replica in self._replicas():
            free.put(replica)
        for start, encoded in self._encoded(pairs):
            layouts = (batch[pairs.wanted[start + batch]] for batch in self._layouts(encoded))
            work = partial(self._score_batch, encoded, free)
            for batch, scores in map_in_order(work, (batch for batch in layouts if len(batch)), free.qsize()):
                yield start + batch, scores

    def _layouts(self, encoded: Encoded) -> list[np.ndarray]:
        return typical_first(token_batches(encoded.lengths, self._tokens))

    def _encoded(self, pairs: Pairs) -> Iterator[tuple[int, Encoded]]:
        """The pairs' tokens, with the place of the first of them: all at once, or block by block."""
        if (assembled := self._assembled(pairs)) is not None:
            self._say_cut(assembled.cut, len(pairs))
            yield 0, assembled
            return
        for start in range(0, len(pairs), PAIRS_PER_BLOCK):
            end = min(start + PAIRS_PER_BLOCK, len(pairs))
            if pairs.wanted[start:end].any():
                texts = [pairs.texts(place) for place in range(start, end)]
                whole = Whole.of(self.model[0], texts, modules.prompt(self.model))
                yield start, Continued(whole, whole.shared) if shared_prefix.is_decoder(self.model) else whole

    def _say_cut(self, cut: int, pairs: int) -> None:
        """Once for a teacher: who is asked query by query would say it as often."""
        if cut and not self._said_cut:
            self._said_cut = True
            logger.info("%d of %d pairs are longer than %d tokens and are cut", cut, pairs, self.max_length)

    def _score_batch(
        self, encoded: Encoded, free: queue.SimpleQueue[CrossEncoder], batch: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """One batch on a free device; in parts, where it does not fit into the device's memory."""
        model = free.get()
        try:
            longest = int(encoded.lengths[batch].max())
            parts = self._fitting(lambda part: self._forward(model, encoded.features(part)), batch, longest)
        finally:
            free.put(model)
        return batch, np.concatenate(parts)

    def _forward(self, model: CrossEncoder, features: dict[str, np.ndarray]) -> np.ndarray:
        return forward(model, features, self.label)

    def _replicas(self) -> Iterator[CrossEncoder]:
        """The model on every device; twice on a GPU, so that one batch is prepared while another is computed."""
        for number, device in enumerate(self.devices):
            replica = self.model if number == 0 else copy.deepcopy(self.model).to(device)
            yield from [replica] * (2 if device.startswith("cuda") else 1)

    def _assembled(self, pairs: Pairs) -> Assembled | None:
        """Pairs put together from texts, once shown to equal the library's on a sample that holds the longest pairs."""
        first: Any = self.model[0]
        tokenizer, prompt = first.tokenizer, modules.prompt(self.model)
        if modules.modality(self.model) == "message" or shared_prefix.is_decoder(self.model):
            return None
        if (layout := pair_encoding.template(tokenizer)) is None:
            return None
        characters = [np.array([len(text) for text in texts]) for texts in (pairs.queries, pairs.documents)]
        sizes = characters[0][pairs.rows[:, 0]] + characters[1][pairs.rows[:, 1]]
        sample = [pairs.texts(place) for place in np.argsort(-sizes, kind="stable")[:: max(1, len(sizes) // 16)]]
        queries, documents = zip(*sample, strict=True)
        asked = _prompted(queries, prompt), documents
        if pair_encoding.agrees(layout, tokenizer, *asked, self.max_length, Whole.of(first, sample, prompt)):
            texts = _prompted(pairs.queries, prompt), pairs.documents
            return Assembled.of(layout, tokenizer, texts, pairs.rows, self.max_length)
        return None

    def _score_by_library(self, pairs: Pairs) -> ScoreStream:
        """Modules that we do not know, and inputs that are no texts: sentence-transformers knows them."""
        device: list[str | torch.device] | None = list(self.devices) if len(self.devices) > 1 else None
        size = self._library_batch
        for start in range(0, len(pairs), pair_encoding.PAIRS_PER_CALL):
            positions = np.arange(start, min(start + pair_encoding.PAIRS_PER_CALL, len(pairs)))
            positions = positions[pairs.wanted[positions]]
            # sorted by length, as the library would; several devices share a call, one gives back each batch at once
            order = np.argsort([-sum(map(len, pairs.texts(position))) for position in positions], kind="stable")
            for place in range(0, len(positions), pair_encoding.PAIRS_PER_CALL if device else size):
                batch = positions[order[place : place + (pair_encoding.PAIRS_PER_CALL if device else size)]]
                texts = [pairs.texts(position) for position in batch]
                logits = self.model.predict(texts, batch_size=size, show_progress_bar=False, device=device)
                yield batch, relevance(torch.from_numpy(logits).reshape(len(batch), -1), self.label).numpy()


def typical_first(batches: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The longest pairs, which show at once whether memory suffices; some of all lengths, whose pace is that of the
    whole; then the others, longest first.
    """
    count = len(batches)
    first = dict.fromkeys(int(count * share) for share in (0, 1 / 2, 1 / 4, 3 / 4, 1 / 8, 7 / 8, 3 / 8, 5 / 8) if count)
    return [batches[place] for place in (*first, *(other for other in range(count) if other not in first))]


def _prompted(queries: Sequence[str], prompt: str | None) -> Sequence[str]:
    return [prompt + query for query in queries] if prompt else queries


@torch.inference_mode()
def forward(model: CrossEncoder, features: dict[str, np.ndarray], label: int | None) -> np.ndarray:
    """Raw scores of one padded batch, float32 [pairs]."""
    inputs: dict[str, Any] = {
        key: hardware.to_device(torch.from_numpy(value), model.device) for key, value in features.items()
    }
    if "prefix" in inputs:
        logits = shared_prefix.scores(model, inputs)
    else:
        logits = model({**inputs, "modality": modules.modality(model)})["scores"]
    return relevance(logits, label).cpu().numpy()


def relevance(logits: torch.Tensor, label: int | None) -> torch.Tensor:
    """One raw score per pair from logits [pairs, labels], float32.

    Args:
        logits: A model's raw output.
        label: Which column is relevance: its log-odds against all others, ``log p / (1 - p)`` of their softmax;
            ``None`` for a single column, which is taken as it is.
    """
    logits = logits.float()
    if label is None:
        return logits[:, 0]
    others = [column for column in range(logits.shape[1]) if column != label]
    return logits[:, label] - torch.logsumexp(logits[:, others], dim=1)


def load(
    name: str,
    max_length: int | None = 512,
    dtype: str = "auto",
    label: int | None = None,
    devices: Sequence[str] | None = None,
) -> CrossEncoderTeacher:
    """Load a teacher.

    Args:
        name: A hub id, a folder, or ``"starter"``; see :func:`retrieval_distill.models.resolve`.
        max_length: Tokens of a pair; ``None`` keeps the model's own limit, which also caps any larger value.
        dtype: What the model computes in; ``"auto"``: bfloat16 where it is native; ``"int8"``: 8-bit linear layers
            (CPU only).
        label: Which label is relevance, for a model of several; ``None`` for a model of one.
        devices: Such as ``["cuda:0", "cuda:1"]``; ``None`` uses every GPU there is, else the CPU.

    Raises:
        UserError: The model is not to be had, or its labels and ``label`` do not fit.
    """
    devices = devices or hardware.devices()
    compute = hardware.dtype("float32" if dtype == "int8" else dtype, devices[0])
    folder = models.resolve(name)
    exported.refuse(name, folder)
    model: CrossEncoder = open_model(folder, devices[0])
    _check_label(name, model, label)
    if has_tokenizer(model):
        model.max_seq_length = positions.limit(name, model[0], max_length, own_too=True)
    together = 32 if _pads(model) else 1
    obstacle = _obstacle(name, model.eval(), together)
    packs = _make_fast(model, compute, dtype == "int8", devices[0], obstacle is None)
    if devices[0].startswith("cuda"):
        logger.info("teacher %s: batches %s padding", name, "without" if packs else "with")
    if has_tokenizer(model):
        positions.settle_limit(name, model[0])
    limit = model.max_seq_length or max_length or positions.DEFAULT
    computed = "int8" if dtype == "int8" else str(compute).removeprefix("torch.")
    identity = {"model": models.fingerprint(name), "max_length": limit, **exact_head.arithmetic(computed)}
    if label is not None:
        identity["label"] = label
    description = {"kind": "cross-encoder", **identity, "model": name}
    mark = stages.fingerprint(identity)[:32]
    return CrossEncoderTeacher(model, mark, description, limit, label, devices, obstacle is None, together)


def _obstacle(name: str, model: CrossEncoder, together: int) -> str | None:
    """What leaves pairs to the library, said once.

    Raises:
        UserError: The model's modules do not fit together.
    """
    with weights.blame_model(lambda error: f"teacher {name!r} cannot score a pair: {weights.one_line(error)}"):
        if len(model) > 1:
            model.predict([("a", "a")], show_progress_bar=False)
        found = modules.obstacle(model)
    if found is None and together == 1 and not shared_prefix.is_decoder(model):
        found = "its tokenizer has no padding token"
    if found is not None:
        logger.info(
            "teacher %s: %s, so that sentence-transformers scores its pairs, %s at a time", name, found,
            "one" if together == 1 else together,
        )  # fmt: skip
    return found


def _make_fast(model: CrossEncoder, compute: torch.dtype, int8: bool, device: str, plain: bool) -> bool:
    """Bring a model into the dtype that it computes in and leave out what changes no score, in place.

    Returns:
        Whether it computes without padding.
    """
    packs = False
    if plain and shared_prefix.is_decoder(model):
        exact_head.keep_two_logits(model)
    elif plain:
        if (read := modules.read(model)) is not None:
            first_token.shorten(model.model, read)
        packs = unpadded.speed_up(model, compute)
        if device == "cpu" and not packs:
            modernbert.speed_up(model)
    model.to(compute)
    if compute != torch.float32:
        exact_head.keep(model)
    if int8:
        eight_bits.quantize(model, device)
    cpu.speed_up(model)
    return packs


def _check_label(name: str, model: CrossEncoder, label: int | None) -> None:
    labels = model.num_labels
    if label is None and labels != 1:
        names = getattr(model.config, "id2label", {})
        known = ", ".join(f"{number} ({names.get(number, '?')})" for number in range(labels))
        raise UserError(
            f"teacher {name!r} has {labels} labels: {known}; say which one means relevant, for example "
            f"teacher.label={labels - 1}; its log-odds against the others become the score"
        )
    if label is not None and (labels == 1 or not 0 <= label < labels):
        kind = "a single score: leave teacher.label out" if labels == 1 else f"labels 0 to {labels - 1}"
        raise UserError(f"teacher.label={label} does not exist: teacher {name!r} has {kind}")


def has_tokenizer(model: CrossEncoder) -> bool:
    """Whether the library's transformer module cuts pairs by a tokenizer, as it does but for images and sounds."""
    return isinstance(model[0], Transformer) and model[0].tokenizer is not None


def _pads(model: CrossEncoder) -> bool:
    """Whether pairs of different lengths may share a batch; else padding is made possible."""
    tokenizer = model.tokenizer
    if tokenizer is None:
        return False
    if tokenizer.pad_token is not None:
        if getattr(model.config, "pad_token_id", None) is None:
            cast(Any, model.config).pad_token_id = tokenizer.pad_token_id  # or a decoder would take no batches
        return True
    decoder.set_padding(tokenizer)
    return False
