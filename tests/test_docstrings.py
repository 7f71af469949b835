"""The examples of docstrings are run."""

from __future__ import annotations

import doctest
from importlib import import_module
from pathlib import Path

import pytest

from scripts import docs_examples

ROOT = Path(__file__).parent.parent
EXAMPLES = docs_examples.docstrings()


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_run(name, tmp_path, monkeypatch):
    """In a folder with the sample data, and every one that the module's source shows."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").symlink_to(ROOT / "data")
    found = [test for test in doctest.DocTestFinder().find(import_module(name)) if test.examples]
    assert sum(len(test.examples) for test in found) == len(EXAMPLES[name])
    runner = doctest.DocTestRunner(optionflags=doctest.FAIL_FAST)
    for test in found:
        told = []
        assert not runner.run(test, out=told.append).failed, "".join(told)


def test_most_of_them_are():
    every = [example for of_module in EXAMPLES.values() for example in of_module]
    assert sum(map(docs_examples.is_run, every)) > len(every) * 0.8


def test_the_counts_are_printed_and_the_reference_is_complete(capsys):
    assert docs_examples.main() == 0
    said = capsys.readouterr().out
    assert "; equal" in said and f"{sum(map(len, EXAMPLES.values()))} are shown" in said
