"""Prompts: how to build a tree of tasks, and how to find out why a run failed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, Protocol, cast

from apflow.core.model.task import Json
from apflow.core.payload.json_value import dumps
from apflow.server.http.api_error import ApiError, Code
from apflow.server.mcp.calls import Calls
from apflow.server.mcp.exchange import INVALID_PARAMS, Exchange, ProtocolError
from apflow.server.mcp.resources import protocol_error

BUILD: Final = "build_tree"
EXPLAIN: Final = "explain_run"
DEFINITIONS: Final[list[Json]] = [
    {
        "name": BUILD,
        "title": "Build a tree of tasks",
        "description": "Turn a requirement into a tree of tasks for the executors of this server.",
        "arguments": [
            {"name": "requirement", "description": "What the tree is to achieve.", "required": True}
        ],
    },
    {
        "name": EXPLAIN,
        "title": "Explain a run",
        "description": "Explain the state of a task, why it failed or waits, and what to do.",
        "arguments": [{"name": "task_id", "description": "ID or path of the task.", "required": True}],
    },
]
FORMAT: Final = """\
A tree is a JSON array of tasks. A task has:
- name: what it is called; unique within the array, because other tasks refer to it.
- parent_id: the name of the task that it belongs to. Exactly one task, the root, does not have one.
- schemas: {"method": ID of the executor}. A task without one is a group of the tasks below it.
- inputs: an object, as the input schema of the executor says.
- dependencies: names of the tasks that must complete first. Other tasks run in parallel.
- In inputs, {"$from": "NAME", "path": "a.b"} stands for a value (JMESPath) of the result of a dependency.
"""


class PromptSource(Protocol):
    """Offers prompts beside those of apflow."""

    def definitions(self) -> Sequence[dict[str, Json]]:
        """Return the prompts as they are on the wire."""
        ...

    def get(self, exchange: Exchange, params: Mapping[str, Json]) -> Awaitable[dict[str, Json]]:
        """Return one of the prompts, for parameters as on the wire, as such a result."""
        ...


class Prompts:
    """The prompts that a server offers to its clients.

    Args:
        calls_of: returns what the sender of a request may call.
        more: other sources of prompts.
    """

    def __init__(self, calls_of: Callable[[Exchange], Calls], more: Sequence[PromptSource] = ()) -> None:
        self._calls_of, self._more = calls_of, more

    async def list(self, exchange: Exchange, params: Mapping[str, Json]) -> dict[str, Json]:  # noqa: ARG002
        """Return the prompts."""
        more = [each for source in self._more for each in source.definitions()]
        return {"prompts": [*DEFINITIONS, *more]}

    async def get(self, exchange: Exchange, params: Mapping[str, Json]) -> dict[str, Json]:
        """Return a prompt with its arguments filled in."""
        name, arguments = params["name"], dict(params.get("arguments") or {})
        for source in self._more:
            if any(each["name"] == name for each in source.definitions()):
                return await source.get(exchange, params)
        calls = self._calls_of(exchange)
        try:
            if name == BUILD:
                return await _build(calls, _argument(arguments, "requirement"))
            if name == EXPLAIN:
                return await _explain(calls, _argument(arguments, "task_id"))
        except ApiError as error:
            code = INVALID_PARAMS if error.code == Code.NOT_FOUND else protocol_error(error).code
            raise ProtocolError(code, error.message) from error
        raise ProtocolError(INVALID_PARAMS, f"Unknown prompt: {str(name)[:100]}")


async def _build(calls: Calls, requirement: str) -> dict[str, Json]:
    described = cast("list[dict[str, Json]]", await calls.call("system.executors", {}))
    usable = [each for each in described if each["is_usable"]]
    listed = "\n".join(_line(each) for each in usable)
    text = (
        f"Build a tree of tasks that does this:\n\n{requirement}\n\n{FORMAT}\n"
        f"The executors of this server:\n{listed}\n\n"
        "Read the input schema of each executor that you use (resource executors://ID, or the tool "
        "system_executors). Then call tasks_execute with `tasks` and `wait`. If it fails, read tasks_why and "
        "tasks_logs, correct the tree, and try again."
    )
    return _prompt("Build a tree of tasks", text)


async def _explain(calls: Calls, task_id: str) -> dict[str, Json]:
    task = await calls.call("tasks.get", {"task_id": task_id})
    why = await calls.call("tasks.why", {"task_id": task_id})
    facts = {name: task[name] for name in ("id", "name", "status", "schemas", "inputs", "error", "attempts")}
    text = (
        "Explain in a few sentences the state of this task, its cause, and what to do next.\n\n"
        f"Task:\n{_shown(facts)}\n\nWhat apflow says about it:\n{_shown(why)}\n\n"
        "The tool tasks_logs returns what the task has logged, tasks_tree the other tasks of its tree."
    )
    return _prompt("Explain a run", text)


def _argument(arguments: Mapping[str, Json], name: str) -> str:
    value = arguments.get(name)
    if not isinstance(value, str) or not value.strip():
        raise ProtocolError(INVALID_PARAMS, f"The argument `{name}` is required.")
    return value


def _prompt(description: str, text: str) -> dict[str, Json]:
    message = {"role": "user", "content": {"type": "text", "text": text}}
    return {"description": description, "messages": [message]}


def _line(executor: Mapping[str, Json]) -> str:
    """Return one line about an executor."""
    described = str(executor["description"] or executor["name"] or "").strip()
    return f"- {executor['id']}: {described.partition(chr(10))[0]}"


def _shown(value: Json) -> str:
    return dumps(value).decode()
