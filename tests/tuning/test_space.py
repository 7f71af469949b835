"""The space of a search: what may be written, what it means, and what is refused before anything is tried."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval_distill.config import TuneConfig, load_recipe, parse_recipe
from retrieval_distill.errors import UserError
from retrieval_distill.tuning import space
from retrieval_distill.tuning.space import Choices, Range

RECIPE = load_recipe("own-corpus")

numbers = st.floats(1e-6, 1e6).map(lambda value: float(f"{value:.3g}"))
plain = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()


def searched(values: dict, recipe=RECIPE):
    return space.read(recipe.model_copy(update={"tune": TuneConfig(space=values)}))


@given(numbers, numbers, st.booleans())
def test_a_range_of_any_numbers_is_read_as_it_is_written(low, high, log):
    low, high = sorted((low, high * 2))
    if low == high:
        return
    found = space.parse("key", f"{low!r}..{high!r}{' log' if log else ''}")
    assert (found.low, found.high, found.log, found.whole) == (low, high, log, False)


@given(st.integers(1, 10_000), st.integers(1, 10_000), st.sampled_from(["", " log", " step 3"]))
def test_values_of_a_range_of_whole_numbers_are_whole_and_lie_in_it(low, width, how):
    found = space.parse("key", f"{low}..{low + width + 3}{how}")
    for value in (*found.points, *found.samples, found.between(0.3)):
        assert isinstance(value, int)
        assert low <= value <= low + width + 3


@given(numbers, st.floats(1.01, 1e3), st.floats(0, 1), st.booleans())
def test_values_between_the_ends_have_three_digits_and_lie_in_the_range(low, ratio, share, log):
    found = Range(low, low * ratio, log)
    value = found.between(share)
    assert found.low <= value <= found.high
    assert value in (found.low, found.high, float(f"{value:.3g}"))


@given(st.integers(0, 50), st.integers(1, 9), st.integers(1, 20))
def test_a_grid_takes_every_step(low, step, count):
    found = space.parse("key", f"{low}..{low + step * count} step {step}")
    assert found.points == tuple(range(low, low + step * count + 1, step))


@given(st.lists(plain, min_size=2, max_size=6, unique_by=repr))
def test_a_list_holds_values_of_any_kind(values):
    assert space.parse("key", values) == Choices(tuple(values))


def test_a_grid_holds_every_combination():
    found = space.grid({"a": Choices((1, 2)), "b": Range(1.0, 100.0, log=True), "c": Range(1, 3, step=1)})
    assert len(found) == 2 * 3 * 3
    assert len({tuple(settings.values()) for settings in found}) == len(found)
    assert {settings["b"] for settings in found} == {1.0, 10.0, 100.0}


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"training.lerning_rate": "1e-5..5e-5 log"}, "'training.lerning_rate' does not exist; did you mean 'learning_rate'"),
        ({"trainin.steps": "1..2"}, "did you mean 'training'"),
        ({"training.learning_rate": "-1.0..2.0"}, "greater than 0"),
        ({"training.queries_per_step": "16.0..64.0"}, "valid integer"),
        ({"training.learning_rate": "high"}, "is no range and no list; write 16..64"),
        ({"training.learning_rate": "5e-5..1e-5"}, "5e-5 is not below 1e-5"),
        ({"training.weight_decay": "0.0..0.1 log"}, "lies above 0"),
        ({"training.queries_per_step": "16..20 step 8"}, "a step of 8"),
        ({"training.learning_rate": [1e-5]}, "a single value"),
        ({"training.learning_rate": [1e-5, 1e-5]}, "there twice"),
        ({"evaluate.depth": [10, 20]}, "does not decide what a student learns"),
        ({"training.epochs": "1..3", "training.steps": [10, 20]}, None),
        ({"mining": ["hybrid", "hybird"]}, "no such preset; did you mean 'hybrid'"),
        ({"mining.preset": ["hybrid", "random"]}, "write presets as mining"),
        ({"objectives.in_bach": "0.1..1.0"}, "did you mean 'in_batch'"),
        ({"objectives.soft_contrastive.temperature": "1.0..4.0"}, "'temperature' is unknown"),
        ({"student.model.width": [1, 2]}, "student.model is not a section"),
        ({"training.patience": [1, 2]}, "patience needs evaluate_steps"),
    ],
)  # fmt: skip
def test_what_the_recipe_refuses_is_said_before_anything_is_tried(values, said):
    if said is None:
        assert list(searched(values)) == list(values)
        return
    with pytest.raises(UserError, match=r"tune\.space") as error:
        searched(values)
    assert said in str(error.value)


def test_epochs_have_no_effect_beside_steps():
    recipe = space.applied(RECIPE, {"training.steps": 10})
    with pytest.raises(UserError, match=r"no effect beside training\.steps"):
        searched({"training.epochs": "1..3"}, recipe)
    assert "training.epochs" not in space.read(recipe)


def test_the_usual_space_is_what_has_an_effect():
    assert list(space.read(RECIPE)) == [
        "training.learning_rate", "training.queries_per_step", "training.epochs",
        "objectives.soft_contrastive.teacher_temperature",
    ]  # fmt: skip


def test_a_chain_of_one_step_is_varied_by_its_keys():
    recipe = parse_recipe({**RECIPE.model_dump(exclude_unset=True), "compress": {"steps": 10, "layers": "spaced:3"}})
    assert list(searched({"compress.steps": [5, 20]}, recipe)) == ["compress.steps"]
    [step] = space.applied(recipe, {"compress.steps": 20}).compress
    assert step == recipe.compress[0].model_copy(update={"steps": 20})
    chain = recipe.model_copy(update={"compress": recipe.compress * 2})
    with pytest.raises(UserError, match="vary compress as a whole"):
        searched({"compress.steps": [5, 20]}, chain)


def test_settings_leave_the_rest_of_the_recipe_as_it_is():
    settings = {
        "objectives.in_batch.temperature": 0.5, "mining.topics": 12, "mining": "bm25-hard", "student.lora.rank": 4,
        "training.learning_rate": 1e-4,
    }  # fmt: skip
    short = parse_recipe({**RECIPE.model_dump(exclude_unset=True), "objectives": {"in_batch": 0.7, "rank_net": 0.1}})
    found = space.applied(short, settings)
    assert found.objectives == {"in_batch": {"weight": 0.7, "temperature": 0.5}, "rank_net": 0.1}
    assert (found.mining.preset, found.mining.retrievers, found.mining.topics) == ("bm25-hard", ("bm25",), 12)
    assert found.student.lora.rank == 4
    assert found.training == short.training.model_copy(update={"learning_rate": 1e-4})
    assert found.teacher == short.teacher
