"""Runs a bi-encoder: texts -> token ids -> vectors, with the library's own modules and little padding.

Knows sentence-transformers models; must not know corpora on disk, indexes or training.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast
from weakref import WeakKeyDictionary

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Normalize, StaticEmbedding, Transformer
from torch import nn
from torch.utils.checkpoint import checkpoint

from retrieval_distill import models, positions, weights
from retrieval_distill.data.tokens import Tokens, pad, same_length_batches, token_batches, tokenize
from retrieval_distill.errors import UserError
from retrieval_distill.hardware import cpu, devices
from retrieval_distill.hardware.fitting import Fitting
from retrieval_distill.student import decoder, exported, routes, unpadded, upper_layers
from retrieval_distill.student.routes import KINDS, Kind, path
from retrieval_distill.student.upper_layers import States

TOKENS_PER_BATCH = {"cpu": 4096, "cuda": 65536}
"""Padded tokens per forward pass by device type: small enough for a CPU's cache, large enough for a GPU."""

TOKENS_AT_ONCE = {"cpu": 2048, "cuda": 65536}
"""The same for inference: less is held in memory, and half as many tokens use a CPU's cache better."""

Row = np.ndarray | States
"""A text as token ids, or as the hidden states that a layer is given."""

SHORTER = "embed shorter texts (max_length), or compute in bfloat16"

_FITTING: WeakKeyDictionary[SentenceTransformer, Fitting] = WeakKeyDictionary()
"""What fits into the memory of each model's device."""

TEXTS_PER_CALL = 256
"""Texts passed to the library at once if tokens cannot be cached."""


def load(name: str, dtype: str = "float32", max_length: int | None = None, learns: bool = False) -> SentenceTransformer:
    """Load a bi-encoder, or wrap a plain model (mean pooling; a decoder's last token), on the best device.

    Args:
        name: See :func:`retrieval_distill.models.resolve`.
        dtype: ``"float32"``, ``"bfloat16"``, ``"float16"`` or ``"auto"`` (the device's fastest).
        max_length: Token limit, never beyond the model's positions; ``None``: the model's own.
        learns: Whether its weights will change.

    Raises:
        UserError: The model cannot be loaded, or its tokenizer has tokens without vectors.
    """
    device, folder = devices.device(), models.resolve(name)
    exported.refuse(name, folder)
    computed = devices.dtype(dtype, device)
    with weights.loading(folder) as loaded:
        model = SentenceTransformer(str(folder), device=device, local_files_only=True, model_kwargs={"dtype": computed})
    weights.require_whole(folder, loaded, weights.is_unused_pooler)
    weights.require_finite(folder, model)
    for first in routes.encoders(model):
        if isinstance(first, StaticEmbedding):
            continue  # accepts texts of any length
        if not _is_transformer(first):
            raise UserError(
                f"model {name!r}: its first module, a {type(first).__name__}, is neither a transformer with a "
                "tokenizer nor static embeddings; use another model"
            )
        weights.require_vocabulary(folder, first.tokenizer)
        _refuse_tokens_without_vectors(name, first)
        decoder.set_padding(first.tokenizer)
        first.max_seq_length = positions.limit(name, first, max_length)
        positions.settle_limit(name, first)
    if not (folder / "modules.json").is_file() and decoder.is_decoder(model[0].config):
        decoder.as_encoder(model)
    for module in model.modules():
        if isinstance(module, Dense):
            module.to(_dtype(model))  # the library leaves those inside a Router in float32
    cpu.speed_up(model, learns)
    _check_modules_fit(name, model.eval())
    return model


def _check_modules_fit(name: str, model: SentenceTransformer) -> None:
    """Embed a word of each kind, so that modules that do not fit together fail now and not hours later.

    Raises:
        UserError: They do not fit.
    """
    with weights.blame_model(lambda error: f"model {name!r} cannot embed a text: {weights.one_line(error)}"):
        for kind in KINDS:
            encode(model, ["a"], kind)


def limit(model: SentenceTransformer, kind: Kind, max_length: int | None = None) -> int | None:
    """Tokens kept of a text: ``max_length``, or the model's own limit if that is less; ``None``: all."""
    first = path(model, kind)[0]
    if isinstance(first, StaticEmbedding):
        return None
    own = first.max_seq_length or positions.DEFAULT
    return min(max_length or own, own)


