"""The trainer: accumulation is a mean, a step that is not a number stops it, a kill leaves no trace, the log is whole."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import distributed
from transformers import AutoTokenizer

from retrieval_distill import objectives
from retrieval_distill.data.formats import beir
from retrieval_distill.data.run import Run
from retrieval_distill.errors import UserError
from retrieval_distill.objectives import CandidateLists, Objective
from retrieval_distill.training import distillation
from tests import programs
from tests.training.driver import distill, teacher_run, train


def with_training(recipe: dict, **training) -> dict:
    return {**recipe, "training": {**recipe["training"], **training}}


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def assert_one_training(values: dict, folder: Path, other: Path) -> None:
    """Both students learnt the same.

    Their distance is compared with the way that they went, over all weights together: Adam divides each gradient by
    its own size, so that one weight whose gradient is rounding alone may go any way.
    """
    start = load_file(Path(values["student"]["model"]) / "model.safetensors")
    one, two = weights(folder), weights(other)

    def distance(to: dict[str, torch.Tensor]) -> float:
        return float(
            torch.cat([(weight.double() - to[name].double()).flatten() for name, weight in one.items()]).norm()
        )

    assert distance(two) <= 1e-4 * distance(start)


def program(values: dict, folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    recipe = folder.with_suffix(".json")
    recipe.write_text(json.dumps(values))
    return programs.run("-m", "tests.training.driver", recipe, folder, *arguments)


def together(values: dict, folder: Path, count: int) -> None:
    """So many processes, told of each other as ``torchrun`` tells those it starts: they meet in a store of the launcher's."""
    recipe = folder.with_suffix(".json")
    recipe.write_text(json.dumps(values))
    store = distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    meeting = {"MASTER_ADDR": store.host, "MASTER_PORT": store.port, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count,
               "TORCHELASTIC_USE_AGENT_STORE": True, "TORCHELASTIC_RESTART_COUNT": 0}  # fmt: skip
    told = [meeting | {"RANK": number, "LOCAL_RANK": number} for number in range(count)]
    environments = [{**os.environ, **{name: str(value) for name, value in one.items()}} for one in told]
    each = [programs.Program("-m", "tests.training.driver", recipe, folder, env=env) for env in environments]
    said = [process.communicate() for process in each]
    assert [process.returncode for process in each] == [0] * count, said


