"""How many tokens a transformer takes: what its tokenizer and a user say, within the positions that it has.

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
"""Tokens where neither the tokenizer nor the model knows a limit."""

NO_LIMIT = 10**6
"""A limit beyond this means none; tokenizers name one where they know none."""

SHORT = 8
"""Tokens of the text that a model must take to be served at all."""

KNOWN = {
    "albert", "bert", "camembert", "data2vec-text", "deberta", "deberta-v2", "distilbert", "electra", "eurobert",
    "gpt2", "llama", "modernbert", "mpnet", "nomic_bert", "qwen2", "qwen3", "roberta", "roberta-prelayernorm", "t5",
    "xlm-roberta", "xlm-roberta-xl",
}  # fmt: skip
"""Families whose positions are as :func:`positions` reads them; one text is tried with a model of any other."""


def limit(name: str, first: Any, max_length: int | None, own_too: bool = False) -> int:
    """Tokens of a text, or of a pair, special tokens included.

    Args:
        name: The model, for messages.
        first: The library's transformer module; it has a tokenizer.
        max_length: What is asked for; ``None``: the tokenizer's own limit, and 512 where it has none.
        own_too: Whether the tokenizer's own limit bounds what is asked for.
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
            "model %s has positions for %d tokens: longer texts are cut there, not at %d", name, room, wanted
        )
    return room


def positions(transformer: Any) -> int | None:
    """Tokens that a transformer has positions for; ``None``: as many as there are.

    A table of learned positions with a padding row (RoBERTa's family) counts from the row behind it.
    """
    named = getattr(transformer.config, "max_position_embeddings", None) or 0
    return min([*_tables(transformer), *([named] if named > 0 else [])], default=None)


def _tables(transformer: Any) -> list[int]:
    """Positions that each table of learned ones has room for."""
    room = []
    for name, module in transformer.named_modules():
        if name.rpartition(".")[2] == "position_embeddings" and hasattr(module, "weight"):
            padding = getattr(module, "padding_idx", None)
            room.append(len(module.weight) - (0 if padding is None else padding + 1))
    return room


@torch.inference_mode()
def settle(name: str, first: Any) -> None:
    """Try one text as long as the limit with a transformer of an unknown family, and lower the limit where it fails.

    Args:
        name: The model, for messages.
        first: The library's transformer module with its limit set.

    Raises:
        UserError: It does not even take a short text.
    """
    family = getattr(first.config, "model_type", "")
    if family in KNOWN:
        return
    if (failure := _failure(first, SHORT)) is not None:
        raise UserError(
            f"model {name!r}: models of its family ({family}) cannot be served here, a forward pass over a text failed "
            f"({' '.join(str(failure).split())})"
        )
    # without a table of positions no length fails, so that none is tried that would take long
    tried = first.max_seq_length if _tables(first.auto_model) else min(first.max_seq_length, DEFAULT)
    longest, fails = SHORT, tried + 1
    if _failure(first, tried) is None:
        return
    while fails - longest > 1:
        middle = (longest + fails) // 2
        longest, fails = (middle, fails) if _failure(first, middle) is None else (longest, middle)
    first.max_seq_length = longest
    logger.warning("model %s (%s) takes no more than %d tokens: longer texts are cut there", name, family, longest)


def _failure(first: Any, length: int) -> Exception | None:
    """What a forward pass over a text of so many tokens raises."""
    rows = tokenize(first.tokenizer, ["a " * length], length)
    device = next(first.parameters()).device
    try:
        first({key: value.to(device) for key, value in pad([rows[0]], first.tokenizer.pad_token_id or 0).items()})
    except Exception as error:  # whatever an architecture makes of a position that it lacks
        return error
    return None
