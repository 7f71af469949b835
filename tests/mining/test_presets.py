"""Named ways to mine are values like any others; what cannot be is said in the user's words."""

from __future__ import annotations

import pytest

from retrieval_distill.config import PRESETS, MiningConfig, load_recipe, parse_recipe
from retrieval_distill.errors import UserError


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_stands_for_its_values(name):
    by_name = parse_recipe({"name": "x", "mining": name}).mining
    written_out = parse_recipe({"name": "x", "mining": PRESETS[name][1]}).mining
    assert by_name.model_dump(exclude={"preset"}) == written_out.model_dump(exclude={"preset"})
    assert load_recipe("demo", [f"mining={name}"]).mining == by_name
    again = parse_recipe({"name": "x", "mining": by_name.model_dump(mode="json")}).mining
    assert again == by_name


def test_hybrid_is_the_default():
    assert parse_recipe({"name": "x", "mining": "hybrid"}).mining.model_dump(exclude={"preset"}) == (
        MiningConfig().model_dump(exclude={"preset"})
    )


def test_what_is_given_beside_a_preset_counts():
    mining = load_recipe("demo", ["mining.preset=bm25-hard", "mining.rounds=2", "mining.draw.10-50=1"]).mining
    assert (mining.retrievers, mining.rounds, mining.draw) == (("bm25",), 2, {"10-50": 1.0})


def test_bands_ask_retrievers_for_more():
    assert MiningConfig(draw={"top": 1, "10-50": 1, "random": 1}).depth(30) == 50
    assert MiningConfig(draw={"top": 1, "10-20": 1}).depth(30) == 30


@pytest.mark.parametrize(
    ("mining", "message"),
    [
        ("hybird", "mining: no such preset; did you mean 'hybrid'"),
        ({"preset": "random", "round": 2}, "key 'mining.round' does not exist; did you mean 'rounds'"),
        ({"filter": {"margn": 1}}, "key 'mining.filter.margn' does not exist; did you mean 'margin'"),
        ({"draw": {"best": 1}}, "mining.draw: draw from top, random, in-topic, or ranks such as 10-50"),
        ({"draw": {"50-10": 1}}, "mining.draw: draw from top"),
        ({"draw": {"0-10": 1}}, "mining.draw: draw from top"),
        ({"draw": {"top": 0}}, "mining.draw: a share must be above 0"),
        ({"draw": {}}, "mining.draw: draw from something"),
        ({"retrievers": []}, "mining.retrievers"),
        ({"retrievers": ["bm25", "bm25"]}, "mining: a retriever is named twice"),
        ({"weights": [1.0]}, "mining: as many weights as retrievers"),
        ({"rounds": 0}, "mining.rounds"),
    ],
)
def test_mistakes(mining, message):
    with pytest.raises(UserError, match=message):
        parse_recipe({"name": "x", "mining": mining})
