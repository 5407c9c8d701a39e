"""An agent on the official A2A SDK 0.3, which speaks only A2A 0.3: a program for an environment with it.

    python -P a2aagent03.py JSONRPC|HTTP+JSON|GRPC

It prints the port of its card, and ends with the program that has started it. A task whose message is "hold"
runs until it is cancelled; "ask" asks a question; any other message is answered in two pieces.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from typing import Any

import grpc.aio
import uvicorn
from a2a.grpc import a2a_pb2_grpc
from a2a.server.agent_execution import AgentExecutor, RequestContext
from a2a.server.apps import A2ARESTFastAPIApplication, A2AStarletteApplication
from a2a.server.events import EventQueue
from a2a.server.request_handlers import DefaultRequestHandler, GrpcHandler
from a2a.server.tasks import InMemoryTaskStore, TaskUpdater
from a2a.types import AgentCapabilities, AgentCard, AgentSkill, DataPart, Part, TextPart
from a2a.utils import new_task


class Agent(AgentExecutor):
    """Does what the message says."""

    async def execute(self, context: RequestContext, event_queue: EventQueue) -> None:
        assert context.message is not None
        task = context.current_task
        if task is None:
            task = new_task(context.message)
            await event_queue.enqueue_event(task)
        updater = TaskUpdater(event_queue, task.id, task.context_id)
        await updater.start_work()
        said = context.get_user_input()
        if said == "hold":
            await asyncio.sleep(3600)
        if said == "ask":
            question = updater.new_agent_message([Part(root=TextPart(text="Which city?"))])
            await updater.requires_input(question)
            return
        for at, text in enumerate(("It is ", said)):
            part = Part(root=TextPart(text=text))
            await updater.add_artifact([part], artifact_id="answer", name="answer", append=at > 0)
        await updater.add_artifact([Part(root=DataPart(data={"count": 3}))], artifact_id="data")
        await updater.complete()

    async def cancel(self, context: RequestContext, event_queue: EventQueue) -> None:
        assert context.task_id is not None
        assert context.context_id is not None
        await TaskUpdater(event_queue, context.task_id, context.context_id).cancel()


async def main(binding: str) -> None:
    """Serve until the input ends."""
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    server = grpc.aio.server()
    grpc_port = server.add_insecure_port("127.0.0.1:0")
    card = AgentCard(
        name="Agent of 0.3",
        description="Speaks A2A 0.3.",
        version="1",
        protocol_version="0.3.0",
        url=f"127.0.0.1:{grpc_port}" if binding == "GRPC" else f"http://127.0.0.1:{port}/",
        preferred_transport=binding,
        capabilities=AgentCapabilities(streaming=True),
        default_input_modes=["text/plain"],
        default_output_modes=["text/plain"],
        skills=[AgentSkill(id="test", name="test", description="Tests.", tags=["test"])],
    )
    handler = DefaultRequestHandler(Agent(), InMemoryTaskStore())
    a2a_pb2_grpc.add_A2AServiceServicer_to_server(GrpcHandler(card, handler), server)
    await server.start()
    kind: Any = A2ARESTFastAPIApplication if binding == "HTTP+JSON" else A2AStarletteApplication
    app = kind(agent_card=card, http_handler=handler).build()
    web = uvicorn.Server(uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=1))
    serving = asyncio.create_task(web.serve([listening]))
    while not web.started:  # noqa: ASYNC110 - uvicorn sends no event
        await asyncio.sleep(0.01)
    print(port, flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    web.should_exit = True
    await serving
    await server.stop(0)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
