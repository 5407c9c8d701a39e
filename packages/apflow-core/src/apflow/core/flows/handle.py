"""What stands for the result of a task while a flow is built."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NoReturn

from apflow.core.errors import FlowError
from apflow.core.model.task import Json


class Handle:
    """The future result of a task, or a part of it.

    Type checkers see the result itself. It can be passed to tasks, also inside lists and dicts, and be
    returned by the flow. `handle.field` and `handle["key"]`, `handle[0]` are parts of it. Its value is not
    known while the flow is built, so anything else raises `FlowError`.
    """

    __slots__ = ("_is_optional", "_label", "_path", "_source")

    def __init__(self, source: object, label: str, path: str = "", *, is_optional: bool = False) -> None:
        self._source = source  # the recorded task
        self._label = label  # how messages call this
        self._path = path  # a JMESPath
        self._is_optional = is_optional  # whether None stands for what the path does not find

    def __getattr__(self, name: str) -> Handle:
        if name.startswith("_"):
            raise AttributeError(name)
        # A field of a dataclass or model always exists, and may be None.
        return self._part(f"{self._label}.{name}", _quoted(name), is_optional=True)

    def __getitem__(self, key: str | int) -> Handle:
        label = f"{self._label}[{key!r}]"
        if isinstance(key, int) and not isinstance(key, bool):
            return Handle(self._source, label, f"{self._path}[{key}]", is_optional=self._is_optional)
        if isinstance(key, str):
            return self._part(label, _quoted(key), is_optional=False)
        raise _unknown(label, "sliced")

    def _part(self, label: str, step: str, *, is_optional: bool) -> Handle:
        path = f"{self._path}.{step}" if self._path else step
        return Handle(self._source, label, path, is_optional=is_optional)

    def __repr__(self) -> str:
        return f"<result of {self._label}>"


def source_of(handle: Handle) -> object:
    """Return the recorded task whose result a handle stands for."""
    return handle._source  # noqa: SLF001 - of this module; a public name would hide a field of the result


def reference_to(handle: Handle, name: str) -> dict[str, Json]:
    """Return the reference that becomes the value of a handle, in the inputs of a task.

    Args:
        name: what the tree calls the recorded task.
    """
    reference: dict[str, Json] = {"$from": name}
    if handle._path:  # noqa: SLF001 - of this module
        reference["path"] = handle._path  # noqa: SLF001
        if handle._is_optional:  # noqa: SLF001
            reference["default"] = None
    return reference


def _quoted(step: str) -> str:
    return json.dumps(step)


def _unknown(label: str, done: str) -> FlowError:
    return FlowError(
        f"The result of {label} cannot be {done} here: it is known only when the task has run. "
        "Pass it to another @task function, and do that there."
    )


def _refusing(done: str) -> Callable[..., NoReturn]:
    def refuse(self: Handle, *_: Any, **__: Any) -> NoReturn:
        raise _unknown(self._label, done)

    return refuse


_REFUSED = {
    "called": ("__call__",),
    "tested or compared": ("__bool__", "__eq__", "__ne__", "__lt__", "__le__", "__gt__", "__ge__"),
    "iterated over": ("__iter__", "__len__", "__contains__", "__reversed__"),
    "formatted as text": ("__str__", "__format__"),
    "awaited": ("__await__",),
    "used as a context": ("__enter__", "__aenter__"),
    "changed": ("__setitem__", "__delitem__"),
    "calculated with": (
        *(f"__{name}__" for name in ("neg", "pos", "abs", "invert", "int", "float", "index", "round")),
        *(
            f"__{side}{name}__"
            for side in ("", "r", "i")
            for name in (
                "add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and", "or", "xor",
                "lshift", "rshift",
            )
        ),
    ),
}  # fmt: skip

for _done, _names in _REFUSED.items():
    for _name in _names:
        setattr(Handle, _name, _refusing(_done))
Handle.__hash__ = object.__hash__  # type: ignore[method-assign]
