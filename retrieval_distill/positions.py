"""The token limit of a transformer: as set by its tokenizer or the user, within the positions that it has.

Knows architectures; must not know what a model is for.
"""

from __future__ import annotations

import logging
from typing import Any

import torch

from retrieval_distill.data.tokens import pad, tokenize
from retrieval_distill.errors import UserError

logger = logging.getLogger("retrieval_distill")

DEFAULT = 512
"""Token limit if neither the tokenizer nor the model has one."""

NO_LIMIT = 10**6
"""Limits above this mean no limit; tokenizers use such values."""

SHORTEST_LIMIT = 8
"""Tokens that a model must accept to be usable at all."""

KNOWN = {
    "albert", "bert", "camembert", "data2vec-text", "deberta", "deberta-v2", "distilbert", "electra", "eurobert",
    "gpt2", "llama", "modernbert", "mpnet", "nomic_bert", "qwen2", "qwen3", "roberta", "roberta-prelayernorm", "t5",
    "xlm-roberta", "xlm-roberta-xl",
}  # fmt: skip
"""Families for which :func:`positions` is right; models of other families are tested with a text."""


def limit(name: str, first: Any, max_length: int | None, own_too: bool = False) -> int:
    """The token limit of a text, or of a pair, special tokens included.

    Args:
        name: The model, for messages.
        first: The library's transformer module, with a tokenizer.
        max_length: The requested limit; ``None``: the tokenizer's own, or 512 if it has none.
        own_too: Whether the tokenizer's own limit applies to ``max_length`` too.
    """
    own = first.max_seq_length if first.max_seq_length and first.max_seq_length < NO_LIMIT else None
    if max_length is not None and max_length >= NO_LIMIT:
        max_length = None
    if own_too and max_length and own:
        max_length = min(max_length, own)
    wanted = max_length or own or DEFAULT
    room = positions(first.auto_model)
    if room is None or wanted <= room:
        return wanted
    if max_length is not None:
        logger.warning(
            "model %s has positions for only %d tokens: longer texts are truncated there, not at %d", name, room, wanted
        )
    return room


def positions(transformer: Any) -> int | None:
    """Number of positions of a transformer; ``None``: unlimited.

    A table of learned positions with a padding row (RoBERTa's family) starts after that row.
    """
    named = getattr(transformer.config, "max_position_embeddings", None) or 0
    return min([*_tables(transformer), *([named] if named > 0 else [])], default=None)


def _tables(transformer: Any) -> list[int]:
    """Number of positions in each table of learned ones."""
    room = []
    for name, module in transformer.named_modules():
        if name.rpartition(".")[2] == "position_embeddings" and hasattr(module, "weight"):
            padding = getattr(module, "padding_idx", None)
            room.append(len(module.weight) - (0 if padding is None else padding + 1))
    return room


@torch.inference_mode()
def settle_limit(name: str, first: Any) -> None:
    """Test a transformer of an unknown family with a text as long as the limit, and lower the limit if it fails.

    Args:
        name: The model, for messages.
        first: The library's transformer module with its limit set.

    Raises:
        UserError: It fails even on a short text.
    """
    family = getattr(first.config, "model_type", "")
    if family in KNOWN:
        return
    if (failure := _failure(first, SHORTEST_LIMIT)) is not None:
        raise UserError(
            f"model {name!r}: models of its family ({family}) are not supported, a forward pass over a text failed "
            f"({' '.join(str(failure).split())})"
        )
    # without a table of positions no length fails, so no slow long text is needed
    tried = first.max_seq_length if _tables(first.auto_model) else min(first.max_seq_length, DEFAULT)
    longest, fails = SHORTEST_LIMIT, tried + 1
    if _failure(first, tried) is None:
        return
    while fails - longest > 1:
        middle = (longest + fails) // 2
        longest, fails = (middle, fails) if _failure(first, middle) is None else (longest, middle)
    first.max_seq_length = longest
    logger.warning("model %s (%s) accepts at most %d tokens: longer texts are truncated there", name, family, longest)


def _failure(first: Any, length: int) -> Exception | None:
    """The exception of a forward pass over a text of this many tokens, if any."""
    rows = tokenize(first.tokenizer, ["a " * length], length)
    device = next(first.parameters()).device
    try:
        first({key: value.to(device) for key, value in pad([rows[0]], first.tokenizer.pad_token_id or 0).items()})
    except Exception as error:  # a missing position may cause any exception
        return error
    return None
