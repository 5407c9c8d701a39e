"""A process that is forked from one at work starts with what a new process has."""

import subprocess
import sys
import textwrap

import pytest

PROGRAMS = {
    "a store in memory is refused, and a new one is empty": """
        store = create_session("memory://")
        asyncio.run(store.add([a_task("parent")]))

        def child():
            calls = (lambda: store.get(["parent"]), lambda: store.add([a_task("x")]))
            for call in calls:
                try:
                    asyncio.run(asyncio.wait_for(call(), 20))
                except StoreForkedError as error:
                    assert str(os.getppid()) in str(error), error
                else:
                    raise AssertionError("not refused")
            new = create_session("memory://")
            assert new is not store
            assert asyncio.run(new.find(TaskQuery())) == []
    """,
    "a store that was not opened before the fork is opened in the child": """
        store = create_session("memory://")

        def child():
            assert create_session("memory://") is store
            asyncio.run(store.add([a_task("child")]))
    """,
    "locks that threads of the parent hold are free": """
        from apflow.core import task_executor
        from apflow.core.concurrency import fair_semaphore
        from apflow.core.engine import active_runs
        from apflow.core.events import bus
        from apflow.core.service import llm_keys
        from apflow.core.store import session
        store = create_session("memory://")
        locks = [bus._lock, active_runs._lock, llm_keys._lock, session._lock, fair_semaphore._lock,
                 task_executor.TaskExecutor._lock, store._lock]
        holding = threading.Event()

        def hold():
            with contextlib.ExitStack() as stack:
                for lock in locks:
                    stack.enter_context(lock.lock)
                holding.set()
                time.sleep(60)

        store._guard._pid = None
        threading.Thread(target=hold, daemon=True).start()
        assert holding.wait(20)

        def child():
            active_runs.owner_id()
            new = create_session("memory://")
            asyncio.run(new.add([a_task("r")]))
            bus.bus_of(new)
            task_executor.TaskExecutor()
            fair_semaphore.process_semaphore(4)
    """,
    "a child runs trees with its own threads and runs": """
        pool = thread_pool.ThreadPool("pool", 1)
        asyncio.run(pool.run(time.time))
        task_executor.TaskExecutor()._running.append("a run of the parent")
        owner = active_runs.owner_id()

        def child():
            asyncio.run(asyncio.wait_for(pool.run(time.time), 20))
            assert task_executor.TaskExecutor()._running == []
            assert active_runs.owner_id() != owner
    """,
}

FRAME = """
import asyncio, contextlib, os, sys, threading, time, traceback, warnings
from apflow.core import create_session, task_executor
from apflow.core.concurrency import thread_pool
from apflow.core.engine import active_runs
from apflow.core.errors import StoreForkedError
from apflow.core.store.base import TaskQuery
from apflow.testing.building import a_task

{program}

pid = os.fork()
if not pid:
    try:
        child()
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    sys.exit(0)
for _ in range(300):
    ended, status = os.waitpid(pid, os.WNOHANG)
    if ended:
        os._exit(os.waitstatus_to_exitcode(status))
    time.sleep(0.1)
os.kill(pid, 9)
print("the child hangs", file=sys.stderr)
os._exit(2)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="this system does not fork")
@pytest.mark.parametrize("what", PROGRAMS)
def test_in_a_forked_process(what: str):
    program = FRAME.format(program=textwrap.dedent(PROGRAMS[what]))
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", program]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == 0, ended.stderr
