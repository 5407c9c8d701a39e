"""The executor `ssh_executor`: runs commands on other machines."""

from apflow.executor.ssh.errors import (
    SshCommandFailedError,
    SshConnectionError,
    SshDroppedError,
    SshError,
    SshHostKeyChangedError,
    SshHostKeyError,
    SshHostKeyUnknownError,
    SshInputError,
    SshLoginError,
    SshShellError,
    SshTimeoutError,
)
from apflow.executor.ssh.executor import SshExecutor

__all__ = [
    "SshCommandFailedError",
    "SshConnectionError",
    "SshDroppedError",
    "SshError",
    "SshExecutor",
    "SshHostKeyChangedError",
    "SshHostKeyError",
    "SshHostKeyUnknownError",
    "SshInputError",
    "SshLoginError",
    "SshShellError",
    "SshTimeoutError",
]
