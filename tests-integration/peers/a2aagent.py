"""An agent on the server of the official A2A SDK, over all its transports, that a test can tell what to do.

`a2a_agent` runs it in a thread. What it does is the first word of the message: see `Agent`.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

# First, because of a cycle of imports in the SDK (1.3): else its client has no transport for 0.3 over gRPC.
import a2a.client  # noqa: F401
import grpc.aio
import uvicorn
from a2a.compat.v0_3 import a2a_v0_3_pb2_grpc
from a2a.compat.v0_3.grpc_handler import CompatGrpcHandler
from a2a.helpers import new_data_part, new_raw_part, new_task, new_text_message, new_text_part, new_url_part
from a2a.server.agent_execution import AgentExecutor, RequestContext
from a2a.server.events import EventQueue
from a2a.server.request_handlers import DefaultRequestHandler, GrpcHandler
from a2a.server.routes import create_agent_card_routes, create_jsonrpc_routes, create_rest_routes
from a2a.server.tasks import InMemoryTaskStore, TaskUpdater
from a2a.types import a2a_pb2_grpc
from a2a.types.a2a_pb2 import AgentCapabilities, AgentCard, AgentInterface, AgentSkill, Message, TaskState
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Mount
from starlette.types import ASGIApp, Receive, Scope, Send

BINDINGS = ("JSONRPC", "HTTP+JSON", "GRPC")
VERSIONS = ("1.0", "0.3")
PIECES = ("The answer", " is", " 42.")
DATA = {"count": 3, "share": 0.5, "names": ["a", "b"], "nested": {"none": None, "large": 2**53 - 1}}


@dataclass
class A2aAgent:
    """The agent that runs: where, and what it has seen."""

    port: int = 0
    grpc_port: int = 0
    messages: list[Message] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)  # of requests over HTTP
    metadata: list[dict[str, Any]] = field(default_factory=list)
    working: set[str] = field(default_factory=set)  # ids of tasks that have begun and not ended
    cancelled: list[str] = field(default_factory=list)
    token: str | None = None  # that requests must bear
    release: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        """Where its card is found."""
        return f"http://127.0.0.1:{self.port}"


class Agent(AgentExecutor):
    """Does what the first word of the message says."""

    def __init__(self, agent: A2aAgent) -> None:
        self.agent = agent

    async def execute(self, context: RequestContext, event_queue: EventQueue) -> None:
        message = context.message
        assert message is not None
        assert context.task_id is not None
        assert context.context_id is not None
        self.agent.messages.append(message)
        self.agent.metadata.append(context.metadata)
        word, _, rest = context.get_user_input().partition(" ")
        if word == "hello":
            await event_queue.enqueue_event(new_text_message(f"Hello {rest}"))
            return
        if word == "late":  # its task becomes known after a while, and then holds
            await asyncio.sleep(0.5)
            word = "hold"
        task = context.current_task
        if task is None:
            task = new_task(context.task_id, context.context_id, TaskState.TASK_STATE_SUBMITTED)
            await event_queue.enqueue_event(task)
        updater = TaskUpdater(event_queue, task.id, task.context_id)
        self.agent.working.add(task.id)
        try:
            await getattr(self, f"_{word}", self._echo)(updater, rest, message)
        finally:
            self.agent.working.discard(task.id)

    async def cancel(self, context: RequestContext, event_queue: EventQueue) -> None:
        assert context.task_id is not None
        assert context.context_id is not None
        self.agent.cancelled.append(context.task_id)
        await TaskUpdater(event_queue, context.task_id, context.context_id).cancel()

    async def _echo(self, updater: TaskUpdater, rest: str, message: Message) -> None:
        await updater.add_artifact(list(message.parts), artifact_id="echo", name="echo")
        await updater.complete()

    async def _work(self, updater: TaskUpdater, rest: str, message: Message) -> None:
        """Report progress, then answer in pieces, with data and files."""
        for step in (1, 2):
            metadata = {"apflow": {"root_progress": step / 4}}
            said = updater.new_agent_message([new_text_part(f"step {step}")])
            await updater.update_status(TaskState.TASK_STATE_WORKING, said, metadata=metadata)
        for at, text in enumerate(PIECES):
            await updater.add_artifact(
                [new_text_part(text)], artifact_id="text", name="answer", append=at > 0
            )
        parts = [
            new_data_part(DATA),
            new_raw_part(b"\x00\x01", media_type="application/octet-stream", filename="a.bin"),
            new_url_part("https://example.com/a.pdf", media_type="application/pdf"),
        ]
        await updater.add_artifact(parts, artifact_id="rest", name="more")
        await updater.complete(updater.new_agent_message([new_text_part("done")]))

    async def _hold(self, updater: TaskUpdater, rest: str, message: Message) -> None:
        """Work until it is released, or cancelled."""
        await updater.start_work()
        while not self.agent.release.is_set():  # noqa: ASYNC110 - it is set in another thread
            await asyncio.sleep(0.02)
        await updater.add_artifact([new_text_part("released")], artifact_id="end")
        await updater.complete()

    async def _slowly(self, updater: TaskUpdater, rest: str, message: Message) -> None:
        """Name the task only after a while."""
        await updater.start_work()
        await asyncio.sleep(float(rest))
        await updater.add_artifact([new_text_part("at last")], artifact_id="end")
        await updater.complete()

    async def _ask(self, updater: TaskUpdater, rest: str, message: Message) -> None:
        """Ask a question; the answer to it is a message with another first word."""
        await updater.add_artifact([new_text_part("a draft")], artifact_id="draft")
        await updater.requires_input(updater.new_agent_message([new_text_part("Which city?")]))

    async def _authorize(self, updater: TaskUpdater, rest: str, message: Message) -> None:
        await updater.requires_auth(updater.new_agent_message([new_text_part("Open https://example.com")]))

    async def _fail(self, updater: TaskUpdater, rest: str, message: Message) -> None:
        await updater.failed(updater.new_agent_message([new_text_part(rest)]))

    async def _reject(self, updater: TaskUpdater, rest: str, message: Message) -> None:
        await updater.reject(updater.new_agent_message([new_text_part(rest)]))

    async def _stop(self, updater: TaskUpdater, rest: str, message: Message) -> None:
        await updater.cancel(updater.new_agent_message([new_text_part(rest)]))

    async def _large(self, updater: TaskUpdater, rest: str, message: Message) -> None:
        await updater.add_artifact([new_text_part("x" * int(rest))], artifact_id="large")
        await updater.complete()

    async def _flood(self, updater: TaskUpdater, rest: str, message: Message) -> None:
        """Send pieces without an end."""
        at = 0
        while True:
            await updater.add_artifact([new_text_part("y" * 1000)], artifact_id="flood", append=at > 0)
            at += 1
            await asyncio.sleep(0)


def card_of(
    agent: A2aAgent, bindings: Sequence[str], version: str, *, is_streaming: bool, host: str = "127.0.0.1"
) -> AgentCard:
    """Return the card of an agent, with interfaces in this order."""
    urls = {
        "JSONRPC": f"http://{host}:{agent.port}/",
        "HTTP+JSON": f"http://{host}:{agent.port}/rest",
        "GRPC": f"{host}:{agent.grpc_port}",
    }
    return AgentCard(
        name="Test agent",
        description="Does what a test requests.",
        version="1",
        supported_interfaces=[
            AgentInterface(url=urls[each], protocol_binding=each, protocol_version=version)
            for each in bindings
        ],
        capabilities=AgentCapabilities(streaming=is_streaming),
        default_input_modes=["text/plain"],
        default_output_modes=["text/plain"],
        skills=[AgentSkill(id="test", name="test", description="Tests.", tags=["test"])],
    )


@contextmanager
def a2a_agent(
    bindings: Sequence[str] = BINDINGS,
    version: str = "1.0",
    *,
    is_streaming: bool = True,
    token: str | None = None,
    card_host: str = "127.0.0.1",
    ports: tuple[int, int] = (0, 0),
) -> Generator[A2aAgent]:
    """Run an agent.

    Args:
        bindings: the interfaces of its card, in order.
        version: the version of the protocol that the interfaces have in the card.
        token: the bearer token that requests other than for the card must have.
        card_host: the host that the card names.
        ports: those for HTTP and for gRPC; 0 for free ones.
    """
    agent, started, over = A2aAgent(*ports, token=token), threading.Event(), threading.Event()
    options = (bindings, version, is_streaming, card_host)
    thread = threading.Thread(
        target=lambda: asyncio.run(_serve(agent, options, started, over)), name="a2a agent"
    )
    thread.start()
    try:
        assert started.wait(30)
        yield agent
    finally:
        agent.release.set()
        over.set()
        thread.join(30)
        assert not thread.is_alive()


def _checked(agent: A2aAgent, app: Starlette) -> ASGIApp:
    """Return the application with a check of the token."""

    async def check(scope: Scope, receive: Receive, send: Send) -> None:
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        agent.headers.append(headers)
        is_open = agent.token is None or scope["path"].startswith("/.well-known/")
        if is_open or headers.get("authorization") == f"Bearer {agent.token}":
            await app(scope, receive, send)
        else:
            await JSONResponse({"detail": "unauthorized"}, 401)(scope, receive, send)

    return check


async def _serve(
    agent: A2aAgent,
    options: tuple[Sequence[str], str, bool, str],
    started: threading.Event,
    over: threading.Event,
) -> None:
    bindings, version, is_streaming, card_host = options
    listening = socket.create_server(("127.0.0.1", agent.port))
    agent.port = listening.getsockname()[1]
    server = grpc.aio.server()
    agent.grpc_port = server.add_insecure_port(f"127.0.0.1:{agent.grpc_port}")
    card = card_of(agent, bindings, version, is_streaming=is_streaming, host=card_host)
    handler = DefaultRequestHandler(Agent(agent), InMemoryTaskStore(), card)
    if version == "0.3":
        a2a_v0_3_pb2_grpc.add_A2AServiceServicer_to_server(CompatGrpcHandler(handler), server)
    else:
        a2a_pb2_grpc.add_A2AServiceServicer_to_server(GrpcHandler(handler), server)
    routes = [
        *create_agent_card_routes(card),
        *create_jsonrpc_routes(handler, "/", enable_v0_3_compat=True),
        Mount("/rest", routes=create_rest_routes(handler, enable_v0_3_compat=True)),
    ]
    app = _checked(agent, Starlette(routes=routes))
    config = uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=1, lifespan="off")
    web = uvicorn.Server(config)
    await server.start()
    async with asyncio.TaskGroup() as group:
        serving = group.create_task(web.serve([listening]))
        while not web.started:  # noqa: ASYNC110 - uvicorn sends no event
            await asyncio.sleep(0.01)
        started.set()
        await asyncio.to_thread(over.wait)
        web.should_exit = True
        await serving
        await server.stop(0)
        await handler.aclose()
