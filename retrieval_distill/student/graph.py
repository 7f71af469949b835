"""A model as one graph: transformer, pooling, projection and normalisation in an ONNX file, and its tokenizer.

PyTorch's own exporter writes it, because Optimum, which sentence-transformers uses, does not support transformers 5.
Knows the library's modules; must not know runtimes, number formats of graphs, or texts.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from retrieval_distill.errors import UserError
from retrieval_distill.student.exported import FastTokenizer

INPUTS = ("input_ids", "attention_mask", "token_type_ids")
"""Names of a graph's inputs, int64 [texts, tokens]; the last one only for pairs whose tokenizer gives types."""

VECTOR, STATES, SCORE, LOGITS = "sentence_embedding", "last_hidden_state", "score", "logits"
"""Names of outputs: a bi-encoder's vectors and last hidden states, a cross-encoder's scores [pairs] and logits.

Hidden states and logits are what sentence-transformers' own backends read."""


def tokenizer(name: str, first: Any, max_length: int | None = None) -> FastTokenizer:
    """The tokenizer of a transformer module, with truncation and padding as the module does both.

    Args:
        name: The model, for the message.
        first: The module, or a cross-encoder.
        max_length: Token limit; ``None``: the module's own.

    Raises:
        UserError: It is not one of the library ``tokenizers``.
    """
    known, backend = first.tokenizer, getattr(first.tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise UserError(
            f"model {name!r}: its tokenizer, a {type(known).__name__}, has no tokenizer.json to be run alone"
        )
    copied = Tokenizer.from_str(backend.to_str())
    side = getattr(known, "truncation_side", "right")
    copied.enable_truncation(max_length or first.max_seq_length, strategy="longest_first", direction=side)
    copied.enable_padding(pad_id=known.pad_token_id or 0, pad_token=known.pad_token or "[PAD]")
    return FastTokenizer(copied)


class _Encoder(nn.Module):
    def __init__(self, modules: Sequence[nn.Module]) -> None:
        super().__init__()
        first: Any = modules[0]
        self.transformer, self.rest = first.auto_model, nn.ModuleList(modules[1:])

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        states = self.transformer(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        features = {"token_embeddings": states, "attention_mask": attention_mask, "input_ids": input_ids}
        for module in self.rest:
            features = module(features)
        return states, features[VECTOR]


class _Scorer(nn.Module):
    def __init__(self, classifier: nn.Module, relevance: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.classifier, self.relevance = classifier, relevance

    def forward(self, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.classifier(**dict(zip(INPUTS, inputs, strict=False))).logits
        return logits, self.relevance(logits)


def write_encoder(modules: Sequence[nn.Module], path: Path) -> Path:
    """Write the modules that a text goes through: token ids and mask -> :data:`VECTOR` and :data:`STATES`, float32.

    Args:
        modules: A transformer, and what follows it; changed in place: attention is computed in the plain way, and
            linear layers are of the class that the exporter knows.
        path: The file.
    """
    return _write(_Encoder(modules), 2, (STATES, VECTOR), path)


def write_scorer(
    classifier: nn.Module, relevance: Callable[[Tensor], Tensor], path: Path, has_types: bool = False
) -> Path:
    """Write a classifier of pairs: token ids, mask and types -> :data:`SCORE` and :data:`LOGITS`, float32.

    Args:
        classifier: A transformer with a head; changed in place, as by :func:`write_encoder`.
        relevance: Logits [pairs, labels] -> scores [pairs].
        path: The file.
        has_types: Whether it has an input for token types.
    """
    return _write(_Scorer(classifier, relevance), 3 if has_types else 2, (LOGITS, SCORE), path)


@torch.no_grad()
def _write(module: nn.Module, inputs: int, outputs: Sequence[str], path: Path) -> Path:
    parts: list[Any] = list(module.modules())
    for part in parts:
        if isinstance(part, nn.Linear):
            part.__class__ = nn.Linear
        if hasattr(part, "set_attn_implementation"):
            part.set_attn_implementation("eager")
    names = INPUTS[:inputs]
    axes = {name: {0: "texts"} | ({1: "tokens"} if name in (*INPUTS, STATES) else {}) for name in (*names, *outputs)}
    example = tuple(torch.ones((2, 8), dtype=torch.int64) for _ in names)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about values traced as constants; what is written is compared
        torch.onnx.export(
            module.eval(), example, str(path), input_names=list(names), output_names=list(outputs),
            dynamic_axes=axes, dynamo=False,
        )  # fmt: skip
    return path