def test_accumulated_steps_are_one_step(tiny_recipe, tmp_path):
    recipe = {**tiny_recipe, "objectives": {"listwise_kl": 1.0}}  # a mean over queries, without in-batch documents
    logs = {
        k: train(
            with_training(recipe, steps=4, warmup=0, queries_per_step=8 // k, gradient_accumulation=k),
            tmp_path / str(k),
        )
        for k in (1, 2, 4)
    }
    for k in (2, 4):
        for one, other in zip(logs[k], logs[1], strict=True):
            assert one["step"] == other["step"]
            for key in ("loss", "listwise_kl", "grad_norm", "learning_rate"):
                assert one[key] == pytest.approx(other[key], rel=1e-5)
        assert_one_training(recipe, tmp_path / str(k), tmp_path / "1")


def test_the_log_of_each_window(tiny_recipe, tmp_path):
    log = train(with_training(tiny_recipe, steps=7, save_steps=4), tmp_path / "student")
    assert [row["step"] for row in log] == [4, 5, 7]  # every fifth, and at checkpoints
    for row in log:
        mix = sum(weight * row[name] for name, weight in tiny_recipe["objectives"].items())
        assert row["loss"] == pytest.approx(mix, rel=1e-5)
        assert row["learning_rate"] > 0
        assert row["tokens_per_second"] > 0
        assert 0 < row["padding_share"] < 1


def test_tokens_are_those_of_every_query_and_of_every_document_of_a_step(tiny_recipe, tmp_path):
    dataset = beir.load(tiny_recipe["dataset"]["source"])
    run = teacher_run(dataset)
    values = with_training(tiny_recipe, steps=1, queries_per_step=24, candidates=6)  # all there is, in one step
    counts = distill(values, tmp_path / "student", run)
    texts = [dataset.queries[query] for query in dataset.qrels("train")]
    texts += [dataset.documents[doc] for doc in {doc for _, doc in run.pairs}]
    read = AutoTokenizer.from_pretrained(tiny_recipe["student"]["model"])
    assert counts["tokens"] == sum(map(len, read(texts, truncation=True, max_length=48)["input_ids"]))
    whole = distill(with_training(values, steps=3), tmp_path / "longer", run)
    assert whole["tokens"] == 3 * counts["tokens"]


def test_scores_that_are_not_numbers_stop_the_training(tiny_recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(distillation, "check_scale", lambda *_: [])  # which would have refused them at the door
    run = teacher_run(beir.load(tiny_recipe["dataset"]["source"]))
    scores = run.as_dict()
    broken = sorted(scores)[5]
    scores[broken] = {doc: float("inf") for doc in scores[broken]}
    folder = tmp_path / "student"
    values = with_training(tiny_recipe, steps=24, queries_per_step=1, save_steps=1)
    with pytest.raises(UserError) as error:
        train(values, folder, Run.from_dict(scores))
    first, queries, checkpoint = str(error.value).splitlines()
    step = int(first.split("step ")[1].split(":")[0])
    assert "the loss is nan (margin_mse nan" in first
    assert first.endswith(f"teacher scores are not finite for: {broken}")
    assert queries == f"queries of this step: {broken}"
    last = folder / "checkpoints" / f"checkpoint-{step - 1}"
    assert checkpoint == f"last good checkpoint: {last if step > 1 else 'none yet'}"
    if step > 1:
        assert all(torch.isfinite(weight).all() for weight in load_file(last / "model.safetensors").values())


class NoSlope(Objective):
    """A finite value whose gradient is not: the root of zero."""

    def __call__(self, lists: CandidateLists) -> torch.Tensor:
        return (lists.student * 0).abs().sqrt().sum()


def test_a_gradient_that_is_not_a_number_never_reaches_the_weights(tiny_recipe, tmp_path, monkeypatch):
    monkeypatch.setitem(objectives.OBJECTIVES, "no_slope", NoSlope)
    values = {**with_training(tiny_recipe, steps=2, queries_per_step=2, gradient_accumulation=2)}
    with pytest.raises(UserError, match="step 1: the gradient's norm is nan") as error:
        train({**values, "objectives": {"no_slope": 1.0}}, tmp_path / "student")
    assert str(error.value).count("q") >= 4  # the ids of both micro-steps
    assert "last good checkpoint: none yet" in str(error.value)


@pytest.mark.parametrize(
    "training",
    [
        {"dropout": 0.1, "cache_texts": 3},
        {"gradient_accumulation": 2, "queries_per_step": 4},
        {"evaluate_steps": 2, "learning_rate": 3e-3, "ema": 0.5, "topics": 3, "layer_decay": 0.8},
        {"evaluate_steps": 2, "lexical_weight": 2.0, "memory": 21},
        {"frozen_layers": 2, "draw": "stratified"},
    ],
    ids=["cached", "accumulated", "evaluated", "lexical", "frozen"],
)
def test_killed_at_any_step_it_ends_the_same(tiny_recipe, tmp_path, training):
    values = with_training(tiny_recipe, steps=9, save_steps=3, **training)
    whole = train(values, tmp_path / "whole")
    killed = program(values, tmp_path / "killed", "5")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not (tmp_path / "killed" / "model.safetensors").exists()
    log = train(values, tmp_path / "killed")
    files = [tmp_path / name / "model.safetensors" for name in ("whole", "killed")]
    assert files[0].read_bytes() == files[1].read_bytes()
    clocks = {"tokens_per_second"}
    assert [{k: v for k, v in row.items() if k not in clocks} for row in log] == [
        {k: v for k, v in row.items() if k not in clocks} for row in whole
    ]


@pytest.mark.parametrize("cache_texts", [None, 3])
def test_two_processes_are_one(tiny_recipe, tmp_path, cache_texts):
    """Each embeds half of the texts; in-batch documents and means over pairs are those of the whole step."""
    values = with_training(tiny_recipe, steps=5, gradient_accumulation=1 if cache_texts is None else 2, memory=20)
    one = train(with_training(values, queries_per_step=8), tmp_path / "one")
    values = with_training(values, queries_per_step=4, cache_texts=cache_texts)
    together(values, tmp_path / "two", 2)
    two = json.loads((tmp_path / "two" / "training_log.json").read_text())
    for row, other in zip(one, two, strict=True):
        for key in ("step", "loss", "grad_norm", "margin_mse", "listwise_kl", "in_batch"):
            assert row[key] == pytest.approx(other[key], rel=1e-5)
    assert_one_training(values, tmp_path / "one", tmp_path / "two")


def test_objectives_come_and_go_with_the_training(tiny_recipe, tmp_path):
    mix = {"listwise_kl": 1.0, "list_net": {"weight": 0.5, "until": 0.5}, "in_batch": {"weight": [0.0, 1.0]}}
    log = train(with_training({**tiny_recipe, "objectives": mix}, steps=10, save_steps=1), tmp_path / "student")
    assert ["list_net" in row for row in log] == [True] * 5 + [False] * 5
    for step, row in enumerate(log):
        expected = row["listwise_kl"] + 0.5 * row.get("list_net", 0.0) + step / 10 * row["in_batch"]
        assert row["loss"] == pytest.approx(expected, rel=1e-4)


def test_scores_out_of_reach_are_refused_at_the_door(tiny_recipe, dataset, tmp_path):
    run = teacher_run(dataset)
    far = run.with_scores(run.frame["score"] * 1e4)
    with pytest.raises(UserError, match=r"margins .*out of reach; set student\.scale="):
        train({**tiny_recipe, "objectives": {"margin_mse": 1.0}}, tmp_path / "student", far)
    assert not (tmp_path / "student" / "model.safetensors").exists()
