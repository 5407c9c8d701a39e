"""`@task`: a function as a task of flows, and as an executor of trees."""

from __future__ import annotations

import copy
import inspect
import sys
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import partial, update_wrapper
from pathlib import Path
from typing import Any, Generic, Literal, ParamSpec, Protocol, Self, TypeVar, cast, overload

from apflow.core.authoring.policy_validation import read_policy
from apflow.core.authoring.violation import Violations
from apflow.core.errors import FlowError, InvalidInputError
from apflow.core.extensions.function_executor import FunctionExecutor, class_for
from apflow.core.extensions.registry import ExtensionCategory, executor_register, get_registry
from apflow.core.flows.recording import Recorder, current_recorder, description_of
from apflow.core.model.task import Json, Retry

P = ParamSpec("P")
R = TypeVar("R")

Effect = Literal["pure", "idempotent", "once"]
# Attempts in all, or a whole retry policy.
RetryPolicy = int | Retry | Mapping[str, Json]


class AnyTaskFunction(Generic[P, R]):
    """A function with `@task`. Called while a flow is built, it adds a task; called elsewhere, it runs.

    Args:
        policy: the policy of the tasks, as the field `policy` of a task has it.
    """

    __name__: str
    __qualname__: str

    def __init__(
        self, function: Callable[P, Any], executor: type[FunctionExecutor], policy: dict[str, Json]
    ) -> None:
        self._function = function
        self._executor = executor
        self._name: str | None = None  # of the next task, given by `options`
        self._policy = policy
        self._fields: dict[str, Json] = {}
        self._after: Sequence[object] = ()
        self._bounds: dict[str, Json] = {}  # of lists
        update_wrapper(self, function)

    @property
    def id(self) -> str:
        """The id of its executor, for trees in JSON and for `apflow run flow`."""
        return self._executor.id

    @property
    def input_schema(self) -> dict[str, Json]:
        """The JSON Schema of the arguments, by parameter."""
        return self._executor.signature.model.model_json_schema()

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """In a flow, add a task and return what stands for its result; else call the function.

        Raises:
            TypeError: the function does not take these arguments.
            ValidationError: an argument is not of the type that the function declares.
            FlowError: an argument cannot be used in this flow.
        """
        recorder = current_recorder()
        if recorder is None:
            return cast("R", self._function(*args, **kwargs))
        return cast("R", self._record(recorder, args, kwargs))

    def map(self, items: object, /, *args: Any, **kwargs: Any) -> list[R]:
        """In a flow, add a task that calls the function for each item of a list; else call it for each.

        The first parameter of the function is the item, or the list of items with `batch`.

        Args:
            items: a list, or what stands for one, such as the result of a task.
            *args: the other arguments, the same for each item.
            **kwargs: likewise.

        Returns:
            what stands for the list of the results, in the order of the items.

        Raises:
            TypeError: the function does not take these arguments.
            ValidationError: an argument is not of the type that the function declares.
            FlowError: an argument cannot be used in this flow.
        """
        recorder = current_recorder()
        if recorder is None:
            function = cast("Callable[..., R]", self._function)
            return [function(each, *args, **kwargs) for each in cast("Iterable[Any]", items)]
        return cast("list[R]", self._record(recorder, (None, *args), kwargs, items=[items]))

    def options(
        self,
        *,
        name: str | None = None,
        retry: RetryPolicy | None = None,
        timeout: float | None = None,
        effect: Effect | None = None,
        priority: int | None = None,
        after: Sequence[object] = (),
        when: str | None = None,
        trigger: str | None = None,
        label: str | None = None,
        tags: Sequence[str] = (),
        for_each: Mapping[str, Json] | None = None,
        resources: Mapping[str, float | str] | None = None,
    ) -> Self:
        """Return the function with other options for the tasks that its calls add.

        Args:
            name: of the task, unique in the flow. By default the function's, with a number if it is taken.
            retry: as in `task`.
            timeout: as in `task`.
            effect: as in `task`.
            priority: 0 urgent, 1 high, 2 normal, 3 low.
            after: results of tasks that must have completed before, beside those among the arguments.
            when: a condition over the results of these tasks by their names, as JMESPath. If it is false,
                the task is skipped.
            trigger: "on_success" (default), "unless_failed", "on_failure" or "always".
            label: what the task is about, for people.
            tags: to find the task by.
            for_each: bounds of the lists that `map` runs: `batch`, `max_items`, `max_parallel`,
                `allow_failures`, `collect`.
            resources: as in `task`; they replace entries of the same name there.

        Raises:
            InvalidInputError: an option has a wrong value.
        """
        changed = copy.copy(self)
        policy = policy_of(retry, timeout, effect, self.__name__, resources)
        changed._policy = self._policy | policy  # noqa: SLF001
        changed._name = name or self._name  # noqa: SLF001
        given = {"priority": priority, "when": when, "trigger": trigger}
        known = {n: v for n, v in given.items() if v is not None}
        changed._fields = self._fields | known | description_of(label, tags)
        changed._after = [*self._after, *after]  # noqa: SLF001
        changed._bounds = {**self._bounds, **(for_each or {})}  # noqa: SLF001
        return changed

    def to_array(self, inputs: Mapping[str, Json]) -> list[dict[str, Json]]:
        """Return the array of a tree of one task that calls the function with these inputs."""
        entry: dict[str, Json] = {"name": self._name or self.__name__, "inputs": dict(inputs)}
        return [entry | {"schemas": {"method": self.id}} | self._own_fields()]

    def _own_fields(self) -> dict[str, Json]:
        return {**self._fields, "policy": self._policy} if self._policy else dict(self._fields)

    def _record(
        self,
        recorder: Recorder,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        *,
        items: Sequence[object] = (),
    ) -> object:
        """Add a task. `items`: one list, whose items are the first argument."""
        if get_registry().get_by_id(self.id, ExtensionCategory.EXECUTOR) is not self._executor:
            raise FlowError(
                f"Another function has taken the executor id {self.id!r} after this one. "
                "Give functions that one function defines different ids: @task(id=...)."
            )
        signature = self._executor.signature
        inputs: dict[str, Json] = {}
        needs: list[str] = []
        fields = self._own_fields()
        for at, (name, value) in enumerate(signature.bind(args, kwargs).items()):
            if items and not at:
                inputs[name] = {"$item": "@"}
                listed, named = recorder.encode(items[0], _as_list)
                fields["for_each"] = {**self._bounds, "items": listed}
                needs.extend(named)
                continue
            inputs[name], named = recorder.encode(value, partial(signature.to_json, name))
            needs.extend(named)
        for each in self._after:
            needs.extend(recorder.encode(each, _no_result)[1])
        return recorder.call(
            self._name or self.__name__,
            self.id,
            inputs,
            needs,
            fields,
            is_exact=self._name is not None,
        )

    def __repr__(self) -> str:
        return f"<task {self.id}>"


