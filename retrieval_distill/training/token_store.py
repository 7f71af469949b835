"""Training texts tokenized once, and read from disk as steps need them.

Knows texts, tokenizers and files; must not know groups or models' weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sentence_transformers import SentenceTransformer

from retrieval_distill.data.dataset import Texts
from retrieval_distill.data.tokens import Tokens
from retrieval_distill.runtime import stages
from retrieval_distill.student import encoder
from retrieval_distill.student.routes import path

CHUNK = 8192
"""Texts tokenized at once; bounds memory."""


@dataclass(frozen=True, eq=False)
class TokenizedTexts:
    """Token rows by id."""

    rows: dict[str, int]
    tokens: Tokens

    def __getitem__(self, id_: str) -> np.ndarray:
        return self.tokens[self.rows[id_]]


def tokenize(
    student: SentenceTransformer, texts: Texts, kind: encoder.Kind, max_length: int | None, folder: Path
) -> TokenizedTexts:
    """Token ids of texts, memory-mapped; reused from an earlier call with the same tokenizer, texts and options.

    Args:
        student: Its tokenizer and prompt are used.
        texts: The texts.
        kind: Selects the student's prompt and tokenizer.
        max_length: Tokens per text; ``None``: the student's own limit.
        folder: Where the tokens are stored.
    """

    def work(out: Path) -> dict[str, int]:
        chunks = (Texts(texts.table.slice(start, CHUNK)).take() for start in range(0, len(texts), CHUNK))
        tokens = Tokens.write(out, (encoder.tokens_of(student, chunk, kind, max_length) for chunk in chunks))
        return {"texts": len(tokens), "tokens": len(tokens.flat)}

    first = path(student, kind)[0]
    inputs = {
        "texts": texts.fingerprint,
        "tokenizer": _fingerprint(first.tokenizer),
        "prompt": student.prompts.get(kind),
        "max_length": [max_length, first.max_seq_length],
        "cut": first.tokenizer.truncation_side,
    }
    stages.stage("tokens", folder, inputs, work)
    return TokenizedTexts({id_: row for row, id_ in enumerate(texts.ids)}, Tokens.open(folder))


def _fingerprint(tokenizer: Any) -> str:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    rules = backend.to_str() if backend else [repr(tokenizer), tokenizer.get_vocab()]
    return stages.fingerprint(rules)
