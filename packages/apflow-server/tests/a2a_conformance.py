"""An agent for the A2A compatibility kit: `hatch run a2a-agent PORT`.

It answers the scenarios of the kit, which the beginning of a message's ID names, through the endpoints, the
card and the gRPC server of apflow-server. It listens for HTTP at PORT and for gRPC at the next one, on the
loopback address. The kit is at https://github.com/a2aproject/a2a-tck.
"""

from __future__ import annotations

import argparse
import asyncio
import socket
import threading
from collections.abc import Awaitable, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import httpx
import uvicorn
from a2a.helpers import new_data_part, new_task_from_user_message
from a2a.server.agent_execution import AgentExecutor, RequestContext
from a2a.server.context import ServerCallContext
from a2a.server.events import EventQueue
from a2a.server.request_handlers import DefaultRequestHandler
from a2a.server.tasks import (
    BasePushNotificationSender,
    InMemoryPushNotificationConfigStore,
    InMemoryTaskStore,
    TaskUpdater,
)
from a2a.types import AgentCard, Part
from a2a.utils.errors import A2AError
from fastapi import FastAPI

from apflow.core.settings import Settings
from apflow.core.store.memory import MemoryStore
from apflow.server.a2a.card import Addresses, Cards
from apflow.server.a2a.endpoints import Endpoints
from apflow.server.app import create_app
from apflow.server.process.lifecycle import configuration

# Seconds that a task to subscribe to stays open, and that a task with a delay works.
SECONDS = {"open": 4.0, "delay": 2.0}

Step = Callable[[TaskUpdater, EventQueue], Awaitable[object]]


def file_part() -> Part:
    return Part(raw=b"tck", media_type="text/plain", filename="output.txt")


def url_part() -> Part:
    return Part(url="https://example.com/output.txt", media_type="text/plain", filename="output.txt")


def artifact(*parts: Part) -> Step:
    async def act(updater: TaskUpdater, _: EventQueue) -> None:
        await updater.add_artifact(parts=list(parts))
        await updater.complete()

    return act


def working_artifact(*parts: Part) -> Step:
    async def act(updater: TaskUpdater, _: EventQueue) -> None:
        await updater.start_work()
        await updater.add_artifact(parts=list(parts))
        await updater.complete()

    return act


def completed(text: str) -> Step:
    async def act(updater: TaskUpdater, _: EventQueue) -> None:
        await updater.complete(updater.new_agent_message([Part(text=text)]))

    return act


async def chunks(updater: TaskUpdater, _: EventQueue) -> None:
    await updater.start_work()
    await updater.add_artifact([Part(text="chunk-1 ")], artifact_id="chunked", append=False, last_chunk=False)
    await updater.add_artifact([Part(text="chunk-2")], artifact_id="chunked", append=True, last_chunk=True)
    await updater.complete()


async def stays_open(updater: TaskUpdater, _: EventQueue) -> None:
    await updater.start_work()
    await asyncio.sleep(SECONDS["open"])
    await updater.complete()


async def direct_message(updater: TaskUpdater, queue: EventQueue) -> None:
    await queue.enqueue_event(updater.new_agent_message([Part(text="Direct message response")]))


async def input_required(updater: TaskUpdater, _: EventQueue) -> None:
    await updater.requires_input(updater.new_agent_message([Part(text="More input is needed.")]))


async def delayed(updater: TaskUpdater, queue: EventQueue) -> None:
    await updater.start_work()
    await asyncio.sleep(SECONDS["delay"])
    await completed("Done after delay")(updater, queue)


async def auth_required(updater: TaskUpdater, _: EventQueue) -> None:
    await updater.requires_auth(updater.new_agent_message([Part(text="An authorization is needed.")]))


async def rejected(_: TaskUpdater, __: EventQueue) -> None:
    raise A2AError("rejected")


async def completed_silently(updater: TaskUpdater, _: EventQueue) -> None:
    await updater.complete()


# The first prefix that matches counts.
SCENARIOS: dict[str, Step] = {
    "tck-stream-artifact-chunked": chunks,
    "tck-stream-artifact-text": working_artifact(Part(text="Streamed text content")),
    "tck-stream-artifact-file": working_artifact(file_part()),
    "tck-stream-ordering-001": working_artifact(Part(text="Ordered output")),
    "tck-stream-001": working_artifact(Part(text="Stream hello from TCK")),
    "tck-stream-002": completed_silently,
    "tck-stream-003": working_artifact(Part(text="Stream task lifecycle")),
    "tck-artifact-file-url": artifact(url_part()),
    "tck-artifact-file": artifact(file_part()),
    "tck-artifact-text": artifact(Part(text="Generated text content")),
    "tck-artifact-data": artifact(new_data_part({"key": "value", "count": 42})),
    "tck-message-response": direct_message,
    "tck-input-required": input_required,
    "tck-reject-task": rejected,
    "tck-complete-task": completed("Hello from TCK"),
    "tck-delayed-complete": delayed,
    "tck-auth-required": auth_required,
    "test-resubscribe-message-id": stays_open,
}