def tokens_of(
    model: SentenceTransformer, texts: Sequence[str], kind: Kind, max_length: int | None = None, beyond: bool = False
) -> Tokens:
    """Token ids as in ``encode_query`` or ``encode_document``, prompt included.

    ``max_length`` truncates below the model's limit or, with ``beyond``, above it; ``None``: the model's limit.
    """
    first, texts = path(model, kind)[0], [(model.prompts.get(kind) or "") + text for text in texts]
    if isinstance(first, StaticEmbedding):
        encoded = first.tokenizer.encode_batch(texts, add_special_tokens=False)
        return Tokens.from_rows([encoding.ids for encoding in encoded])
    return tokenize(first.tokenizer, texts, max_length if beyond else limit(model, kind, max_length))


def encode_rows(
    model: SentenceTransformer,
    rows: Sequence[Row],
    dtype: torch.dtype | None = None,
    cache_texts: int | None = None,
    is_query: np.ndarray | None = None,
) -> torch.Tensor:
    """Embed token rows of any lengths with gradients: float32 [rows, dimensions], in the given order.

    Rows of similar length go through the model together, which does not change the mathematics of a step.

    Args:
        model: The bi-encoder.
        rows: Token ids; or hidden states, all after the same number of layers, which then do not run.
        dtype: Number format of the transformer's computation, with rounded copies of its weights: the weights
            themselves, their gradients, pooling and normalisation are unaffected. ``None``: that of the weights. Needs
            less memory than autocast, since nothing is stored in two dtypes.
        cache_texts: Gradient caching: at most this many rows go through the model together, and no activations are
            stored. The backward pass, which then knows the gradient of every vector, embeds them again batch by batch,
            with the same random numbers. ``None``: store all activations.
        is_query: Which rows are queries, bool [rows], for a model with separate encoders; ``None``: none.

    Source: Gao et al., "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup", 2021,
    arXiv:2101.06983. Done as recomputation in the backward pass, it is independent of objectives and of the caller of
    backward (a trainer that accumulates, several processes that average).
    """
    batches = sub_forwards(model, np.array([len(row) for row in rows]), cache_texts, is_query)
    embed = forward if cache_texts is None else checkpointed_forward
    weights: dict[nn.Module, dict[str, torch.Tensor] | None] = {}
    vectors = []
    for batch in batches:
        kind: Kind = "query" if is_query is not None and is_query[batch[0]] else "document"
        first = path(model, kind)[0]
        if first not in weights:
            weights[first] = None if dtype is None else {name: w.to(dtype) for name, w in first.named_parameters()}
        vectors.append(embed(model, [rows[i] for i in batch], weights[first], kind))
    order = np.argsort(np.concatenate(batches))
    return torch.cat(vectors)[torch.from_numpy(order).to(vectors[0].device)]


