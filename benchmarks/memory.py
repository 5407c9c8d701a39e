"""Rows about memory: each figure is the peak of a dedicated process."""

from __future__ import annotations

import asyncio
import resource
import subprocess
import sys
from pathlib import Path

from benchmarks.files import fresh_store
from benchmarks.floor import push_in_batches
from benchmarks.line import Line
from benchmarks.running import created, run_watched
from benchmarks.trees import fan_out


def memory(count: int) -> list[Line]:
    """Measure the peak of a process that runs a fan-out, beside one that pushes the same changes."""
    engine, floor = peak_of("engine", count), peak_of("floor", count)
    about = (
        f"peak of a process with a fan-out of {count:,}; floor: the same tasks and changes without the engine"
    )
    return [Line(f"memory_{count}", engine / 2**20, floor / 2**20, "MiB", about)]


def peak_of(what: str, count: int) -> int:
    """Run this module in a separate process and return its peak in bytes."""
    command = [sys.executable, "-m", "benchmarks.memory", what, str(count)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return int(done.stdout)


def peak() -> int:
    """Return the most memory that this process has held, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():  # ru_maxrss would count what the parent held when it started this process
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


async def work(what: str, count: int) -> None:
    """Do the work of which the memory is asked."""
    async with fresh_store() as store:
        if what == "engine":
            await run_watched(store, await created(store, fan_out(count)))
        else:
            await push_in_batches(store, fan_out(count))


if __name__ == "__main__":
    asyncio.run(work(sys.argv[1], int(sys.argv[2])))
    print(peak())
