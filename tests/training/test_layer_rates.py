"""Layer-wise rates: exact, by architecture, and the ones the optimiser steps with."""

from __future__ import annotations

import re

import pytest

from retrieval_distill.config import StudentConfig
from retrieval_distill.objectives import Mix
from retrieval_distill.student import build
from retrieval_distill.training import distillation
from retrieval_distill.training.distillation_model import DistillationModel
from retrieval_distill.training.layer_rates import parameter_groups, steps_below_top
from tests.training.driver import train
from tests.training.test_distillation import with_training

LAYER = {
    "bert": r"encoder\.layer\.(\d)\.",
    "roberta": r"encoder\.layer\.(\d)\.",
    "distilbert": r"transformer\.layer\.(\d)\.",
    "modernbert": r"\.layers\.(\d)\.",
}
DEPTH = 4


def expected_rate(kind: str, name: str) -> float:
    """With rate 1 and decay 0.5: 1 for the fourth layer and what is above, 1/2, 1/4, 1/8, and 1/16 for embeddings."""
    if layer := re.search(LAYER[kind], name):
        return 0.5 ** (DEPTH - 1 - int(layer[1]))
    return 0.5**DEPTH if ".embeddings." in name else 1.0


@pytest.mark.parametrize("kind", LAYER)
def test_rates_by_architecture(encoders, kind):
    model = DistillationModel(build.build(StudentConfig(model=encoders[kind])), Mix({"listwise_kl": 1.0}), 20.0)
    decayed = {name for name, _ in model.named_parameters() if not re.search("bias|norm", name, re.IGNORECASE)}
    groups = parameter_groups(model, 1.0, 0.5, 0.01, decayed)
    by_parameter = {id(parameter): group for group in groups for parameter in group["params"]}
    assert sum(len(group["params"]) for group in groups) == len(by_parameter) == len(list(model.parameters()))
    rates = set()
    for name, parameter in model.named_parameters():
        group = by_parameter[id(parameter)]
        assert group["lr"] == expected_rate(kind, name), name
        assert group["weight_decay"] == (0.01 if name in decayed else 0.0), name
        rates.add(group["lr"])
    assert {1.0, 0.5, 0.25, 0.125, 0.0625} == rates
    assert groups[0]["lr"] == 1.0


def test_pruned_and_frozen(encoders):
    student = build.build(StudentConfig(model=encoders["bert"], layers=(0, 3)))
    below = steps_below_top(student)
    assert {steps for name, steps in below.items() if ".embeddings." in name} == {2}
    assert {steps for name, steps in below.items() if "layer.0." in name} == {1}
    for name, parameter in student.named_parameters():
        parameter.requires_grad = "layer.1." in name
    groups = parameter_groups(student, 2.0, 0.5, 0.0, ())
    assert {group["lr"] for group in groups} == {2.0}
    assert sum(len(group["params"]) for group in groups) == sum("layer.1." in name for name in below)


def test_the_optimiser_steps_with_them(tiny_recipe, tmp_path, monkeypatch):
    made = []

    class Kept(distillation.DistillationTrainer):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            made.append(self)

    monkeypatch.setattr(distillation, "DistillationTrainer", Kept)
    values = with_training(tiny_recipe, steps=2, warmup=0, learning_rate=1e-3, layer_decay=0.5)
    log = train(values, tmp_path / "student")
    groups = made[0].optimizer.param_groups
    assert sorted({group["initial_lr"] for group in groups}) == [1e-3 / 16, 1e-3 / 8, 1e-3 / 4, 1e-3 / 2, 1e-3]
    assert {group["weight_decay"] for group in groups} == {0.0, 0.01}
    assert log[-1]["learning_rate"] == pytest.approx(5e-4)  # the top layer's, half-way down


def test_without_decay_groups_are_the_librarys(tiny_recipe, tmp_path, monkeypatch):
    made = []
    real = distillation.DistillationTrainer.create_optimizer

    def create(self, model=None):
        made.append(real(self, model))
        return made[-1]

    monkeypatch.setattr(distillation.DistillationTrainer, "create_optimizer", create)
    train(with_training(tiny_recipe, steps=1), tmp_path / "student")
    assert len(made[0].param_groups) == 2
