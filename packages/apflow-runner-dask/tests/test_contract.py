"""The runner passes the contract of runners, on a local cluster of two processes."""

from __future__ import annotations

import pytest

from apflow.runner.dask import DaskRunner
from apflow.testing.runner import RunnerContract


@pytest.mark.usefixtures("local_cluster")
class TestDaskRunner(RunnerContract):
    def make_runner(self) -> DaskRunner:
        return DaskRunner()
