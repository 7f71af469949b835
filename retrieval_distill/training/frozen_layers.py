"""Frozen lower layers, whose hidden states for every text are computed once and stored on disk.

A training step then runs only the upper layers, forward and backward; their gradients are the same as if all layers
ran. Frozen layers have no dropout. Knows students, tokens and files; must not know objectives or the trainer.

Source: freezing lower layers, Lee et al., "What Would Elsa Do? Freezing Layers During Transformer Fine-Tuning", 2019,
arXiv:1911.03090.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from sentence_transformers import SentenceTransformer

from retrieval_distill import weights
from retrieval_distill.data.tokens import token_batches
from retrieval_distill.errors import UserError
from retrieval_distill.formatting import counted, size
from retrieval_distill.runtime import stages
from retrieval_distill.runtime.progress import progress
from retrieval_distill.student import encoder, layers, routes
from retrieval_distill.student.routes import KINDS, Kind
from retrieval_distill.student.upper_layers import States
from retrieval_distill.training.token_store import TokenizedTexts

logger = logging.getLogger("retrieval_distill")

OPTION = "training.frozen_layers"

STORAGE_DTYPES = {torch.float32: torch.float32, torch.bfloat16: torch.int16}
"""Compute dtype -> dtype of the same size on disk, because NumPy has no bfloat16."""

PROBES = ("a", "the quick brown fox jumps over the lazy dog")


@dataclass(frozen=True, eq=False)
class HiddenStates:
    """Hidden states by id, memory-mapped: ``flat`` [tokens of all texts, width] in a dtype of ``STORAGE_DTYPES``."""

    texts: TokenizedTexts
    flat: np.ndarray
    dtype: torch.dtype
    layers: int

    def __getitem__(self, id_: str) -> States:
        row, offsets = self.texts.rows[id_], self.texts.tokens.offsets
        values = np.array(self.flat[offsets[row] : offsets[row + 1]])
        return States(torch.from_numpy(values).view(self.dtype), self.layers)


def freeze(student: SentenceTransformer, count: int) -> None:
    """Freeze, in place, the lowest ``count`` layers of each encoder and all else that their output depends on.

    These are the embeddings, and parameters that all layers share, such as MPNet's position bias.

    Raises:
        UserError: The transformer has no more layers than that, or cannot be run from a middle layer on.
    """
    for kind in KINDS:
        _freeze(student, kind, count)


def _freeze(student: SentenceTransformer, kind: Kind, count: int) -> None:
    backbone = routes.path(student, kind)[0].auto_model
    _, stack = layers.stack_of(backbone, OPTION)
    if count >= len(stack):
        has = counted(len(stack), "layer")
        raise UserError(f"{OPTION}={count}: the student has {has}, and at least one must be trained")
    name = type(backbone).__name__
    message = f"{OPTION}: a {name} cannot be run without its lowest {count} layers; leave the option out"
    with weights.blame_model(lambda _: message):
        if not _freeze_and_verify(student, kind, count):
            raise UserError(message)


def _freeze_and_verify(student: SentenceTransformer, kind: Kind, count: int) -> bool:
    """Freeze one encoder; whether its vectors stay the same if it is run from the stored hidden states."""
    tokens, was_training = encoder.tokens_of(student, PROBES, kind), student.training
    rows = [tokens[row] for row in range(len(tokens))]
    student.eval()
    states = encoder.states(student, rows, count, kind=kind)
    total = torch.stack([row.values.sum() for row in states]).sum()
    if total.requires_grad:
        learning = [parameter for parameter in student.parameters() if parameter.requires_grad]
        slopes = torch.autograd.grad(total, learning, allow_unused=True)
        for parameter, slope in zip(learning, slopes, strict=True):
            parameter.requires_grad = slope is None
    with torch.no_grad():
        whole, upper = (encoder.forward(student, given, kind=kind) for given in (rows, states))
    student.train(was_training)
    return torch.allclose(upper, whole, rtol=1e-3, atol=1e-4 * float(whole.abs().max()))


def hidden_states(
    student: SentenceTransformer,
    texts: Mapping[Kind, TokenizedTexts],
    count: int,
    dtype: torch.dtype | None,
    folder: Path,
) -> dict[Kind, HiddenStates]:
    """The frozen layers' outputs for all texts; reused from an earlier call with the same layers and texts.

    Args:
        student: Its lowest layers are frozen.
        texts: Token rows, by kind.
        count: Number of frozen layers.
        dtype: The transformer's compute dtype; ``None``: float32.
        folder: Where the hidden states are stored.

    Raises:
        UserError: They do not fit on the disk.
    """
    computed = dtype or torch.float32
    _check_disk(student, texts, computed, count, folder)
    return {kind: _hidden_states_of(student, texts[kind], kind, count, computed, folder / kind) for kind in KINDS}


def _check_disk(
    student: SentenceTransformer,
    texts: Mapping[Kind, TokenizedTexts],
    dtype: torch.dtype,
    count: int,
    folder: Path,
) -> None:
    needed = sum(len(own.tokens.flat) * _width(student, kind) * dtype.itemsize for kind, own in texts.items())
    folder.mkdir(parents=True, exist_ok=True)
    free, rows = shutil.disk_usage(folder).free, sum(len(own.tokens) for own in texts.values())
    cost = f"the outputs of {counted(count, 'frozen layer')} for {rows:,} texts take {size(needed)} of {folder}"
    if needed > free + sum(path.stat().st_size for path in folder.rglob("states.npy")):
        raise UserError(
            f"{OPTION}: {cost}, the disk has {size(free)} left; free some disk space, lower training.max_length, or "
            "leave the option out"
        )
    logger.info("%s; %s are free", cost, size(free))


def _width(student: SentenceTransformer, kind: Kind) -> int:
    return int(routes.path(student, kind)[0].auto_model.config.hidden_size)


def _hidden_states_of(
    student: SentenceTransformer, texts: TokenizedTexts, kind: Kind, count: int, dtype: torch.dtype, folder: Path
) -> HiddenStates:
    first, tokens = routes.path(student, kind)[0], texts.tokens

    def work(out: Path) -> dict[str, int]:
        shape = (len(tokens.flat), _width(student, kind))
        stored = torch.empty(0, dtype=STORAGE_DTYPES[dtype]).numpy().dtype
        flat = np.lib.format.open_memmap(out / "states.npy", "w+", stored, shape)
        with progress("running the frozen layers", len(tokens), kind) as advance:
            for row, states in _compute(student, texts, kind, count, dtype):
                flat[tokens.offsets[row] : tokens.offsets[row + 1]] = states.values.view(STORAGE_DTYPES[dtype]).numpy()
                advance(1)
        flat.flush()
        return {"texts": len(tokens), "tokens": len(tokens.flat), "layers": count, "bytes": flat.nbytes}

    frozen = hashlib.blake2b()
    for name, parameter in first.named_parameters():
        if not parameter.requires_grad:
            frozen.update(name.encode())
            frozen.update(np.ascontiguousarray(parameter.detach().cpu().numpy()).data)
    inputs = {"tokens": tokens.fingerprint, "weights": frozen.hexdigest(), "layers": count, "dtype": str(dtype)}
    stages.stage("hidden-states", folder, inputs, work)
    return HiddenStates(texts, np.load(folder / "states.npy", mmap_mode="r"), dtype, count)


def _compute(
    student: SentenceTransformer, texts: TokenizedTexts, kind: Kind, count: int, dtype: torch.dtype
) -> Iterator[tuple[int, States]]:
    """Every row and its hidden states, in the compute dtype."""
    first = routes.path(student, kind)[0]
    lent = None if dtype == torch.float32 else {name: w.to(dtype) for name, w in first.named_parameters()}
    student.eval()
    for batch in token_batches(texts.tokens.lengths, encoder.TOKENS_AT_ONCE[student.device.type]):
        with torch.no_grad():
            made = encoder.states(student, [texts.tokens[row] for row in batch], count, lent, kind)
        yield from zip((int(row) for row in batch), made, strict=True)
