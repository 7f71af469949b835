"""One declaration of each option: what a command offers is what its act declares, and Python and shell hold it alike."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys

import pytest
import typer

import retrieval_distill as rd
from retrieval_distill.cli import app
from retrieval_distill.cli.declarations import args
from retrieval_distill.errors import UserError
from tests.commands import command

COMMANDS = typer.main.get_command(app).commands

ACTS = {
    name: inspect.unwrap(rd.__getattr__(name.replace("-", "_")))
    for name in COMMANDS
    if name not in ("scores", "search", "serve")
}
"""Commands and the verbs of their names; ``search``, ``serve`` and ``scores`` are a searcher's and a store's."""

OWN = {("mine", "vectors"), ("rerank", "depth"), ("index", "dataset"), ("export", "out")}
"""Options that the shell has otherwise: always a place for vectors, several depths, whose split is asked, two verbs' outputs."""

NOUNS = re.compile(r"\b(Dataset|Run|Teacher|Calibration)\b")
"""Types of what a command makes of several options, or reads from a file."""


def plain(text: str) -> list[str]:
    """The words of a help text, without what tells shells from Python."""
    text = re.sub(r"``None``[^:]*:|if not given:|; in Python [^.;]*|Repeatable\.$", "", text, flags=re.I)
    return re.findall(r"\w+", text)


def cases():
    for name, act in ACTS.items():
        for parameter in COMMANDS[name].params:
            declared = inspect.signature(act).parameters.get(parameter.name)
            if declared is None or declared.kind is declared.VAR_KEYWORD or NOUNS.search(declared.annotation):
                continue
            if (name, parameter.name) not in OWN:
                yield pytest.param(parameter, act, id=f"{name} {parameter.name}")


@pytest.mark.parametrize(("option", "act"), cases())
def test_a_command_offers_what_its_act_declares(option, act):
    declared = inspect.signature(act).parameters[option.name]
    if declared.default is not inspect.Parameter.empty:
        given = option.default
        assert (tuple(given or ()) if isinstance(declared.default, tuple) else given) == declared.default
        assert not option.required
    words, told = plain(args(inspect.getdoc(act))[option.name]), plain(option.help)
    assert told and (told == words or told == words[: len(told)])  # a shell cannot say None where that is no default


def test_every_option_is_explained_in_words_of_a_shell():
    for name, found in COMMANDS.items():
        for option in found.params:
            assert option.help and option.help[-1] == ".", (name, option.name)
            assert "``" not in option.help and ":func:" not in option.help and "in Python" not in option.help, (
                option.help
            )


def test_enough_is_compared():
    assert len(list(cases())) > 70


@pytest.mark.parametrize("name", [name for name in ACTS if name not in ("demo", "run", "report", "filter-negatives")])
def test_what_a_shell_can_give_to_an_act_a_command_takes(name):
    """But for ``corpus`` and ``start``, which are a recipe's, and what is part of another option."""
    plain = {"int", "float", "str", "bool", "Count", "Multiple", "Share", "Tokens", "Weight", "str | Path"}
    declared = {
        parameter
        for parameter, type_ in ACTS[name].__annotations__.items()
        if parameter != "return" and type_.removesuffix(" | None") in plain
    }
    assert declared - {option.name for option in COMMANDS[name].params} <= {"corpus"}


def test_bounds_hold_in_python_and_in_a_shell(tmp_path):
    documents, out = {"a": "a cat", "b": "a dog"}, tmp_path / "run.trec"
    with pytest.raises(UserError, match="depth is 0, and 1 is the least"):
        rd.retrieve(["cat"], documents, depth=0)
    with pytest.raises(UserError, match=r"b is 1\.5, and 1 is the most"):
        rd.retrieve(["cat"], documents, b=1.5)
    assert len(rd.retrieve(["cat"], documents, depth=1, b=1.0)) == 1
    for option, value, said in (("--depth", 0, "greater than or equal to 1"), ("--b", 1.5, "less than or equal to 1")):
        assert said in command("retrieve", "--dataset", "x", "--out", out, option, value, code=2)


def test_help_is_grouped_by_what_one_is_about_to_do():
    text = command("--help")
    panels = ["Start here", "Prepare data", "Find candidates", "Teach", "Train", "Search and serve", "Measure"]
    places = [text.index(f" {panel} ") for panel in panels]
    assert places == sorted(places)
    assert places[0] < text.index(" demo ") < places[1] < text.index(" prepare ") < places[2]
    assert "[default: 30]" in command("mine", "--help") and "┃" not in text


def test_help_imports_no_act():
    code = "import sys; from retrieval_distill import cli; sys.argv = ['x', 'mine', '--help']\n"
    code += "try: cli.main()\nexcept SystemExit: print('LOADED', *sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = done.stdout.partition("LOADED")[2].split()
    heavy = {"torch", "transformers", "pandas", "pyarrow", "numpy", "retrieval_distill.api.candidates"}
    assert "retrieval_distill.cli.candidates" in loaded and not heavy & set(loaded)
