"""A slimmed encoder is the original with its other layers skipped, in every family, before and after it is saved."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from retrieval_distill.config import StudentConfig, load_recipe, parse_recipe
from retrieval_distill.data.training_set import TrainingSet
from retrieval_distill.errors import UserError
from retrieval_distill.student import build, encoder, layer_selection, layers
from retrieval_distill.training import group_ranking
from retrieval_distill.training.groups import build_groups
from tests.student.conftest import FAMILIES
from tests.training.driver import teacher_run, train

TEXTS = ["path file", "a much longer text about the graph " * 6, "Hash Byte buffer", "sort node edge tree " * 8]

STACKS = {
    "bert": lambda model: model.encoder.layer,
    "roberta": lambda model: model.encoder.layer,
    "distilbert": lambda model: model.transformer.layer,
    "mpnet": lambda model: model.encoder.layer,
    "modernbert": lambda model: model.layers,
    "gpt2": lambda model: model.h,
}


def skipping(model: SentenceTransformer, kind: str, kept: tuple[int, ...]) -> SentenceTransformer:
    """The whole model, in which the other layers hand on what they are given."""
    model = copy.deepcopy(model)
    for number, layer in enumerate(STACKS[kind](model[0].auto_model)):
        if number not in kept:
            layer.forward = lambda states, *_, **__: (states,) if kind == "mpnet" else states
    return model


@pytest.mark.parametrize("kept", [(0, 3), (0, 1, 2), (1, 3)])
@pytest.mark.parametrize("kind", FAMILIES)
def test_as_if_the_other_layers_were_skipped(families, kind, kept, tmp_path):
    if kind == "modernbert" and kept[0] != 0:
        with pytest.raises(UserError, match="keep layer 0, and as the first"):
            build.build(StudentConfig(model=families[kind], layers=kept))
        return
    whole = build.build(StudentConfig(model=families[kind], max_length=60))
    slim = build.build(StudentConfig(model=families[kind], max_length=60, layers=kept))
    for place, number in enumerate(kept):
        weights = STACKS[kind](slim[0].auto_model)[place].state_dict()
        for name, weight in STACKS[kind](whole[0].auto_model)[number].state_dict().items():
            assert torch.equal(weight, weights[name])
    expected = skipping(whole, kind, kept).encode_document(TEXTS)
    assert np.abs(expected - whole.encode_document(TEXTS)).max() > 0.02  # the other layers do matter
    slim.save_pretrained(str(tmp_path))
    for found in (slim, SentenceTransformer(str(tmp_path), device="cpu")):
        np.testing.assert_allclose(found.encode_document(TEXTS), expected, atol=1e-6)


def test_attention_stays_global_or_local_with_its_layer(families, tmp_path):
    """ModernBERT's layers 0 and 3 see the whole text, 1 and 2 a window; by place, 3 would become a local one."""
    slim = build.build(StudentConfig(model=families["modernbert"], max_length=60, layers=(0, 3)))
    slim.save_pretrained(str(tmp_path))
    for model in (slim, SentenceTransformer(str(tmp_path), device="cpu")):
        assert [layer.attention_type for layer in model[0].auto_model.layers] == ["full_attention"] * 2


def test_a_slimmed_decoder_still_caches(families):
    """Token by token, with the cache of what came before, as at once."""
    model = build.build(StudentConfig(model=families["gpt2"], max_length=60, layers=(1, 3)))[0].auto_model
    ids = torch.arange(5, 15)[None]
    with torch.no_grad():
        at_once = model(input_ids=ids).last_hidden_state
        start = model(input_ids=ids[:, :6], use_cache=True)
        rest = model(input_ids=ids[:, 6:], past_key_values=start.past_key_values, use_cache=True)
    torch.testing.assert_close(torch.cat([start.last_hidden_state, rest.last_hidden_state], 1), at_once)


@pytest.mark.parametrize(
    ("count", "rule", "expected"),
    [
        (12, "first:3", (0, 1, 2)),
        (12, "last:3", (9, 10, 11)),
        (12, "spaced:6", (0, 2, 4, 7, 9, 11)),  # what DistilBERT's authors published for 6 of 12
        (12, "spaced:3", (0, 6, 11)),
        (6, "spaced:2", (0, 5)),
        (4, "spaced:4", (0, 1, 2, 3)),
        (4, "spaced:1", (0,)),
    ],
)
def test_rules(count, rule, expected):
    name, number = rule.split(":")
    assert layers.RULES[name](count, int(number)) == expected


