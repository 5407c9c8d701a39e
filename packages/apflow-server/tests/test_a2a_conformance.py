"""The agent for the A2A compatibility kit answers its scenarios on each transport."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from a2a.types import TaskState
from a2a_clients import COMPLETED, TRANSPORTS, agent, last_state, message, replies
from a2a_conformance import SCENARIOS, kit_agent

ASKING = {
    "tck-input-required": TaskState.TASK_STATE_INPUT_REQUIRED,
    "tck-auth-required": TaskState.TASK_STATE_AUTH_REQUIRED,
}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with kit_agent() as (found, _):
        yield found


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("prefix", SCENARIOS)
async def test_a_scenario_is_answered(url: str, transport: str, prefix: str):
    async with agent(url, transport=transport) as client:
        request = message(text="of the kit")
        request.message.message_id = f"{prefix}-1"
        if prefix == "tck-reject-task":
            with pytest.raises(Exception, match=r"rejected|500"):
                await replies(client.send_message(request))
            return
        found = await replies(client.send_message(request))
        if prefix == "tck-message-response":
            assert [each.WhichOneof("payload") for each in found] == ["message"]
        elif prefix in ASKING:
            assert last_state(found) == ASKING[prefix]
            request.message.message_id = "tck-complete-task-2"
            request.message.task_id = found[0].task.id
            assert last_state(await replies(client.send_message(request))) == COMPLETED
        else:
            assert last_state(found) == COMPLETED
