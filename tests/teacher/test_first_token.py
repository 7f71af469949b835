"""Computing the first token alone changes no score, and is not done where it would."""

from __future__ import annotations

import copy

import pytest
import torch
from transformers import (
    AutoModelForSequenceClassification,
    MPNetConfig,
    MPNetModel,
    XLMRobertaConfig,
    XLMRobertaForSequenceClassification,
)

from retrieval_distill.teacher import first_token
from tests.conftest import tiny_config


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


def test_other_layers_are_left_alone(cross_encoders):
    model = AutoModelForSequenceClassification.from_pretrained(cross_encoders["distilbert"], dtype=torch.float32).eval()
    assert not first_token.shorten(model)


@pytest.mark.parametrize("local_last", [False, True])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("bias", [False, True])
def test_modernbert(tokenizers_by_kind, attention, local_last, bias):
    torch.manual_seed(0)
    config = tiny_config("modernbert", tokenizers_by_kind["modernbert"])
    config.initializer_range, config.attention_bias, config._attn_implementation = 0.3, bias, attention
    if local_last:
        config.layer_types = [*config.layer_types[:-1], "sliding_attention"]
    model = AutoModelForSequenceClassification.from_config(config).eval()
    widths = []
    model.model.layers[-1].mlp.register_forward_hook(lambda _, inputs, __: widths.append(inputs[0].shape[1]))
    with torch.inference_mode():
        expected = model(**batch(model)).logits
        assert first_token.shorten(model)
        torch.testing.assert_close(model(**batch(model)).logits, expected, atol=1e-5, rtol=1e-5)
    assert expected.std() > 1e-3 and (widths[0], widths[-1]) == (20, 1)


def test_modernbert_whose_classifier_reads_the_mean_is_left_alone(tokenizers_by_kind):
    config = tiny_config("modernbert", tokenizers_by_kind["modernbert"])
    config.classifier_pooling = "mean"
    model = AutoModelForSequenceClassification.from_config(config).eval()
    before = set(model.state_dict())
    assert not first_token.shorten(model) and set(model.state_dict()) == before


def test_mpnet_s_bias_for_distance_is_kept():
    torch.manual_seed(0)
    config = MPNetConfig(
        vocab_size=120, hidden_size=48, num_hidden_layers=3, num_attention_heads=6, intermediate_size=96,
        max_position_embeddings=64, initializer_range=0.3,
    )  # fmt: skip
    model = MPNetModel(config).eval()
    with torch.inference_mode():
        expected = model(**batch(model)).last_hidden_state[:, 0]
        assert first_token.shorten(model, first_token.first_token)
        output = model(**batch(model)).last_hidden_state
    torch.testing.assert_close(output[:, 0], expected, atol=1e-5, rtol=1e-5)
    assert output.shape[1] == 1
