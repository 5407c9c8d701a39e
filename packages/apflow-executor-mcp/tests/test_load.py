"""Many connections, and what they leave."""

import asyncio
import gc
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from peers.leftovers import settled as no_more_than
from peers.mcphttp import McpPeer
from peers.mcprunning import Program, is_alive, run, said

from apflow.executor.mcp import McpError
from apflow.executor.mcp.pool import close_connections

SESSIONS = 50
MAX_BLOCKS = 40  # of memory that one closed session may leave; an open one has hundreds
CRASHING = """
import asyncio, json, os, sys
from apflow.executor.mcp import McpExecutor

async def main():
    executor = McpExecutor()
    await executor.execute(json.loads(sys.argv[1]))
    await executor.execute(json.loads(sys.argv[2]))

asyncio.run(main())
"""


def held() -> tuple[int, int]:
    """Count the open descriptors and threads of this process, without the bounded pool of the event loop."""
    threads = [each for each in threading.enumerate() if not each.name.startswith(("asyncio_", "Thread-"))]
    return len(list(Path("/proc/self/fd").iterdir())), len(threads)


def children() -> set[str]:
    """Return the processes that this process has started."""
    return set(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())


async def leaves_no_more_than(before: tuple[tuple[int, int], set[str]]) -> None:
    """Wait until no descriptor, thread or process is left that was not there before."""
    await no_more_than(before[0], held)
    assert children() <= before[1]


async def test_20_programs_leave_nothing(program: Program):
    await run(program.calling("echo"))
    await close_connections()
    before = held(), children()
    for number in range(20):
        assert said(await run(program.calling("echo", {"n": number}))) == f'{{"n": {number}}}'
        await close_connections()
    await leaves_no_more_than(before)
    assert len(set(program.pids)) == 21


async def test_sessions_leave_nothing(peer: McpPeer):
    call = {"operation": "call_tool", "tool_name": "echo", "url": peer.url("/json?load")}

    async def use(count: int) -> None:
        for _ in range(count):
            await run({"transport": "http", **call})
            await close_connections()
        peer.seen.clear()
        peer.deleted.clear()
        peer.sessions.clear()

    await use(10)
    before, processes = await settled(), children()
    growths: list[int] = []
    while len(growths) < 4 and (not growths or growths[-1] / SESSIONS >= MAX_BLOCKS):
        blocks = allocated()
        await use(SESSIONS)
        assert (await settled())[1] <= before[1]
        assert children() <= processes
        growths.append(allocated() - blocks)
    assert growths[-1] / SESSIONS < MAX_BLOCKS, growths  # caches grow at first, a leak each time


def allocated() -> int:
    """Return how many blocks of memory are allocated."""
    gc.collect()
    return sys.getallocatedblocks()


async def settled() -> tuple[int, int]:
    """Return what is held once the server has seen that connections are closed."""
    counts = held()
    for _ in range(100):
        await asyncio.sleep(0.05)
        if held() == counts:
            return counts
        counts = held()
    return counts


async def test_failures_leave_nothing(program: Program):
    ways: list[dict[str, Any]] = [
        program.calling("die"),
        program.calling("kill"),
        program.calling("hang", timeout=0.2),
        program.calling("slow", timeout=0.2),
        program.calling("garbage", {"lines": 2000}),
        program.calling("fail"),
        program.inputs("list_tools", mode="exit"),
        program.inputs("list_prompts"),
    ]

    async def fail_in_each_way() -> None:
        for inputs in ways:
            try:
                await run(inputs)
            except McpError:
                continue
            raise AssertionError(inputs)
        await close_connections()

    await fail_in_each_way()
    before = held(), children()
    for _ in range(2):
        await fail_in_each_way()
    await leaves_no_more_than(before)
    assert program.running == []


def test_no_program_outlives_a_process_that_is_killed(program: Program):
    calls = [json.dumps(program.calling(name)) for name in ("echo", "hang")]
    process = subprocess.Popen([sys.executable, "-c", CRASHING, *calls])
    limit = time.monotonic() + 60
    while not any(each.get("params", {}).get("name") == "hang" for each in program.messages):
        assert time.monotonic() < limit
        time.sleep(0.05)
    (pid,) = program.pids
    assert is_alive(pid)
    process.send_signal(signal.SIGKILL)
    process.wait()
    while is_alive(pid):
        assert time.monotonic() < limit
        time.sleep(0.05)
