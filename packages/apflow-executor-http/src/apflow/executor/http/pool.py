"""Connections, kept between the tasks of a process: a pool for each event loop, policy and trust."""

from __future__ import annotations

import contextlib
import ssl

from apflow.core.net import net_policy
from apflow.core.netpolicy import NetPolicy
from apflow.core.perloop import PerLoop
from apflow.executor.http.errors import RestInputError
from apflow.http import GuardedTransport

MOST = 16  # pools of one loop; what was not used for longest is closed

Key = tuple[NetPolicy, bool | str]


class Pools:
    """The pools of one event loop. What was opened under another policy is never used again."""

    def __init__(self) -> None:
        self._open: dict[Key, GuardedTransport] = {}

    async def get(self, policy: NetPolicy, verify: bool | str) -> GuardedTransport:
        """Return the pool for a policy and what is trusted.

        Raises:
            RestInputError: `verify` names no file with certificates.
        """
        key = policy, verify
        transport = self._open.pop(key, None)
        if transport is None:
            try:
                transport = GuardedTransport(policy, verify=verify)
            except (OSError, ssl.SSLError) as error:
                raise RestInputError(
                    f"verify names {verify!r}, which holds no certificates: {error}."
                ) from error
        self._open[key] = transport
        if len(self._open) > MOST:
            await self._open.pop(next(iter(self._open))).aclose()
        return transport

    async def close(self) -> None:
        """Close all of them."""
        while self._open:
            with contextlib.suppress(RuntimeError):  # one whose connection is in use by what was left behind
                await self._open.popitem()[1].aclose()


_pools = PerLoop(Pools, Pools.close)


async def transport_for(verify: bool | str) -> GuardedTransport:
    """Return the transport of the running loop for the policy of this moment."""
    return await (await _pools.get()).get(net_policy(), verify)


async def close_connections() -> None:
    """Close what the running loop keeps open."""
    await _pools.close()