class TaskFunction(AnyTaskFunction[P, R]):
    """A plain function with `@task`. `fn` is the function itself."""

    @property
    def fn(self) -> Callable[P, R]:
        """The function, for calls that must never add a task."""
        return self._function


class AsyncTaskFunction(AnyTaskFunction[P, R]):
    """An `async def` with `@task`. `fn` is the function itself: `await price.fn("apple")`."""

    @property
    def fn(self) -> Callable[P, Coroutine[Any, Any, R]]:
        """The function, for calls that must never add a task."""
        return self._function


class TaskDecorator(Protocol):
    """What `task(...)` returns."""

    @overload
    def __call__(  # type: ignore[overload-overlap]  # pyright: ignore[reportOverlappingOverload]
        self, function: Callable[P, Coroutine[Any, Any, R]], /
    ) -> AsyncTaskFunction[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> TaskFunction[P, R]: ...


@overload
def task(  # type: ignore[overload-overlap]  # pyright: ignore[reportOverlappingOverload]
    function: Callable[P, Coroutine[Any, Any, R]], /
) -> AsyncTaskFunction[P, R]: ...
@overload
def task(function: Callable[P, R], /) -> TaskFunction[P, R]: ...
@overload
def task(
    *,
    id: str | None = None,
    retry: RetryPolicy | None = None,
    timeout: float | None = None,
    effect: Effect | None = None,
    cancelable: bool = False,
    max_concurrency: int | None = None,
    resources: Mapping[str, float | str] | None = None,
) -> TaskDecorator: ...
def task(
    function: Callable[..., Any] | None = None,
    /,
    *,
    id: str | None = None,  # noqa: A002 - the name of the field everywhere
    retry: RetryPolicy | None = None,
    timeout: float | None = None,
    effect: Effect | None = None,
    cancelable: bool = False,
    max_concurrency: int | None = None,
    resources: Mapping[str, float | str] | None = None,
) -> Any:
    """Make a task of a function: a decorator with or without a call.

    The parameters of the function are the inputs of the task: types, constraints, defaults and descriptions
    come from its type hints, `Annotated` and its docstring. It may return JSON, a dataclass or a pydantic
    model. An `async def` runs on the event loop, any other function in a thread.

    Args:
        id: of the executor; by default `module:qualified.name`. A process that imports the module can resume
            stored trees.
        retry: attempts in all, or a `Retry`; by default 1 attempt.
        timeout: seconds that one attempt may take; by default no limit.
        effect: what a second run would do: "pure", "idempotent" (default) or "once".
        cancelable: whether the function ends by itself, within `APFLOW_CANCEL_GRACE` seconds, when
            `get_task_context().is_cancelled()` is true. By default it is interrupted at once.
        max_concurrency: how many calls may run at once in one process; by default no own limit.
        resources: what the process that makes a call must offer, by name: a number is an amount that the
            call uses while it runs, a string is a label. By default nothing.

    Raises:
        InvalidInputError: the function or an option cannot be used.
        ExtensionTakenError: another executor has the id.
    """

    def decorate(given: Callable[..., Any]) -> Any:
        _check_function(given)
        policy = policy_of(retry, timeout, None, given.__name__, resources)
        executor = class_for(
            given,
            id or f"{_module_name(given)}:{given.__qualname__}",
            effect=effect,
            cancelable=cancelable,
            max_concurrency=max_concurrency,
            resources=policy.pop("resources", {}),  # of every call, however its task is written
        )
        executor_register(executor)
        if inspect.iscoroutinefunction(given):
            return AsyncTaskFunction[..., Any](given, executor, policy)
        return TaskFunction[..., Any](given, executor, policy)

    return decorate if function is None else decorate(function)


def policy_of(
    retry: RetryPolicy | None,
    timeout: float | None,
    effect: str | None,
    name: str,
    resources: Mapping[str, float | str] | None = None,
) -> dict[str, Json]:
    """Return the `policy` of a task from options.

    Raises:
        InvalidInputError: an option has a wrong value.
    """
    policy: dict[str, Json] = {}
    if retry is not None:
        policy["retry"] = _retry_to_json(retry)
    if timeout is not None:
        policy["timeout"] = timeout
    if effect is not None:
        policy["effect"] = effect
    if resources is not None:
        policy["resources"] = resources
    faults = Violations()
    read = read_policy(policy, "", faults)
    if faults.found:
        raise InvalidInputError(f"The options of {name} are wrong: {' '.join(faults.found)}", faults.found)
    return read


def _retry_to_json(retry: RetryPolicy) -> Json:
    if isinstance(retry, Retry):
        read = asdict(retry)
        return read | {"on": None if retry.on is None else list(retry.on)}
    return dict(retry) if isinstance(retry, Mapping) else {"max_attempts": retry}


def _check_function(given: Callable[..., Any]) -> None:
    name = getattr(given, "__qualname__", None)
    if isinstance(given, type) or not callable(given) or not name:
        raise InvalidInputError(f"@task takes a function, not {given!r}.")
    if inspect.isgeneratorfunction(given) or inspect.isasyncgenfunction(given):
        raise InvalidInputError(f"{name} is a generator. A task has one result: return a list.")
    if given.__name__ == "<lambda>":
        raise InvalidInputError("A lambda cannot be a task: it has no name. Use `def`.")


def _module_name(function: Callable[..., Any]) -> str:
    """Return the module by which another process imports a function, also from a running script."""
    name = function.__module__
    if name != "__main__":
        return name
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    if spec is not None:
        return str(spec.name)
    file = getattr(main, "__file__", None)
    return Path(file).stem if file else name


def _as_list(value: object) -> Json:
    """Return the items of a list as JSON."""
    from pydantic_core import to_jsonable_python

    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
        raise FlowError(f"`map` takes a list, or the result of a task that returns one, not {value!r}.")
    return to_jsonable_python(list(cast("Iterable[object]", value)))


def _no_result(value: object) -> Json:
    raise FlowError(f"`after` takes results of tasks of this flow, not {value!r}.")
