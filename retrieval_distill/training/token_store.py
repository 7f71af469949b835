"""The texts of a training, cut into token ids once and read from disk as steps need them.

Knows texts, tokenizers and files; must not know groups or models' weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sentence_transformers import SentenceTransformer

from retrieval_distill import artifacts
from retrieval_distill.data.dataset import Texts
from retrieval_distill.data.tokens import Tokens
from retrieval_distill.student import encoder

CHUNK = 8192
"""Texts that are cut at once: what is held in memory."""


@dataclass(frozen=True, eq=False)
class TokenizedTexts:
    """Token rows by id."""

    rows: dict[str, int]
    tokens: Tokens

    def __getitem__(self, id_: str) -> np.ndarray:
        return self.tokens[self.rows[id_]]


def cut(
    student: SentenceTransformer, texts: Texts, ids: Sequence[str], kind: encoder.Kind, max_length: int, folder: Path
) -> TokenizedTexts:
    """The token ids of texts, memory-mapped; kept from an earlier call with the same tokenizer, texts and options.

    Args:
        student: Whose tokenizer and prompts cut; its own token limit is left as it is.
        texts: What ``ids`` are taken from.
        ids: Distinct.
        kind: Which of the student's prompts applies.
        max_length: Ids kept per text.
        folder: Where the store is.
    """
    chosen = texts.select(ids)

    def work(out: Path) -> dict[str, int]:
        own, student.max_seq_length = student.max_seq_length, max_length
        chunks = (Texts(chosen.table.slice(start, CHUNK)).take() for start in range(0, len(chosen), CHUNK))
        tokens = Tokens.write(out, (encoder.tokens_of(student, chunk, kind) for chunk in chunks))
        student.max_seq_length = own
        return {"texts": len(tokens), "tokens": len(tokens.flat)}

    inputs = {
        "texts": chosen.fingerprint,
        "tokenizer": _fingerprint(student),
        "prompt": student.prompts.get(kind),
        "max_length": max_length,
    }
    artifacts.stage("tokens", folder, inputs, work)
    return TokenizedTexts({id_: row for row, id_ in enumerate(ids)}, Tokens.open(folder))


def _fingerprint(student: SentenceTransformer) -> str:
    tokenizer = student.tokenizer
    backend = getattr(tokenizer, "backend_tokenizer", None)
    rules = backend.to_str() if backend else [repr(tokenizer), tokenizer.get_vocab()]
    return artifacts.fingerprint(rules)
