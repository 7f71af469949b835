"""Ids that hold white space: refused at the door where a TREC run is asked for, and whole in Parquet."""

from __future__ import annotations

import pytest

from retrieval_distill.data.dataset import Dataset
from retrieval_distill.data.formats import beir
from tests.commands import command


@pytest.mark.parametrize("space", [" ", "\u00a0", "\u3000"])
def test_a_run_of_ids_with_spaces(space, tmp_path):
    names = [f"my{space}{name}" for name in ("path", "file", "root")]
    dataset = Dataset.from_records(
        "spaced", [(name, "", f"{name[3:]} text") for name in names], [("q", "path")], {"test": [("q", names[0], 1)]}
    )
    beir.save(dataset, tmp_path / "data")
    data = ("--dataset", tmp_path / "data")
    for verb in ("retrieve", "mine"):
        for ending in (".trec", ".parquet"):
            out = (tmp_path / verb).with_suffix(ending)
            refused = ending == ".trec" and space.isascii()
            said = command(verb, *data, "--split", "test", "--out", out, code=2 if refused else 0)
            assert out.exists() != refused
            if refused:
                assert f"a TREC run cannot hold 3 document ids like {names[0]!r}" in said and "as .parquet" in said
            else:
                assert "1.000" in command("evaluate", out, *data, "--measure", "RR@10")
