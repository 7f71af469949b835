"""A search that is killed at any moment goes on: no trial is lost or counted twice, and it ends as if nothing had been."""

from __future__ import annotations

import json

import pytest

from tests import programs

pytest.importorskip("optuna")

DRIVER = """
import json, random, sys
from pathlib import Path
import retrieval_distill as rd
from retrieval_distill.config import parse_recipe
from retrieval_distill.tuning import finals, results
from retrieval_distill.tuning.search import Search
from tests.kills import attempt

values, out = json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2])

def search():
    rd.tune(parse_recipe(values), out=folder)

def found():
    told = rd.Tuning.open(folder).details
    trials = [[t[key] for key in ("number", "settings", "state", "value", "rungs")] for t in told["trials"]]
    trials += [[t["facts"]["tokens"] for t in told["trials"]]]
    return [trials, told["finalists"], told["chosen"], told["test"]["measures"] if told["test"] else None]

folder = out / "whole"
acts = attempt(search)
whole = found()
folder, rng, kills = out / "killed-0", random.Random(5), 0
while kills < 20:
    if attempt(search, rng.randint(1, acts // 12)) is None:
        kills += 1
    else:
        assert found() == whole, (found(), whole)
        folder = out / f"killed-{kills}"
assert attempt(search) is not None
assert found() == whole, (found(), whole)
print(json.dumps([acts, kills, len(whole[0]) - 1]))
"""


def test_twenty_kills_at_random_moments(tiny_recipe, tmp_path):
    recipe = {
        **tiny_recipe,
        "teacher": {**tiny_recipe["teacher"], "gate": "off"},
        "training": {**tiny_recipe["training"], "steps": 4, "agreement_queries": 0},
        "tune": {
            "space": {"training.learning_rate": "1e-5..1e-2 log", "mining": ["hybrid", "bm25-hard"]},
            "budget": "4 trials", "finalists": 1, "seeds": 1,
        },
    }  # fmt: skip
    path = tmp_path / "recipe.json"
    path.write_text(json.dumps(recipe))
    done = programs.run("-c", DRIVER, path, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    _, kills, trials = json.loads(done.stdout.splitlines()[-1])
    assert (kills, trials) == (20, 4)
