"""The sweeps over kills, inputs, damaged files and races find nothing in a short walk, and would tell if they did."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from retrieval_distill.errors import UserError
from retrieval_distill.scores.store import ScoreStore
from scripts import sweeping
from tests import programs

QUICK = ("prepare", "embed", "score", "run files")

READ = (
    "beir",
    "csv",
    "parquet",
    "zip",
    "tar.gz",
    "run, trec",
    "run, parquet",
    "scores, jsonl",
    "recipe",
    "where",
    "set, 1",
)


def swept(name: str, count: int, only: tuple[str, ...], folder: Path) -> dict:
    """A sweep's table; it has to end well."""
    rows = [word for one in only for word in ("--only", one)]
    kept = ["--json", folder / "table.json", "--work", folder / "work"]
    done = programs.run(f"scripts/sweep_{name}.py", f"--{name}", count, "--seed", 3, *rows, *kept, cwd=programs.ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads((folder / "table.json").read_text())


@pytest.mark.parametrize(("name", "count", "only"), [("kills", 8, QUICK), ("races", 4, QUICK), ("files", 8, QUICK)])
def test_stages(name, count, only, tmp_path):
    table = swept(name, count, only, tmp_path)
    assert not table["faults"]
    assert sum(counts.get("kills", counts.get("files", counts["tried"])) for counts in table["rows"].values()) >= count


def test_inputs(tmp_path):
    table = swept("inputs", 150, READ, tmp_path)
    assert not table["faults"] and sum(counts["tried"] for counts in table["rows"].values()) == 150
    assert sum(counts.get("refused", 0) for counts in table["rows"].values()) > 30


def refuse() -> None:
    raise UserError("/a/file:12: no 'number' 3.5")


def fail() -> None:
    raise ValueError("a fault")


def write(folder: Path) -> None:
    for number in range(5):
        (folder / str(number)).write_text("x")


def test_how_a_child_ends(tmp_path):
    assert sweeping.child(lambda: 7).value == 7
    assert sweeping.child(refuse).how == "refused"
    assert "ValueError: a fault" in sweeping.child(fail).said
    assert sweeping.child(lambda: time.sleep(60), limit=0.2).how == "hang"
    assert sweeping.child(lambda: time.sleep(60), seconds=0.1).how == "killed"
    assert sweeping.child(lambda: write(tmp_path), 3).how == "killed"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "1"]


@pytest.mark.parametrize("how", sweeping.BAD)
def test_what_went_wrong_fails_a_sweep(how, tmp_path, capsys):
    table = sweeping.Table("stage", 0)
    table.add("embed", "resumed")
    table.add("embed", "refused", "/a/file:12: no 'number' 3.5")
    assert table.finish(None) == 0
    table.add("index", how, "said", "case 3")
    assert table.finish(str(tmp_path / "table.json")) == 1
    told = json.loads((tmp_path / "table.json").read_text())
    assert told["faults"] == [{"row": "index", "how": how, "case": "case 3", "said": "said"}]
    assert told["messages"] == {"embed": {"PATH:N: no '...' N": 1}}
    assert "| embed | 2 |" in capsys.readouterr().out


def test_a_score_store_is_known_from_its_first_file_on(tmp_path):
    """However early the first one was killed, the next opens it."""
    acts = sweeping.child(lambda: ScoreStore(tmp_path / "whole").describe("t", {"model": "m"})).acts
    for moment in range(1, acts + 1):
        store = tmp_path / str(moment)
        assert sweeping.child(lambda: ScoreStore(store).describe("t", {}), moment).how == "killed"  # noqa: B023
        ScoreStore(store).describe("t", {"model": "m"})
        assert ScoreStore(store).fingerprints() == ["t"]


@pytest.mark.parametrize("damaged", ["", "{", "\xff"])
def test_a_damaged_description_of_a_teacher_is_written_again(tmp_path, damaged):
    ScoreStore(tmp_path).describe("t", {"model": "m"})
    (tmp_path / "t" / "teacher.json").write_bytes(damaged.encode("latin-1"))
    ScoreStore(tmp_path).describe("t", {"model": "m"})
    assert ScoreStore(tmp_path).description("t") == {"model": "m"}
