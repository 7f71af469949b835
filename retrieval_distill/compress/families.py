"""Module names within a layer, for each family of encoders.

Knows names; must not know tensors. A new family is a new entry here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from retrieval_distill.errors import UserError


@dataclass(frozen=True)
class Family:
    """Names within a layer."""

    projections: tuple[str, ...]
    """The linear maps to queries, keys and values, or a single one that outputs all three."""
    output: str
    """The linear map after attention."""
    feed: tuple[str, str]
    """The two linear maps of the feed-forward part, with the neurons between them."""
    maps: str
    """The module whose second output is the attention maps."""
    neurons: str = "intermediate_size"
    """The configuration's key for the number of neurons."""
    maps_go_in: bool = False
    """Whether the maps are that module's input instead."""
    tuples: bool = False
    """Whether layers return tuples, the hidden state first."""
    gated: bool = False
    """Whether the first feed-forward map also computes gates, with two outputs per neuron."""


BERT = Family(
    projections=("attention.self.query", "attention.self.key", "attention.self.value"),
    output="attention.output.dense",
    feed=("intermediate.dense", "output.dense"),
    maps="attention.self",
)

FAMILIES = {
    "bert": BERT,
    "roberta": BERT,
    "xlm-roberta": BERT,
    "camembert": BERT,
    "distilbert": Family(
        projections=("attention.q_lin", "attention.k_lin", "attention.v_lin"),
        output="attention.out_lin",
        feed=("ffn.lin1", "ffn.lin2"),
        maps="attention",
        neurons="hidden_dim",
    ),
    "mpnet": Family(
        projections=("attention.attn.q", "attention.attn.k", "attention.attn.v"),
        output="attention.attn.o",
        feed=("intermediate.dense", "output.dense"),
        maps="attention.attn.dropout",
        maps_go_in=True,
        tuples=True,
    ),
    "modernbert": Family(
        projections=("attn.Wqkv",), output="attn.Wo", feed=("mlp.Wi", "mlp.Wo"), maps="attn", gated=True
    ),
}
"""``model_type`` of the configuration -> family."""


def family_of(backbone: Any) -> Family:
    """The family of a transformer.

    Raises:
        UserError: The family is unknown.
    """
    kind = backbone.config.model_type
    if kind not in FAMILIES:
        raise UserError(
            f"compress: {kind!r} models are not supported, only {', '.join(FAMILIES)}; "
            "the transfer embedding works with every encoder"
        )
    return FAMILIES[kind]
