"""A cross-encoder at work: query-passage pairs -> raw logits.

Knows sentence-transformers cross-encoders and the shipped starter; must not know stores, Runs or judgements.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sentence_transformers import CrossEncoder

from retrieval_distill import artifacts, hardware, models
from retrieval_distill.artifacts import read_json
from retrieval_distill.data.tokens import token_batches
from retrieval_distill.errors import UserError
from retrieval_distill.teacher import pairs as pair_encoding

logger = logging.getLogger("retrieval_distill")

TOKENS_PER_BATCH = {"cpu": 4096, "cuda": 65536}
"""Padded tokens of one forward pass, by device type."""

PAIRS_PER_CALL = 512
"""Pairs handed to the library at once where tokens cannot be cached."""


@dataclass(frozen=True, eq=False)
class CrossEncoderTeacher:
    """A teacher that scores pairs of texts with raw logits (identity activation).

    ``fingerprint`` covers all that changes a score: weights, maximum length and the class of dtype.
    """

    model: CrossEncoder
    fingerprint: str
    description: dict[str, Any]
    max_length: int

    def score(
        self, queries: Sequence[str], documents: Sequence[str], pairs: np.ndarray, wanted: np.ndarray
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Score the wanted pairs ``(queries[pairs[i, 0]], documents[pairs[i, 1]])``.

        Batches are laid over all pairs and then thinned to the wanted ones. So a pair shares its batch with the same
        others whether or not a killed attempt scored part of the list, and gets the same score to the last bit.

        Yields:
            (positions ``i``, float32 scores) of one forward pass after another, longest pairs first.
        """
        if not wanted.any():
            return
        layout = self._layout(queries, documents, pairs)
        if layout is None:
            yield from self._score_by_library(queries, documents, pairs, wanted)
            return
        tokenizer, limit = self.model.tokenizer, self.max_length
        query_tokens = pair_encoding.texts_as_tokens(tokenizer, queries, limit)
        document_tokens = pair_encoding.texts_as_tokens(tokenizer, documents, limit)
        keep_query, keep_document = layout.lengths(
            query_tokens.lengths[pairs[:, 0]], document_tokens.lengths[pairs[:, 1]], limit
        )
        budget = TOKENS_PER_BATCH[self.model.device.type]
        for whole in token_batches(keep_query + keep_document + layout.special, budget):
            batch = whole[wanted[whole]]
            if len(batch):
                rows = [
                    (query_tokens[pairs[i, 0]][: keep_query[i]], document_tokens[pairs[i, 1]][: keep_document[i]])
                    for i in batch
                ]
                yield batch, self._forward(_padded(layout, rows, tokenizer.pad_token_id))

    @torch.inference_mode()
    def _forward(self, features: dict[str, torch.Tensor]) -> np.ndarray:
        backbone: Any = self.model.model
        logits = backbone(**{key: value.to(self.model.device) for key, value in features.items()}).logits
        return logits[:, 0].float().cpu().numpy()

    def _layout(
        self, queries: Sequence[str], documents: Sequence[str], pairs: np.ndarray
    ) -> pair_encoding.PairTemplate | None:
        """The pair layout, once shown to agree with the tokenizer on a sample that holds the longest pairs."""
        tokenizer = self.model.tokenizer
        layout = pair_encoding.template(tokenizer) if tokenizer is not None else None
        if layout is None or tokenizer.pad_token_id is None or not hasattr(self.model.model, "config"):
            return None
        sizes = np.array([len(queries[query]) + len(documents[document]) for query, document in pairs])
        sample = pairs[np.argsort(-sizes)[:: max(1, len(sizes) // 16)]]
        texts = [queries[query] for query, _ in sample], [documents[document] for _, document in sample]
        if pair_encoding.agrees(layout, tokenizer, *texts, self.max_length):
            return layout
        logger.warning("this tokenizer's pairs cannot be assembled from cached tokens: scoring through the library")
        return None

    def _score_by_library(
        self, queries: Sequence[str], documents: Sequence[str], pairs: np.ndarray, wanted: np.ndarray
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for start in range(0, len(pairs), PAIRS_PER_CALL):
            rows = np.arange(start, min(start + PAIRS_PER_CALL, len(pairs)))
            rows = rows[wanted[rows]]
            if len(rows):
                texts = [(queries[query], documents[document]) for query, document in pairs[rows]]
                yield rows, self.model.predict(texts, show_progress_bar=False).astype(np.float32)


def load(name: str, max_length: int | None = 512, dtype: str = "auto") -> CrossEncoderTeacher:
    """Load a teacher on the best device.

    Args:
        name: A hub id, a folder, or ``"starter"``; see :func:`retrieval_distill.models.resolve`.
        max_length: Tokens of a pair; ``None`` keeps the model's own limit, which also caps any larger value.
        dtype: What the model computes in; ``"auto"``: bfloat16 where it is native.

    Raises:
        UserError: The model is not to be had, or it has no single relevance score.
    """
    device = hardware.device()
    compute = hardware.dtype(dtype, device)
    with models.quietly():
        model = _open(models.resolve(name), device)
    if model.num_labels != 1:
        raise UserError(f"teacher {name!r} gives {model.num_labels} labels; a teacher must give one relevance score")
    own = model.max_seq_length or 512
    limit = model.max_seq_length = min(max_length or own, own)
    model.to(compute).eval()
    description = {"model": name, "max_length": limit, "dtype": str(compute).removeprefix("torch.")}
    mark = artifacts.fingerprint({**description, "model": models.fingerprint(name)})[:32]
    return CrossEncoderTeacher(model, mark, description, limit)


def _open(folder: Path, device: str) -> CrossEncoder:
    """A cross-encoder in float32; an adapter is merged into the weights of the base model that it names."""
    adapter = folder / "adapter_config.json"
    base = models.resolve(read_json(adapter)["base_model_name_or_path"]) if adapter.is_file() else folder
    model = CrossEncoder(
        str(base),
        num_labels=1 if adapter.is_file() else None,
        device=device,
        activation_fn=torch.nn.Identity(),
        model_kwargs={"dtype": torch.float32},
        local_files_only=True,
    )
    if adapter.is_file():
        from peft import PeftModel

        model[0].model = PeftModel.from_pretrained(model.model, str(folder)).merge_and_unload()
    return model


def _padded(
    layout: pair_encoding.PairTemplate, rows: list[tuple[np.ndarray, np.ndarray]], pad_id: int
) -> dict[str, torch.Tensor]:
    """``input_ids``, ``attention_mask`` and, where the model has them, ``token_type_ids``: int64 [pairs, longest]."""
    longest = max(len(q) + len(d) for q, d in rows) + layout.special
    ids = np.full((len(rows), longest), pad_id, np.int64)
    mask = np.zeros_like(ids)
    types = np.zeros_like(ids)
    for i, (query, document) in enumerate(rows):
        assembled = layout.assemble(query, document)
        ids[i, : len(assembled)] = assembled
        mask[i, : len(assembled)] = 1
        if (kinds := layout.type_ids(len(query), len(document))) is not None:
            types[i, : len(assembled)] = kinds
    features = {"input_ids": ids, "attention_mask": mask}
    if layout.types is not None:
        features["token_type_ids"] = types
    return {key: torch.from_numpy(value) for key, value in features.items()}
