"""The executor `grpc_executor`: calls any method of a gRPC service, without generated code."""

from apflow.executor.grpc.errors import (
    GrpcCallError,
    GrpcDescriptionError,
    GrpcError,
    GrpcInputError,
    GrpcOutputError,
    GrpcRequestError,
    GrpcResponseError,
    GrpcTimeoutError,
    GrpcUnavailableError,
)
from apflow.executor.grpc.executor import GrpcExecutor

__all__ = [
    "GrpcCallError",
    "GrpcDescriptionError",
    "GrpcError",
    "GrpcExecutor",
    "GrpcInputError",
    "GrpcOutputError",
    "GrpcRequestError",
    "GrpcResponseError",
    "GrpcTimeoutError",
    "GrpcUnavailableError",
]
