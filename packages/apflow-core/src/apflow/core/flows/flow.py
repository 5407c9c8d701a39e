"""`@flow`: a function that builds a tree from calls of task functions."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import update_wrapper
from typing import Any, Generic, ParamSpec, TypeVar, cast, overload

from apflow.core.builder import TaskBuilder
from apflow.core.errors import FlowError, InvalidInputError
from apflow.core.extensions.function_signature import FunctionSignature, jsonable
from apflow.core.flows.recording import Recorder, current_recorder, description_of, recording
from apflow.core.model.task import Json

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class FlowTree(TaskBuilder, Generic[R_co]):
    """The tree that a flow has built: a `TaskBuilder` whose run has a typed result."""

    def __init__(self, recorder: Recorder, signature: FunctionSignature) -> None:
        root, *others = recorder.tasks
        super().__init__(root.name, executor=root.executor, inputs=root.inputs, **root.fields)
        if root.needs:
            self._array[0]["dependencies"] = list(root.needs)
        for each in others:
            self.add(
                each.name,
                executor=each.executor,
                inputs=each.inputs,
                after=each.needs,
                under=each.parent,
                **each.fields,
            )
        self._signature = signature

    def build(self) -> FlowTree[R_co]:
        """Return the tree itself, as `Flow.build` does."""
        return self

    def result_of(self, value: Json) -> R_co:
        """Return a result as the type that the flow declares.

        Args:
            value: the stored result of the root, as plain JSON.
        """
        return cast("R_co", self._signature.result_of(value))


class Flow(Generic[P, R]):
    """A function with `@flow`. `build` returns its tree; `run_sync` and `run_flow` run it.

    Args:
        name: the name of the root of the tree; None for the name of the function.
        label: of the root: what the tree is about, for people; None for no label.
        tags: of the root, to find the tree by.
    """

    __name__: str
    __qualname__: str

    def __init__(
        self, function: Callable[P, R], name: str | None, label: str | None = None, tags: Sequence[str] = ()
    ) -> None:
        self._function = function
        self._signature = FunctionSignature(function)
        self._is_renamed = name is not None
        update_wrapper(self, function)
        self.name = name or self.__name__
        self._fields = description_of(label, tags)

    @property
    def fn(self) -> Callable[P, R]:
        """The function itself."""
        return self._function

    @property
    def input_schema(self) -> dict[str, Json]:
        """The JSON Schema of the arguments, by parameter.

        Raises:
            InvalidInputError: a parameter has a type that JSON cannot express.
        """
        return self._signature.model.model_json_schema()

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """In another flow, add this one as a part of its tree; else call the function, without apflow.

        Raises:
            FlowError: the code uses the result of a task for something else than an argument.
        """
        recorder = current_recorder()
        if recorder is None:
            return self._function(*args, **kwargs)
        return cast("R", self._record(recorder, args, kwargs))

    def build(self, *args: P.args, **kwargs: P.kwargs) -> FlowTree[R]:
        """Call the function, and return the tree that its calls of task functions make. Nothing is run.

        The root of the tree is the flow; it returns what the function returns. Tasks have the names of their
        functions, with a number where a name is used again.

        Raises:
            TypeError: a function does not take the given arguments.
            ValidationError: an argument is not of the declared type.
            FlowError: the code uses the result of a task for something else than an argument.
        """
        self._signature.bind(args, kwargs)
        with recording() as recorder:
            self._record(recorder, args, kwargs)
        return FlowTree(recorder, self._signature)

    def build_from(self, inputs: Mapping[str, Json]) -> FlowTree[R]:
        """Call `build` with arguments from JSON, as a command line gives them.

        Raises:
            ValidationError: the inputs are not what the function takes.
        """
        positional, keywords = self._signature.arguments_of(inputs)
        return cast("Flow[..., R]", self).build(*positional, **keywords)

    def options(
        self, *, name: str | None = None, label: str | None = None, tags: Sequence[str] = ()
    ) -> Flow[P, R]:
        """Return the flow with another name, label or tags; what is left out stays."""
        changed = copy.copy(self)
        if name is not None:
            changed.name, changed._is_renamed = name, True  # noqa: SLF001 - a copy of this object
        changed._fields = self._fields | description_of(label, tags)
        return changed

    def _record(self, recorder: Recorder, args: tuple[Any, ...], kwargs: dict[str, Any]) -> object:
        with recorder.flow(self.name, self._fields, is_exact=self._is_renamed) as made:
            value = self._function(*args, **kwargs)
        return recorder.returned(made, value, self._returned)

    def _returned(self, value: Any) -> Json:
        found = jsonable(value)
        if inspect.isawaitable(found):
            raise FlowError(f"Flow {self.name!r} returns a coroutine. Call tasks without `await` in a flow.")
        return found

    def __repr__(self) -> str:
        return f"<flow {self.name}>"


@overload
def flow(function: Callable[P, R], /) -> Flow[P, R]: ...
@overload
def flow(
    *, name: str | None = None, label: str | None = None, tags: Sequence[str] = ()
) -> Callable[[Callable[P, R]], Flow[P, R]]: ...
def flow(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    label: str | None = None,
    tags: Sequence[str] = (),
) -> Any:
    """Make a flow of a function: a decorator with or without a call.

    The function is called once for each tree. Its calls of `@task` functions add tasks, and return what
    stands for their results: pass it to other tasks. Other Python code in it runs when the tree is built, so
    loops may go over what is known by then.

    Args:
        name: of the root task; by default the function's name.
        label: of the root task: what the tree is about, for people.
        tags: of the root task, to find the tree by.

    Raises:
        InvalidInputError: the function is async or a generator.
    """

    def decorate(given: Callable[..., Any]) -> Any:
        if inspect.iscoroutinefunction(given) or inspect.isgeneratorfunction(given):
            raise InvalidInputError(
                f"Flow {given.__qualname__} is async or a generator. A flow only builds a tree: use a plain "
                "`def`, and call tasks without `await`."
            )
        return Flow(given, name, label, tags)

    return decorate if function is None else decorate(function)
