"""The former decorators that register extensions, stores and the class of tasks."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, overload

from apflow.core import get_registry, set_task_model_class
from apflow.core.extensions.registry import AnyRegistrable

__all__ = ["hook_register", "register_extension", "storage_register", "task_model_register"]

AnyModel = TypeVar("AnyModel", bound=type)


@overload
def register_extension(
    extension: AnyRegistrable, *, extension_id: str | None = None, override: bool = False
) -> AnyRegistrable: ...
@overload
def register_extension(
    extension: None = None, *, extension_id: str | None = None, override: bool = False
) -> Callable[[AnyRegistrable], AnyRegistrable]: ...
def register_extension(
    extension: AnyRegistrable | None = None, *, extension_id: str | None = None, override: bool = False
) -> AnyRegistrable | Callable[[AnyRegistrable], AnyRegistrable]:
    """Register an extension of any category: a decorator with or without a call, or a call with an instance.

    Args:
        extension: a class or an instance; None: return the decorator.
        extension_id: the id to register under; None for the extension's own.
        override: replace another class that holds the id.

    Raises:
        ExtensionTakenError: another class holds the id and `override` is not given.
        InvalidInputError: the extension has no id or no category.
    """

    def register(given: AnyRegistrable) -> AnyRegistrable:
        get_registry().register(given, extension_id, override)
        return given

    return register if extension is None else register(extension)


# The category of the extension decides where it is kept, so one function serves all.
hook_register = register_extension
storage_register = register_extension


@overload
def task_model_register(model: AnyModel) -> AnyModel: ...
@overload
def task_model_register(model: None = None) -> Callable[[AnyModel], AnyModel]: ...
def task_model_register(model: AnyModel | None = None) -> AnyModel | Callable[[AnyModel], AnyModel]:
    """Choose the class whose columns tasks have, as `set_task_model_class` does: a decorator.

    Args:
        model: the class; None: return the decorator.

    Raises:
        InvalidInputError: the class does not declare its columns, or one hides a field of tasks.
    """

    def register(given: AnyModel) -> AnyModel:
        set_task_model_class(given)
        return given

    return register if model is None else register(model)