class ConformanceExecutor(AgentExecutor):
    """Does what the ID of a message says."""

    async def execute(self, context: RequestContext, event_queue: EventQueue) -> None:
        message = context.message
        assert message is not None
        assert context.task_id is not None
        assert context.context_id is not None
        step = next(
            (each for prefix, each in SCENARIOS.items() if message.message_id.startswith(prefix)),
            completed(f"No scenario has this message ID: {message.message_id}"),
        )
        if context.current_task is None and step not in (direct_message, rejected):
            await event_queue.enqueue_event(new_task_from_user_message(message))
        await step(TaskUpdater(event_queue, context.task_id, context.context_id), event_queue)

    async def cancel(self, context: RequestContext, event_queue: EventQueue) -> None:
        assert context.task_id is not None
        assert context.context_id is not None
        await TaskUpdater(event_queue, context.task_id, context.context_id).cancel()


def make_app(settings: Settings) -> FastAPI:
    """Return the application of apflow-server, with the agent of the kit behind A2A."""
    app = create_app(settings, db=MemoryStore())
    http = httpx.AsyncClient(trust_env=False)
    configs = InMemoryPushNotificationConfigStore()

    async def make_extended(_: AgentCard, __: ServerCallContext) -> AgentCard:
        return await Cards(settings).make(addresses(settings), is_extended=True)

    card = asyncio.run(Cards(settings).make(addresses(settings), is_extended=False))
    handler = DefaultRequestHandler(
        agent_executor=ConformanceExecutor(),
        task_store=InMemoryTaskStore(),
        agent_card=card,
        push_config_store=configs,
        push_sender=BasePushNotificationSender(http, configs),
        extended_agent_card=card,
        extended_card_modifier=make_extended,
        validate_input_modes=True,
    )
    app.state.a2a = Endpoints(app, handler)
    inner = app.router.lifespan_context

    @asynccontextmanager
    async def lifespan(given: Any) -> Any:
        async with inner(given):
            yield
            await handler.aclose()
            await http.aclose()

    app.router.lifespan_context = lifespan
    return app


def addresses(settings: Settings) -> Addresses:
    return Addresses(settings.public_url, settings.a2a_grpc_bind, has_legacy=settings.a2a_legacy)


def settings_of(port: int, *, has_legacy: bool) -> Settings:
    """Return the settings of an agent at a port."""
    return Settings(
        public_url=f"http://127.0.0.1:{port}",
        a2a_grpc_bind=f"127.0.0.1:{port + 1}",
        a2a_legacy=has_legacy,
        rate_limit=1_000_000,
    )


@contextmanager
def two_free_ports() -> Generator[int]:
    """Reserve a port and the next one, and yield the first."""
    from peers.ports import free_socket, port_of  # here: the command runs without the other tests

    while True:
        with free_socket() as first, socket.socket() as second:
            second.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                second.bind(("127.0.0.1", port_of(first) + 1))
            except OSError:
                continue
            yield port_of(first)
            return


@contextmanager
def kit_agent() -> Generator[tuple[str, str]]:
    """Run the agent with shorter delays; yield its URL, and its address for gRPC."""
    SECONDS.update(open=0.5, delay=0.5)
    with two_free_ports() as port:
        settings = settings_of(port, has_legacy=False)
        config = configuration(make_app(settings), settings)
        config.host, config.port = "127.0.0.1", port
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, name="agent of the kit")
        thread.start()
        try:
            while not server.started:
                assert thread.is_alive()
                thread.join(0.01)
            yield f"http://127.0.0.1:{port}", f"127.0.0.1:{port + 1}"
        finally:
            server.should_exit = True
            thread.join(30)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("--without-legacy", action="store_true", help="leave version 0.3 out of the card")
    given = parser.parse_args()
    settings = settings_of(given.port, has_legacy=not given.without_legacy)
    config = configuration(make_app(settings), settings)
    config.host, config.port = "127.0.0.1", given.port
    uvicorn.Server(config).run()


if __name__ == "__main__":
    main()
