"""The former path of `apflow.executor.grpc`, which the extra `grpc` installs."""

from typing import TYPE_CHECKING

from aipartnerupflow.extensions.optional import optional_names

if TYPE_CHECKING:
    from apflow.executor.grpc import GrpcExecutor

__all__ = ["GrpcExecutor"]

__getattr__ = optional_names(__name__, "apflow.executor.grpc", __all__, extra="grpc")
