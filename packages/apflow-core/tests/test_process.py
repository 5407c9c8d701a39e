import os
import subprocess
from pathlib import Path

from apflow.core.process.identity import has_ended, host, started


def test_a_process_is_known_by_its_number_and_start():
    me, when = os.getpid(), started(os.getpid())
    assert when is not None
    assert not has_ended(me, when)
    assert not has_ended(me, "")  # when it started was not seen
    assert has_ended(me, "1")
    assert not has_ended(0, "1")
    assert not has_ended(10**30, "1")


def test_a_process_that_was_not_waited_for_counts_as_ended():
    child = subprocess.Popen(["sleep", "60"])
    when = started(child.pid)
    assert when is not None
    assert not has_ended(child.pid, when)
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert has_ended(child.pid, when)
    child.wait()
    assert has_ended(child.pid, when)


def test_a_host_is_a_boot_of_a_machine():
    assert Path("/proc/sys/kernel/random/boot_id").read_text().strip() in host()
    assert host() == host()
