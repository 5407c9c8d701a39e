"""What one call is to do, decided from its inputs before anything is connected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from apflow.executor.ssh.errors import SshInputError
from apflow.executor.ssh.script import command_script

OUTPUT_BYTES = 1 << 20
TEXTS = {"host", "username", "password", "key", "key_file", "passphrase", "known_hosts"}
STRICT, ACCEPT_NEW = "strict", "accept-new"


@dataclass(frozen=True, slots=True)
class SshRequest:
    """Where to log in, as whom, and what to run there."""

    host: str
    port: int
    username: str
    command: str | Sequence[str]
    password: str | None = field(repr=False)
    key: str | None = field(repr=False)
    key_file: str | None
    passphrase: str | None = field(repr=False)
    known_hosts: str | None
    accepts_new: bool
    script: bytes = field(repr=False)
    stdin: bytes = field(repr=False)
    timeout: float
    max_output_bytes: int
    is_checked: bool


def read_request(inputs: Mapping[str, Any]) -> SshRequest:
    """Return the request of checked inputs.

    Raises:
        SshInputError: they do not fit together.
    """
    for name in TEXTS & inputs.keys():
        if any("\ud800" <= each <= "\udfff" for each in inputs[name]):
            raise SshInputError(f"{name} contains text that is not Unicode.")
    has_key, has_key_file = "key" in inputs, "key_file" in inputs
    if has_key and has_key_file:
        raise SshInputError("Both key and key_file are given. Give one of them.")
    if "passphrase" in inputs and not (has_key or has_key_file):
        raise SshInputError("A passphrase is given, but no key or key_file that it opens.")
    if not (has_key or has_key_file or "password" in inputs):
        raise SshInputError(
            "No credential is given: a password, a key or a key_file. Keys of an agent and of ~/.ssh are not "
            "used by themselves."
        )
    return SshRequest(
        host=inputs["host"],
        port=inputs.get("port", 22),
        username=inputs["username"],
        command=inputs["command"],
        password=inputs.get("password"),
        key=inputs.get("key"),
        key_file=inputs.get("key_file"),
        passphrase=inputs.get("passphrase"),
        known_hosts=inputs.get("known_hosts"),
        accepts_new=inputs.get("host_key_policy", STRICT) == ACCEPT_NEW,
        script=command_script(inputs["command"], inputs.get("env", {})),
        stdin=inputs.get("stdin", "").encode("utf-8", "surrogatepass"),
        timeout=inputs.get("timeout", 30),
        max_output_bytes=inputs.get("max_output_bytes", OUTPUT_BYTES),
        is_checked=inputs.get("check", True),
    )
