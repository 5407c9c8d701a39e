"""The owner's side of a call that a runner makes in another process; see `call_server` for the other side."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any, Final

from apflow.core.capture.task_log import TaskLog
from apflow.core.engine.call_messages import (
    error_to_json,
    lines_from_json,
    model_request_from_json,
    reservation_from_json,
    reservation_to_json,
    run_to_json,
)
from apflow.core.engine.child_trees import ChildTrees
from apflow.core.engine.served_requests import (
    ASK_APPROVAL,
    LOAD_STATE,
    RESERVE,
    RUN_CHILD,
    SAVE_STATE,
    SETTLE,
)
from apflow.core.errors import CallLostError, RunnerUnavailableError
from apflow.core.events.progress import ProgressQueue
from apflow.core.extensions.executor_call import (
    ANSWER,
    ASKED,
    BEGAN,
    CANCEL,
    EVENT,
    INPUTS,
    LINES,
    RELEASE,
    REQUEST,
    ExecutorCall,
    Message,
)
from apflow.core.extensions.model_account import ModelRequest
from apflow.core.extensions.runner import Runner
from apflow.core.model.approval import ApprovalRequest, OnTimeout
from apflow.core.model.task import Json
from apflow.core.model.usage import ModelUsage
from apflow.core.payload.json_value import copy_json
from apflow.core.planning.outcome import (
    RUNNER_UNAVAILABLE,
    Outcome,
    failed,
    interrupted,
    outcome_from_json,
)

logger = logging.getLogger(__name__)

MAX_LOSSES: Final = 3  # calls of one attempt that are lost; after that it fails


class RemoteCall:
    """One attempt whose executor is called in another process.

    Args:
        describe: returns the call; each repetition of it gets another id.
        effect: returns the effect of the task, which decides whether a lost call may be repeated.
        trees: the trees that the code starts, by its requests.
        queue: takes its progress and log events.
        log: takes its lines; None if nothing is captured.
        began: called when the executor's code is called.
    """

    def __init__(
        self,
        runner: Runner,
        task_id: str,
        describe: Callable[[str], ExecutorCall],
        effect: Callable[[], str],
        trees: ChildTrees,
        queue: ProgressQueue,
        log: TaskLog | None,
        began: Callable[[], object],
    ) -> None:
        self._runner, self._task_id = runner, task_id
        self._describe, self._effect = describe, effect
        self._trees, self._queue, self._log = trees, queue, log
        self._began = began
        self._call_id = ""
        self._is_released = False
        self._asked: asyncio.Future[Message] | None = None  # set while an answer to `CANCEL` is awaited
        self._requests: set[asyncio.Task[None]] = set()
        self.inputs: dict[str, Json] | None = None  # of the call, if post-hooks need them
        self.is_cancelable = False  # known when the cancellation was requested

    async def run(self) -> Outcome:
        """Make the call, again if it is lost and may run twice, and return its outcome."""
        losses = 0
        try:
            while True:
                self._call_id = uuid.uuid4().hex
                try:
                    return outcome_from_json(await self._make(self._describe(self._call_id)))
                except CallLostError as error:
                    losses += 1
                    if self._effect() == "once" or losses >= MAX_LOSSES:
                        return interrupted(f"{error}".rstrip("."))
                    logger.warning("Task %s: %s It is called again.", self._task_id, error)
                except RunnerUnavailableError as error:
                    return failed(RUNNER_UNAVAILABLE, str(error))
        finally:
            for each in self._requests:
                each.cancel()

    async def _make(self, call: ExecutorCall) -> Mapping[str, Json]:
        """Have the runner make the call. If this is cancelled, however often, the call is cancelled once."""
        making = asyncio.ensure_future(self._runner.run(call, self._receive))
        try:
            return await asyncio.shield(making)
        except asyncio.CancelledError:
            ending = asyncio.ensure_future(self._end(making))
            while not ending.done():
                with suppress(asyncio.CancelledError):
                    await asyncio.wait({ending})
            raise

    async def _end(self, making: asyncio.Future[Any]) -> None:
        """Cancel a call, and wait for its end. Its code knows whether another attempt continues its work."""
        if self._is_released:
            await self._contained(self._runner.send(self._call_id, {"kind": RELEASE}))
        making.cancel()
        await asyncio.wait({making})
        if not making.cancelled():
            making.exception()  # retrieved: it no longer matters

    async def ask_to_end(self, message: str | None, seconds: float) -> Json:
        """Request the end of the code, and return what the executor's `cancel` returned in that time."""
        self._asked = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(seconds):
                asking: Message = {"kind": CANCEL, "message": message, "seconds": seconds}
                if not await self._runner.send(self._call_id, asking):
                    return None
                answer = await self._asked
        except (TimeoutError, RunnerUnavailableError) as error:
            logger.debug("Task %s was not asked to end: %s", self._task_id, error)
            return None
        self.is_cancelable = answer["is_cancelable"] is True
        return answer["answer"]

    def release(self) -> None:
        """Tell the code, before it is cancelled, that another attempt continues its work."""
        self._is_released = True

    def _receive(self, message: Message) -> None:
        """Take a message of the call. Kinds that only a later version knows are ignored."""
        kind = message["kind"]
        if kind == BEGAN:
            self._began()
        elif kind == EVENT:
            self._queue.put_nowait(message["event"])
        elif kind == LINES and self._log is not None:
            self._log.add_entries(lines_from_json(message["lines"]))
        elif kind == INPUTS:
            self.inputs = message["inputs"]
        elif kind == ASKED and self._asked is not None and not self._asked.done():
            self._asked.set_result(message)
        elif kind == REQUEST:
            self._start(self._answer(self._call_id, message))

    def _start(self, work: Awaitable[Any]) -> None:
        doing = asyncio.ensure_future(self._contained(work))
        self._requests.add(doing)
        doing.add_done_callback(self._requests.discard)

    async def _contained(self, work: Awaitable[Any]) -> None:
        try:
            await work
        except Exception as error:  # noqa: BLE001 - the call continues, or is lost
            logger.warning("A message for task %s could not be sent: %s", self._task_id, error)

    async def _answer(self, call_id: str, request: Message) -> None:
        """Do what the code requests, and send the answer."""
        answer: dict[str, Json] = {"kind": ANSWER, "id": request["id"]}
        try:
            answer["value"] = await self._do(str(request["name"]), request["arguments"])
        except Exception as error:  # noqa: BLE001 - raised in the code that requests it
            answer["error"] = error_to_json(error)
        await self._runner.send(call_id, answer)

    async def _do(self, name: str, arguments: Mapping[str, Json]) -> Json:
        trees = self._trees
        if name == RUN_CHILD:
            return run_to_json(await trees.run_child(arguments["tasks"], arguments["key"]))
        if name == LOAD_STATE:
            return await trees.saved_state()
        if name == SAVE_STATE:
            return await trees.save_state(arguments["state"])
        if name == ASK_APPROVAL:
            return (await trees.ask_approval(_approval_request(arguments["request"]))).to_json()
        if name == RESERVE:
            request = model_request_from_json(arguments["request"])
            return reservation_to_json(await trees.model_calls.reserve(request))
        if name == SETTLE:
            reservation = reservation_from_json(arguments["reservation"])
            request = ModelRequest(model=arguments["model"])
            usage = ModelUsage(**arguments["usage"])
            return await trees.model_calls.settle(reservation, request, usage, arguments["seconds"])
        raise ValueError(f"The call requests {name!r}, which this version of apflow does not know.")


def _approval_request(data: Mapping[str, Json]) -> ApprovalRequest:
    values = dict(copy_json(data))
    values["users"], values["roles"] = tuple(values["users"]), tuple(values["roles"])
    values["on_timeout"] = OnTimeout(values["on_timeout"])
    return ApprovalRequest(**values)
