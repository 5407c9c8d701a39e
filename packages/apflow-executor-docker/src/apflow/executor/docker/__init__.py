"""The executor `docker_executor`: runs commands in containers."""

from apflow.executor.docker.errors import (
    ContainerFailedError,
    ContainerStartError,
    ContainerTimeoutError,
    DockerError,
    DockerRefusedError,
    EngineAccessError,
    EngineLostError,
    EngineRefusedError,
    EngineUnavailableError,
    ImageNotFoundError,
    ImagePullError,
    LimitNotHeldError,
    OutOfMemoryError,
)
from apflow.executor.docker.executor import DockerExecutor

__all__ = [
    "ContainerFailedError",
    "ContainerStartError",
    "ContainerTimeoutError",
    "DockerError",
    "DockerExecutor",
    "DockerRefusedError",
    "EngineAccessError",
    "EngineLostError",
    "EngineRefusedError",
    "EngineUnavailableError",
    "ImageNotFoundError",
    "ImagePullError",
    "LimitNotHeldError",
    "OutOfMemoryError",
]
