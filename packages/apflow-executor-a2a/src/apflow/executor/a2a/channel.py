"""gRPC channels to agents: connected to addresses that the network policy has checked."""

from __future__ import annotations

import grpc
import grpc.aio

from apflow.core.net.connect import grpc_uri, resolve_one_family, with_port
from apflow.executor.a2a.interface import Interface


async def open_channel(interface: Interface, receive_bytes: int) -> grpc.aio.Channel:
    """Return a channel to an interface. It connects when it is used; the caller closes it.

    Args:
        receive_bytes: how large a message of the agent may be.

    Raises:
        AddressRefusedError, HostNotFoundError, HostUnreachableError: see `resolve_one_family`.
    """
    endpoints = await resolve_one_family(interface.host, interface.port)
    addresses = list(dict.fromkeys(each.address_in_uri for each in endpoints))
    target = grpc_uri(addresses, interface.port)
    options = [
        ("grpc.default_authority", with_port(interface.host, interface.port)),
        ("grpc.enable_http_proxy", 0),
        ("grpc.use_local_subchannel_pool", 1),  # else a new channel shares the failed connection of another
        ("grpc.max_receive_message_length", receive_bytes),
        ("grpc.max_send_message_length", -1),  # what is sent is bounded by the size of a task's inputs
    ]
    if interface.is_secure:
        return grpc.aio.secure_channel(target, grpc.ssl_channel_credentials(), options=options)
    return grpc.aio.insecure_channel(target, options=options)
