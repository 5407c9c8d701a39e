"""A call of an agent from its card to its result. Imports the SDK, which takes half a second."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final, cast

import grpc.aio
from a2a.client.client import Client, ClientCallContext, ClientConfig
from a2a.client.client_factory import ClientFactory
from a2a.client.transports.base import ClientTransport
from a2a.client.transports.grpc import GrpcTransport
from a2a.compat.v0_3.grpc_transport import CompatGrpcTransport
from a2a.compat.v0_3.versions import is_legacy_version
from a2a.types.a2a_pb2 import AgentCard, AgentInterface, StreamResponse

from apflow.core.extensions.executor import ExecutableTask
from apflow.core.extensions.external_key import external_key
from apflow.core.model.task import Json
from apflow.executor.a2a.address import AgentAddress
from apflow.executor.a2a.answer import Answer
from apflow.executor.a2a.card import read_card
from apflow.executor.a2a.channel import open_channel
from apflow.executor.a2a.connection import Meter, open_client
from apflow.executor.a2a.fault import reported
from apflow.executor.a2a.interface import GRPC, Interface, choose_interface
from apflow.executor.a2a.progress import event_of, is_piece
from apflow.executor.a2a.request import A2aRequest, read_request
from apflow.executor.a2a.result import error_of, failure_of, result_of
from apflow.executor.a2a.run import AgentRun
from apflow.executor.a2a.schema import MAX_OUTPUT_BYTES, POLL_INTERVAL

REPORT_SECONDS: Final = 0.25  # between two events for pieces of an artifact


class AgentCall:
    """A call of an agent by a task.

    Raises:
        A2aInputError: the inputs describe no message that can be sent.
    """

    def __init__(self, executor: ExecutableTask, address: AgentAddress, inputs: Mapping[str, Any]) -> None:
        self._executor, self._address, self._inputs = executor, address, inputs
        # The same for all attempts, if the task has a key.
        message_id = external_key(executor) or uuid.uuid4().hex
        self._request: A2aRequest = read_request(inputs, message_id)
        limit = inputs.get("max_output_bytes", MAX_OUTPUT_BYTES)
        self._meter = Meter(address.shown, limit)
        self._answer = Answer(address.shown, limit)
        self._facts: dict[str, Json] = {"agent": None, "url": address.shown, "transport": None}
        self._reported_at = float("-inf")
        self._reported: dict[str, Json] | None = None

    @property
    def task_id(self) -> str | None:
        """The task of the agent, once it is known."""
        return self._answer.task_id

    def partial_result(self) -> dict[str, Json] | None:
        """Return what is known so far; None if that is nothing."""
        return None if self._answer.is_empty else result_of(self._answer, self._facts)

    async def perform(self) -> dict[str, Json]:
        """Send the message and return the result; a failed one if the agent did not complete it.

        Raises:
            A2aError: the call failed. The cancellation of the agent's task was requested.
        """
        begun = cast("dict[str, str] | None", await self._executor.saved_state())
        async with self._connected() as (client, is_streaming):
            run = AgentRun(
                client,
                self._request.message,
                ClientCallContext(service_parameters=dict(self._request.headers)),
                self._answer,
                self._meter,
                self._report,
                self._inputs.get("poll_interval", POLL_INTERVAL),
                is_streaming,
                self._inputs.get("task_id"),
                resumes=begun["task_id"] if begun and begun["url"] == self._address.shown else None,
                on_task=self._save,
                is_continued=lambda: self._executor.is_continued,
            )
            try:
                await run.finish()
            except BaseException:
                await run.abandon()
                raise
        error = error_of(self._answer)
        if error is not None:
            return failure_of(self._answer, error, self._facts)
        return result_of(self._answer, self._facts)

    async def _save(self, task_id: str) -> None:
        """Save which task an attempt that follows an interrupted one resumes."""
        await self._executor.save_state({"url": self._address.shown, "task_id": task_id})

    @asynccontextmanager
    async def _connected(self) -> AsyncGenerator[tuple[Client, bool]]:
        """Read the card, and yield a client of the agent, and whether streams are used."""
        async with await open_client(self._address.shown, self._meter) as http:
            card = await read_card(http, self._address, self._request.headers)
            trusted: list[str] = self._inputs.get("trusted_hosts") or []
            interface = choose_interface(card, self._address, self._inputs.get("transport"), trusted)
            self._facts |= {"agent": card.name, "url": interface.shown, "transport": interface.transport}
            is_streaming = bool(self._inputs.get("use_streaming", True) and card.capabilities.streaming)
            channel = await open_channel(interface, self._meter.most) if interface.binding == GRPC else None
            try:
                config = ClientConfig(
                    streaming=is_streaming,
                    # Where a task is continued, its state does not show whether the message was read.
                    polling=not (is_streaming or self._inputs.get("task_id")),
                    httpx_client=http,
                    grpc_channel_factory=partial(_given, channel),
                    supported_protocol_bindings=[interface.binding],
                )
                factory = ClientFactory(config)
                factory.register(GRPC, _grpc_transport)
                with reported(self._address.shown):
                    client = factory.create(_narrowed(card, interface))
                yield client, is_streaming
            finally:
                if channel is not None:
                    await channel.close()

    async def _report(self, update: StreamResponse) -> None:
        queue, now = self._executor.event_queue, time.monotonic()
        if queue is None or (is_piece(update) and now - self._reported_at < REPORT_SECONDS):
            return
        event = event_of(update, self._answer)
        if event is not None and event != self._reported:  # a poll often finds no change
            self._reported_at, self._reported = now, event
            await queue.put({"task_id": self._executor.task_id, **event})


def _given(channel: grpc.aio.Channel | None, _: str) -> grpc.aio.Channel:
    assert channel is not None
    return channel


def _grpc_transport(card: AgentCard, url: str, config: ClientConfig) -> ClientTransport:
    """Return the transport over gRPC for the version of a narrowed card.

    The factory of the SDK (1.3) always takes that of 1.0 if `a2a.compat` was imported before `a2a.client`.
    """
    is_legacy = is_legacy_version(card.supported_interfaces[0].protocol_version)
    return (CompatGrpcTransport if is_legacy else GrpcTransport).create(card, url, config)


def _narrowed(card: AgentCard, interface: Interface) -> AgentCard:
    """Return the card with one interface, so that the SDK uses no other."""
    narrowed = AgentCard()
    narrowed.CopyFrom(card)
    del narrowed.supported_interfaces[:]
    narrowed.supported_interfaces.append(
        AgentInterface(
            url=interface.url,
            protocol_binding=interface.binding,
            protocol_version=interface.version,
            tenant=interface.tenant,
        )
    )
    return narrowed
