"""The former path of `apflow.executor.ssh`, which the extra `ssh` installs."""

from typing import TYPE_CHECKING

from aipartnerupflow.extensions.optional import optional_names

if TYPE_CHECKING:
    from apflow.executor.ssh import SshExecutor

__all__ = ["SshExecutor"]

__getattr__ = optional_names(__name__, "apflow.executor.ssh", __all__, extra="ssh")
