"""How processes that run trees configure the garbage collector and malloc."""

import asyncio
import gc
import subprocess
import sys

import pytest

from apflow.core import TaskExecutor
from apflow.core.engine.gc_tuning import THRESHOLD, collect_rarely
from apflow.core.engine.worker import Worker
from apflow.core.store.memory import MemoryStore

PROGRAM = """
import ctypes, sys
from apflow.core.engine.gc_tuning import return_large_blocks

names = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()

class Info(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in names]

look = getattr(ctypes.CDLL(None), "mallinfo2", None)
if look is None:
    sys.exit(77)
look.restype = Info
if sys.argv[1] == "tuned":
    return_large_blocks()
bytearray(8_000_000)  # glibc takes blocks up to this size from its arenas from now on
before = look().hblkhd
kept = [bytearray(1_000_000) for _ in range(10)]
print((look().hblkhd - before) // 1_000_000)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="malloc of glibc")
@pytest.mark.parametrize(("how", "mapped"), [("tuned", 10), ("untuned", 0)])
def test_large_blocks_are_the_systems_again_as_soon_as_they_are_free(how: str, mapped: int):
    """Blocks that malloc maps one by one go back at once; those in an arena wait for their neighbours."""
    command = [sys.executable, "-c", PROGRAM, how]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env={})
    if ended.returncode == 77:
        pytest.skip("this glibc does not report what is mapped")
    assert (ended.stderr, ended.stdout) == ("", f"{mapped}\n")


def test_library_calls_do_not_change_the_garbage_collector():
    async def main() -> None:
        db = MemoryStore()
        worker = Worker(db)
        running = asyncio.create_task(worker.run())
        await TaskExecutor().execute_tasks([{"name": "root"}], db_session=db)
        worker.drain()
        await running

    before = gc.get_threshold()
    asyncio.run(main())
    assert gc.get_threshold() == before


@pytest.mark.parametrize(
    ("before", "after"),
    [((700, 10, 10), (THRESHOLD, 10, 10)), ((0, 10, 10), (0, 10, 10)), ((90_000, 5, 5), (90_000, 5, 5))],
)
def test_a_disabled_or_rarer_collector_stays_as_it_is(
    before: tuple[int, int, int], after: tuple[int, int, int]
):
    original = gc.get_threshold()
    try:
        gc.set_threshold(*before)
        collect_rarely()
        assert gc.get_threshold() == after
    finally:
        gc.set_threshold(*original)
