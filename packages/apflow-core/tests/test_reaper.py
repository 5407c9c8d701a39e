"""Programs end when the process that started them dies."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from peers.processes import is_alive

pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")

# Starts a program as the executors do, and says so; then it waits.
PARENT = """
import os, subprocess, sys, time
from apflow.core.process.reaper import reaper
end, output = os.pipe()
watched = reaper.watch([output])
program = subprocess.Popen(["/bin/sh", "-c", sys.argv[1]], stdout=output, start_new_session=True)
os.close(output)
if sys.argv[2] == "named":
    watched.started(program.pid)
print(os.read(end, 1000).decode().strip(), flush=True)
if sys.argv[2] == "taken back":
    watched.ended()
    print("taken back", flush=True)
exec(sys.argv[3])
"""
FOREVER = "time.sleep(60)"


def until(claim: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not claim():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def pids() -> Iterator[list[int]]:
    """Processes that must not outlive a test, whatever it finds."""
    kept: list[int] = []
    yield kept
    for pid in kept:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def start(program: str, manner: str, then: str = FOREVER) -> tuple[subprocess.Popen[str], list[int]]:
    """Start a parent, and return it with the processes that its program names."""
    command = [sys.executable, "-c", PARENT, program, manner, then]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    return parent, [int(word) for word in parent.stdout.readline().split()]


@pytest.mark.parametrize("manner", ["named", "only announced"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_a_program_does_not_outlive_its_parent(manner: str, number: int, pids: list[int]):
    parent, found = start("sleep 61 & echo $$ $!; wait", manner)
    pids += found
    assert len(found) == 2
    parent.send_signal(number)
    parent.communicate()
    until(lambda: not any(is_alive(each) for each in found))


def test_a_program_that_ignores_the_request_to_end_is_killed(pids: list[int]):
    parent, found = start("trap '' TERM; sleep 62 & echo $$ $!; while :; do wait; done", "named")
    pids += found
    parent.kill()
    parent.communicate()
    until(lambda: not any(is_alive(each) for each in found))


def test_a_program_that_has_left_its_group_is_found_by_its_output(pids: list[int]):
    parent, found = start("setsid sh -c 'echo $$; exec sleep 63' & sleep 63", "named")
    pids += found
    parent.kill()
    parent.communicate()
    until(lambda: not any(is_alive(each) for each in found))


@pytest.mark.parametrize("then", ["", "os._exit(0)", "raise SystemExit(3)", "1 / 0"])
def test_a_program_does_not_outlive_an_exit(then: str, pids: list[int]):
    parent, found = start("echo $$; exec sleep 64", "named", then)
    pids += found
    parent.communicate()
    until(lambda: not any(is_alive(each) for each in found))


def test_a_program_that_was_taken_back_goes_on(pids: list[int]):
    parent, found = start("echo $$; exec sleep 65", "taken back")
    pids += found
    assert parent.stdout is not None
    assert parent.stdout.readline() == "taken back\n"
    others, ended = start("echo $$; exec sleep 65", "named")
    for each in (parent, others):
        each.kill()
        each.communicate()
    until(lambda: not is_alive(ended[0]))
    assert is_alive(found[0])


def test_a_helper_that_was_killed_is_replaced(pids: list[int]):
    kill_helper = (
        "reaper._helper.kill(); reaper._helper.wait()\n"
        "end, output = os.pipe(); other = reaper.watch([output])\n"
        "second = subprocess.Popen(['sleep', '66'], stdout=output, start_new_session=True)\n"
        "other.started(second.pid); print(second.pid, flush=True)\n" + FOREVER
    )
    parent, found = start("echo $$; exec sleep 66", "named", kill_helper)
    assert parent.stdout is not None
    found.append(int(parent.stdout.readline()))
    pids += found
    parent.kill()
    parent.communicate()
    until(lambda: not any(is_alive(each) for each in found))


def test_a_forked_child_takes_a_helper_of_its_own(pids: list[int]):
    fork = (
        "child = os.fork()\n"
        "if child:\n    print(child, flush=True); os._exit(0)\n"
        "assert reaper._helper is None and not reaper._watched\n"
        "end, output = os.pipe(); other = reaper.watch([output])\n"
        "second = subprocess.Popen(['sleep', '67'], stdout=output, start_new_session=True)\n"
        "other.started(second.pid); print(second.pid, flush=True)\n" + FOREVER
    )
    parent, found = start("echo $$; exec sleep 67", "named", fork)
    pids += found
    assert parent.stdout is not None
    child, second = sorted(int(parent.stdout.readline()) for _ in range(2))
    pids += [child, second]
    parent.wait()
    until(lambda: not is_alive(found[0]))
    assert is_alive(second)
    os.kill(child, signal.SIGKILL)
    until(lambda: not is_alive(second))
    parent.communicate()
