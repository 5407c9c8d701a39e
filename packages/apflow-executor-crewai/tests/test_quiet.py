"""A run of crews contacts no address but the model's, prints nothing, and stores no answers."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from peers import required

PROGRAM = """
import asyncio, json, sys
from apflow.executor.crewai import BatchManager, CrewManager
from apflow.core.extensions.tools import Tool, tool_register
from apflow.testing.modelserver import Reply, ToolCall, model_server

@tool_register()
class Adder(Tool):
    id = "adder"
    description = "Adds numbers."

    async def execute(self, inputs):
        return 3

work = {"agents": [{"role": "A", "goal": "B", "tools": ["adder"]}], "tasks": [{"description": "C"}]}

async def main(server):
    llm = {"model": "openai/gpt-4o", "api_base": server.openai_url, "api_key": "key-of-test"}
    llm["retry"] = {"max_attempts": 1}
    server.script.append(Reply("", tool_calls=[ToolCall("adder", {"x": 1})]))
    done = await CrewManager(**work, llm=llm).execute({})
    batch = await BatchManager(works={"one": work, "two": work}, llm=llm).execute({})
    planned = await CrewManager(**work, llm=llm, process="hierarchical").execute({})
    server.default = Reply("no", status=429)
    failed = await CrewManager(**work, llm=llm).execute({})
    statuses = [each["status"] for each in (done, batch, planned, failed)]
    print(json.dumps([server.port, len(server.requests), *statuses]), file=sys.stderr)

with model_server() as server:
    asyncio.run(main(server))
"""
COMMANDS = """
import os, runpy, signal, sys, threading, time
from urllib.request import urlopen

os.environ["APFLOW_DATABASE_URL"] = "duckdb:///test.duckdb"

def run(*arguments):
    sys.argv = ["apflow", *arguments]
    try:
        runpy.run_module("apflow.cli", run_name="__main__")
    except SystemExit as end:
        assert not end.code, (arguments, end.code)

def stop():
    while True:
        try:
            urlopen("http://127.0.0.1:8765/health").close()
            break
        except OSError:
            time.sleep(0.05)
    os.kill(os.getpid(), signal.SIGTERM)

run("--help")
run("executors", "list")
threading.Thread(target=stop, daemon=True).start()
run("serve", "--port", "8765")
print(sorted(set(sys.modules) & {"crewai", "litellm", "openai", "chromadb"}), file=sys.stderr)
"""
CONTROL = "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).connect(('192.0.2.1', 53))"
# Every address that a process connects or sends to.
TRACE = ["strace", "-f", "--seccomp-bpf", "-qq", "-e", "trace=connect,sendto,sendmsg,sendmmsg", "-o"]
ADDRESS = re.compile(r'sin6?_port=htons\((\d+)\).*?(?:inet_addr\("|inet_pton\(AF_INET6, ")([^"]+)"')
CAN_TRACE = os.getuid() == 0 and all(map(shutil.which, ("unshare", "ip", "strace")))


def traced(program: str, folder: Path) -> tuple[subprocess.CompletedProcess[str], set[tuple[str, int]]]:
    """Run a program in a separate network, with loopback only; return it, and what it sent anything to."""
    (folder / "home").mkdir()
    command = [*TRACE, str(folder / "trace"), sys.executable, "-c", program]
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("CREWAI", "OTEL", "LITELLM"))
    }
    done = subprocess.run(
        ["unshare", "--net", "sh", "-ec", 'ip link set lo up && exec "$@"', "sh", *command],
        capture_output=True, text=True, check=False, timeout=400, cwd=folder,
        env=kept | {"HOME": str(folder / "home"), "TMPDIR": str(folder), "XDG_DATA_HOME": ""},
    )  # fmt: skip
    found = ADDRESS.findall((folder / "trace").read_text())
    return done, {(address, int(port)) for port, address in found}


needs_trace = required.needs(CAN_TRACE, "takes root, unshare, ip and strace")


@needs_trace
def test_crews_contact_the_model_only_and_print_nothing(tmp_path: Path):
    done, contacted = traced(PROGRAM, tmp_path)
    assert done.returncode == 0, done.stderr
    port, calls, *statuses = json.loads(done.stderr.splitlines()[-1])
    assert statuses == ["completed", "completed", "completed", "failed"]
    assert calls == 6
    assert contacted == {("127.0.0.1", port)}
    assert done.stdout == ""
    assert list((tmp_path / "home").rglob("*.db")) == [], "CrewAI keeps answers in a database"
    assert list(tmp_path.glob("apflow-crewai-*")) == []


@needs_trace
def test_a_server_and_commands_contact_nothing_and_load_neither_library(tmp_path: Path):
    done, contacted = traced(COMMANDS, tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1] == "[]"
    assert {address for address, _ in contacted} <= {"127.0.0.1"}


@needs_trace
def test_a_program_that_contacts_another_address_is_noticed(tmp_path: Path):
    _, contacted = traced(CONTROL, tmp_path)
    assert contacted == {("192.0.2.1", 53)}
