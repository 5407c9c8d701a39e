"""What a process that runs trees does with memory."""

import subprocess
import sys

import pytest

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
