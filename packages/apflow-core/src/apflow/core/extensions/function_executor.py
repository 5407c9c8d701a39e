"""Executors that call a function."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, ClassVar, cast

from apflow.core.extensions.executor import NO_RESOURCES, BaseTask, InputsSchema
from apflow.core.extensions.function_signature import FunctionSignature, jsonable
from apflow.core.model.task import Json


class _ModelOfFunction:
    """Gives a class the pydantic model of its function, made at the first use."""

    def __get__(self, _instance: object, owner: type[FunctionExecutor]) -> InputsSchema:
        return owner.signature.model


class _Summary:
    """Gives a class the first paragraph of its function's docstring."""

    def __get__(self, _instance: object, owner: type[FunctionExecutor]) -> str:
        return owner.signature.docstring.summary


class FunctionExecutor(BaseTask):
    """Calls `function` with the inputs of the task. `class_for` makes a subclass for each function."""

    function: ClassVar[Callable[..., Any]]
    signature: ClassVar[FunctionSignature]
    inputs_schema = cast("Any", _ModelOfFunction())
    description = cast("Any", _Summary())
    reports_status = False

    def _call_function(self, inputs: dict[str, Json]) -> Any:
        positional, keywords = self.signature.arguments_of(inputs)
        return type(self).function(*positional, **keywords)


class AsyncFunctionExecutor(FunctionExecutor):
    """Awaits an `async def` on the event loop."""

    async def execute(self, inputs: dict[str, Any]) -> Any:
        """Call the function and return its result as JSON."""
        return jsonable(await self._call_function(inputs))


class BlockingFunctionExecutor(FunctionExecutor):
    """Calls a plain function, in a thread."""

    def execute(self, inputs: dict[str, Any]) -> Any:
        """Call the function and return its result as JSON."""
        result = self._call_function(inputs)
        return _finish(result) if inspect.isawaitable(result) else jsonable(result)


async def _finish(result: Awaitable[Any]) -> Any:
    return jsonable(await result)


def class_for(
    function: Callable[..., Any],
    executor_id: str,
    *,
    effect: str | None = None,
    cancelable: bool = False,
    max_concurrency: int | None = None,
    resources: Mapping[str, float | str] = NO_RESOURCES,
) -> type[FunctionExecutor]:
    """Return a new executor class that calls a function."""
    is_async = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(inspect.unwrap(function))
    base = AsyncFunctionExecutor if is_async else BlockingFunctionExecutor
    name = str(getattr(function, "__name__", executor_id))
    attributes: dict[str, Any] = {
        "id": executor_id,
        "name": name,
        # The same function defined again, as notebooks do, replaces itself in the registry.
        "__module__": function.__module__,
        "__qualname__": getattr(function, "__qualname__", name),
        "__doc__": function.__doc__,
        "function": staticmethod(function),
        "signature": FunctionSignature(function),
        "cancelable": cancelable,
        "max_concurrency": max_concurrency,
        "resources": resources,
    }
    if effect is not None:
        attributes["effect"] = effect
    return cast("type[FunctionExecutor]", type(name, (base,), attributes))
