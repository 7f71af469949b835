"""Every shipped recipe parses and builds its objectives; the schema says what is wrong with others."""

from __future__ import annotations

import pytest

from retrieval_distill import pipeline
from retrieval_distill.config import Recipe, load_recipe, parse_recipe, shipped
from retrieval_distill.errors import UserError
from retrieval_distill.objectives import Mix


@pytest.mark.parametrize("name", shipped())
def test_shipped(name):
    recipe = load_recipe(shipped()[name])
    assert recipe.name == name
    assert load_recipe(name) == recipe
    Mix(recipe.objectives)


def test_overrides():
    recipe = load_recipe(
        "demo", ["training.steps=3", "student.layers=[0, 2]", "objectives.soft_contrastive.weight=0.25"]
    )
    assert recipe.training.steps == 3
    assert recipe.student.layers == (0, 2)
    assert recipe.objectives["soft_contrastive"] == {"weight": 0.25, "teacher_temperature": 2.0}


def test_every_option_is_documented():
    for section in (
        Recipe,
        *(f.annotation for f in Recipe.model_fields.values() if hasattr(f.annotation, "model_fields")),
    ):
        for name, field in section.model_fields.items():
            assert field.description or hasattr(field.annotation, "model_fields"), f"{section.__name__}.{name}"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"nam": "x"}, "key 'nam' does not exist; did you mean 'name'"),
        ({"name": "x", "training": {"step": 3}}, "key 'training.step' does not exist; did you mean 'steps'"),
        ({"name": "x", "training": {"steps": 0}}, "training.steps: .* greater than or equal to 1"),
        ({"name": "x", "student": {"similarity": "cosin"}}, "student.similarity: .*'cosine'"),
        ({"name": "x", "teacher": {"gate": "no"}}, "teacher.gate"),
    ],
)
def test_mistakes(values, message):
    with pytest.raises(UserError, match=message):
        parse_recipe(values)


def test_files(tmp_path):
    with pytest.raises(UserError, match="shipped recipes: demo"):
        load_recipe(tmp_path / "none.yaml")
    (tmp_path / "bad.yaml").write_text("name: [x")
    with pytest.raises(UserError, match=r"bad.yaml: not valid YAML"):
        load_recipe(tmp_path / "bad.yaml")
    (tmp_path / "list.yaml").write_text("- x")
    with pytest.raises(UserError, match="mapping"):
        load_recipe(tmp_path / "list.yaml")


def test_a_teacher_beside_an_ensemble_is_not_ignored(tiny_recipe, tmp_path):
    both = {**tiny_recipe, "teacher": {**tiny_recipe["teacher"], "ensemble": [{"model": "bm25"}]}}
    with pytest.raises(UserError, match=r"is not asked where .* \(bm25\).*--set teacher\.ensemble=\[\] the ensemble"):
        pipeline.run(parse_recipe(both), out=tmp_path / "run")
    recipe = load_recipe("demo", ["teacher.ensemble=[]", "teacher.model=starter"])
    assert [member.model for member in recipe.teacher.members] == ["starter"]
