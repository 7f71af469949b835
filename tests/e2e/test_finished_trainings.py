"""A training killed after its last step takes none again, whatever it was that trained: only the rest is done."""

from __future__ import annotations

import json

import pytest

from tests import programs

DRIVER = """
import json, random, sys
from pathlib import Path
from retrieval_distill import api as verbs
from retrieval_distill.config import parse_recipe
from retrieval_distill.data.formats import beir
from retrieval_distill.training import checkpoints, distillation
from tests import kills
from tests.training.driver import teacher_run

import retrieval_distill.compress.training, retrieval_distill.teacher.fitting.fit  # so that a child starts at once

what, values, out = sys.argv[1], json.loads(sys.argv[2]), Path(sys.argv[3])
dataset = beir.load(values["dataset"]["source"])

def distill():
    verbs.distill(teacher_run(dataset), dataset, split="train", recipe=parse_recipe(values), out=folder)

def compress():
    verbs.compress(dataset.documents, out=folder, model=values["student"]["model"], layers="first:2", steps=4,
                   tokens_per_step=256, max_length=32, bf16=False, transfers={"relations": 1.0}, save_steps=2)

def fit_teacher():
    verbs.fit_teacher(dataset, out=folder, model=values["teacher"]["model"], steps=4, evaluate_every=2, bf16=False,
                      dev_depth=5, dev_queries=4, queries_per_step=4)

def note(line):
    with log.open("a") as out:
        out.write(line)

def noted(owner, name, told):
    real = getattr(owner, name)

    def both(self, args, state, *rest, **more):
        real(self, args, state, *rest, **more)
        note(told(state))

    setattr(owner, name, both)

noted(checkpoints.Advance, "on_step_end", lambda state: "step\\n")
noted(checkpoints.MarkComplete, "on_save", lambda state: f"saved {kills.done()}\\n")
work = {"distill": distill, "compress": compress, "fit-teacher": fit_teacher}[what]
folder, log = out / "whole", out / "whole.log"
acts = kills.attempt(work)
*_, (_, last) = (line.split() for line in log.read_text().splitlines() if line.startswith("saved"))
for moment in random.Random(1).sample(range(int(last) + 1, acts + 1), 2):
    folder, log = out / f"at-{moment}", out / f"at-{moment}.log"
    assert kills.attempt(work, moment) is None
    steps = log.read_text().count("step")
    kills.attempt(work)
    assert log.read_text().count("step") == steps == 4, moment
    assert kills.files(folder, *sys.argv[4:]) == kills.files(out / "whole", *sys.argv[4:]), moment
    assert not list(folder.glob("checkpoint*")) and not list(out.glob("*.partial"))
"""


@pytest.mark.parametrize("what", ["distill", "compress", "fit-teacher"])
def test_killed_after_the_last_step_it_trains_no_more(what, tiny_recipe, tmp_path):
    values = {**tiny_recipe, "training": {**tiny_recipe["training"], "steps": 4, "save_steps": 2}}
    clocks = "training_log.json"  # holds tokens a second
    done = programs.run("-c", DRIVER, what, json.dumps(values), tmp_path, clocks)
    assert done.returncode == 0, done.stderr
