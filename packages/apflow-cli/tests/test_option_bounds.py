"""Every number of the command line has bounds."""

from __future__ import annotations

import math
from collections.abc import Iterator

import click
import pytest

from apflow.cli.inputs.options import Seconds
from apflow.cli.program import program


def numbers_of(command: click.Command, path: str) -> Iterator[tuple[str, click.ParamType]]:
    for parameter in command.params:
        if isinstance(parameter.type, click.types.IntParamType | click.types.FloatParamType):
            yield f"{path} {parameter.name}", parameter.type
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from numbers_of(inner, f"{path} {name}")


FOUND = dict(numbers_of(program, "apflow"))


@pytest.mark.parametrize("name", FOUND)
def test_a_number_of_an_option_has_bounds(name: str):
    kind = FOUND[name]
    assert isinstance(kind, click.IntRange | click.FloatRange | Seconds)
    assert kind.min is not None
    assert kind.max is not None


@pytest.mark.parametrize("value", ["1e12", "inf", "nan", "-1", "1e400", "x"])
def test_seconds_are_within_bounds(value: str):
    with pytest.raises(click.BadParameter):
        Seconds(min=0, max=1000).convert(value, None, None)
    assert not math.isnan(Seconds(min=0, max=1000).convert("1.5", None, None))


def test_there_are_numbers():
    assert len(FOUND) > 5
