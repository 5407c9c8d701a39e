"""Channels: connections to servers, shared by the tasks of an event loop.

Making one costs a call about a millisecond more, and the handshake with TLS; a thousand tasks in a row share
one. A channel that has failed is never used again: gRPC would wait, longer each time, before it reconnects.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator, Hashable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import grpc
import grpc.aio

from apflow.core.concurrency.loop_local import LoopLocal
from apflow.executor.grpc.errors import GrpcTimeoutError, GrpcUnavailableError
from apflow.executor.grpc.target import Target, Tls

MAX_CHANNELS = 64  # that are kept without being in use
IDLE_SECONDS = 60.0  # until the connection of an unused one is closed


@dataclass(slots=True)
class _Held:
    channel: grpc.aio.Channel
    users: int = 0
    is_kept: bool = True


class Channels:
    """The channels of one event loop."""

    def __init__(self) -> None:
        # Those last used stand last.
        self._held: OrderedDict[Hashable, _Held] = OrderedDict()

    @asynccontextmanager
    async def lease(self, target: Target, receive_bytes: int) -> AsyncGenerator[grpc.aio.Channel]:
        """Hold a channel to a target that receives messages of up to so many bytes."""
        key = target, receive_bytes
        held = self._held.get(key)
        if held is None:
            held = self._held[key] = _Held(open_channel(target, receive_bytes))
        self._held.move_to_end(key)
        held.users += 1
        try:
            yield held.channel
        except (GrpcUnavailableError, GrpcTimeoutError, asyncio.CancelledError):
            self._drop(key, held)
            raise
        finally:
            held.users -= 1
            await self._close_unused(held)

    async def close(self) -> None:
        """Close all channels, including those in use."""
        held = list(self._held.values())
        self._held.clear()
        for each in held:
            await each.channel.close()

    def _drop(self, key: Hashable, held: _Held) -> None:
        held.is_kept = False
        if self._held.get(key) is held:
            del self._held[key]

    async def _close_unused(self, held: _Held) -> None:
        unused = [] if held.is_kept or held.users else [held]
        spare = [(key, each) for key, each in self._held.items() if not each.users]
        for key, each in spare[: max(0, len(spare) - MAX_CHANNELS)]:
            self._drop(key, each)
            unused.append(each)
        for each in unused:
            await each.channel.close()


channels: LoopLocal[Channels] = LoopLocal(Channels, Channels.close)


def open_channel(target: Target, receive_bytes: int) -> grpc.aio.Channel:
    """Return a channel to these addresses and no other. It connects when it is used."""
    options = [
        ("grpc.default_authority", target.server.authority),
        ("grpc.enable_http_proxy", 0),
        ("grpc.use_local_subchannel_pool", 1),  # else a new channel shares the failed connection of another
        ("grpc.client_idle_timeout_ms", int(IDLE_SECONDS * 1000)),
        ("grpc.max_receive_message_length", receive_bytes),
        ("grpc.max_send_message_length", -1),  # what is sent is bounded by the size of a task's inputs
    ]
    tls = target.server.tls
    if tls is None:
        return grpc.aio.insecure_channel(target.uri, options=options)
    return grpc.aio.secure_channel(target.uri, _credentials(tls), options=options)


def _credentials(tls: Tls) -> grpc.ChannelCredentials:
    return grpc.ssl_channel_credentials(tls.ca, tls.key, tls.cert)
