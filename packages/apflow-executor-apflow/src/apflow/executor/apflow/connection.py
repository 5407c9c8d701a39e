"""Connections to other servers, kept between the tasks of a process, for each event loop."""

from __future__ import annotations

from apflow.core.concurrency.loop_local import LoopLocal
from apflow.http import GuardedTransport

# The engine bounds how many tasks run. A lower bound here would let one slow server hold up all others.
CONNECTIONS = 1 << 16

_transports = LoopLocal(lambda: GuardedTransport(connections=CONNECTIONS), GuardedTransport.aclose)


async def transport() -> GuardedTransport:
    """Return the transport of the running loop. It asks the network policy where it connects."""
    return await _transports.get()


async def close_connections() -> None:
    """Close what the running loop keeps open."""
    await _transports.close()
