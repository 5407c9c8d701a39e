"""The modules of A2A leave the SDK whole, whichever is imported first."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import apflow.server.a2a.{module}
from a2a.client import client_factory
assert client_factory.CompatGrpcTransport is not None
"""


@pytest.mark.parametrize("module", ["context", "endpoints", "grpc_server", "handler", "delivery"])
def test_the_client_of_the_sdk_has_its_transport_for_agents_of_0_3_over_grpc(module: str):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(module=module)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
