"""No executor connects to where the policy forbids it, however the way there is written."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from calls import executed
from hostile import INSIDE, METADATA
from peers import required

from apflow.core.errors import AddressRefusedError, ApflowError

Call = Callable[[str, int], tuple[str, dict[str, Any]]]

# The target of each executor: a URL, or a host.
CALLS: dict[str, Call] = {
    "http": lambda host, port: ("rest_executor", {"url": f"http://{host}:{port}/"}),
    "mcp": lambda host, port: (
        "mcp_executor",
        {"transport": "http", "operation": "list_tools", "url": f"http://{host}:{port}/mcp"},
    ),
    "mcp-sse": lambda host, port: (
        "mcp_executor",
        {"transport": "sse", "operation": "list_tools", "url": f"http://{host}:{port}/sse"},
    ),
    "websocket": lambda host, port: ("websocket_executor", {"url": f"ws://{host}:{port}/", "message": "m"}),
    "grpc": lambda host, port: (
        "grpc_executor",
        {"server": f"{host}:{port}", "service": "s.S", "method": "M", "request": {}},
    ),
    "a2a": lambda host, port: ("a2a_executor", {"agent": f"http://{host}:{port}/", "message": "m"}),
    "ssh": lambda host, port: (
        "ssh_executor",
        {"host": host.strip("[]"), "port": port, "username": "u", "password": "p", "command": "true"},
    ),
}


@pytest.fixture
async def canary() -> AsyncIterator[tuple[int, list[str]]]:
    """A port at every address of the loopback interface, and who has come there."""
    callers: list[str] = []

    async def note(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        callers.append(str(writer.get_extra_info("sockname")))
        writer.close()

    async with await asyncio.start_server(note, "0.0.0.0", 0) as server:
        yield server.sockets[0].getsockname()[1], callers


@pytest.mark.parametrize("name", CALLS)
async def test_a_hundred_ways_to_the_inside_are_refused(
    name: str, canary: tuple[int, list[str]], monkeypatch: pytest.MonkeyPatch
):
    port, callers = canary
    monkeypatch.setenv("APFLOW_NET_POLICY", "public")
    hosts = [*INSIDE, *METADATA]
    assert len(hosts) >= 100
    refused = 0
    for host in hosts:
        executor_id, given = CALLS[name](host, port)
        async with asyncio.timeout(30):
            with pytest.raises(ApflowError) as caught:
                await executed(executor_id, given | {"timeout": 5})
        refused += isinstance(caught.value, AddressRefusedError)
        assert callers == [], host
    assert refused >= 75, "most are read as addresses, and refused as such"


@pytest.mark.parametrize("name", CALLS)
async def test_metadata_is_refused_also_where_all_else_is_open(name: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("APFLOW_NET_POLICY", "open")
    refused = 0
    for host in METADATA:
        executor_id, given = CALLS[name](host, 80)
        async with asyncio.timeout(30):
            with pytest.raises(ApflowError) as caught:
                await executed(executor_id, given | {"timeout": 5})
        refused += isinstance(caught.value, AddressRefusedError)
        if isinstance(caught.value, AddressRefusedError):
            assert "metadata" in str(caught.value)
            assert "APFLOW_NET_ALLOW" in str(caught.value)
    assert refused >= len(METADATA) - 3


# A host that answers differently each time it is asked for. It needs a separate network, with a name
# server in it and a public address that is really there.
REBINDING = Path(__file__).parent / "rebinding.py"
CAN_UNSHARE = os.getuid() == 0 and shutil.which("unshare") and shutil.which("ip")


@required.needs(CAN_UNSHARE, "takes root, unshare and ip")
@pytest.mark.parametrize("name", CALLS)
def test_who_answers_differently_the_second_time_gains_nothing(name: str, tmp_path: Path):
    (tmp_path / "resolv.conf").write_text("nameserver 127.0.0.1\noptions attempts:1 timeout:2\n")
    script = (
        "ip link set lo up && ip addr add 93.184.216.34/32 dev lo && "
        f"mount --bind {tmp_path}/resolv.conf /etc/resolv.conf && exec {sys.executable} {REBINDING} {name}"
    )
    done = subprocess.run(
        ["unshare", "--net", "--mount", "sh", "-ec", script],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=tmp_path,
        env=os.environ | {"APFLOW_NET_POLICY": "public", "PYTHONPATH": str(REBINDING.parent)},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout.splitlines()[-1])
    assert seen["inside"] == 0, "what is inside was connected to"
    assert seen["outside"] >= 1, "what was judged was not connected to"
    assert seen["asked"] >= 1
    assert "AddressRefusedError" in seen["then"], "the second answer was judged, too"
