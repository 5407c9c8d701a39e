from collections.abc import Iterator
from typing import Any

import pytest
from peers.grpcserver import serve_in_process

from apflow.executor.grpc import GrpcExecutor
from apflow.testing.executor import ExecutorContract


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with serve_in_process() as (_, port):
        yield port


class TestGrpcExecutor(ExecutorContract):
    @pytest.fixture(autouse=True)
    def with_server(self, port: int) -> None:
        self.port = port

    def make_executor(self) -> GrpcExecutor:
        return GrpcExecutor()

    def good_inputs(self) -> dict[str, Any]:
        return self._call("Greet", {"name": "you"})

    def slow_inputs(self) -> dict[str, Any]:
        return self._call("Sleep", "60s")

    def check_result(self, result: Any) -> None:
        assert result["response"] == {"text": "Hello you"}

    def _call(self, method: str, request: Any) -> dict[str, Any]:
        server = f"127.0.0.1:{self.port}"
        return {"server": server, "service": "demo.Demo", "method": method, "request": request}
