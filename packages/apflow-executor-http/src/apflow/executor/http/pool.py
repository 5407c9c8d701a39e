"""Connections, kept between the tasks of a process: a pool for each event loop and what is trusted."""

from __future__ import annotations

from pathlib import Path

from apflow.core.perloop import PerLoop
from apflow.executor.http.errors import RestInputError
from apflow.http import GuardedTransport

MOST = 16  # pools of one loop; what was not used for longest is closed
# The engine bounds how many tasks run. A lower bound here would let one slow host hold up all others.
CONNECTIONS = 1 << 16

Key = tuple[bool | str, int]  # what is trusted, and when that file was written


class Pools:
    """The pools of one event loop."""

    def __init__(self) -> None:
        self._open: dict[Key, GuardedTransport] = {}

    async def get(self, verify: bool | str) -> GuardedTransport:
        """Return the pool for what is trusted.

        Raises:
            RestInputError: `verify` names no file with certificates.
        """
        try:
            key = verify, _written(verify)
            transport = self._open.pop(key, None) or GuardedTransport(verify=verify, connections=CONNECTIONS)
        except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: ~ of a user who does not exist
            raise RestInputError(f"verify names {verify!r}, which holds no certificates: {error}.") from error
        self._open[key] = transport
        if len(self._open) > MOST:
            await self._open.pop(next(iter(self._open))).aclose()
        return transport

    async def close(self) -> None:
        """Close all of them."""
        while self._open:
            await self._open.popitem()[1].aclose()


def _written(verify: bool | str) -> int:
    return 0 if isinstance(verify, bool) else Path(verify).expanduser().stat().st_mtime_ns


_pools = PerLoop(Pools, Pools.close)


async def transport_for(verify: bool | str) -> GuardedTransport:
    """Return the transport of the running loop for what is trusted."""
    return await (await _pools.get()).get(verify)


async def close_connections() -> None:
    """Close what the running loop keeps open."""
    await _pools.close()