def test_rules_in_a_recipe(families):
    model = build.build(StudentConfig(model=families["bert"], layers="last:2"))
    assert model[0].auto_model.config.num_hidden_layers == 2
    assert load_recipe("demo", ["student.layers=spaced:3"]).student.layers == "spaced:3"
    with pytest.raises(UserError, match=r"layers=last:5: this model has 4 layers"):
        build.build(StudentConfig(model=families["bert"], layers="last:5"))
    with pytest.raises(UserError, match=r"student\.layers: String should match"):
        load_recipe("demo", ["student.layers=middle:3"])


def test_the_best_set_is_chosen_and_the_model_left_alone(families):
    model = encoder.load(families["bert"])
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    tried = layer_selection.candidates(model, 2)
    assert tried == [(0, 3), (0, 1), (1, 2), (2, 3)]
    marks = [layer.output.dense.bias.sum().item() for layer in model[0].auto_model.encoder.layer]

    def score(slim: SentenceTransformer) -> float:
        return sum(layer.output.dense.bias.sum().item() for layer in slim[0].auto_model.encoder.layer)

    expected = max(tried, key=lambda pair: marks[pair[0]] + marks[pair[1]])
    assert layer_selection.choose(model, tried, score) == expected
    assert layer_selection.choose(model, tried, lambda _: 1.0) == (0, 3)  # of equals, the first
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())


def test_no_candidate_that_does_not_fit(families):
    assert layer_selection.candidates(encoder.load(families["modernbert"]), 2) == [(0, 3), (0, 1)]


def ndcg_by_hand(model: SentenceTransformer, dataset) -> float:
    """One relevant document per query: 1 / log2(1 + its rank)."""
    documents = dict(zip(dataset.documents, model.encode_document(dataset.documents.take()), strict=True))
    queries = dict(zip(dataset.queries, model.encode_query(dataset.queries.take()), strict=True))
    gains = []
    for query, docs in teacher_run(dataset).as_dict().items():
        similarity = {doc: float(queries[query] @ documents[doc]) for doc in docs}
        (relevant,) = dataset.qrels["train"][query]
        gains.append(1 / math.log2(1 + sum(value >= similarity[relevant] for value in similarity.values())))
    return sum(gains) / len(gains)


def test_layers_chosen_by_how_they_rank_the_training_groups(tiny_recipe, families, dataset, tmp_path):
    student = {"model": families["distilbert"], "max_length": 48}
    config = {k: StudentConfig(**student, layers=k) for k in [(0, 3), (0, 1), (1, 2), (2, 3)]}
    by_hand = {kept: ndcg_by_hand(build.build(of), dataset) for kept, of in config.items()}
    qrels = dataset.qrels["train"]
    groups = build_groups(teacher_run(dataset), qrels)
    model = build.build(config[(1, 2)])
    ours = group_ranking.ndcg(
        model, groups, TrainingSet(teacher_run(dataset), qrels, dataset.queries, dataset.documents)
    )
    assert ours == pytest.approx(by_hand[(1, 2)], abs=1e-6)

    training = {**tiny_recipe["training"], "steps": 1, "learning_rate": 1e-12, "dropout": None}
    values = {**tiny_recipe, "student": {**student, "layers": "auto:2"}, "training": training}
    assert parse_recipe(values).student.layers == "auto:2"
    train(values, tmp_path / "student")
    found = SentenceTransformer(str(tmp_path / "student"), device="cpu")[0].auto_model.transformer.layer
    best = max(by_hand, key=by_hand.__getitem__)
    for place, number in enumerate(best):
        original = encoder.load(families["distilbert"])[0].auto_model.transformer.layer[number]
        torch.testing.assert_close(found[place].ffn.lin1.weight, original.ffn.lin1.weight)


def test_auto_needs_something_to_choose_by(families):
    with pytest.raises(UserError, match="needs training queries"):
        build.build(StudentConfig(model=families["bert"], layers="auto:2"))
