"""Operations as the server offers them: those of the core's table, checked, called and audited.

Here stands what interfaces over HTTP share; how a request is worded is theirs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Final, cast

from pydantic import Field
from starlette.requests import Request

from apflow.core.errors import InvalidInputError
from apflow.core.model.task import Json
from apflow.core.service.operations import OPERATIONS, Operation
from apflow.core.service.parameters import Create
from apflow.core.service.task_service import TaskService
from apflow.server.drain import Drain
from apflow.server.http.api_error import Code, HttpFault, InvalidFault, UnavailableFault, fault_of
from apflow.server.observability import audit


class ServedCreate(Create):
    """Tasks that make a new tree, and whether it is to run."""

    execute: bool = Field(False, description="Also request its run, as tasks.submit does")


SERVED: Final[dict[str, Operation]] = OPERATIONS | {
    "tasks.create": replace(OPERATIONS["tasks.create"], parameters=ServedCreate)
}
OPTIONS: Final = frozenset({"execute", "on_conflict", "idempotency_key"})  # of tasks.create, beside one task


@dataclass(frozen=True)
class Wanted:
    """An operation that is called, with its parameters read."""

    operation: Operation
    given: Mapping[str, Json]
    arguments: Mapping[str, Any]

    @property
    def is_stream(self) -> bool:
        """Whether the answer is to be a stream of events."""
        return self.operation.is_stream or self.arguments.get("use_streaming") is True


def read(name: str, given: Json) -> Wanted:
    """Return the operation of a name, with its parameters checked.

    Raises:
        HttpFault: there is no such operation, or its parameters are not what they should be.
    """
    operation = SERVED.get(name)
    if operation is None:
        raise HttpFault(404, Code.UNKNOWN_METHOD, f"There is no method {name[:100]!r}.")
    named = named_parameters(operation, given)
    try:
        return Wanted(operation, named, operation.read(named))
    except InvalidInputError as error:
        raise InvalidFault(error) from error


def named_parameters(operation: Operation, given: Json) -> dict[str, Json]:
    """Return parameters by name. To create tasks, the array or one task may stand alone.

    Raises:
        HttpFault: they are given by position.
    """
    takes_tasks = issubclass(operation.parameters, Create)
    if isinstance(given, list):
        if takes_tasks:
            return {"tasks": given}
        raise InvalidFault(InvalidInputError(f"{operation.name} takes its parameters by name."))
    named = cast("dict[str, Json]", given)
    if not takes_tasks or "tasks" in named:
        return named
    task = {name: value for name, value in named.items() if name not in OPTIONS}
    options = {name: value for name, value in named.items() if name in OPTIONS}
    return ({"tasks": task} if task else {}) | options


async def perform(service: TaskService, wanted: Wanted, request: Request) -> Json:
    """Call an operation and return its answer; `prepare_stream` is for those that answer with events.

    Raises:
        HttpFault: whatever went wrong, as the caller is told it.
    """
    with audit.of(request, service, wanted.operation, wanted.arguments):
        try:
            return await _call(service, wanted, request)
        except Exception as error:
            raise fault_of(error) from error


async def prepare_stream(
    service: TaskService, wanted: Wanted, request: Request
) -> tuple[str, int | None, dict[str, Json] | None]:
    """Request what is to run, and return what the stream is made of.

    Returns:
        whose events, the number of the last one that is known, and what is told before all of them.

    Raises:
        HttpFault: whatever went wrong, as the caller is told it.
    """
    request.app.state.streams.check(request.state.caller)
    if wanted.operation.is_stream:
        return wanted.arguments["task_id"], wanted.arguments.get("after"), None
    without_wait = replace(wanted, arguments={**wanted.arguments, "wait": False})
    executed = await perform(service, without_wait, request)
    return executed["root_task_id"], None, executed


async def _call(service: TaskService, wanted: Wanted, request: Request) -> Json:
    arguments = dict(wanted.arguments)
    method = wanted.operation.method
    if method == "create" and arguments.pop("execute", False):
        method = "submit"
    calling = getattr(service, method)(**arguments)
    if method != "execute":
        return await calling
    if arguments.get("wait"):
        calling = until_over(calling, request.app.state.drain, request)
    return {"protocol": "jsonrpc"} | await calling


async def until_over(calling: Coroutine[Any, Any, Json], drain: Drain, request: Request) -> Json:
    """Wait for an answer while the server runs trees, and the caller is there.

    Raises:
        UnavailableFault: the server is about to end, or the caller has gone.
    """
    answer = asyncio.ensure_future(calling)
    others = [asyncio.ensure_future(drain.over()), asyncio.ensure_future(_gone(request))]
    try:
        await asyncio.wait([answer, *others], return_when=asyncio.FIRST_COMPLETED)
        if answer.done():
            return answer.result()
    finally:
        for each in (answer, *others):
            each.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await each
    raise UnavailableFault("The server ends before the run does. The run stays requested.", Code.LIMIT)


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
