"""Narrows an encoder with singular value decompositions.

Three parts shrink in the same proportion: the hidden state to the directions that the token embeddings use most, each
attention head to its best low-rank approximation, the feed-forward part to its strongest neurons. Training recovers the
loss. Knows weights; must not know texts or training.

Source: Eckart and Young, "The approximation of one matrix by another of lower rank", 1936.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Pooling
from torch import Tensor

from retrieval_distill.compress.families import Family, family_of
from retrieval_distill.errors import UserError
from retrieval_distill.student.layers import stack

Weights = dict[str, Tensor]


def narrow(model: SentenceTransformer, width: int) -> Tensor:
    """Narrow an encoder in place.

    Args:
        model: An encoder like BERT, DistilBERT or MPNet.
        width: New width of hidden states; a multiple of the number of attention heads, which does not change.

    Returns:
        The directions of the old hidden states that become the new coordinates, see :func:`directions`.

    Raises:
        UserError: The width does not fit the model, or the model is of another kind.
    """
    backbone: Any = model[0].auto_model
    family, heads, old = family_of(backbone), backbone.config.num_attention_heads, backbone.config.hidden_size
    _check(model, family, width)
    weights = {name: weight.double() for name, weight in backbone.state_dict().items() if weight.is_floating_point()}
    basis, kept = directions(backbone.get_input_embeddings().weight.detach().double(), width)
    name, layers = stack(model)
    of_layers = {f"{name}.{number}." for number in range(len(layers))}
    inner = _inner(weights, family, of_layers)
    slim = {key: _project_weight(key, weight, basis, kept) for key, weight in weights.items() if key not in inner}
    neurons = round(getattr(backbone.config, family.neurons) * width / old)
    for prefix in of_layers:
        slim |= _attention(weights, prefix, family, basis, heads)
        slim |= _feed(weights, prefix, family, basis, neurons)
    config = copy.deepcopy(backbone.config)
    config.hidden_size = width
    setattr(config, family.neurons, neurons)
    narrowed: Any = type(backbone)(config)
    narrowed.load_state_dict({**narrowed.state_dict(), **{key: weight.float() for key, weight in slim.items()}})
    model[0].model = narrowed.to(backbone.device).train(backbone.training)
    for place, module in enumerate(model):
        if isinstance(module, Pooling):
            model[place] = Pooling(width, module.pooling_mode, include_prompt=module.include_prompt)
    return basis.float()


def _check(model: SentenceTransformer, family: Family, width: int) -> None:
    backbone: Any = model[0].auto_model
    config = backbone.config
    if family.gated:
        raise UserError(
            f"compress.width: a {config.model_type} has gated neurons, which cannot be narrowed; "
            "set only compress.layers"
        )
    if any(isinstance(module, Dense) for module in model):
        raise UserError("compress.width: this model has a dense layer after pooling; set only compress.layers")
    heads = config.num_attention_heads
    if width >= config.hidden_size or width % heads:
        raise UserError(
            f"compress.width={width}: give a multiple of the {heads} attention heads below the model's own width of "
            f"{config.hidden_size}, such as {config.hidden_size // heads // 2 * heads or heads}"
        )


def directions(embeddings: Tensor, width: int) -> tuple[Tensor, float]:
    """The ``width`` - 1 directions that token embeddings use most, as ``width`` coordinates whose mean is always 0.

    Layer norms remove the mean of all coordinates; with zero-mean coordinates nothing is lost by that.

    Args:
        embeddings: [tokens, old width].
        width: Number of coordinates.

    Returns:
        A matrix [old width, width] with orthonormal columns, except for the missing mean, and the share of the
        embeddings' length (root mean square) that it preserves.
    """
    centred = embeddings - embeddings.mean(dim=1, keepdim=True)  # as the norms after them do
    vectors = torch.linalg.eigh(centred.T @ centred)[1].flip(-1)[:, : width - 1]
    ones = torch.ones(width, 1, dtype=embeddings.dtype, device=embeddings.device)
    without_mean = torch.linalg.qr(torch.cat([ones, torch.eye(width).to(ones)[:, : width - 1]], dim=1))[0][:, 1:]
    basis = vectors @ without_mean.T
    return basis, float((centred @ basis).norm() / centred.norm())


def _project_weight(key: str, weight: Tensor, basis: Tensor, kept: float) -> Tensor:
    """Project a weight outside attention and feed-forward maps from the old width to the new one."""
    old, width = basis.shape
    if weight.shape[-1] != old:
        return weight
    if key.lower().endswith("norm.weight"):
        # a norm scales any vector to length sqrt(width), of which the kept directions had a share
        return (basis.square() / basis.square().sum(dim=0)).T @ weight * (old / width) ** 0.5 * kept
    if "pooler" in key and weight.ndim == 2:
        weight = basis.T @ weight
    return weight @ basis


def _inner(weights: Weights, family: Family, of_layers: set[str]) -> set[str]:
    names = (*family.projections, family.output, *family.feed)
    return {key for prefix in of_layers for name in names for key in weights if key.startswith(f"{prefix}{name}.")}


def _attention(weights: Weights, prefix: str, family: Family, basis: Tensor, heads: int) -> Weights:
    """Narrow a layer's attention: low-rank approximations of query times key, and output times value, per head."""
    query, key, value = (prefix + name for name in family.projections)
    output = prefix + family.output
    depth = basis.shape[1] // heads
    fit = (basis.shape[1] / basis.shape[0]) ** 0.25  # scores are divided by the root of a head's depth, which changes
    found: dict[str, list[Tensor]] = {query: [], key: [], value: [], output: []}
    reads = {name: _reading(weights, name, basis).chunk(heads) for name in (query, key, value)}
    writes = (basis.T @ weights[f"{output}.weight"]).chunk(heads, dim=1)
    for head in range(heads):
        left, right = low_rank(reads[query][head].T, reads[key][head], depth)
        found[query].append(left.T * fit)
        found[key].append(right * fit)
        left, right = low_rank(writes[head], reads[value][head], depth)
        found[output].append(left)
        found[value].append(right)
    slim = {f"{output}.weight": torch.cat(found[output], dim=1), f"{output}.bias": weights[f"{output}.bias"] @ basis}
    for name in (query, key, value):
        slim[f"{name}.weight"], slim[f"{name}.bias"] = _split_bias(torch.cat(found[name]))
    return slim


