"""Options for parameters of operations follow the table of operations."""

from __future__ import annotations

from collections.abc import Iterator

import click
import pytest

from apflow.cli.inputs.parameter import ParameterOption, parameter_option
from apflow.cli.program import program
from apflow.core.service.operations import OPERATIONS

# Operations that a command calls with all of their parameters, with the parameters that have other options.
WHOLE = {
    "tasks.list": {"with_tree"},  # always asked for
    "tasks.count": set[str](),
    "tasks.stats": set[str](),
    "tasks.export": {"cursor", "limit"},  # pages are put together
    "tasks.delete": {"task_id"},
    "tasks.cancel": {"task_ids"},
    "tasks.copy": {"task_id", "save"},
    "tasks.fork": {"task_id", "overrides", "save"},
    "tasks.update": {"task_id", "key", "parent_id", "user_id", "original_task_id"},
    "schedules.update": {"schedule_id"},
}


def options_of(command: click.Command) -> Iterator[ParameterOption]:
    yield from (each for each in command.params if isinstance(each, ParameterOption))
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from options_of(inner)


FOUND = list(options_of(program))


@pytest.mark.parametrize("option", FOUND, ids=lambda each: f"{each.operation} {each.opts[0]}")
def test_the_help_and_the_default_are_those_of_the_operation(option: ParameterOption):
    field = OPERATIONS[option.operation].parameters.model_fields[option.parameter]
    assert str(option.help).startswith(str(field.description))
    if not (option.multiple or option.is_flag or field.is_required()):
        assert option.to_info_dict()["default"] == field.get_default()


@pytest.mark.parametrize("operation", WHOLE)
def test_every_parameter_of_the_operation_has_an_option(operation: str):
    given = {each.parameter for each in FOUND if each.operation == operation}
    assert given == set(OPERATIONS[operation].parameters.model_fields) - WHOLE[operation]


def test_choices_and_bounds_are_those_of_the_operation():
    @click.command()
    @parameter_option("tasks.list", "order", "--order")
    @parameter_option("tasks.list", "limit", "-l", "--limit", more="Per page.")
    def command() -> None: ...

    order, limit = command.params
    assert isinstance(order.type, click.Choice)
    assert list(order.type.choices) == [
        "created_at",
        "-created_at",
        "started_at",
        "-started_at",
        "updated_at",
        "-updated_at",
        "completed_at",
        "-completed_at",
        "priority",
        "name",
        "-name",
    ]
    assert isinstance(limit.type, click.IntRange)
    assert (limit.type.min, limit.default) == (1, 100)
    assert str(getattr(limit, "help", "")).endswith(" Per page.")
