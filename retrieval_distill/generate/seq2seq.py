"""Queries by a sequence-to-sequence model, which reads a document and writes queries that it answers.

Sources: Nogueira et al., "Document Expansion by Query Prediction", 2019, arXiv:1904.08375 (doc2query); Wang et al.,
"GPL: Generative Pseudo Labeling", 2021, arXiv:2112.07577 (three queries per passage, top-k 25, top-p 0.95).

Knows transformers; must not know files or judgements.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, LogitsProcessorList

from retrieval_distill import models, weights
from retrieval_distill.config.generate import Seq2SeqConfig
from retrieval_distill.data.columns import Record
from retrieval_distill.data.tokens import Tokens, pad, token_batches, tokenize
from retrieval_distill.errors import UserError
from retrieval_distill.generate.query_generator import QueriesByRow, Query, seeded_rng
from retrieval_distill.generate.sampling import FixedNoiseSampler, gumbel_noise
from retrieval_distill.hardware import devices

TOKENS_PER_BATCH = {"cpu": 4096, "cuda": 65536}
"""Padded tokens per batch by device type, counted once per generated query."""


@dataclass(frozen=True)
class Seq2Seq:
    """A way that batches documents of similar length.

    Batches are formed over a whole block, whatever is already done, so a document's queries are the same after a crash.
    When sampling, a document's noise depends only on the seed and its id, so its queries hardly depend on the rest of
    the batch: padding matters only if two tokens are equally likely to the last bit.
    """

    config: Seq2SeqConfig
    seed: int

    def make(self, documents: Sequence[Record], counts: Sequence[int], done: Sequence[bool]) -> Iterator[QueriesByRow]:
        """See :class:`retrieval_distill.generate.query_generator.QueryGenerator`."""
        yield {row: [] for row, count in enumerate(counts) if count == 0 and not done[row]}
        wanted = [row for row, count in enumerate(counts) if count > 0]
        if all(done[row] for row in wanted):
            return
        most = max(counts[row] for row in wanted)
        texts = [f"{self.config.prefix}{title} {text}".strip() for _, title, text in (documents[row] for row in wanted)]
        tokens = tokenize(self._tokenizer, texts, self.config.max_length)
        budget = TOKENS_PER_BATCH[torch.device(self._device).type] // most
        for batch in token_batches(tokens.lengths, budget):
            rows = [wanted[place] for place in batch]
            if not all(done[row] for row in rows):
                written = self._write(tokens, batch, [documents[row][0] for row in rows], most)
                yield {row: [Query(t) for t in mine[: counts[row]]] for row, mine in zip(rows, written, strict=True)}

    @torch.inference_mode()
    def _write(self, tokens: Tokens, batch: np.ndarray, ids: list[str], count: int) -> list[list[str]]:
        """``count`` queries of every document of a batch."""
        features = pad([tokens[place] for place in batch], self._tokenizer.pad_token_id)
        inputs = {name: values.to(self._device) for name, values in features.items()}
        limit = self.config.query_length
        written = self._model.generate(
            **inputs, num_return_sequences=count, max_new_tokens=limit, **self._decoding(ids, count)
        )
        texts = self._tokenizer.batch_decode(written, skip_special_tokens=True)
        return [[" ".join(text.split()) for text in texts[at : at + count]] for at in range(0, len(texts), count)]

    def _decoding(self, ids: list[str], count: int) -> dict[str, Any]:
        config = self.config
        if config.decoding == "beam":
            return {"do_sample": False, "num_beams": max(config.beams, count)}
        noise = gumbel_noise(
            [seeded_rng(self.seed, "seq2seq", id_) for id_ in ids], count, config.query_length, config.top_k
        )
        sampler = FixedNoiseSampler(noise.to(self._device), config.top_p, config.temperature)
        no_other_sampling = {"top_k": 0, "top_p": 1.0, "temperature": 1.0, "num_beams": 1}
        return {"do_sample": True, "logits_processor": LogitsProcessorList([sampler]), **no_other_sampling}

    @property
    def _device(self) -> str:
        return devices.device()

    @cached_property
    def _tokenizer(self) -> Any:
        tokenizer = self._load(AutoTokenizer)
        weights.require_vocabulary(models.resolve(self.config.model), tokenizer)
        return tokenizer

    @cached_property
    def _model(self) -> Any:
        dtype = devices.dtype(self.config.dtype, self._device)
        return self._load(AutoModelForSeq2SeqLM, dtype=dtype).to(self._device).eval()

    def _load(self, kind: Any, **options: Any) -> Any:
        folder = models.resolve(self.config.model)
        try:
            with weights.loading(folder) as loaded:
                model = kind.from_pretrained(folder, trust_remote_code=False, **options)
        except UserError as error:
            raise UserError(
                f"model {self.config.model!r} cannot be read as a sequence-to-sequence model, such as T5: {error}"
            ) from error
        weights.require_whole(folder, loaded)
        return model
