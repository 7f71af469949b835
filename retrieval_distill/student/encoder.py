"""A bi-encoder at work: texts -> token ids -> vectors, with the library's own modules and no padding waste.

Knows sentence-transformers models; must not know corpora on disk, indexes or training.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Transformer
from torch.utils.checkpoint import checkpoint

from retrieval_distill import hardware, models
from retrieval_distill.data.tokens import Tokens, pad, token_batches, tokenize

Kind = Literal["query", "document"]

TOKENS_PER_BATCH = {"cpu": 4096, "cuda": 65536}
"""Padded tokens of one forward pass by device type: small enough for a CPU's cache, large enough to fill a GPU."""


def load(name: str, dtype: str = "float32", max_length: int | None = None) -> SentenceTransformer:
    """Load a bi-encoder (or wrap a plain encoder with mean pooling) on the best device.

    Args:
        name: See :func:`retrieval_distill.models.resolve`.
        dtype: ``"float32"``, ``"bfloat16"``, ``"float16"`` or ``"auto"`` (the fastest that this device computes in).
        max_length: Token limit, never beyond the model's positions; ``None`` keeps the model's own.
    """
    device = hardware.device()
    with models.quietly():
        model = SentenceTransformer(
            str(models.resolve(name)),
            device=device,
            local_files_only=True,
            model_kwargs={"dtype": hardware.dtype(dtype, device)},
        )
    model.max_seq_length = min(max_length or model.max_seq_length or 512, _positions(model))
    return model.eval()


def tokens_of(model: SentenceTransformer, texts: Sequence[str], kind: Kind) -> Tokens:
    """Token ids as ``encode_query`` or ``encode_document`` would cut them, prompt included."""
    prompt = model.prompts.get(kind) or ""
    return tokenize(model.tokenizer, [prompt + text for text in texts], model.max_seq_length)


def encode_rows(
    model: SentenceTransformer,
    rows: Sequence[np.ndarray],
    dtype: torch.dtype | None = None,
    cache_texts: int | None = None,
) -> torch.Tensor:
    """Embed token rows of any lengths with gradients: float32 [rows, dimensions], in the order given.

    Rows of like length go through the model together, which leaves the mathematics of a step unchanged.

    Args:
        model: The bi-encoder.
        rows: Token ids.
        dtype: What the transformer computes in, from rounded copies of its weights: the weights themselves, their
            gradients, pooling and normalisation stay as they are. ``None``: the weights' own. Against autocast,
            backward holds less memory, for nothing is kept in two dtypes.
        cache_texts: Gradient caching: at most so many rows go through the model together, and what backward needs is
            kept of none of them. Backward, which then knows the gradient of every vector, embeds them again batch by
            batch, under the random numbers of the first time. ``None``: everything is kept.

    Source: Gao et al., "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup", 2021,
    arXiv:2101.06983. Run as recomputation within backward, it knows nothing of objectives, and whoever calls
    backward (a trainer that accumulates, several processes that average) need not know of it.
    """
    batches = sub_forwards(model, np.array([len(row) for row in rows]), cache_texts)
    rounded = None if dtype is None else {name: weight.to(dtype) for name, weight in model[0].named_parameters()}
    embed = forward if cache_texts is None else forward_again
    vectors = torch.cat([embed(model, [rows[i] for i in batch], rounded) for batch in batches])
    order = np.argsort(np.concatenate(batches))
    return vectors[torch.from_numpy(order).to(vectors.device)]


def sub_forwards(model: SentenceTransformer, lengths: np.ndarray, cache_texts: int | None = None) -> list[np.ndarray]:
    """Which rows :func:`encode_rows` sends through the model together, by their lengths."""
    batches = token_batches(lengths, TOKENS_PER_BATCH[model.device.type])
    if cache_texts is None:
        return batches
    return [part for batch in batches for part in np.array_split(batch, -(-len(batch) // cache_texts))]


def forward(
    model: SentenceTransformer, rows: Sequence[np.ndarray], weights: dict[str, torch.Tensor] | None = None
) -> torch.Tensor:
    """Embed token rows in one forward pass: float32 [rows, dimensions], with gradients where enabled.

    ``weights`` stand in for those of the model's first module, the transformer; ``None``: its own.
    """
    return _vectors(model, _features(model, rows), weights)


def forward_again(
    model: SentenceTransformer, rows: Sequence[np.ndarray], weights: dict[str, torch.Tensor] | None = None
) -> torch.Tensor:
    """:func:`forward` that keeps nothing for backward but the rows; backward runs it once more."""
    # the features are an argument, as tensors of the device, so that its random state is replayed too
    return checkpoint(_vectors, model, _features(model, rows), weights, use_reentrant=False)


def _features(model: SentenceTransformer, rows: Sequence[np.ndarray]) -> dict[str, Any]:
    padded = pad(rows, model.tokenizer.pad_token_id or 0)
    return {key: value.to(model.device) for key, value in padded.items()}


def _vectors(
    model: SentenceTransformer, features: dict[str, Any], weights: dict[str, torch.Tensor] | None
) -> torch.Tensor:
    features = dict(features)  # the modules write into theirs
    if weights is None:
        return model(features)["sentence_embedding"].float()
    features = torch.func.functional_call(model[0], weights, (features,))
    features["token_embeddings"] = features["token_embeddings"].float()
    for module in list(model)[1:]:
        features = module(features)
    return features["sentence_embedding"].float()


@torch.inference_mode()
def encode(
    model: SentenceTransformer, texts: Sequence[str], kind: Kind, advance: Callable[[int], None] = lambda texts: None
) -> np.ndarray:
    """Vectors of texts, float32 [texts, dimensions]; equal to ``model.encode_query`` / ``encode_document``.

    Args:
        model: The bi-encoder, in the dtype it should compute in.
        texts: What to embed.
        kind: Which of the model's prompts applies.
        advance: Told how many texts were just finished.
    """
    if not _plain(model):
        ask = model.encode_query if kind == "query" else model.encode_document
        vectors = np.asarray(ask(list(texts), show_progress_bar=False), np.float32)
        advance(len(texts))
        return vectors
    tokens = tokens_of(model, texts, kind)
    vectors = np.empty((len(texts), int(model.get_embedding_dimension() or 0)), np.float32)
    for batch in token_batches(tokens.lengths, TOKENS_PER_BATCH[model.device.type]):
        vectors[batch] = forward(model, [tokens[row] for row in batch]).cpu().numpy()
        advance(len(batch))
    if _dtype(model) != torch.float32 and isinstance(model[-1], Normalize):
        # half-precision normalisation leaves lengths of 1 +- 0.004, enough to reorder close neighbours
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def _plain(model: SentenceTransformer) -> bool:
    """Whether texts are simply cut by the tokenizer, so that cached tokens give the library's own result."""
    pooling_skips_prompt = any(getattr(module, "include_prompt", True) is False for module in model)
    return isinstance(model[0], Transformer) and model.tokenizer is not None and not pooling_skips_prompt


def _positions(model: SentenceTransformer) -> int:
    """Tokens that the model has positions for; RoBERTa's family counts them from the padding id on."""
    config: Any = getattr(model[0], "config", None)
    positions = getattr(config, "max_position_embeddings", None) or 512
    counts_from_padding = {"roberta", "xlm-roberta", "camembert", "mpnet"}
    return positions - (config.pad_token_id + 1 if getattr(config, "model_type", "") in counts_from_padding else 0)


def _dtype(model: SentenceTransformer) -> torch.dtype:
    return next(model.parameters()).dtype
