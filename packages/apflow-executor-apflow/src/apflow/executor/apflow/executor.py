"""The executor that calls another server of apflow."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, ClassVar

from apflow.client import Client
from apflow.core.errors import InvalidInputError
from apflow.core.extensions.executor import BaseTask, InputsSchema
from apflow.core.extensions.external_key import external_key
from apflow.core.model.event import EventType
from apflow.core.model.task import Json
from apflow.executor.apflow.connection import transport
from apflow.executor.apflow.errors import RemoteInputError, RemoteTimeoutError
from apflow.executor.apflow.progress import TreeProgress, progress_of
from apflow.executor.apflow.request import RemoteRequest, named_task, read_request
from apflow.executor.apflow.run import RemoteRun
from apflow.executor.apflow.schema import POLL_INTERVAL, SCHEMA, TIMEOUT

CONNECT_TIMEOUT_SECONDS = 10.0  # seconds within which the first connection must succeed


class ApFlowApiExecutor(BaseTask):
    """Calls an operation of another server; what runs there is followed, and cancelled with the task here."""

    id = "apflow_api_executor"
    name = "apflow"
    description = "Runs a tree on another apflow server, or calls another of its operations."
    inputs_schema: ClassVar[InputsSchema] = SCHEMA
    uses_net_policy = True

    _run: RemoteRun | None = None

    async def execute(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """Make the call.

        Raises:
            RemoteInputError: the inputs describe no call that can be made.
            RemoteTreeFailedError, RemoteTreeCancelledError: what ran there did not complete.
            RemoteTimeoutError: it took too long.
            ApflowError: what the server said, or that it cannot be reached; see the README.
        """
        request = read_request(inputs, external_key(self))
        timeout = float(inputs.get("timeout", TIMEOUT))
        async with await _client(inputs, timeout) as client:
            limit = asyncio.timeout(timeout)
            try:
                async with limit:
                    return await self._perform(client, request, inputs, timeout)
            except TimeoutError as error:
                if limit.expired():
                    raise RemoteTimeoutError(client.url, request.method, timeout) from error
                raise

    async def cancel(self) -> dict[str, Json] | None:
        """Return what is known of the run there, which ends with `execute`."""
        run = self._run
        if run is None or not run.task_id:
            return None
        return {"partial_result": {"task_id": run.task_id, "base_url": run.client.url}}

    async def _perform(
        self, client: Client, request: RemoteRequest, inputs: Mapping[str, Any], timeout: float
    ) -> dict[str, Any]:
        if not request.is_run and not request.is_watch:
            answer = await client.call(request.method, request.params)
            return _result(client, answer, named_task(request.params, answer), "completed")
        run = self._run = RemoteRun(client, request, self.attempts > 1, timeout)
        answer = await run.begin()
        if not request.has_wait:
            return _result(client, answer, run.task_id, answer["status"])
        interval = None if inputs.get("use_streaming", True) else inputs.get("poll_interval", POLL_INTERVAL)
        try:
            standing = await run.follow(self._teller(), interval)
            return _result(client, await run.result(standing), run.task_id, standing["status"])
        except asyncio.CancelledError:
            await run.cancel()
            raise

    def _teller(self) -> Any:
        tree = TreeProgress()

        async def on_event(event: Mapping[str, Json]) -> None:
            if "type" not in event:
                await self.report_progress(event["progress"])
                return
            tree.apply(event)
            message, data = progress_of(event)
            if event["type"] == "snapshot":
                await self.report_progress(tree.fraction)
            elif event["type"] == EventType.LOG and self.event_queue is not None:
                await self.event_queue.put({"type": "log", "message": message, "data": data})
            else:
                await self.report_progress(tree.fraction, message, data)

        return on_event


async def _client(inputs: Mapping[str, Any], timeout: float) -> Client:
    try:
        return Client(
            inputs["base_url"],
            inputs.get("auth_token"),
            headers=inputs.get("headers"),
            transport=await transport(),
            patience=min(CONNECT_TIMEOUT_SECONDS, timeout),
            reconnect_for=timeout,
        )
    except InvalidInputError as error:
        raise RemoteInputError(str(error)) from error


def _result(client: Client, result: Json, task_id: str | None, status: str) -> dict[str, Any]:
    return {
        "success": True,
        "result": result,
        "task_id": task_id,
        "status": status,
        "base_url": client.url,
    }
