"""What the code of a served call can do with the store of its tree: it requests that from the owner."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final, TypeVar

from apflow.core.engine.call_messages import (
    error_from_json,
    model_request_to_json,
    reservation_from_json,
    reservation_to_json,
    run_from_json,
)
from apflow.core.errors import ConflictError
from apflow.core.extensions.executor_call import ANSWER, REQUEST, Message, Receive
from apflow.core.extensions.model_account import ModelRequest, Reservation
from apflow.core.extensions.running_call import Described, Tasks, array_of, check_thread
from apflow.core.model.approval import Approval, ApprovalRequest, read_approval
from apflow.core.model.results import RunOutcome
from apflow.core.model.task import Json, Task, to_json
from apflow.core.model.usage import ModelUsage
from apflow.core.payload.json_value import copy_json
from apflow.core.payload.secrets import redact

T = TypeVar("T")

RUN_CHILD: Final = "run_child"
ASK_APPROVAL: Final = "ask_approval"
LOAD_STATE: Final = "load_state"
SAVE_STATE: Final = "save_state"
RESERVE: Final = "reserve"
SETTLE: Final = "settle"


class Requests:
    """Requests of one call to its owner, and their answers.

    Attributes:
        is_continued: whether the owner has said that another attempt continues the work.
    """

    def __init__(self, send: Receive) -> None:
        self.loop = asyncio.get_running_loop()
        self.is_continued = False
        self._send = send
        self._waiting: dict[int, asyncio.Future[Json]] = {}
        self._count = 0
        self._is_closed = False

    async def make(self, name: str, arguments: Mapping[str, Json]) -> Json:
        """Send a request, from any event loop, and return its answer. Raises what the owner raised."""
        if asyncio.get_running_loop() is self.loop:
            return await self._make(name, arguments)
        return await asyncio.wrap_future(
            asyncio.run_coroutine_threadsafe(self._make(name, arguments), self.loop)
        )

    def make_sync(self, name: str, arguments: Mapping[str, Json]) -> Json:
        """Do what `make` does, and block the calling thread meanwhile."""
        return asyncio.run_coroutine_threadsafe(self._make(name, arguments), self.loop).result()

    async def _make(self, name: str, arguments: Mapping[str, Json]) -> Json:
        if self._is_closed:
            raise ConflictError("The task has ended: its code can no longer use it.")
        self._count += 1
        number = self._count
        answer = self._waiting[number] = self.loop.create_future()
        self._send({"kind": REQUEST, "id": number, "name": name, "arguments": dict(arguments)})
        try:
            return await answer
        finally:
            self._waiting.pop(number, None)

    def answer(self, message: Message) -> None:
        """Take an `ANSWER` of the owner."""
        assert message["kind"] == ANSWER
        waiting = self._waiting.get(message["id"])
        if waiting is None or waiting.done():
            return
        if message.get("error") is None:
            waiting.set_result(message["value"])
        else:
            waiting.set_exception(error_from_json(message["error"]))

    def close(self) -> None:
        """Refuse further requests, and end those that wait."""
        self._is_closed = True
        for each in self._waiting.values():
            each.cancel()


class ServedRunningCall:
    """The `RunningCall` of a served call. It is in no store: `uses` is false of each."""

    __slots__ = ("_requests", "_root", "_secrets", "_task", "is_live", "is_released")

    has_trees = False  # the owner ends them
    model_usage: Json = None  # the owner counts it

    def __init__(self, requests: Requests, task: Task, root: Task, secrets: Sequence[str]) -> None:
        self._requests, self._task, self._root, self._secrets = requests, task, root, secrets
        self.is_live = True
        self.is_released = False

    @property
    def task(self) -> Task:
        """The task, as it was when the call began."""
        return self._task

    @property
    def written_by(self) -> list[dict[str, Json]] | None:
        """The authors of the tree of the task."""
        return self._root.written_by

    @property
    def is_continued(self) -> bool:
        """Whether the code is ended so that another attempt continues its work."""
        return self._requests.is_continued

    @property
    def model_calls(self) -> ServedModelCalls:
        """The account of the calls of language models that the code makes."""
        return ServedModelCalls(self._requests, self._task, self._root, self._secrets)

    def uses(self, store: object) -> bool:
        """Return false: the tree of the task is in a store of the owner."""
        del store
        return False

    async def run_child(self, tasks: Tasks | Described, key: str | None) -> RunOutcome:
        """See `RunningCall.run_child`."""
        return run_from_json(await self._requests.make(RUN_CHILD, {"tasks": _array(tasks), "key": key}))

    def run_child_sync(self, tasks: Tasks | Described, key: str | None) -> RunOutcome:
        """See `RunningCall.run_child_sync`."""
        check_thread("run_child")
        return run_from_json(self._requests.make_sync(RUN_CHILD, {"tasks": _array(tasks), "key": key}))

    async def ask_approval(self, request: ApprovalRequest) -> Approval:
        """See `RunningCall.ask_approval`."""
        shown = asdict(request) | {"on_timeout": str(request.on_timeout)}
        shown |= {"users": list(request.users), "roles": list(request.roles)}
        answer = await self._requests.make(ASK_APPROVAL, {"request": self._masked(shown)})
        return read_approval(answer)

    async def saved_state(self) -> Json:
        """See `RunningCall.saved_state`."""
        return await self._requests.make(LOAD_STATE, {})

    async def save_state(self, state: Json) -> None:
        """See `RunningCall.save_state`."""
        await self._requests.make(SAVE_STATE, {"state": self._masked(state)})

    def saved_state_sync(self) -> Json:
        """See `RunningCall.saved_state_sync`."""
        check_thread("saved_state")
        return self._requests.make_sync(LOAD_STATE, {})

    def save_state_sync(self, state: Json) -> None:
        """See `RunningCall.save_state_sync`."""
        check_thread("save_state")
        self._requests.make_sync(SAVE_STATE, {"state": self._masked(state)})

    async def create_once(
        self,
        tasks: Tasks,
        find: Callable[[str], Awaitable[T | None]],
        create: Callable[[Callable[[str], Sequence[Any]]], Awaitable[tuple[str, T]]],
        *,
        key: str | None = None,
        is_run: bool = False,
    ) -> T:
        """Create a tree in another store than that of the task: it does not belong to the task."""
        del tasks, find, key, is_run
        _, made = await create(lambda _: ())
        return made

    def drain(self, seconds: float) -> bool:
        """Return false: trees that the code waits for run at the owner."""
        del seconds
        return False

    async def end(self, seconds: float) -> None:
        """Do nothing: the owner ends the trees of the call."""
        del seconds

    def _masked(self, value: Json) -> Json:
        return redact(copy_json(value), list(self._secrets))


class ServedModelCalls:
    """The `ModelCalls` of a served call."""

    def __init__(self, requests: Requests, task: Task, root: Task, secrets: Sequence[str]) -> None:
        self._requests, self._secrets = requests, secrets
        self.task, self.root = task, root

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop that serves the call."""
        return self._requests.loop

    async def reserve(self, request: ModelRequest) -> Reservation:
        """See `ModelCalls.reserve`."""
        answer = await self._requests.make(RESERVE, {"request": await _counted(request)})
        return reservation_from_json(answer)

    async def settle(
        self, reservation: Reservation, request: ModelRequest, usage: ModelUsage, seconds: float
    ) -> None:
        """See `ModelCalls.settle`."""
        arguments = {
            "reservation": reservation_to_json(reservation),
            "model": request.model,
            "usage": asdict(usage),
            "seconds": seconds,
        }
        await self._requests.make(SETTLE, arguments)

    def masked(self, value: Json) -> Json:
        """See `ModelCalls.masked`."""
        return redact(value, list(self._secrets))


async def _counted(request: ModelRequest) -> dict[str, Json]:
    """Describe a call of a model. Counting its tokens may take a moment, so it is done in a thread."""
    count = request.input_tokens
    tokens = count if isinstance(count, int) else await asyncio.to_thread(count)
    return model_request_to_json(request, tokens)


def _array(tasks: Tasks | Described) -> list[Json]:
    return [{name: to_json(value) for name, value in each.items()} for each in array_of(tasks)]
