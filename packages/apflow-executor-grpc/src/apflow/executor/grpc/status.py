"""What the end of a call means: its status, and the rich details that some servers send with it."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from typing import Any, cast

import grpc
import grpc.aio
from google.protobuf import json_format
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2  # type: ignore[import-untyped]
from grpc_status import rpc_status

from apflow.executor.grpc.errors import (
    GrpcCallError,
    GrpcError,
    GrpcOutputError,
    GrpcTimeoutError,
    GrpcUnavailableError,
)
from apflow.executor.grpc.metadata import Pairs, without_secrets

# How gRPC says that it, and not the server, refuses a message.
TOO_LARGE = ("CLIENT: Received message larger than max", "Decompressed message larger than max")

_KINDS = {
    grpc.StatusCode.DEADLINE_EXCEEDED: GrpcTimeoutError,
    grpc.StatusCode.UNAVAILABLE: GrpcUnavailableError,
}


def error_of(
    error: grpc.aio.AioRpcError,
    server: str,
    method: str,
    *,
    limit: int,
    metadata: Pairs = (),
    pools: Iterable[DescriptorPool] = (),
) -> GrpcError:
    """Return the error for a call that ended with another status than OK.

    Args:
        limit: of the output, in bytes.
        metadata: what was sent; the credentials in it are not told, though the server may repeat them.
        pools: where the types of details may be described, beside the usual ones.
    """
    code, message = error.code(), error.details() or ""
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED and any(each in message for each in TOO_LARGE):
        return GrpcOutputError(method, limit)
    told = json.dumps(_details(error, [error_details_pb2.DESCRIPTOR.pool, *pools]))
    kind = _KINDS.get(code, GrpcCallError)
    return kind(
        server,
        method,
        code.name,
        without_secrets(message, metadata),
        json.loads(without_secrets(told, metadata)),
    )


def _details(error: grpc.aio.AioRpcError, pools: list[DescriptorPool]) -> list[dict[str, Any]]:
    try:
        status = cast("Any", rpc_status).from_call(error)
    except (ValueError, DecodeError):  # it contradicts the status of the call, or is invalid
        return []
    return [_show(each, pools) for each in status.details] if status else []


def _show(detail: AnyMessage, pools: list[DescriptorPool]) -> dict[str, Any]:
    for pool in pools:
        try:
            return json_format.MessageToDict(detail, preserving_proto_field_name=True, descriptor_pool=pool)
        except (TypeError, KeyError, ValueError, DecodeError, json_format.Error):
            continue  # not described there
    return {"@type": detail.type_url, "value": base64.b64encode(detail.value).decode()}
