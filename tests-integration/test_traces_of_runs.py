"""Traces of runs: every process that runs trees sends them to the collector, and waits for it briefly."""

from __future__ import annotations

import signal
import socket
import subprocess
import textwrap
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from receiver import Receiver, receiving
from serving import wait_for
from startedcommand import started as run_beside

pytest.importorskip("opentelemetry.exporter.otlp.proto.http")

MODULE = '''
from apflow.core import BaseTask, ModelRequest, ModelUsage, executor_register, model_call


@executor_register()
class Ask(BaseTask):
    """Calls a model, as far as the account can see."""

    id = "ask"

    async def execute(self, inputs):
        async with model_call(ModelRequest(model="gpt-of-test", provider="openai")) as call:
            call.record(ModelUsage(input_tokens=10, output_tokens=5))
'''
RUN = ("run", "flow", "ask", "--import", "asking")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "asking.py").write_text(textwrap.dedent(MODULE))
    return tmp_path


@pytest.fixture
def collector() -> Iterator[Receiver]:
    with receiving() as found:
        yield found


def started(folder: Path, endpoint: str, *arguments: str) -> AbstractContextManager[subprocess.Popen[str]]:
    return run_beside(folder, *arguments, otlp_endpoint=endpoint, background_daemon="false")


def command(folder: Path, endpoint: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    with started(folder, endpoint, *arguments) as process:
        output, errors = process.communicate(timeout=120)
        return subprocess.CompletedProcess(process.args, process.returncode, output, errors)


def endpoint_of(collector: Receiver) -> str:
    return collector.url.removesuffix("/hook")


def sent(collector: Receiver, path: str) -> bytes:
    with collector.lock:
        return b"".join(each.body for each in collector.requests if each.path == path)


def check_sent(collector: Receiver) -> None:
    """Check that the spans of a tree, its task and its call of a model were sent, and the metrics."""
    spans = sent(collector, "/v1/traces")
    for name in (b"tree ask", b"apflow.task.name", b"chat gpt-of-test", b"gen_ai.workflow.name"):
        assert name in spans
    assert b"gen_ai.client.token.usage" in sent(collector, "/v1/metrics")


def test_a_command_sends_the_traces_of_its_run(folder: Path, collector: Receiver):
    done = command(folder, endpoint_of(collector), *RUN)
    assert done.returncode == 0, done.stderr
    check_sent(collector)


def test_a_worker_sends_the_traces_of_what_it_runs(folder: Path, collector: Receiver):
    submitted = command(folder, "", *RUN, "--background")
    assert submitted.returncode == 0, submitted.stderr
    with started(folder, endpoint_of(collector), "worker", "--import", "asking") as process:
        wait_for(lambda: b"tree ask" in sent(collector, "/v1/traces"), 60)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 0
    check_sent(collector)


def test_the_daemon_sends_the_traces_of_what_it_runs(folder: Path, collector: Receiver):
    endpoint = endpoint_of(collector)
    begun = command(folder, endpoint, "daemon", "start", "--import", "asking")
    try:
        assert begun.returncode == 0, begun.stderr
        assert command(folder, endpoint, *RUN, "--background").returncode == 0
        wait_for(lambda: b"tree ask" in sent(collector, "/v1/traces"), 60)
    finally:
        stopped = command(folder, endpoint, "daemon", "stop", "--force")
    assert stopped.returncode == 0, stopped.stderr
    check_sent(collector)


def test_a_run_does_not_wait_long_for_a_collector_that_says_nothing(folder: Path):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        done = command(folder, f"http://127.0.0.1:{silent.getsockname()[1]}", *RUN)
    assert done.returncode == 0, done.stderr
    assert "has not received the last traces" in done.stderr


def test_without_what_sends_traces_a_run_is_refused_before_it_begins(folder: Path):
    (folder / "sitecustomize.py").write_text("import sys; sys.modules['opentelemetry.exporter'] = None\n")
    done = command(folder, "http://127.0.0.1:4318", *RUN)
    assert done.returncode != 0
    assert "apflow-server[otlp]" in done.stderr
    assert "ask" not in command(folder, "", "tasks", "list", "--all").stdout
