"""What `apflow run flow` is given: tasks, a file of tasks, or an executor with its inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, cast

import click

from apflow.cli.inputs.pairs import read_pairs
from apflow.cli.inputs.source import read_option, read_source, trees_of
from apflow.cli.inputs.typed_text import read_typed, types_of
from apflow.core.errors import ApflowError, InvalidInputError
from apflow.core.model.task import Json
from apflow.core.payload.file_text import YAML_NAMES
from apflow.core.service.task_service import TaskService
from apflow.core.settings import get_settings

FILE_NAMES: Final = (*YAML_NAMES, ".json")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSource:
    """The argument and the options that say what to run."""

    target: str | None  # an executor, FILE.py:NAME, or a file of tasks
    tasks: str | None
    tasks_file: str | None
    parameters: Sequence[str]  # of a file, as NAME=VALUE
    inputs: str | None  # as JSON
    inputs_file: str | None
    items: Sequence[str]  # inputs as JSON, NAME=VALUE or NAME:=JSON


@dataclass(frozen=True, slots=True)
class GivenTrees:
    """The trees to run: an array of tasks for each."""

    trees: list[Json]
    # Inputs of the only task, which is that of an executor, as text: its input schema says their types.
    texts: Mapping[str, str] = field(default_factory=dict[str, str])

    async def typed(self, service: TaskService) -> list[Json]:
        """Return the trees, with all inputs of the types of the executor's input schema.

        Raises:
            InvalidInputError: text is not of the type of its input.
        """
        if not self.texts:
            return self.trees
        [[task]] = self.trees
        try:
            schema = (await service.executor(task["name"]))["input_schema"]
        except ApflowError:
            schema = None  # the check before the run says why
        return [[{**task, "inputs": {**task["inputs"], **typed_inputs(self.texts, schema or {})}}]]


def read_trees(source: RunSource) -> GivenTrees:
    """Read what to run.

    Raises:
        click.UsageError: the options contradict each other, or cannot be read.
        InvalidInputError: parameters of a file, or arguments of a function, are wrong.
    """
    file = source.tasks_file
    executor = source.target
    if executor is not None and Path(executor).suffix.lower() in FILE_NAMES:
        if file is not None:
            raise click.UsageError(f"Give either {executor} or --tasks-file {file}.")
        executor, file = None, executor
    if sum(each is not None for each in (executor, source.tasks, file)) != 1:
        raise click.UsageError("Give exactly one of EXECUTOR, FILE, --tasks JSON and --tasks-file FILE.")
    if executor is not None:
        if source.parameters:
            raise click.UsageError(
                "--set requires a file of tasks with parameters. Give inputs as -i NAME=VALUE."
            )
        return _of_executor(executor, source)
    if source.inputs is not None or source.inputs_file is not None or source.items:
        raise click.UsageError(
            "--inputs and -i require an EXECUTOR; tasks have their own inputs. Give parameters of a file as "
            "--set NAME=VALUE."
        )
    if file is None:
        return GivenTrees(trees_of(read_option("--tasks", str(source.tasks)), source.parameters))
    name = "" if source.tasks_file is None else "--tasks-file"
    return GivenTrees(trees_of(read_source(name, file), source.parameters))


def _of_executor(executor: str, source: RunSource) -> GivenTrees:
    """Return the task of an executor, or the tasks of a function in a Python file."""
    inputs, texts = _inputs(source)
    if not executor.endswith(".py") and ".py:" not in executor:
        return GivenTrees([[{"name": executor, "schemas": {"method": executor}, "inputs": inputs}]], texts)
    from apflow.core.flows.file import input_schema_of, tasks_of  # loads pydantic

    if not isinstance(inputs, dict):
        raise click.UsageError("--inputs must be a JSON object: the arguments of the function, by name.")
    arguments = cast("dict[str, Json]", inputs)
    if texts:
        arguments = {**arguments, **typed_inputs(texts, input_schema_of(executor))}
    return GivenTrees([tasks_of(executor, arguments)])


def _inputs(source: RunSource) -> tuple[Any, dict[str, str]]:
    """Return the inputs whose values are known, and those that are text."""
    wholes = [each for each in source.items if each.lstrip().startswith("{")]
    if sum([len(wholes), source.inputs is not None, source.inputs_file is not None]) > 1:
        raise click.UsageError(
            "Give the inputs as JSON once: by --inputs JSON, -i JSON or --inputs-file FILE."
        )
    read: Any = {}
    if source.inputs is not None:
        read = read_option("--inputs", source.inputs)
    elif wholes:
        read = read_option("-i", wholes[0])
    elif source.inputs_file is not None:
        read = read_source("--inputs-file", source.inputs_file)
    pairs = read_pairs("-i", [each for each in source.items if each not in wholes], "city=Bern")
    if not pairs:
        return read, {}
    if not isinstance(read, dict):
        raise click.UsageError("-i NAME=VALUE requires that the other inputs are a JSON object.")
    texts = {name: text for name, text in pairs.items() if not name.endswith(":")}
    values = {
        name[:-1]: read_option(f"-i {name[:-1]}", text) for name, text in pairs.items() if name.endswith(":")
    }
    repeated = sorted(texts.keys() & values.keys())
    if repeated:
        raise click.UsageError(f"-i {repeated[0]} is given twice. Give each name once.")
    return {**cast("dict[str, Json]", read), **values}, texts


def typed_inputs(
    texts: Mapping[str, str], schema: Mapping[str, Json], *, option: str = "-i"
) -> dict[str, Json]:
    """Return inputs given as text, of the types that a schema declares; text where it declares none.

    Args:
        option: by which they are given, for errors.

    Raises:
        InvalidInputError: text is not of the type of its input; `violations` has each.
    """
    from apflow.core.payload.schema_defaults import declared_parts

    properties: dict[str, Json] = {}
    for part in declared_parts(dict(schema)):
        properties |= part.get("properties", {})
    depth = get_settings().max_json_depth
    values: dict[str, Json] = {}
    faults: list[str] = []
    for name, text in texts.items():
        try:
            values[name] = read_typed(text, types_of(properties.get(name), schema), depth)
        except ValueError as error:
            faults.append(f"{option} {name}: {error}.")
    if faults:
        raise InvalidInputError("The inputs cannot be used.", faults)
    return values
