"""Encoders that compute a batch without its padding: padded texts go in and come out, layers see them in one row.

On a CPU a text's states then have the same bits whichever others it is computed with: padding, not the number of rows,
changes the order in which a product is summed. Knows transformers; must not know pooling, stores or scores.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from retrieval_distill.hardware import attention, varlen

TOLERANCE = 1e-4
"""How far states may move in float32, in units of their size (at least 1), for a transformer to be run so; in 16 bits
four hundred times as far."""

_ABLE: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()


def forward(encoder: Any, input_ids: Tensor, attention_mask: Tensor, **other: Any) -> Any:
    """An encoder's forward pass over texts that are padded on the right."""
    packed, embeddings = varlen.Packed.of(attention_mask), encoder.embeddings
    if hasattr(embeddings, "create_position_ids_from_input_ids"):  # RoBERTa's family, which counts from padding_idx
        positions = embeddings.create_position_ids_from_input_ids(input_ids, embeddings.padding_idx)
    else:
        positions = attention_mask.cumsum(dim=1) - 1
    if other.get("token_type_ids") is not None:
        other["token_type_ids"] = packed.pack(other["token_type_ids"])
    other |= {"input_ids": packed.pack(input_ids), "position_ids": packed.pack(positions), "packed": packed}
    output = type(encoder).forward(encoder, **other)
    output.last_hidden_state = packed.pad(output.last_hidden_state)
    if getattr(encoder, "pooler", None) is not None:
        output.pooler_output = encoder.pooler(output.last_hidden_state)
    return output


@torch.inference_mode()
def is_able(first: Any) -> bool:
    """Whether the library's transformer module is on a CPU and gives the same states so, which is tried once."""
    if first.auto_model.device.type != "cpu":
        return False
    if first not in _ABLE:
        _ABLE[first] = _agrees(first)
    return _ABLE[first]


def _agrees(first: Any) -> bool:
    encoder = first.auto_model
    if getattr(encoder.config, "_attn_implementation", None) != attention.NAME:
        return False
    lengths = torch.tensor([13, 5, 5, 2])
    mask = (torch.arange(13) < lengths[:, None]).long()
    ids = torch.arange(4 * 13).reshape(4, 13).remainder(encoder.config.vocab_size) * mask
    features = {"input_ids": ids, "attention_mask": mask}
    try:
        expected = first({**features})["token_embeddings"]
        found = states(first, features)
    except Exception:  # parts that work in another way
        return False
    seen = mask.bool()
    allowed = TOLERANCE * (1 if expected.dtype == torch.float32 else 400) * expected.abs().clamp(min=1)
    return bool(((found - expected).abs() <= allowed)[seen].all())


def states(first: Any, features: dict[str, Tensor]) -> Tensor:
    """The last layer's states of texts that are padded on the right, [texts, longest, size], zero where padded.

    Several texts are followed by as many tokens of none as bring the row to one of few lengths, at most an eighth more
    (or seven): oneDNN prepares its products anew for each length of a row, and keeps what it prepared.
    """
    texts, longest = features["attention_mask"].shape
    tokens = int(features["attention_mask"].sum())
    filling = -tokens % max(8, 1 << max(0, tokens.bit_length() - 4))
    if texts > 1 and filling:
        whole, rest = divmod(filling, longest)
        lengths = torch.tensor([longest] * whole + [rest] * bool(rest))
        features = {name: nn.functional.pad(values, (0, 0, 0, len(lengths))) for name, values in features.items()}
        features["attention_mask"][texts:] = torch.arange(longest) < lengths[:, None]
    return forward(first.auto_model, **features).last_hidden_state[:texts]


def by_length(features: dict[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    """Texts that are sorted by length, in groups of one length, and without the padding that these have in common."""
    start = 0
    for count, length in varlen.Packed.of(features["attention_mask"]).lengths:
        yield {name: values[start : start + count, :length] for name, values in features.items()}
        start += count
