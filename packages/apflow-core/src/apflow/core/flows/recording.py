"""Records the calls of task functions while a flow is built, and makes an array of tasks of them."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Final, cast

from apflow.core.errors import FlowError
from apflow.core.flows.handle import Handle, reference_to, source_of
from apflow.core.model.task import UNLESS_FAILED, Json

ROOT_EXECUTOR: Final = "flow_executor"  # of every flow: returns what the flow returns
_PLAIN: Final = (str, int, float, bool, type(None))

# JSON, and the names of the tasks that references in it name, in order.
Encoded = tuple[Json, list[str]]


def description_of(label: str | None, tags: Sequence[str]) -> dict[str, Json]:
    """Return the fields of a task for a label and tags that are given."""
    fields: dict[str, Json] = {} if label is None else {"label": label}
    return fields | ({"tags": list(tags)} if tags else {})


@dataclass(eq=False, slots=True)
class RecordedTask:
    """One call of a task function or of a flow: a task of the tree."""

    name: str  # unique in the tree
    executor: str
    recorder: Recorder
    parent: str | None  # name of the flow whose code made the call; None: this is the root
    inputs: dict[str, Json] = field(default_factory=dict[str, Json])
    needs: dict[str, None] = field(default_factory=dict[str, None])  # names of tasks, in order
    fields: dict[str, Json] = field(default_factory=dict[str, Json])


@dataclass(eq=False, slots=True)
class _Scope:
    """The code of one flow."""

    task: RecordedTask
    ends: dict[str, None] = field(default_factory=dict[str, None])  # its tasks that no task needs yet


class Recorder:
    """The tasks of a flow that is built, in the order of their calls. The first one is the root."""

    def __init__(self) -> None:
        self.tasks: list[RecordedTask] = []
        self._counts: dict[str, int] = {}  # name -> the number that its last namesake has
        self._scopes: list[_Scope] = []
        self._may_skip = False  # a task has a condition or a trigger

    def call(
        self,
        name: str,
        executor: str,
        inputs: Mapping[str, Json],
        needs: Iterable[str],
        fields: Mapping[str, Json],
        *,
        is_exact: bool,
    ) -> Handle:
        """Record the call of a task function.

        Args:
            needs: names of the tasks that must have completed before.
            fields: other fields of the task.
            is_exact: raise if the name is taken, instead of adding a number.

        Raises:
            FlowError: the name is taken.
        """
        made = self._add(name, executor, fields, is_exact=is_exact)
        made.inputs.update(inputs)
        self._need(made, needs)
        return Handle(made, f"{made.name}()")

    @contextmanager
    def flow(self, name: str, fields: Mapping[str, Json], *, is_exact: bool) -> Generator[RecordedTask]:
        """Record the call of a flow; the calls within belong to it, and end before it."""
        made = self._add(name, ROOT_EXECUTOR, fields, is_exact=is_exact)
        self._scopes.append(_Scope(made))
        try:
            yield made
        finally:
            scope = self._scopes.pop()
        if self._may_skip:  # a flow ends after its tasks, those that are skipped included
            made.fields.setdefault("trigger", UNLESS_FAILED)
        self._need(made, scope.ends)

    def returned(self, made: RecordedTask, value: object, convert: Callable[[Any], Json]) -> Handle:
        """Record what a flow returns, and return what stands for that in a flow around it."""
        made.inputs["value"], needs = self.encode(value, convert)
        self._need(made, needs)
        return Handle(made, f"{made.name}()")

    def encode(self, value: object, convert: Callable[[Any], Json]) -> Encoded:
        """Return a value as JSON in which references stand for handles.

        Args:
            convert: returns a value without handles as JSON, or raises.

        Raises:
            FlowError: the value holds a handle of another flow, or handles beside what is not JSON.
        """
        if isinstance(value, Handle):
            name = self._name_of(value)
            return reference_to(value, name), [name]
        if type(value) in _PLAIN:
            return convert(value), []
        if isinstance(value, Iterator):
            value = list(cast("Iterator[object]", value))  # it can be read only once
        return self._encode_container(value, convert)

    def _encode_container(self, value: object, convert: Callable[[Any], Json]) -> Encoded:
        from pydantic_core import PydanticSerializationError, to_jsonable_python

        needs: list[str] = []
        unknown: list[object] = []
        foreign: list[FlowError] = []  # raised below: an error in `refer` would lose its type

        def refer(part: Any) -> Json:
            if not isinstance(part, Handle):
                unknown.append(part)
                return None
            try:
                needs.append(self._name_of(part))
            except FlowError as error:
                foreign.append(error)
                return None
            return reference_to(part, needs[-1])

        try:
            encoded = to_jsonable_python(value, by_alias=True, fallback=refer)
        except (PydanticSerializationError, ValueError):
            return convert(value), []
        if foreign:
            raise foreign[0]
        if not needs:
            return convert(value), []
        if unknown:
            kind = type(unknown[0]).__name__
            raise FlowError(f"An argument holds results of tasks beside a {kind}, which is not JSON.")
        return encoded, needs

    def _name_of(self, handle: Handle) -> str:
        source = source_of(handle)
        if isinstance(source, RecordedTask) and source.recorder is self:
            return source.name
        raise FlowError(
            f"{handle!r} belongs to another flow: a result can be used only in the flow of its task."
        )

    def _need(self, made: RecordedTask, needs: Iterable[str]) -> None:
        for name in needs:
            made.needs[name] = None
            for scope in self._scopes:
                scope.ends.pop(name, None)
        if self._scopes:
            self._scopes[-1].ends[made.name] = None

    def _add(self, name: str, executor: str, fields: Mapping[str, Json], *, is_exact: bool) -> RecordedTask:
        parent = self._scopes[-1].task.name if self._scopes else None
        made = RecordedTask(self._take_name(name, is_exact), executor, self, parent, fields=dict(fields))
        self.tasks.append(made)
        self._may_skip |= bool(made.fields.keys() & {"when", "trigger"})
        return made

    def _take_name(self, name: str, is_exact: bool) -> str:
        if is_exact and name in self._counts:
            raise FlowError(f"Two tasks of one flow are called {name!r}. Choose another name.")
        taken = name
        while taken in self._counts:
            self._counts[name] += 1
            taken = f"{name}-{self._counts[name]}"
        self._counts[taken] = 1
        return taken


_current: ContextVar[Recorder | None] = ContextVar("apflow_recorder", default=None)


def current_recorder() -> Recorder | None:
    """Return the recorder of the flow that is built in this context; None outside of one."""
    return _current.get()


@contextmanager
def recording() -> Generator[Recorder]:
    """Record the calls of task functions."""
    recorder = Recorder()
    token = _current.set(recorder)
    try:
        yield recorder
    finally:
        _current.reset(token)
