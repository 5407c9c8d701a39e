"""Describing a tree of tasks in Python, step by step.

```python
flow = (
    TaskBuilder("nightly")
    .add("fetch", executor="rest_executor", inputs={"url": "https://example.com"})
    .add("store", executor="command_executor", inputs={"stdin": result_of("fetch", "body")}, after="fetch")
)
outcome = await flow.run()
```

Tasks call each other by their names. What is built is an array; it is checked when it is created.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from apflow.core.authoring.creator import TaskCreator
from apflow.core.errors import InvalidInputError
from apflow.core.model.results import RunOutcome
from apflow.core.model.task import Json
from apflow.core.model.tree import TaskTreeNode
from apflow.core.payload.json_value import copy_json
from apflow.core.store.base import TaskStore
from apflow.core.store.session import get_default_session
from apflow.core.task_executor import TaskExecutor

_NO_DEFAULT: Any = object()


def result_of(name: str, path: str | None = None, *, default: Json = _NO_DEFAULT) -> dict[str, Json]:
    """Return the reference that becomes the result of a task, for use anywhere inside `inputs`.

    Args:
        name: a task that the one with these inputs comes after.
        path: a JMESPath into the result; by default all of it.
        default: what to use where the path finds nothing; without it the task fails.
    """
    reference: dict[str, Json] = {"$from": name}
    if path is not None:
        reference["path"] = path
    if default is not _NO_DEFAULT:
        reference["default"] = default
    return reference


def item(path: str = "@", *, of: str | None = None, default: Json = _NO_DEFAULT) -> dict[str, Json]:
    """Return the reference that becomes an item of a list, for the inputs of a task with `for_each`.

    Args:
        path: a JMESPath into the item; by default all of it.
        of: the name of a task with `for_each` further out; by default the nearest one.
        default: what to use where the path finds nothing; without it nothing is created, and the task fails.
    """
    reference: dict[str, Json] = {"$item": path}
    if of is not None:
        reference["of"] = of
    if default is not _NO_DEFAULT:
        reference["default"] = default
    return reference


def index(first: int = 0, *, of: str | None = None) -> dict[str, Json]:
    """Return the reference that becomes the number of an element.

    Args:
        first: the number of the first element, 0 or 1.
        of: the name of a task with `for_each` further out; by default the nearest one.
    """
    return {"$index": first} if of is None else {"$index": first, "of": of}


class TaskBuilder:
    """An array of tasks in the making. The name that it begins with is the root of the tree.

    Args:
        name: the root's. Without an executor the root is a group: it ends when all below it have ended.
        executor: id of the executor of the root, if it is to do something itself.
        user_id: whose the tasks are.
        **fields: other fields of the root: inputs, params, schemas, policy, priority, label, tags,
            custom columns.

    Raises:
        InvalidInputError: `executor` and `schemas["method"]` name two executors.
    """

    def __init__(
        self, name: str, *, executor: str | None = None, user_id: str | None = None, **fields: Json
    ) -> None:
        self.name = name
        self.user_id = user_id
        self._array: list[dict[str, Json]] = [_entry(name, executor, fields)]

    def add(
        self,
        name: str,
        *,
        executor: str | None = None,
        inputs: Mapping[str, Json] | None = None,
        after: str | Iterable[str] = (),
        after_any_end: str | Iterable[str] = (),
        under: str | None = None,
        **fields: Json,
    ) -> TaskBuilder:
        """Add a task and return the builder.

        Args:
            name: unique, where another task refers to it.
            executor: id of its executor; by default the one of that name. With neither, and with tasks
                under it, it is a group.
            inputs: what the executor is given; see `result_of`.
            after: tasks that must have completed before it starts.
            after_any_end: tasks that must have ended before it starts, in whatever way.
            under: the task, usually a group, that holds it; by default the root.
            **fields: params, schemas, policy, priority, for_each, label, tags, custom columns.

        Raises:
            InvalidInputError: the executor is named twice.
        """
        entry = _entry(name, executor, fields) | {"parent_id": under or self.name}
        if inputs:
            entry["inputs"] = dict(inputs)
        needed = [{"id": each, "required": True} for each in _names(after)]
        needed += [{"id": each, "required": False} for each in _names(after_any_end)]
        if needed:
            entry["dependencies"] = needed
        self._array.append(entry)
        return self

    def to_array(self) -> list[dict[str, Json]]:
        """Return the array as it stands, for `TaskCreator`, a file or another process."""
        return [copy_json(entry) for entry in self._array]

    async def create(self, db: TaskStore | None = None) -> TaskTreeNode:
        """Create the tree and return its root; `.ids` maps names to ids.

        Args:
            db: the store; None for the default one.

        Raises:
            TreeInvalidError: it is not a valid tree; `violations` lists every fault. Nothing is written.
        """
        creator = TaskCreator(db or get_default_session())
        return await creator.create_task_tree_from_array(self._array, user_id=self.user_id)

    async def run(self, db: TaskStore | None = None) -> RunOutcome:
        """Create the tree, run it, and return what `TaskExecutor.execute_tasks` returns.

        `outcome.results["NAME"]` is the result of a task.

        Args:
            db: the store; None for the default one.

        Raises:
            TreeInvalidError: it is not a valid tree; `violations` lists every fault. Nothing is written.
        """
        return await TaskExecutor().execute_tasks(self._array, db_session=db, user_id=self.user_id)


def _entry(name: str, executor: str | None, fields: Mapping[str, Json]) -> dict[str, Json]:
    entry: dict[str, Json] = {"name": name, **fields}
    if executor is not None:
        schemas = dict(fields.get("schemas") or {})
        if schemas.setdefault("method", executor) != executor:
            raise InvalidInputError(
                f"Task {name!r} names two executors: {executor!r}, and schemas.method {schemas['method']!r}."
            )
        entry["schemas"] = schemas
    return entry


def _names(given: str | Iterable[str]) -> Sequence[str]:
    return [given] if isinstance(given, str) else list(given)
