"""Trims a vocabulary to the tokens of a corpus: a smaller embedding matrix, but the same vectors for its texts.

A small student's weights are mostly embeddings, and most of these belong to tokens that never occur in a corpus. The
tokens of its texts do not change: WordPiece takes the longest token, which is still there; for BPE every merge that
leads to a token is kept; and Unigram's best segmentation is still the best of fewer. This is verified all the same.
Knows embedding matrices and texts; must not know training.

Source: Abdaoui et al., "Load What You Need: Smaller Versions of Multilingual BERT", 2020, arXiv:2010.05609.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
import torch
from sentence_transformers import SentenceTransformer

from retrieval_distill.data.dataset import Texts
from retrieval_distill.data.tokens import tokenize
from retrieval_distill.errors import UserError
from retrieval_distill.runtime import quiet
from retrieval_distill.student import tokenizer_json
from retrieval_distill.student.routes import Kind

CHUNK = 8192
"""Number of texts tokenised at once."""


def trim(model: SentenceTransformer, wanted: Literal["corpus"] | int, texts: Mapping[Kind, Texts]) -> None:
    """Drop the tokens that texts do not use, from the tokenizer and from the embedding matrix, in place.

    Single characters (or bytes), special tokens such as ``[CLS]``, and intermediate results of BPE's merges are kept
    too, so that any new text can be tokenised, if into more tokens.

    Args:
        model: A bi-encoder with one tokenizer; its prompts count as part of the texts.
        wanted: ``"corpus"`` keeps every token that occurs; a number only that many of the most frequent ones.
        texts: The texts, by kind.

    Raises:
        UserError: The tokenizer is of another kind, or ``"corpus"`` would change the tokens of a text.
    """
    backbone: Any = model[0].auto_model
    tokenizer = model.tokenizer
    settings = json.loads(tokenizer.backend_tokenizer.to_str())
    if settings["model"]["type"] not in tokenizer_json.KINDS:
        raise UserError(
            f"student.vocabulary: cannot trim a {settings['model']['type']} tokenizer, only "
            f"{', '.join(tokenizer_json.KINDS)}; leave it out"
        )
    counts = np.zeros(backbone.get_input_embeddings().num_embeddings, np.int64)
    for chunk in _chunks(model, texts):
        # without truncation: how a word is split depends on all its tokens, even beyond the model's limit
        counts += np.bincount(tokenize(tokenizer, chunk, None).flat, minlength=len(counts))
    marks = _special_ids(tokenizer, backbone)
    counts[list(marks)] = 0
    used = np.argsort(-counts, kind="stable")[: np.count_nonzero(counts)]
    used = used if wanted == "corpus" else used[:wanted]
    kept = tokenizer_json.required_ids(settings, set(used.tolist()) | marks)
    new_ids = {old: new for new, old in enumerate(sorted(kept))}
    slim = _load(tokenizer, tokenizer_json.restrict(settings, new_ids))
    if wanted == "corpus":
        _refuse_change(tokenizer, slim, new_ids, _chunks(model, texts))
    model[0].processor = slim
    _trim_embeddings(backbone, new_ids)


def _chunks(model: SentenceTransformer, texts: Mapping[Kind, Texts]) -> Iterator[list[str]]:
    for kind, of_kind in texts.items():
        prompt = model.prompts.get(kind) or ""
        for start in range(0, len(of_kind), CHUNK):
            yield [prompt + text for text in of_kind.take(of_kind.ids[start : start + CHUNK])]


def _special_ids(tokenizer: Any, backbone: Any) -> set[int]:
    """Ids of the special tokens."""
    embeddings, config = backbone.get_input_embeddings(), backbone.config
    marks = {*tokenizer.all_special_ids, *_named_ids(config).values(), embeddings.padding_idx}
    return marks & set(range(embeddings.num_embeddings))


def _named_ids(config: Any) -> dict[str, int]:
    """The ids that a configuration names, such as ``pad_token_id``."""
    named = {name: id_ for name, id_ in config.to_dict().items() if name.endswith("_token_id")}
    return {name: id_ for name, id_ in named.items() if isinstance(id_, int)}


def _load(tokenizer: Any, settings: dict[str, Any]) -> Any:
    """A tokenizer with other settings, loaded from files like that of a saved student."""
    with TemporaryDirectory() as folder, quiet.libraries():
        tokenizer.save_pretrained(folder)
        (Path(folder) / "tokenizer.json").write_text(json.dumps(settings, ensure_ascii=False), encoding="utf-8")
        return type(tokenizer).from_pretrained(folder)


def _refuse_change(old: Any, slim: Any, new_ids: Mapping[int, int], chunks: Iterable[list[str]]) -> None:
    number = np.full(max(new_ids) + 1, -1)
    number[list(new_ids)] = list(new_ids.values())
    for chunk in chunks:
        before, after = tokenize(old, chunk, None), tokenize(slim, chunk, None)
        if not (np.array_equal(before.offsets, after.offsets) and np.array_equal(number[before.flat], after.flat)):
            raise UserError(
                "student.vocabulary=corpus: without its unused tokens this tokenizer would tokenise texts of the "
                "corpus differently; leave it out"
            )


def _trim_embeddings(backbone: Any, new_ids: Mapping[int, int]) -> None:
    embeddings = backbone.get_input_embeddings()
    embeddings.weight = torch.nn.Parameter(embeddings.weight.detach()[list(new_ids)])
    embeddings.num_embeddings = len(new_ids)
    embeddings.padding_idx = new_ids.get(embeddings.padding_idx)
    for name, id_ in _named_ids(backbone.config).items():
        setattr(backbone.config, name, new_ids.get(id_, id_))
    backbone.config.vocab_size = len(new_ids)
