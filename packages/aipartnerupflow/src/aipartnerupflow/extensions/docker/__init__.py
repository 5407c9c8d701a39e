"""The former path of `apflow.executor.docker`, which the extra `docker` installs."""

from typing import TYPE_CHECKING

from aipartnerupflow.extensions.optional import optional_names

if TYPE_CHECKING:
    from apflow.executor.docker import DockerExecutor

__all__ = ["DockerExecutor"]

__getattr__ = optional_names(__name__, "apflow.executor.docker", __all__, extra="docker")
