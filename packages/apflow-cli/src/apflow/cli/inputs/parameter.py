"""Options for parameters of operations: help, choices, bounds and default are those of the operation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import click

from apflow.cli.inputs._generated_parameters import PARAMETERS


class ParameterOption(click.Option):
    """An option that gives a value to a parameter of an operation."""

    def __init__(self, *args: Any, operation: str, parameter: str, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.operation, self.parameter = operation, parameter


Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def combined(options: Sequence[Decorator]) -> Decorator:
    """Return the decorator that adds several options to a command, in this order."""

    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            command = option(command)
        return command

    return add


def parameter_option(
    operation: str, name: str, *flags: str, dest: str | None = None, more: str = "", **settings: Any
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add an option for a parameter of an operation to a command.

    Args:
        flags: the spellings of the option.
        dest: the name of the argument of the command's function; by default that of the parameter.
        more: sentences that follow the description of the parameter in the help.
        settings: arguments of `click.option`; they replace what follows from the operation.
    """
    known = PARAMETERS[operation][name]
    derived: dict[str, Any] = {"help": f"{known['description']} {more}".rstrip()}
    if "choices" in known:
        derived["type"] = click.Choice(known["choices"])
    elif "minimum" in known:
        derived["type"] = click.IntRange(known["minimum"], known["maximum"])
    if not isinstance(known.get("default"), bool | None):
        derived |= {"default": known["default"], "show_default": True}
    return click.option(
        *flags,
        dest or name,
        cls=ParameterOption,
        operation=operation,
        parameter=name,
        **{**derived, **settings},
    )
