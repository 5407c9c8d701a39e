"""Connections, kept between the tasks of a process: a pool for each event loop and what is trusted."""

from __future__ import annotations

import asyncio
import ssl
from functools import partial

from apflow.core.concurrency.loop_local import LoopLocal
from apflow.core.permissions.file_policy import read_certificates
from apflow.executor.http.errors import RestInputError
from apflow.http import GuardedTransport

MAX_POOLS = 16  # pools of one loop; what was not used for longest is closed
# The engine bounds how many tasks run. A lower bound here would let one slow host hold up all others.
CONNECTIONS = 1 << 16

Trust = bool | str  # whose certificates are trusted: as `verify`, a path replaced by the certificates there


class Pools:
    """The pools of one event loop."""

    def __init__(self) -> None:
        self._open: dict[Trust, GuardedTransport] = {}

    async def get(self, verify: bool | str) -> GuardedTransport:
        """Return the pool for what is trusted.

        Raises:
            RestInputError: `verify` names no file with certificates.
            FileRefusedError: the file policy does not permit that file.
        """
        try:
            trust = verify if isinstance(verify, bool) else await read_certificates(verify)
            transport = self._open.pop(trust, None) or await self._make(trust)
        except (OSError, ValueError) as error:
            raise RestInputError(f"verify names {verify!r}, which holds no certificates: {error}.") from error
        self._open[trust] = transport
        if len(self._open) > MAX_POOLS:
            await self._open.pop(next(iter(self._open))).aclose()
        return transport

    async def _make(self, trust: Trust) -> GuardedTransport:
        """Return a new pool, or the one that another task has made in the meantime."""
        if isinstance(trust, bool):
            return GuardedTransport(verify=trust, connections=CONNECTIONS)
        # It takes a while for many certificates.
        context = await asyncio.to_thread(partial(ssl.create_default_context, cadata=trust))
        return self._open.pop(trust, None) or GuardedTransport(verify=context, connections=CONNECTIONS)

    async def close(self) -> None:
        """Close all of them."""
        while self._open:
            await self._open.popitem()[1].aclose()


_pools = LoopLocal(Pools, Pools.close)


async def transport_for(verify: bool | str) -> GuardedTransport:
    """Return the transport of the running loop for what is trusted."""
    return await (await _pools.get()).get(verify)


async def close_connections() -> None:
    """Close what the running loop keeps open."""
    await _pools.close()
