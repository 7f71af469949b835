"""What makes a command of a function: its options, and what is asked before it starts.

A parameter of the function is an option: its help stands in the function's own ``Options``, else its act declares it,
with its default. A class with an ``ACT`` is a noun, made of several of that act's options. What else a shell can give
to the act comes as ``**options``, to be passed on. Knows how options are declared; must not know any act.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar, get_args, get_origin

import typer

from retrieval_distill.cli import output_checks
from retrieval_distill.cli.declarations import KEYS, REQUIRED, Declared, args, declared
from retrieval_distill.runtime import lock, processes

F = TypeVar("F", bound=Callable[..., None])

PANELS = ("Start here", "Prepare data", "Find candidates", "Teach", "Train", "Search and serve", "Measure")
"""Headings of help, in order: what one is about to do."""

app = typer.Typer()


@dataclass(frozen=True)
class Spelled:
    """How a shell spells an option, where name and declaration of the parameter do not tell."""

    flag: str | None = None
    """``None``: ``--`` and the name; ``""``: none, its place tells."""
    metavar: str | None = None
    act: str | None = None
    """The act that declares it; ``None``: the command's."""
    name: str | None = None
    """Its name there; ``None``: the parameter's."""
    help: str | None = None
    """Of an option that no act declares."""


ARGUMENT, WAIT = Spelled(""), "Wait for another process that writes in the same folder; else it is refused."


def command(panel: str, *, act: str | None = None, without: tuple[str, ...] = ()) -> Callable[[F], F]:
    """A function as the command of its name.

    Args:
        panel: The heading of help under which it stands, one of ``PANELS``.
        act: The act that declares its options; ``None``: the one of its name.
        without: Options of the act that ``**options`` leave out.
    """

    def register(function: F) -> F:
        name = function.__name__.replace("_", "-")
        options, nouns = _options(function, act or function.__name__, without)
        if name in output_checks.STAGE_COMMANDS:
            options["wait"] = _parameter("wait", Declared.of(bool, False, WAIT))

        def started(**given: Any) -> None:
            wait = given.pop("wait", False)
            if processes.rank() == 0:
                output_checks.check(name, given)
            for noun, (kind, names) in nouns.items():
                given[noun] = kind(**{option: given.pop(option) for option in names})
            with lock.waiting(wait):
                function(**given)

        started.__signature__ = inspect.Signature(list(options.values()))  # type: ignore[attr-defined]
        told = (inspect.getdoc(function) or "").partition("\n\nOptions:")[0]
        app.command(name, help=told, rich_help_panel=panel)(started)
        return function

    return register


Options = dict[str, inspect.Parameter]

Nouns = dict[str, tuple[Callable[..., Any], list[str]]]
"""Parameter -> the noun's class, and the options that it is made of."""


def _options(function: Any, act: str, without: tuple[str, ...] = ()) -> tuple[Options, Nouns]:
    """What a shell gives to a function, or to the class of a noun."""
    own, options, nouns = args(inspect.getdoc(function) or ""), Options(), Nouns()
    for name, parameter in inspect.signature(function, eval_str=True).parameters.items():
        annotation, default = parameter.annotation, parameter.default
        if parameter.kind is parameter.VAR_KEYWORD:
            left_out = {*options, *without, KEYS}
            others = {other: option for other, option in declared(act).items() if option.type and other not in left_out}
            options |= {other: _parameter(other, option) for other, option in others.items()}
        elif hasattr(annotation, "ACT"):
            inner, _ = _options(annotation, annotation.ACT)
            nouns[name] = (annotation, list(inner))
            options |= inner
        else:
            kind, spelled = get_args(annotation) if _is_spelled(annotation) else (annotation, Spelled())
            option = Declared.of(kind, default, spelled.help or own.get(name, ""))
            if not option.help:
                told = declared(spelled.act or act)[spelled.name or name]
                option = Declared(option.type, told.bounds, told.default if default is REQUIRED else default, told.help)
            options[name] = _parameter(name, option, spelled)
    return options, nouns


def _is_spelled(annotation: Any) -> bool:
    return get_origin(annotation) is Annotated and isinstance(get_args(annotation)[1], Spelled)


def _parameter(name: str, option: Declared, spelled: Spelled = Spelled()) -> inspect.Parameter:
    """The parameter that typer reads an option from."""
    details: dict[str, Any] = {"help": option.help, "metavar": spelled.metavar}
    flag, default = f"--{name.replace('_', '-')}" if spelled.flag is None else spelled.flag, option.default
    if get_origin(option.type) is list:
        details["help"] += " Repeatable." if flag else ""
        if default not in (None, REQUIRED):  # an act takes one, or several
            default = list(default) or None if isinstance(default, tuple) else [default]
    if option.bounds:
        details |= {"min": option.bounds.low, "max": option.bounds.high}
    told = typer.Option(flag, **details) if flag else typer.Argument(**details)
    kind: Any = Annotated[option.type if default is not None else option.type | None, told]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)