def _feed(weights: Weights, prefix: str, family: Family, basis: Tensor, neurons: int) -> Weights:
    """Narrow a layer's feed-forward maps to its strongest neurons, by the product of input and output weight norms."""
    first, second = (prefix + name for name in family.feed)
    reads, writes = _reading(weights, first, basis), basis.T @ weights[f"{second}.weight"]
    strongest = (reads.norm(dim=1) * writes.norm(dim=0)).topk(neurons).indices.sort().values
    weight, bias = _split_bias(reads[strongest])
    return {
        f"{first}.weight": weight,
        f"{first}.bias": bias,
        f"{second}.weight": writes[:, strongest],
        f"{second}.bias": weights[f"{second}.bias"] @ basis,
    }


def _reading(weights: Weights, name: str, basis: Tensor) -> Tensor:
    """A linear map of hidden states, with its bias as an additional column."""
    return torch.cat([weights[f"{name}.weight"] @ basis, weights[f"{name}.bias"][:, None]], dim=1)


def _split_bias(reading: Tensor) -> tuple[Tensor, Tensor]:
    return reading[:, :-1], reading[:, -1]


def low_rank(left: Tensor, right: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """The best approximation of a matrix product by this rank: ([a, rank], [rank, b]), balanced in size.

    Args:
        left: [a, d].
        right: [d, b].
        rank: At most d.
    """
    outer, inner = torch.linalg.qr(left)
    across, through = torch.linalg.qr(right.T)
    vectors, values, others = torch.linalg.svd(inner @ through.T)
    root = values[:rank].sqrt()
    return outer @ vectors[:, :rank] * root, root[:, None] * (others[:rank] @ across.T)
