"""Computing the first token alone changes no score, and is not done where it would."""

from __future__ import annotations

import copy

import pytest
import torch
from transformers import AutoModelForSequenceClassification, XLMRobertaConfig, XLMRobertaForSequenceClassification

from retrieval_distill.teacher import first_token


def batch(model) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    ids = torch.randint(5, model.config.vocab_size, (4, 20), generator=generator)
    mask = (torch.arange(20) < torch.tensor([20, 13, 2, 7])[:, None]).long()
    return {"input_ids": ids, "attention_mask": mask}


@pytest.mark.parametrize("kind", ["bert", "roberta"])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_logits_stay_the_same_and_work_is_saved(cross_encoders, kind, attention):
    model = AutoModelForSequenceClassification.from_pretrained(
        cross_encoders[kind], dtype=torch.float32, attn_implementation=attention
    ).eval()
    widths = []
    last = model.base_model.encoder.layer[-1]
    last.intermediate.register_forward_hook(lambda _, inputs, __: widths.append(inputs[0].shape[1]))
    with torch.inference_mode():
        expected = model(**batch(model)).logits
        assert first_token.shorten(model)
        found = model(**batch(model)).logits
        in_bfloat16 = copy.deepcopy(model).bfloat16()(**batch(model)).logits
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(in_bfloat16.float(), expected, atol=0.05, rtol=0.05)
    assert (widths[0], widths[-1]) == (20, 1)


def test_a_copy_is_a_model_of_its_own(cross_encoders):
    model = AutoModelForSequenceClassification.from_pretrained(cross_encoders["bert"], dtype=torch.float32).eval()
    assert first_token.shorten(model)
    other = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in other.base_model.encoder.layer[-1].parameters():
            parameter.zero_()
    with torch.inference_mode():
        assert not torch.equal(model(**batch(model)).logits, other(**batch(model)).logits)


def test_larger_models_of_the_family():
    torch.manual_seed(0)
    config = XLMRobertaConfig(
        vocab_size=120, hidden_size=48, num_hidden_layers=3, num_attention_heads=6, intermediate_size=96, num_labels=2,
        max_position_embeddings=64, initializer_range=0.3,
    )  # fmt: skip
    model = XLMRobertaForSequenceClassification(config).eval()
    with torch.inference_mode():
        expected = model(**batch(model)).logits
        assert first_token.shorten(model)
        torch.testing.assert_close(model(**batch(model)).logits, expected, atol=1e-5, rtol=1e-5)


def test_a_classifier_that_looks_at_all_tokens_keeps_its_layer(cross_encoders):
    model = AutoModelForSequenceClassification.from_pretrained(cross_encoders["roberta"], dtype=torch.float32).eval()

    class MeanHead(torch.nn.Module):
        def forward(self, features):
            return features.mean(dim=1)[:, :1] * 100

    model.classifier = MeanHead()
    with torch.inference_mode():
        expected = model(**batch(model)).logits
        assert not first_token.shorten(model)
        torch.testing.assert_close(model(**batch(model)).logits, expected, atol=0, rtol=0)


@pytest.mark.parametrize("kind", ["distilbert", "modernbert"])
def test_other_layers_are_left_alone(cross_encoders, kind):
    model = AutoModelForSequenceClassification.from_pretrained(cross_encoders[kind], dtype=torch.float32).eval()
    assert not first_token.shorten(model)
