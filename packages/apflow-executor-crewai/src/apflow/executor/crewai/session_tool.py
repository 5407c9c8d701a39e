"""Tools of apflow for agents of CrewAI. This module imports CrewAI."""

from __future__ import annotations

from typing import Any

from crewai.tools import BaseTool
from crewai.utilities.pydantic_schema_utils import create_model_from_schema  # pyright: ignore[reportUnknownVariableType]
from pydantic import PrivateAttr

from apflow.core.extensions.tools import Tool, get_tool
from apflow.executor.crewai.session import CrewSession
from apflow.executor.llm.request import as_text

Json = Any


class SessionTool(BaseTool):
    """A registered tool, executed on the event loop of the run. Make one by `session_tool`."""

    _session: CrewSession = PrivateAttr()
    _tool: Tool = PrivateAttr()

    def _run(self, **inputs: Json) -> str:
        """Execute the tool; return its result, as JSON if it is not a string."""
        return as_text(self._session.use(self._tool, inputs))


def session_tool(session: CrewSession, tool_id: str) -> SessionTool:
    """Return the tool of an id.

    Raises:
        InvalidInputError: there is none.
        PluginError: it cannot be loaded.
    """
    tool = get_tool(tool_id)
    made = SessionTool(
        name=tool_id,
        description=tool.description or tool.name or tool_id,
        args_schema=create_model_from_schema(tool.get_input_schema(), model_name=f"{tool_id}_inputs"),
    )
    made._session, made._tool = session, tool  # noqa: SLF001 - pydantic does not set them itself
    return made
