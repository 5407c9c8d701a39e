"""Flows and task functions in Python files: `my_tasks.py:nightly`."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from apflow.core.errors import InvalidInputError
from apflow.core.flows.flow import Flow
from apflow.core.flows.task_function import AnyTaskFunction
from apflow.core.model.task import Json
from apflow.core.process.error_text import describe_error


def tasks_of(target: str, inputs: Mapping[str, Json]) -> list[dict[str, Json]]:
    """Return the array of tasks of a flow or a task function in a file.

    The file is imported as a module from its folder, so that `--import` of that module finds the same
    executors in another process.

    Args:
        target: `FILE.py:NAME`; without `:NAME`, the only flow that the file defines.
        inputs: the arguments of the function, by parameter.

    Raises:
        InvalidInputError: there is no such file or function, or the file cannot be imported.
        ValidationError: the function does not take these inputs.
    """
    found = _find(target)
    return found.build_from(inputs).to_array() if isinstance(found, Flow) else found.to_array(inputs)


def input_schema_of(target: str) -> dict[str, Json]:
    """Return the JSON Schema of the arguments of a flow or a task function in a file.

    Args:
        target: as in `tasks_of`.

    Raises:
        InvalidInputError: there is no such file or function, or the file cannot be imported.
    """
    return _find(target).input_schema


def _find(target: str) -> Flow[..., Any] | AnyTaskFunction[..., Any]:
    file, _, name = target.rpartition(":") if not target.endswith(".py") else (target, "", "")
    module = import_file(Path(file))
    return _named(module, file, name) if name else _only_flow(module, file)


def import_file(path: Path) -> ModuleType:
    """Import a Python file by the name that `import` would give it: with its packages, if it is in one.

    Raises:
        InvalidInputError: it does not exist, cannot be imported, or another module has its name.
    """
    path = path.resolve()
    if not path.is_file():
        raise InvalidInputError(
            f"There is no file {path}. Give the path of a Python file: my_tasks.py:nightly."
        )
    folder, parts = path.parent, [path.stem]
    while (folder / "__init__.py").is_file():
        parts.insert(0, folder.name)
        folder = folder.parent
    name = ".".join(parts)
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    try:
        module = importlib.import_module(name)
    except BaseException as error:  # whatever the module raises, SystemExit included
        raise InvalidInputError(
            f"Importing {path} failed with {describe_error(error)}. --debug shows where."
        ) from error
    loaded = getattr(module, "__file__", None)
    if loaded is None or Path(loaded).resolve() != path:
        raise InvalidInputError(
            f"{path} cannot be imported: another module is called {name!r} ({loaded or 'built in'}). "
            "Rename the file."
        )
    return module


def _named(module: ModuleType, file: str, name: str) -> Flow[..., Any] | AnyTaskFunction[..., Any]:
    found = getattr(module, name, None)
    if isinstance(found, Flow | AnyTaskFunction):
        return cast("Flow[..., Any] | AnyTaskFunction[..., Any]", found)
    known = _defined(module, Flow) + _defined(module, AnyTaskFunction)
    what = f"{name} in {file} has neither @flow nor @task" if found is not None else f"{file} has no {name!r}"
    raise InvalidInputError(f"{what}. There are: {', '.join(known) or 'no flows and no tasks'}.")


def _only_flow(module: ModuleType, file: str) -> Flow[..., Any]:
    names = _defined(module, Flow)
    if len(names) == 1:
        found: Flow[..., Any] = getattr(module, names[0])
        return found
    known = f"has the flows {', '.join(names)}: name one" if names else "has no flow: name a task"
    example = (names or _defined(module, AnyTaskFunction) or ["NAME"])[0]
    raise InvalidInputError(f"{file} {known}, as in {file}:{example}.")


def _defined(module: ModuleType, kind: type[Any]) -> list[str]:
    return [name for name, value in vars(module).items() if isinstance(value, kind)]