def sub_forwards(
    model: SentenceTransformer,
    lengths: np.ndarray,
    cache_texts: int | None = None,
    is_query: np.ndarray | None = None,
) -> list[np.ndarray]:
    """The batches of rows in :func:`encode_rows`, by length and, for a model with two encoders, by kind."""
    together = [np.arange(len(lengths))]
    if is_query is not None and routes.is_routed(model):
        together = [np.flatnonzero(is_query), np.flatnonzero(~is_query)]
    budget = TOKENS_PER_BATCH[model.device.type]
    batches = [rows[batch] for rows in together for batch in token_batches(lengths[rows], budget)]
    if cache_texts is None:
        return batches
    return [part for batch in batches for part in np.array_split(batch, -(-len(batch) // cache_texts))]


def forward(
    model: SentenceTransformer,
    rows: Sequence[Row],
    weights: dict[str, torch.Tensor] | None = None,
    kind: Kind = "document",
    in_one_row: bool = False,
) -> torch.Tensor:
    """Embed token rows in one forward pass: float32 [rows, dimensions], with gradients if enabled.

    Args:
        model: The bi-encoder.
        rows: Token ids or hidden states; with ``in_one_row``, token ids of descending length.
        weights: In place of those of the transformer, the first module of the kind's path; ``None``: its own.
        kind: Which of the model's encoders embeds them.
        in_one_row: Without padding, as :func:`unpadded.is_able` allows; no row's vector then depends on the others.
    """
    first, *rest = modules = path(model, kind)
    features, hidden, layers = _features(first, rows)
    if not in_one_row:
        return _vectors(modules, features, hidden, layers, weights)
    features["token_embeddings"] = unpadded.states(first, features)
    return torch.cat([_pool(rest, group) for group in unpadded.by_length(features)])


def checkpointed_forward(
    model: SentenceTransformer,
    rows: Sequence[Row],
    weights: dict[str, torch.Tensor] | None = None,
    kind: Kind = "document",
) -> torch.Tensor:
    """:func:`forward` without stored activations; the backward pass runs it again."""
    modules = path(model, kind)
    # the features are passed as tensors of the device, so that its random state is replayed too
    return checkpoint(_vectors, modules, *_features(modules[0], rows), weights, use_reentrant=False)


def states(
    model: SentenceTransformer,
    rows: Sequence[np.ndarray],
    layers: int,
    weights: dict[str, torch.Tensor] | None = None,
    kind: Kind = "document",
) -> list[States]:
    """What the layer above the lowest ``layers`` is given of token rows, on the CPU; see :func:`forward`."""
    first = path(model, kind)[0]
    features, _, _ = _features(first, rows)
    found = upper_layers.below(first, layers, lambda: _run(first, features, weights)).cpu()
    return [States(found[i, : len(row)], layers) for i, row in enumerate(rows)]


def _features(first: Any, rows: Sequence[Row]) -> tuple[dict[str, Any], torch.Tensor | None, int]:
    """What the first module takes; with hidden states, these and how many layers they have gone through."""
    device, given = next(first.parameters()).device, [row for row in rows if isinstance(row, States)]
    if given:
        padded, hidden = upper_layers.padded(given)
        states = devices.to_device(hidden, device)
        return {key: devices.to_device(value, device) for key, value in padded.items()}, states, given[0].layers
    padded = pad(cast(Sequence[np.ndarray], rows), first.tokenizer.pad_token_id or 0)
    return {key: devices.to_device(value, device) for key, value in padded.items()}, None, 0


def _run(first: nn.Module, features: dict[str, Any], weights: dict[str, torch.Tensor] | None) -> dict[str, Any]:
    features = dict(features)  # the modules modify it
    return first(features) if weights is None else torch.func.functional_call(first, weights, (features,))


def _vectors(
    modules: list[nn.Module],
    features: dict[str, Any],
    hidden: torch.Tensor | None,
    layers: int,
    weights: dict[str, torch.Tensor] | None,
) -> torch.Tensor:
    first, *rest = modules
    with upper_layers.entered(first, layers, hidden):
        features = _run(first, features, weights)
    if weights is not None:
        features["token_embeddings"] = features["token_embeddings"].float()
    return _pool(rest, features)


def _pool(modules: list[nn.Module], features: dict[str, Any]) -> torch.Tensor:
    """Vectors of texts whose states are known, float32 [texts, dimensions]."""
    for module in modules:
        features = module(features)
    return features["sentence_embedding"].float()


def encode(model: SentenceTransformer, texts: Sequence[str], kind: Kind) -> np.ndarray:
    """Vectors of texts, float32 [texts, dimensions]; equal to ``model.encode_query`` / ``encode_document``.

    Args:
        model: The bi-encoder, in the dtype of the computation.
        texts: The texts.
        kind: Which of the model's prompts to use.
    """
    vectors = np.empty((len(texts), int(model.get_embedding_dimension() or 0)), np.float32)
    for rows, found in encode_parts(model, texts, kind):
        vectors[rows] = found
    return vectors


def encode_parts(
    model: SentenceTransformer, texts: Sequence[str], kind: Kind, done: np.ndarray | None = None
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Like :func:`encode`, batch by batch: rows, and their vectors, float32 [rows, dimensions].

    Args:
        model: As for :func:`encode`.
        texts: As for :func:`encode`.
        kind: As for :func:`encode`.
        done: Texts whose vectors are not needed, bool [texts]; ``None``: none. Batches are formed over all texts and
            computed completely, so that no vector depends on which others are done.
    """
    done = np.zeros(len(texts), bool) if done is None else done
    embed, batches = _embedder(model, texts, kind)
    for batch in batches:
        if not done[batch].all():
            yield batch, embed(batch)


Embed = Callable[[np.ndarray], np.ndarray]
"""Rows of texts -> their vectors, float32 [rows, dimensions]."""


def _embedder(model: SentenceTransformer, texts: Sequence[str], kind: Kind) -> tuple[Embed, list[np.ndarray]]:
    """A function that embeds a batch, and the batches."""
    if not is_plain(model):
        ask = model.encode_query if kind == "query" else model.encode_document

        def by_library(batch: np.ndarray) -> np.ndarray:
            return np.asarray(ask([texts[row] for row in batch], show_progress_bar=False), np.float32)

        return by_library, np.array_split(np.arange(len(texts)), -(-len(texts) // TEXTS_PER_CALL) or 1)
    tokens = tokens_of(model, texts, kind)
    fitting = _FITTING.setdefault(model, Fitting(TOKENS_AT_ONCE[model.device.type], "embedding", SHORTER))
    # half-precision normalisation leaves lengths of 1 +- 0.004, enough to reorder close neighbours
    renormalised = _dtype(model) != torch.float32 and isinstance(model[-1], Normalize)

    in_one_row = unpadded.is_able(path(model, kind)[0])

    @torch.inference_mode()
    def at_once(rows: np.ndarray) -> np.ndarray:
        found = [tokens[row] for row in rows]
        return forward(model, found, kind=kind, in_one_row=in_one_row).cpu().numpy()

    def by_tokens(batch: np.ndarray) -> np.ndarray:
        parts = fitting(at_once, batch, max(1, int(tokens.lengths[batch].max())))
        vectors = parts[0] if len(parts) == 1 else np.concatenate(parts)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True) if renormalised else vectors

    # a CPU loses nothing without padding, and gains vectors that do not depend on the other texts of a batch
    batches = same_length_batches if model.device.type == "cpu" and not in_one_row else token_batches
    return by_tokens, batches(tokens.lengths, TOKENS_AT_ONCE[model.device.type])


def is_plain(model: SentenceTransformer) -> bool:
    """Whether texts are only tokenised and truncated, so that cached tokens give the library's own result."""
    if not routes.serves_both(model):
        return False
    pooling_skips_prompt = any(getattr(m, "include_prompt", True) is False for kind in KINDS for m in path(model, kind))
    return all(map(_is_transformer, routes.encoders(model))) and not pooling_skips_prompt


def _is_transformer(first: Any) -> bool:
    return isinstance(first, Transformer) and first.tokenizer is not None


def require_transformers(name: str, model: SentenceTransformer) -> None:
    """Refuse a model without a transformer: it can embed, but not be trained or reduced.

    Raises:
        UserError: The model's first module is something else, such as static embeddings.
    """
    for first in routes.encoders(model):
        if not _is_transformer(first):
            raise UserError(
                f"model {name!r}: a student needs a transformer, but this model's first module is a "
                f"{type(first).__name__}; it can be a baseline (evaluate.baselines) or a teacher (bi-encoder:NAME)"
            )


def _refuse_tokens_without_vectors(name: str, first: Any) -> None:
    tokens = max(first.tokenizer.get_vocab().values()) + 1
    try:
        rows = len(first.auto_model.get_input_embeddings().weight)
    except (
        NotImplementedError,
        AttributeError,
    ):  # an architecture without an embedding matrix, such as one that reads characters
        return
    if tokens > rows:
        raise UserError(
            f"model {name!r}: its tokenizer has {tokens:,} tokens, its embedding matrix vectors for {rows:,}; use the "
            "tokenizer it was trained with, or add untrained vectors for the others with "
            f"transformers' model.resize_token_embeddings({tokens})"
        )


def _dtype(model: SentenceTransformer) -> torch.dtype:
    return next(model.parameters()).dtype
