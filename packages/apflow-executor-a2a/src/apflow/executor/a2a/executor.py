"""The executor that calls an agent over the A2A protocol."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any, ClassVar, Final

from apflow.core.extensions.executor import BaseTask, InputsSchema
from apflow.core.model.task import Json
from apflow.core.process.late_import import import_late
from apflow.core.settings import get_settings
from apflow.executor.a2a.address import AgentAddress, find_agent, read_address
from apflow.executor.a2a.errors import A2aTimeoutError
from apflow.executor.a2a.schema import NAMED_SCHEMA, SCHEMA, TIMEOUT

if TYPE_CHECKING:
    from apflow.executor.a2a.call import AgentCall

_CALLS: Final = "apflow.executor.a2a.call"


class A2aExecutor(BaseTask):
    """Sends a message to an agent, follows the agent's task, and cancels it with the task here."""

    id = "a2a_executor"
    name = "A2A agent"
    description = "Sends a message to an agent over the A2A protocol and returns its answer and artifacts."
    inputs_schema: ClassVar[InputsSchema] = SCHEMA
    uses_net_policy = True

    _agent_call: AgentCall | None = None

    async def execute(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """Call the agent. If the agent does not complete its task, the result has the status "failed".

        Raises:
            A2aError: one of its kinds, see `errors`.
            AddressRefusedError: the network policy forbids the address.
            HostNotFoundError, HostUnreachableError: the host cannot be reached.
        """
        address = self._find(inputs)
        if _CALLS not in sys.modules:
            await asyncio.to_thread(import_late, _CALLS)
        from apflow.executor.a2a.call import AgentCall

        call = self._agent_call = AgentCall(self, address, inputs)
        timeout = float(inputs.get("timeout", TIMEOUT))
        limit = asyncio.timeout(timeout)
        try:
            async with limit:
                return await call.perform()
        except TimeoutError as error:
            if limit.expired():
                raise A2aTimeoutError(address.shown, timeout, call.task_id) from error
            raise

    async def cancel(self) -> dict[str, Json] | None:
        """Return what the agent has answered so far. The end of `execute` cancels the agent's task."""
        partial = None if self._agent_call is None else self._agent_call.partial_result()
        return None if partial is None else {"partial_result": partial}

    def _find(self, inputs: dict[str, Any]) -> AgentAddress:
        return find_agent(inputs["agent"], get_settings().a2a_agents)


class NamedA2aExecutor(A2aExecutor):
    """Calls one agent of the setting `APFLOW_A2A_AGENTS`, whose name is the id of the executor."""

    id = "named_a2a_executor"
    inputs_schema: ClassVar[InputsSchema] = NAMED_SCHEMA

    url = ""

    def _find(self, inputs: dict[str, Any]) -> AgentAddress:
        del inputs  # they name no agent
        return read_address(self.url, f"APFLOW_A2A_AGENTS: {self.id}")


def named_agent(name: str, url: str) -> NamedA2aExecutor:
    """Return the executor for an entry of the setting `APFLOW_A2A_AGENTS`."""
    executor = NamedA2aExecutor()
    executor.id, executor.url = name, url
    executor.name = name
    executor.description = f"Sends a message to the A2A agent {name!r}, known by APFLOW_A2A_AGENTS."
    return executor
