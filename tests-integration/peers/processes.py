"""What tests ask about other processes."""

from apflow.core.process.identity import started


def is_alive(pid: int) -> bool:
    """Return whether a process runs. One that has ended and that its parent has not waited for does not."""
    return started(pid) not in (None, "ended")
