"""Long texts never reach beyond a model's positions, whatever its tokenizer says, as student and as teacher."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification, PreTrainedTokenizerFast

from retrieval_distill.config.fit_teacher import FitTeacherConfig
from retrieval_distill.errors import UserError
from retrieval_distill.scores.teacher_contract import Pairs
from retrieval_distill.student import encoder
from retrieval_distill.teacher import cross_encoder
from retrieval_distill.teacher.fitting import trainable_model as fit_model

LONG = "path " * 200
PAIRS = Pairs(["q"], ["sort the list"], ["a", "b"], [LONG, "heap"], np.array([[0, 0], [0, 1]]), np.ones(2, bool))

OFFSETS = [
    "roberta", "xlm-roberta", "camembert", "data2vec-text", "mpnet", "roberta-prelayernorm", "xlm-roberta-xl", "ibert",
    "longformer", "luke",
]  # fmt: skip
"""Families whose positions are counted from behind the padding id, 1 here: 66 of them hold 64 tokens."""

OWN = {
    "longformer": {"attention_window": [16, 16]},
    "luke": {"entity_vocab_size": 10, "entity_emb_size": 8},
    "t5": {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4, "decoder_start_token_id": 1},
}
BARE = {"num_labels": 1, "pad_token_id": 1}
SIZES = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64,
    "max_position_embeddings": 66,
}  # fmt: skip


def save(family: str, tokenizer, folder: Path, auto, limit: int | None) -> str:
    torch.manual_seed(3)
    sizes = {} if family == "t5" else SIZES
    config = AutoConfig.for_model(family, vocab_size=len(tokenizer), **BARE, **sizes, **OWN.get(family, {}))
    auto.from_config(config).save_pretrained(folder)
    known = {} if limit is None else {"model_max_length": limit}
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer.backend_tokenizer, model_input_names=["input_ids", "attention_mask"],
        **tokenizer.special_tokens_map, **known,
    ).save_pretrained(folder)  # fmt: skip
    return str(folder)


@pytest.mark.parametrize("limit", [None, 5000])
@pytest.mark.parametrize("family", OFFSETS)
def test_positions_that_count_from_the_padding_id(tokenizers_by_kind, tmp_path, family, limit):
    tokenizer = tokenizers_by_kind["roberta"]
    student = encoder.load(save(family, tokenizer, tmp_path / "student", AutoModel, limit))
    assert student.max_seq_length == 64
    alone, together = encoder.encode(student, [LONG], "document"), encoder.encode(student, [LONG, "heap"], "document")
    np.testing.assert_allclose(alone, together[:1], atol=1e-5)
    folder = save(family, tokenizer, tmp_path / "teacher", AutoModelForSequenceClassification, limit)
    for asked in (512, None, 1 << 30):
        teacher = cross_encoder.load(folder, asked, "float32")
        assert teacher.max_length == 64
    assert fit_model.build(FitTeacherConfig(model=folder, max_length=512, adapter="none")).max_seq_length == 64
    assert sorted(row for rows, scores in teacher.score(PAIRS) for row in rows[np.isfinite(scores)]) == [0, 1]


def test_a_limit_that_is_cut_is_said(tokenizers_by_kind, tmp_path, caplog):
    folder = save("data2vec-text", tokenizers_by_kind["roberta"], tmp_path, AutoModel, None)
    encoder.load(folder, max_length=200)
    assert (
        f"model {folder} has positions for only 64 tokens: longer texts are truncated there, not at 200" in caplog.text
    )


def test_models_without_positions_take_what_is_asked_for(tokenizers_by_kind, tmp_path):
    folder = save("t5", tokenizers_by_kind["roberta"], tmp_path, AutoModel, None)
    assert [encoder.load(folder, max_length=asked).max_seq_length for asked in (None, 600)] == [512, 600]


def test_an_unknown_family_is_tried_and_its_limit_found(tokenizers_by_kind, tmp_path, monkeypatch, caplog):
    from transformers.models.ernie.modeling_ernie import ErnieEmbeddings

    folder = save("ernie", tokenizers_by_kind["roberta"], tmp_path, AutoModel, None)
    forward = ErnieEmbeddings.forward

    def narrow(self, input_ids=None, **rest):
        if input_ids.shape[1] > 41:
            raise IndexError("index out of range in self")
        return forward(self, input_ids=input_ids, **rest)

    monkeypatch.setattr(ErnieEmbeddings, "forward", narrow)
    model = encoder.load(folder)
    assert model.max_seq_length == 41
    assert encoder.encode(model, [LONG], "document").shape == (1, 32)
    assert "(ernie) accepts at most 41 tokens" in caplog.text


@pytest.mark.parametrize("family", ["lilt", "markuplm"])
@pytest.mark.parametrize("role", ["student", "teacher"])
def test_what_cannot_be_served_is_refused_when_loaded(tokenizers_by_kind, tmp_path, family, role):
    """LiLT asks for the places of words on a page, here of another width; MarkupLM for markup."""
    auto = AutoModel if role == "student" else AutoModelForSequenceClassification
    folder = save(family, tokenizers_by_kind["roberta"], tmp_path, auto, None)
    with pytest.raises(UserError, match=r"family \(lilt\) are not supported|cannot be loaded"):
        encoder.load(folder) if role == "student" else cross_encoder.load(folder, dtype="float32")
