"""Where the tasks of a file are: the line and column of a value, found by its place in a message."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import yaml

_PLACE: Final = re.compile(r"tasks\[(?P<index>\d+)\](?: \((?:'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\")\))?:? *")
_PARAMETER: Final = re.compile(r"params(?:\.[\w-]+(?:\.[\w$-]+|\[\d+\])*)?(?=: )")
_FIELD: Final = re.compile(r"[A-Za-z_$][\w$-]*(?:\.[\w$-]+|\[\d+\])*")
_STEP: Final = re.compile(r"\[(\d+)\]|[\w$-]+")


class Position(NamedTuple):
    """A place in a file, from 1."""

    line: int
    column: int


class Positions:
    """The positions of the tasks in a file that has been read as JSON or YAML.

    JSON is also YAML, so one parser serves both. Text that only a JSON parser accepts, such as escaped
    surrogates, has no positions.
    """

    def __init__(self, text: str) -> None:
        try:
            # Tabs indent JSON, and are not allowed in YAML.
            root = yaml.compose(text.replace("\t", " "), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        except (yaml.YAMLError, RecursionError):
            root = None
        self._root = root
        self._tasks = list(_tasks_of(root))

    def find(self, violation: str) -> Position | None:
        """Return the position of the value that a violation is about: of its field, if the text has it."""
        parameter = _PARAMETER.match(violation)
        if parameter is not None and self._root is not None:
            return _position_below(self._root, parameter[0])
        match = _PLACE.match(violation)
        if match is None or int(match["index"]) >= len(self._tasks):
            return None
        field = _FIELD.match(violation, match.end())
        return _position_below(self._tasks[int(match["index"])], field[0] if field else "")


def _position_below(node: Any, path: str) -> Position:
    """Return the position of the value at a path below a node: of the last value of it that exists."""
    for step in _STEP.finditer(path):
        below = _below(node, step)
        if below is None:
            break
        node = below
    return Position(node.start_mark.line + 1, node.start_mark.column + 1)


def message_of(violation: str) -> str:
    """Return a violation without the index of its task, which the position replaces."""
    match = _PLACE.match(violation)
    return violation if match is None else violation[match.end() :]


def _tasks_of(root: Any) -> Iterator[Any]:
    """Yield the nodes of tasks in the order in which the tasks are read, nested ones after their parent."""
    tasks = root
    if isinstance(root, yaml.MappingNode):
        tasks = _value(root, "tasks") or yaml.SequenceNode("", [root])
    waiting: list[Any] = list(reversed(tasks.value)) if isinstance(tasks, yaml.SequenceNode) else []
    while waiting:
        task = waiting.pop()
        yield task
        children = _value(task, "children") if isinstance(task, yaml.MappingNode) else None
        if isinstance(children, yaml.SequenceNode):
            waiting.extend(reversed(children.value))


def _below(node: Any, step: re.Match[str]) -> Any:
    if step[1] is None:
        return _value(node, step[0]) if isinstance(node, yaml.MappingNode) else None
    index = int(step[1])
    is_there = isinstance(node, yaml.SequenceNode) and index < len(node.value)
    return node.value[index] if is_there else None


def _value(node: Any, name: str) -> Any:
    return next((value for key, value in node.value if getattr(key, "value", None) == name), None)
