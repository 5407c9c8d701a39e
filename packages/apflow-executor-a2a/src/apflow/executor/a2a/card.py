"""Reading the card of an agent."""

from __future__ import annotations

from collections.abc import Mapping

import httpx
from a2a.client.card_resolver import A2ACardResolver
from a2a.client.errors import AgentCardResolutionError
from a2a.types.a2a_pb2 import AgentCard

from apflow.executor.a2a.address import AgentAddress
from apflow.executor.a2a.errors import A2aCardError, A2aRefusedError, A2aResponseError
from apflow.executor.a2a.fault import card_fault, reported


async def read_card(
    client: httpx.AsyncClient, address: AgentAddress, headers: Mapping[str, str]
) -> AgentCard:
    """Return the card of an agent.

    Raises:
        A2aCardError: the card is missing or invalid.
        A2aUnreachableError, A2aUnauthorizedError: the request for it failed.
    """
    resolver = A2ACardResolver(client, address.card_url, "")
    try:
        with reported(address.shown):
            return await resolver.get_agent_card(http_kwargs={"headers": dict(headers)})
    except (A2aRefusedError, A2aResponseError) as error:
        cause = error.__cause__
        fault = card_fault(cause) if isinstance(cause, AgentCardResolutionError) else "it is not valid"
        raise A2aCardError(address.shown, fault) from error
