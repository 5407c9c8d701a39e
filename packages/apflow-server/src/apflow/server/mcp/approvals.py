"""Approvals over MCP: a call that waits for a run asks the user of its client (elicitation).

How depends on the protocol of the client: by a request within the call; since 2026-07-28 by a result that
asks for input, after which the client repeats the call; or, for a task, by its state.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
from collections.abc import Mapping, Sequence
from typing import Final, Protocol, cast

from apflow.core.model.task import Json
from apflow.server.http.api_error import ApiError
from apflow.server.mcp.calls import Calls, error_text
from apflow.server.mcp.exchange import INVALID_PARAMS, Elicit, ProtocolError

logger = logging.getLogger(__name__)

METHOD: Final = "elicitation/create"
MAX_DATA: Final = 4000  # characters of the data in a message
MAX_TRIES: Final = 3  # of answers that break the form
# What a form of the protocol can have: https://modelcontextprotocol.io/specification/2025-11-25/client/elicitation
FLAT: Final = frozenset({"string", "number", "integer", "boolean"})
FORM_WORDS: Final = frozenset({"type", "properties", "required", "title", "description", "$schema"})
FIELD_WORDS: Final = frozenset({
    "type", "title", "description", "default", "minLength", "maxLength", "format", "pattern", "minimum",
    "maximum", "enum", "enumNames",
})  # fmt: skip


async def open_for(calls: Calls, root_id: str) -> list[dict[str, Json]]:
    """Return the approvals of a tree that the caller may decide, and that a client can ask for.

    Raises:
        ApiError: they cannot be read.
    """
    found = cast("list[dict[str, Json]]", await calls.call("approvals.list", {}))
    of_tree = [each for each in found if each["root_task_id"] == root_id and each["may_decide"]]
    return [each for each in of_tree if requested_schema(each["form"]) is not None]


def elicitation(approval: Mapping[str, Json], fault: str = "") -> dict[str, Json]:
    """Return the parameters of the request that asks for an approval.

    Args:
        fault: why the answers before were refused.
    """
    parts = [f"{fault}\n" if fault else "", str(approval["question"])]
    if approval["data"] is not None:
        shown = json.dumps(approval["data"], indent=2, ensure_ascii=False)
        parts.append(shown if len(shown) <= MAX_DATA else f"{shown[:MAX_DATA]} ...")
    parts.append("Accept to approve, decline to reject.")
    return {
        "mode": "form",
        "message": "\n\n".join(each for each in parts if each),
        "requestedSchema": requested_schema(approval["form"]),
    }


def requested_schema(form: Json) -> dict[str, Json] | None:
    """Return a form as the protocol has it; None if it has what no client can ask for, such as objects."""
    if form is None:
        return {"type": "object", "properties": {}}
    given = cast("dict[str, Json]", form)
    properties = cast("dict[str, Json]", given.get("properties", {}))
    is_flat = given.get("type", "object") == "object" and FORM_WORDS.issuperset(given)
    if not is_flat or not all(_is_field(each) for each in properties.values()):
        return None
    return {
        "type": "object",
        "properties": {name: _field(each) for name, each in properties.items()},
        "required": list(given.get("required", [])),
    }


def _is_field(declared: Json) -> bool:
    if not isinstance(declared, dict):
        return False
    field = cast("dict[str, Json]", declared)
    is_choice = "enum" in field and all(isinstance(each, str) for each in field["enum"])
    return FIELD_WORDS.issuperset(field) and (
        field.get("type") in FLAT or ("type" not in field and is_choice)
    )


def _field(declared: Json) -> dict[str, Json]:
    return {"type": "string", **cast("dict[str, Json]", declared)}


def requests_of(approvals: Sequence[Mapping[str, Json]]) -> dict[str, Json]:
    """Return the requests that ask for approvals, by the ID of the task."""
    return {str(each["task_id"]): {"method": METHOD, "params": elicitation(each)} for each in approvals}


async def decide(calls: Calls, task_id: str, response: Mapping[str, Json]) -> None:
    """Decide as the user has responded: accept approves, decline rejects, and anything else does nothing.

    Raises:
        ApiError: the caller may not decide, the answers break the form, or another one was first.
    """
    if response.get("action") == "accept":
        answers = cast("dict[str, Json]", response.get("content") or {})
        given = {name: value for name, value in answers.items() if value is not None}
        await calls.call("approvals.approve", {"task_id": task_id, "answers": given})
    elif response.get("action") == "decline":
        await calls.call("approvals.reject", {"task_id": task_id})


class Asking(Protocol):
    """What happens with the approvals that a run waits for, while a call waits for the run."""

    async def look(self, calls: Calls, root_id: str) -> bool:
        """Look for approvals that wait; return whether the call waits no longer."""
        ...

    def close(self) -> None:
        """Ask no longer."""
        ...


class AskingNobody:
    """The client cannot ask."""

    async def look(self, calls: Calls, root_id: str) -> bool:
        """Do nothing."""
        del calls, root_id
        return False

    def close(self) -> None:
        """Do nothing."""


class AskingByRequest:
    """Asks by requests within the call, and decides as the client responds."""

    def __init__(self, elicit: Elicit) -> None:
        self._elicit = elicit
        self._asked: dict[str, asyncio.Task[None]] = {}

    async def look(self, calls: Calls, root_id: str) -> bool:
        """Ask for what was not asked yet, and ask no longer for what is decided."""
        approvals = {str(each["task_id"]): each for each in await open_for(calls, root_id)}
        for task_id, asking in self._asked.items():
            if task_id not in approvals:
                asking.cancel()
        for task_id, each in approvals.items():
            if task_id not in self._asked:
                asking = asyncio.create_task(self._ask(calls, each), name="apflow:mcp:elicit")
                self._asked[task_id] = asking
        return False

    def close(self) -> None:
        """Ask no longer."""
        for each in self._asked.values():
            each.cancel()

    async def _ask(self, calls: Calls, approval: Mapping[str, Json]) -> None:
        fault = ""
        try:
            for _ in range(MAX_TRIES):
                response = await self._elicit(elicitation(approval, fault))
                try:
                    await decide(calls, str(approval["task_id"]), response)
                except ApiError as error:
                    fault = error_text(error)
                else:
                    return
        except Exception as error:  # noqa: BLE001 - of the SDK: the client is gone, or refuses
            logger.info("An MCP client was not asked for an approval: %s", error)


class AskingByResult:
    """Ends the call with a result that asks for input. The client repeats the call with the responses."""

    def __init__(self) -> None:
        self.approvals: list[dict[str, Json]] = []
        self._dismissed: set[str] = set()

    def dismiss(self, task_id: str) -> None:
        """Ask no more for an approval, because the user has dismissed the question."""
        self._dismissed.add(task_id)

    async def look(self, calls: Calls, root_id: str) -> bool:
        """Return whether the call ends to ask."""
        found = await open_for(calls, root_id)
        self.approvals = [each for each in found if each["task_id"] not in self._dismissed]
        return bool(self.approvals)

    def close(self) -> None:
        """Do nothing: the client has the questions."""

    def result(self, executed: Mapping[str, Json]) -> dict[str, Json]:
        """Return the result that asks."""
        return {
            "resultType": "input_required",
            "inputRequests": requests_of(self.approvals),
            "requestState": _state(executed),
        }


def _state(executed: Mapping[str, Json]) -> str:
    return base64.urlsafe_b64encode(json.dumps(dict(executed)).encode()).decode()


def executed_of(state: str) -> dict[str, Json]:
    """Return the result of the request of a run from the state of a call that asked for input.

    Nothing depends on it that the client may not do anyway: each use of the IDs in it is authorized again.

    Raises:
        ProtocolError: the server has not made it.
    """
    try:
        found: Json = json.loads(base64.urlsafe_b64decode(state.encode()))
    except ValueError:
        found = None
    executed = cast("dict[str, Json]", found if isinstance(found, dict) else {})
    if not all(isinstance(executed.get(name), str) for name in ("root_task_id", "task_id")):
        raise ProtocolError(INVALID_PARAMS, "requestState is not one that this server has returned.")
    return executed
