"""Custom columns: the class that adds them, registered for the whole process.

The class comes from a storage distribution (`TaskModel` of `apflow.storage.sql`, subclassed). The core only
asks it for the names and defaults of what was added.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import fields
from importlib import import_module

from apflow.core.errors import InvalidInputError
from apflow.core.model.task import Json, Task

# Every field of a task that a store keeps by itself; custom columns come on top.
COLUMNS: tuple[str, ...] = tuple(each.name for each in fields(Task) if each.name != "extra")

_model: type | None = None
_custom: Mapping[str, Json] = {}
_known = frozenset(COLUMNS)  # with the custom ones


def set_task_model_class(model: type | None) -> None:
    """Choose the class whose added columns tasks have from now on, in every store of this process.

    Stores keep columns that they have.

    Args:
        model: a subclass of `TaskModel` with additional columns; None takes the choice back.

    Raises:
        InvalidInputError: the class does not declare its columns, or one hides a field of `Task`.
    """
    global _model, _custom, _known
    custom = _read_custom_fields(model)
    hidden = [name for name in custom if hasattr(Task, name) and name not in _custom]
    if hidden:
        raise InvalidInputError(f"A custom column cannot be called {hidden[0]!r}: tasks have that already.")
    for name in _custom:
        delattr(Task, name)
    for name in custom:
        setattr(Task, name, _attribute(name))
    _model, _custom, _known = model, custom, frozenset(COLUMNS) | custom.keys()


def _attribute(name: str) -> property:
    """Return what makes a custom column readable as an attribute of tasks."""

    def read(task: Task) -> Json:
        if name in task.extra:
            return task.extra[name]
        raise AttributeError(f"This task has no value of the column {name!r}.", name=name, obj=task)

    return property(read)


def chosen_task_model_class() -> type | None:
    """Return the class that was chosen, if any."""
    return _model


def get_task_model_class() -> type | None:
    """Return the class that was chosen, else `TaskModel`; None where no distribution has that."""
    if _model is not None:
        return _model
    try:
        model: type = import_module("apflow.storage.sql").TaskModel
    except ModuleNotFoundError:
        return None
    return model


def custom_fields() -> Mapping[str, Json]:
    """Return the default of each custom column, by name."""
    return _custom


def check_columns(names: Collection[str]) -> None:
    """Raise `InvalidInputError` unless each name is a field of `Task` or a custom column."""
    if not _known.issuperset(names):
        raise _unknown([name for name in names if name not in _known])


def check_extra(extra: Mapping[str, Json]) -> None:
    """Raise `InvalidInputError` unless each name is a custom column."""
    unknown = [name for name in extra if name not in _custom]
    if unknown:
        raise _unknown(unknown)


def _unknown(names: list[str]) -> InvalidInputError:
    shown = ", ".join(map(repr, names))
    return InvalidInputError(f"Tasks have no field {shown}. Add columns with set_task_model_class().", names)


def _read_custom_fields(model: type | None) -> Mapping[str, Json]:
    if model is None:
        return {}
    read = getattr(model, "custom_fields", None)
    if read is None:
        raise InvalidInputError(
            f"{model.__name__} has no custom_fields(). Subclass TaskModel of apflow.storage.sql."
        )
    return dict(read())
