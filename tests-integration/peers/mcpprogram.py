"""An MCP server on standard input and output, written without the library, that misbehaves on request.

    python mcpprogram.py [TOOLS]

It records every message that it receives in the file that MCP_RECORD names. The name of the called tool says
how it behaves; see `call`. TOOLS is the number of tools that it lists, in pages of 1,000.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

PAGE = 1000
VERSION = "2025-06-18"
TOOLS = int(sys.argv[1]) if len(sys.argv) > 1 else 3
RECORD = os.environ.get("MCP_RECORD")

lock = threading.Lock()
cancelled: dict[Any, threading.Event] = {}


def say(line: str) -> None:
    with lock:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()


def send(**message: Any) -> None:
    say(json.dumps({"jsonrpc": "2.0", **message}))


def text(said: str, **more: Any) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": said}], **more}


def tools_from(cursor: str | None) -> dict[str, Any]:
    first = int(cursor or 0)
    names = [f"tool_{number}" for number in range(first, min(first + PAGE, TOOLS))]
    page: dict[str, Any] = {
        "tools": [
            {"name": name, "description": f"It is {name}.", "inputSchema": {"type": "object"}}
            for name in names
        ]
    }
    if first + PAGE < TOOLS:
        page["nextCursor"] = str(first + PAGE)
    return page


def call(number: Any, params: dict[str, Any]) -> None:  # noqa: C901
    name, arguments = params["name"], params.get("arguments") or {}
    match name:
        case "echo":
            send(id=number, result=text(json.dumps(arguments), structuredContent=arguments))
        case "pid":
            send(id=number, result=text(str(os.getpid())))
        case "environment":
            send(id=number, result=text(json.dumps(dict(os.environ))))
        case "fail":
            send(id=number, result=text("the disk is full", isError=True))
        case "refuse":
            send(id=number, error={"code": -32602, "message": "no such tool"})
        case "slow":
            work_slowly(number, arguments, params.get("_meta", {}).get("progressToken"))
        case "hang":
            pass
        case "deaf":  # it does not react to the end of its input either
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            threading.Thread(target=time.sleep, args=(600,)).start()
        case "die":
            sys.stderr.write("out of memory\n")
            sys.stderr.flush()
            os._exit(3)
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "garbage":
            for _ in range(arguments.get("lines", 5)):
                say("Server is listening {")
            if "then" in arguments:
                send(id=number, result=text(arguments["then"]))
        case "bytes":
            with lock:
                sys.stdout.buffer.write(b"\xff\x00\xfe" * 100 + b"\n")
                sys.stdout.buffer.flush()
            send(id=number, result=text("after"))
        case "foreign":  # messages that belong to no request of the client
            send(id=999, result={})
            send(id="x", error={"code": 1, "message": "?"})
            send(method="notifications/unknown")
            send(id=77, method="unknown/request")
            send(id=number, result=text("after"))
        case "flood":
            while True:
                send(method="notifications/message", params={"level": "info", "data": "x" * 100_000})
        case "endless":  # one message that never ends
            with lock:
                while True:
                    sys.stdout.write("x" * 1_000_000)
        case "huge":
            send(id=number, result=text("x" * arguments["bytes"]))
        case "wrong":
            send(id=number, result=arguments["result"])
        case "research":  # only as a task of the server
            if "task" not in params:
                send(id=number, error={"code": -32601, "message": "the tool must be called as a task"})
            else:
                polls["task-1"] = arguments.get("polls", 3)
                send(id=number, result={"task": status("task-1")})
        case "log":
            send(method="notifications/message", params={"level": "warning", "data": "disk almost full"})
            sys.stderr.write("a line on stderr\n")
            sys.stderr.flush()
            send(id=number, result=text("logged"))
        case "ask":
            params = {"message": "Your name?", "requestedSchema": {"type": "object", "properties": {}}}
            send(id="ask", method=arguments["method"], params=arguments.get("params", params))
            asked.append(number)
        case _:
            send(id=number, error={"code": -32602, "message": f"no tool {name}"})


asked: list[Any] = []
workers: list[threading.Thread] = []
polls: dict[str, int] = {}  # how often the status of a task must be requested until it has ended


def status(task_id: str) -> dict[str, Any]:
    polls[task_id] -= 1
    working = {"status": "working", "statusMessage": f"{polls[task_id]} left", "pollInterval": 10}
    shown = working if polls[task_id] > 0 else {"status": "completed"}
    if polls[task_id] < 0:
        shown = {"status": "input_required"}
    return (
        {"taskId": task_id, "ttl": None, "createdAt": "2026-01-01T00:00:00Z"}
        | shown
        | {"lastUpdatedAt": "2026-01-01T00:00:00Z"}
    )


def work_slowly(number: Any, arguments: dict[str, Any], token: Any) -> None:
    event = cancelled.setdefault(number, threading.Event())

    def work() -> None:
        steps = arguments.get("steps", 600)
        for step in range(steps):
            if event.wait(arguments.get("seconds", 0.1)):
                record({"stopped": number})
                return
            if token is not None:
                params = {"progressToken": token, "progress": step + 1, "message": f"step {step + 1}"}
                if arguments.get("total", True):
                    params["total"] = steps
                send(method="notifications/progress", params=params)
        send(id=number, result=text("done"))

    workers.append(threading.Thread(target=work, daemon=True))
    workers[-1].start()


def record(message: Any) -> None:
    if RECORD:
        with Path(RECORD).open("a") as file:
            file.write(json.dumps(message) + "\n")


def receive(message: dict[str, Any]) -> None:  # noqa: C901
    number, method, params = message.get("id"), message.get("method"), message.get("params") or {}
    match method:
        case "initialize":
            capabilities = {"tools": {}, "resources": {}, "prompts": {}, "logging": {}}
            info = {"name": "mcpprogram", "version": "1"}
            send(
                id=number,
                result={"protocolVersion": VERSION, "capabilities": capabilities, "serverInfo": info},
            )
        case "tools/list":
            send(id=number, result=tools_from(params.get("cursor")))
        case "prompts/list":  # never comes to an end
            send(id=number, result={"prompts": [], "nextCursor": "again"})
        case "tools/call":
            call(number, params)
        case "tasks/get" if os.environ.get("MCP_MODE") == "mortal":
            os._exit(3)
        case "tasks/get":
            send(id=number, result=status(params["taskId"]))
        case "tasks/result":
            send(id=number, result=text("found it"))
        case "tasks/cancel":
            polls[params["taskId"]] = 0
            send(id=number, result=status(params["taskId"]))
        case "notifications/cancelled":
            cancelled.setdefault(params["requestId"], threading.Event()).set()
        case "ping":
            send(id=number, result={})
        case None:
            if asked:
                send(id=asked.pop(), result=text(json.dumps(message.get("error") or message.get("result"))))
        case _:
            if number is not None:
                send(id=number, error={"code": -32601, "message": f"no method {method}"})


if __name__ == "__main__":
    mode = os.environ.get("MCP_MODE", "")
    if mode == "mute":
        time.sleep(600)
    if mode == "exit":
        sys.stderr.write("no configuration\n")
        sys.exit(4)
    record({"pid": os.getpid()})
    for line in sys.stdin:
        received = json.loads(line)
        record(received)
        receive(received)
    for worker in workers if any(event.is_set() for event in cancelled.values()) else ():
        worker.join(1)  # it records that it was stopped
    record({"end": "input"})
