"""Arguments of tasks arrive unchanged, byte for byte, and have no other effect."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from calls import executed
from injections import INJECTIONS
from peers.engine import Engine, docker_engine
from peers.sshd import an_sshd

__all__ = ["docker_engine"]

# Prints each of its arguments on a separate line, in base64, so that any argument fits on one line.
PRINT = 'for each; do printf %s "$each" | base64 | tr -d "\\n"; echo; done'
ARGUMENTS = ["/bin/sh", "-c", PRINT, "print", *INJECTIONS]
EVIDENCE = Path("/tmp/apflow-injected")


@pytest.fixture(autouse=True)
def nothing_happened() -> Iterator[None]:
    EVIDENCE.unlink(missing_ok=True)
    yield
    assert not EVIDENCE.exists(), "an argument was executed"


def arrived(result: dict[str, Any]) -> list[str]:
    return [base64.b64decode(line).decode() for line in result["stdout"].splitlines()]


def test_there_are_two_hundred():
    assert len(set(INJECTIONS)) >= 200


async def test_a_command_is_given_them(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("APFLOW_COMMAND_ALLOW", "*")
    assert arrived(await executed("command_executor", {"command": ARGUMENTS})) == INJECTIONS


async def test_a_command_on_another_machine_is_given_them():
    with an_sshd() as server:
        inputs = server.inputs | {"command": ARGUMENTS}
        assert arrived(await executed("ssh_executor", inputs)) == INJECTIONS


async def test_a_command_in_a_container_is_given_them(docker_engine: Engine, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DOCKER_HOST", docker_engine.url)
    inputs = {"image": docker_engine.image, "command": ARGUMENTS}
    assert arrived(await executed("docker_executor", inputs)) == INJECTIONS
