"""What is captured is what the library itself gives out, in every family."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch

from retrieval_distill.compress.captures import Captures, real_tokens, shape_of
from retrieval_distill.compress.families import family_of
from retrieval_distill.compress.layer_dropping import skip_other_layers
from retrieval_distill.compress.transfer import EncoderShape
from retrieval_distill.errors import UserError
from retrieval_distill.student import encoder, layers
from tests.compress.conftest import FAMILIES

ROWS = [np.array(row, np.int32) for row in ([0, 7, 8, 9, 10, 2], [0, 11, 12, 2])]


@pytest.fixture(params=FAMILIES)
def model(request, every_encoder):
    return encoder.load(every_encoder[request.param])


def library(model, **asked):
    """The transformer's own answer, on its own attention maps."""
    plain = copy.deepcopy(model[0].auto_model)
    if plain.config._attn_implementation != "eager":
        plain.set_attn_implementation("eager")
    pad = model.tokenizer.pad_token_id
    ids = torch.tensor([[*row, *[pad] * (6 - len(row))] for row in ROWS])
    with torch.no_grad():
        return plain(input_ids=ids, attention_mask=real_tokens(ROWS, "cpu").long(), **asked)


def test_hidden_states(model):
    asked = [("embeddings", 0), *(("hidden", layer) for layer in range(3)), ("tokens", 0)]
    with torch.no_grad():
        seen = Captures(model, asked)(ROWS)
    answer = library(model, output_hidden_states=True)
    for ask, wanted in zip(asked, (*answer.hidden_states[:4], answer.last_hidden_state), strict=True):
        torch.testing.assert_close(seen[ask], wanted)
    torch.testing.assert_close(seen["vector", 0], encoder.forward(model, ROWS))


def test_attention_maps(model):
    with torch.no_grad():
        seen = Captures(model, [("attention", 1)])(ROWS)
    wanted = library(model, output_attentions=True).attentions[1]
    for text, row in enumerate(ROWS):
        length = len(row)
        torch.testing.assert_close(seen["attention", 1][text, :, :length, :length], wanted[text, :, :length, :length])


@pytest.mark.parametrize("name", ["bert", "roberta", "distilbert"])
def test_projections_are_those_that_attention_is_made_of(every_encoder, name):
    model = encoder.load(every_encoder[name])
    with torch.no_grad():
        seen = Captures(model, [("query", 2), ("key", 2), ("attention", 2)])(ROWS)
    query, key = (seen[kind, 2].unflatten(-1, (4, -1)).transpose(1, 2) for kind in ("query", "key"))
    scores = (query @ key.transpose(-1, -2) / math.sqrt(8)).masked_fill(~real_tokens(ROWS, "cpu")[:, None, None], -1e9)
    torch.testing.assert_close(scores.softmax(dim=-1), seen["attention", 2])


def test_projections_are_linear_maps_of_what_goes_in(model):
    """Of the first layer, whose input is known: the weights' own rows, fused or apart."""
    names = family_of(model[0].auto_model).projections
    layer = layers.stack(model)[1][0]
    weights = torch.cat([layer.get_submodule(name).weight for name in names])
    biases = [layer.get_submodule(name).bias for name in names]
    with torch.no_grad():
        seen = Captures(model, [("embeddings", 0), *((kind, 0) for kind in ("query", "key", "value"))])(ROWS)
        wanted = seen["embeddings", 0] @ weights.T + (torch.cat(biases) if biases[0] is not None else 0)
    found = torch.cat([seen[kind, 0] for kind in ("query", "key", "value")], dim=-1)
    torch.testing.assert_close(found, wanted)


def test_nothing_else_is_listened_to(model):
    captures = Captures(model, [("hidden", 1), ("vector", 0)])
    hooked = [module for module in model.modules() if module._forward_hooks or module._forward_pre_hooks]
    assert hooked == [layers.stack(model)[1][1]]
    captures.close()
    assert not any(module._forward_hooks for module in model.modules())


def test_passed_over_layers_leave_the_shorter_model(model):
    kept = (0, 2) if "ModernBert" in type(model[0].auto_model).__name__ else (1, 3)
    short = copy.deepcopy(model)
    layers.keep_only(short, kept)
    with torch.no_grad(), skip_other_layers(model, kept):
        found = encoder.forward(model, ROWS)
    torch.testing.assert_close(found, encoder.forward(short, ROWS))
    assert not torch.allclose(found, encoder.forward(model, ROWS))  # whole again


def test_anatomy(model):
    assert shape_of(model) == EncoderShape(layers=4, width=32, heads=4, dimensions=32)


def test_a_family_that_is_not_known(every_encoder, monkeypatch):
    model = encoder.load(every_encoder["bert"])
    monkeypatch.setattr(model[0].auto_model.config, "model_type", "megabert", raising=False)
    with pytest.raises(UserError, match="'megabert' models are not supported, only bert, roberta"):
        Captures(model, [("query", 0)])
