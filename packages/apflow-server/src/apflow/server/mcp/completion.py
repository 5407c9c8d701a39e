"""Suggestions for IDs of tasks and executors, while a user types the argument of a prompt or a URI."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, cast

from apflow.core.model.task import Json
from apflow.server.http.api_error import ApiError
from apflow.server.mcp.calls import Calls
from apflow.server.mcp.exchange import Exchange
from apflow.server.mcp.resources import protocol_error

MAX_VALUES: Final = 100  # as the protocol allows


class Completion:
    """The suggestions of one server.

    Args:
        calls_of: returns what the sender of a request may call.
    """

    def __init__(self, calls_of: Callable[[Exchange], Calls]) -> None:
        self._calls_of = calls_of

    async def complete(self, exchange: Exchange, params: Mapping[str, Json]) -> dict[str, Json]:
        """Return the values that an argument may have, for what is typed of it."""
        argument = cast("dict[str, Json]", params["argument"])
        name, typed = argument["name"], str(argument["value"])
        calls = self._calls_of(exchange)
        try:
            match name:
                case "task_id":
                    found = await _task_ids(calls, typed)
                case "executor_id":
                    found = await _executor_ids(calls, typed)
                case _:
                    found = []
        except ApiError as error:
            raise protocol_error(error) from error
        has_more = len(found) > MAX_VALUES
        return {"completion": {"values": found[:MAX_VALUES], "hasMore": has_more}}


async def _task_ids(calls: Calls, typed: str) -> list[str]:
    """Return the IDs of the newest trees that begin so."""
    given: dict[str, Json] = {"limit": MAX_VALUES + 1} | ({"id_prefix": typed} if typed else {})
    roots = cast("list[dict[str, Json]]", await calls.call("tasks.list", given))
    return [str(each["id"]) for each in roots]


async def _executor_ids(calls: Calls, typed: str) -> list[str]:
    described = cast("list[dict[str, Json]]", await calls.call("system.executors", {}))
    return [str(each["id"]) for each in described if str(each["id"]).startswith(typed)]
