"""A process that is forked from one with an open store."""

import subprocess
import sys

PROGRAM = """
import asyncio, os, sys, threading, time
from apflow.core import create_session
from apflow.core.errors import StoreForkedError
from apflow.testing.building import a_task, a_tree

store = create_session(sys.argv[1])
store.listen(lambda notice: None)
asyncio.run(store.add(a_tree("r", "a")))
asyncio.run(store.get(["r"]))
is_done = False

def keep_busy():  # the fork meets connections in the middle of something
    number = 0
    while not is_done:
        number += 1
        asyncio.run(store.add([a_task(f"busy-{number}")]))

busy = threading.Thread(target=keep_busy)
busy.start()
for _ in range(5):
    pid = os.fork()
    if not pid:
        calls = [lambda: store.add([a_task("x")]), lambda: store.get(["r"]), lambda: store.events("r"),
                 lambda: store.renew("me", ["r"]), lambda: store.records("k"),
                 lambda: store.put_record("k", "x", [1])]
        for call in calls:
            try:
                asyncio.run(asyncio.wait_for(call(), 20))
            except StoreForkedError as error:
                assert error.opened_by == os.getppid()
            else:
                sys.exit(f"{call} was not refused")
        own = create_session(sys.argv[1])
        assert own is not store
        assert set(asyncio.run(own.get(["r", "a"]))) == {"r", "a"}
        asyncio.run(own.add([a_task(f"child-{os.getpid()}")]))
        asyncio.run(store.close())
        sys.exit(0)  # with everything that the interpreter does at its end
    for _ in range(400):
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            break
        time.sleep(0.1)
    else:
        os.kill(pid, 9)
        print("a child hangs", file=sys.stderr)
        os._exit(2)
    if status:
        os._exit(1)
is_done = True
busy.join(30)
assert not busy.is_alive(), "the parent hangs"
asyncio.run(asyncio.wait_for(store.add([a_task("after")]), 20))
assert set(asyncio.run(asyncio.wait_for(store.get(["r", "a", "after"]), 20))) == {"r", "a", "after"}
asyncio.run(store.close())
"""


def test_a_forked_process_is_refused_the_open_store_and_opens_its_own(postgres_url: str):
    """The first process continues: the child neither uses nor closes its connections."""
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", PROGRAM, postgres_url]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=200)
    assert (ended.returncode, ended.stderr) == (0, "")
