"""The handlers of a server's requests, by method of the protocol."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from apflow.core import plugins
from apflow.server.mcp.calls import Calls
from apflow.server.mcp.completion import Completion
from apflow.server.mcp.exchange import Exchange, Handler
from apflow.server.mcp.profiles import Selection
from apflow.server.mcp.prompts import Prompts, PromptSource
from apflow.server.mcp.resources import Resources, ResourceSource
from apflow.server.mcp.tasks import Tasks, TaskSource
from apflow.server.mcp.tool_calls import Tools, ToolSource
from apflow.server.mcp.tools import read_only_tools
from apflow.server.mcp.updates import Updates

NAME: Final = "apflow"
INSTRUCTIONS: Final = (
    "apflow runs trees of tasks: in parallel, with dependencies, durably. Create and run a tree with "
    "tasks_execute; with `wait` the call returns the result. The prompt build_tree describes trees, "
    "system_executors what tasks can do, tasks_why why a task waits or failed."
)


def version() -> str:
    """Return the version that the server reports."""
    return plugins.version("apflow-server") or "0"


@dataclass
class Additions:
    """What a server offers beside apflow's own tools, resources and prompts."""

    tools: list[ToolSource] = field(default_factory=list[ToolSource])
    resources: list[ResourceSource] = field(default_factory=list[ResourceSource])
    prompts: list[PromptSource] = field(default_factory=list[PromptSource])
    tasks: list[TaskSource] = field(default_factory=list[TaskSource])
    handlers: dict[str, Handler] = field(default_factory=dict[str, Handler])


class Handlers:
    """All handlers of one server.

    Args:
        tools: which tools it offers; see `Selection`.
        calls_of: returns what the sender of a request may call.
        task_seconds: for how long tasks of the protocol are kept.

    Raises:
        SettingsError: there are no such tools.
    """

    def __init__(
        self,
        tools: Sequence[str],
        calls_of: Callable[[Exchange], Calls],
        additions: Additions | None = None,
        *,
        task_seconds: float,
    ) -> None:
        more = additions or Additions()
        self.tools = Tools(selection_of(tools), calls_of, more.tools, task_seconds=task_seconds)
        self.tasks = Tasks([self.tools.run_tasks, *more.tasks])
        resources = Resources(calls_of, more.resources)
        prompts = Prompts(calls_of, more.prompts)
        self.updates = Updates(calls_of)
        self.by_method: Mapping[str, Handler] = {
            "tools/list": self.tools.list,
            "tools/call": self.tools.call,
            "resources/list": resources.list,
            "resources/templates/list": resources.list_templates,
            "resources/read": resources.read,
            "prompts/list": prompts.list,
            "prompts/get": prompts.get,
            "completion/complete": Completion(calls_of).complete,
            **more.handlers,
        }

    async def close(self) -> None:
        """End subscriptions, and wait until the trees of cancelled calls have been cancelled."""
        self.updates.close()
        await self.tools.runs.close()


def selection_of(tools: Sequence[str]) -> Selection:
    """Return the selection that a setting or an option describes.

    Raises:
        SettingsError: there are no such tools.
    """
    return Selection(tools, read_only_tools())
