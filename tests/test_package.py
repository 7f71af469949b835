"""The package from Python: verbs under their names in any order of imports, plain texts for nouns, short reprs."""

from __future__ import annotations

import builtins
import inspect
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import retrieval_distill as rd
from retrieval_distill.data.dataset import Texts
from retrieval_distill.evaluation.compare import Measured
from retrieval_distill.reporting import rerankers
from tests import programs

NOUNS = {"Dataset", "Embeddings", "Index", "Recipe", "Run", "ScoreStore", "UserError"}
VERBS = sorted(set(rd.__all__) - NOUNS)
PACKAGES = sorted(path.parent.name for path in Path(rd.__file__).parent.glob("*/__init__.py"))
SHARED = [name for name in PACKAGES if name in VERBS]
"""Verbs whose name a package has too."""

CHECK = f"""
import inspect, sys, types
import retrieval_distill as rd
from retrieval_distill import *
functions = {{name: inspect.unwrap(rd.__getattr__(name)) for name in {VERBS}}}
for name, function in functions.items():
    for verb in (getattr(rd, name), globals()[name]):
        assert callable(verb), name
        assert inspect.signature(verb) == inspect.signature(function), name
        assert verb.__doc__ == function.__doc__, name
        try:
            verb(no_such_option=1)  # reaches the function: it is that which says what it lacks
        except (TypeError, rd.UserError) as error:
            assert "not callable" not in str(error), name
        else:
            raise AssertionError(name)
for name in {SHARED}:
    module = sys.modules[f"retrieval_distill.{{name}}"]
    assert isinstance(module, types.ModuleType) and module.__path__
import retrieval_distill.generate.offline as offline
import retrieval_distill.compress.layer_numbers
from retrieval_distill.generate import ways
from retrieval_distill.generate.offline import titles
assert offline.titles is titles is retrieval_distill.generate.offline.titles
assert retrieval_distill.compress.layer_numbers.__name__ == "retrieval_distill.compress.layer_numbers"
assert ways.__name__ == "retrieval_distill.generate.ways"
"""

FORGET = """
import sys
for name in [name for name in sys.modules if name.split(".")[0] in ("retrieval_distill", "tests", "scripts")]:
    del sys.modules[name]
"""
"""Of what a program starts with, only other libraries are left."""

ORDERS = {
    "run first": "import retrieval_distill as rd; rd.run",
    "verbs first": f"import retrieval_distill as rd\nfor name in {VERBS}: getattr(rd, name)",
    "packages first": "\n".join(f"import retrieval_distill.{name}" for name in PACKAGES),
    "from a package first": "from retrieval_distill.generate import offline\nfrom retrieval_distill import generate",
}


@pytest.mark.parametrize("order", ORDERS)
def test_verbs_are_called_whatever_was_imported_first(order):
    imports = "\n".join(f"import retrieval_distill.{name}" for name in SHARED)
    done = programs.run("-c", f"{FORGET}\n{ORDERS[order]}\n{imports}\n{CHECK}")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", VERBS)
def test_a_package_of_any_verbs_name_is_called_as_the_verb(name, monkeypatch):
    """As the import system binds it, once there is such a package."""
    verb = rd.__getattr__(name)
    module = ModuleType(f"retrieval_distill.{name}", "What the package holds.")
    module.inner = 1
    monkeypatch.setattr(rd, name, module)
    assert getattr(rd, name) is module and module.inner == 1
    assert inspect.signature(getattr(rd, name)) == inspect.signature(verb) and module.__doc__ == verb.__doc__
    with pytest.raises((TypeError, rd.UserError)) as refused:
        getattr(rd, name)(no_such_option=1)
    assert "not callable" not in str(refused.value)


def test_importing_the_package_is_light():
    heavy = {"torch", "numpy", "pandas", "pyarrow", "pydantic", "typer", "inspect"}
    code = f"import sys, retrieval_distill, retrieval_distill.api; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


DOCUMENTS = {"a": "a red fox", "b": ("Dogs", "a blue dog"), 3: {"title": "Cats", "text": "a green cat"}}


def test_plain_texts_are_taken_where_texts_are(encoders, cross_encoders, tmp_path):
    texts = Texts.from_records([("a", "", "a red fox"), ("b", "Dogs", "a blue dog"), ("3", "Cats", "a green cat")])
    found = rd.retrieve(["green cat", "red dog"], DOCUMENTS, depth=2)
    asked = Texts.from_records([("0", "", "green cat"), ("1", "", "red dog")])
    assert found.pairs == rd.retrieve(asked, texts, depth=2).pairs and found.pairs[0] == ("0", "3")
    teacher = rd.load_teacher(cross_encoders["bert"], max_length=48)
    scored = rd.score(
        found, {"documents": DOCUMENTS, "queries": ["green cat", "red dog"]}, teacher=teacher, store=tmp_path / "scores"
    )
    again = rd.rerank(
        found, {"documents": texts, "queries": asked}, teacher=teacher, store=tmp_path / "scores", depth=2
    )
    counts = again.facts
    assert counts["scored"] == 0 and set(again.pairs) == set(scored.pairs)
    rd.embed(DOCUMENTS, encoders["bert"], out=tmp_path / "vectors")
    assert rd.embed(texts, encoders["bert"], out=tmp_path / "vectors").manifest["skipped"]
    rd.index(tmp_path / "vectors", out=tmp_path / "index")
    run = rd.search({"q": "a red fox"}, tmp_path / "index", model=encoders["bert"], depth=3)
    assert run.pairs[0] == ("q", "a") and len(run) == 3


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ("one text", "texts must be a list, or a dictionary from ids to texts, not 'one text'"),
        (None, "not None"),
        ({"a": 1}, "text 'a': .* not 1"),
        ({"a": {"title": "no text"}}, "text 'a'"),
        (["a", None], "text 1: .* not None"),
        ({1: "x", "1": "y"}, "same id"),
        (rd.Run.from_dict({"q": {"d": 1.0}}), r"not Run\(1 query, 1 document\)"),
    ],
    ids=str,
)
def test_what_is_no_texts(texts, message):
    with pytest.raises(rd.UserError, match=message):
        rd.retrieve(texts, ["a document"])


def test_a_repr_is_one_short_line(dataset):
    assert repr(dataset) == "Dataset('tiny': 60 documents, 40 queries; judged: train 24, dev 6, test 10)"
    assert repr(dataset.documents) == "Texts(60)"
    assert repr(rd.Run.from_dict({"q": {"d": 1.0, "e": 2.0}, "p": {"d": 1.0}})) == "Run(2 queries, 3 documents)"
    assert repr(rd.Dataset.from_records("x", [], [], {})) == "Dataset('x': 0 documents, 0 queries; judged: none)"


def test_a_notebook_shows_a_table_once(monkeypatch):
    """Rich shows there whatever it draws; what comes back is printed by whoever wants it."""
    from rich import jupyter

    shell = type("ZMQInteractiveShell", (), {})()
    monkeypatch.setattr(builtins, "get_ipython", lambda: shell, raising=False)
    shown = []
    monkeypatch.setattr(jupyter, "display", lambda *parts: shown.append(parts))
    value = {"mean": 0.5, "low": 0.4, "high": 0.6, "p_vs": {}, "p_holm_vs": {}}
    row = {"name": "bm25", "run": "bm25", "reranker": None, "m": value}
    assert "0.500" in str(rd.Report({"bm25": {"m": Measured(**value)}}, ("m",)))
    assert "bm25" in rerankers.table({"measures": ["m"], "queries": 3, "systems": [row]})
    assert shown == []
