"""Where each family of encoders keeps what transfers ask for: names of modules inside one of its layers.

Knows names; must not know tensors. A new family is a new row here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from retrieval_distill.errors import UserError


@dataclass(frozen=True)
class Family:
    """Names within a layer."""

    projections: tuple[str, ...]
    """The linear maps to queries, keys and values; or one whose output is the three side by side."""
    output: str
    """The linear map behind attention."""
    feed: tuple[str, str]
    """The two linear maps of the feed-forward part; between them stand the neurons."""
    maps: str
    """The module that gives attention maps, second of its outputs."""
    neurons: str = "intermediate_size"
    """The configuration's key for the number of neurons."""
    maps_go_in: bool = False
    """They are what the module is given."""
    tuples: bool = False
    """Layers give tuples, the hidden state first."""
    gated: bool = False
    """The first feed-forward map also makes gates, twice as many outputs as there are neurons."""


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
"""By ``model_type`` of the configuration."""


def family_of(backbone: Any) -> Family:
    """The family of a transformer.

    Raises:
        UserError: It is of none that is known.
    """
    kind = backbone.config.model_type
    if kind not in FAMILIES:
        raise UserError(
            f"compress: the layers of a {kind!r} model are not known here, only those of {', '.join(FAMILIES)}; "
            "the transfer embedding works with every encoder"
        )
    return FAMILIES[kind]
