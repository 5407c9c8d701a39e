"""Webhooks of runs that commands start: delivered by the command, and after a crash by the next process."""

from __future__ import annotations

import json
import signal
import subprocess
import textwrap
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from receiver import Receiver, receiving
from serving import serve_process, wait_for
from startedcommand import started

from apflow.core.webhooks.webhook import made_secret

MODULE = '''
import asyncio
from pathlib import Path

from apflow.core import BaseTask, executor_register


@executor_register()
class Step(BaseTask):
    """Waits for a file, and fails, on request."""

    id = "step"
    effect = "idempotent"

    async def execute(self, inputs):
        while inputs.get("file") and not Path(inputs["file"]).exists():
            await asyncio.sleep(0.01)
        if inputs.get("fails"):
            raise ValueError("as asked")
'''


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "steps.py").write_text(textwrap.dedent(MODULE))
    return tmp_path


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as found:
        yield found


def command(folder: Path, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    with started(folder, *arguments, **settings) as process:
        output, errors = process.communicate(timeout=120)
        return subprocess.CompletedProcess(process.args, process.returncode, output, errors)


def tasks(root_id: str, **last: Any) -> str:
    """Return a chain of three tasks in a group; `last` are the inputs of the last one."""
    steps = [
        {"id": f"{root_id}.{at}", "name": "step", "parent_id": root_id, "inputs": last if at == 2 else {}}
        for at in range(3)
    ]
    for before, each in pairwise(steps):
        each["dependencies"] = [before["id"]]
    return json.dumps([{"id": root_id, "name": "group"}, *steps])


def run(root_id: str, **last: Any) -> tuple[str, ...]:
    return ("run", "flow", "--import", "steps", "--json", "--tasks", tasks(root_id, **last))


def types(receiver: Receiver, root_id: str) -> list[str]:
    return [event["type"] for event in receiver.events(root_id)]


def test_a_command_delivers_every_event_of_its_run(folder: Path, receiver: Receiver):
    done = command(folder, *run("r"), "--webhook", receiver.url)
    assert done.returncode == 0, done.stderr
    found = types(receiver, "r")
    assert (found[0], found[-1]) == ("tree_started", "tree_completed")
    assert found.count("task_completed") == 4
    secret = json.loads(done.stdout)["webhook_secret"]
    for request in receiver.requests:
        request.verify(secret)


def test_a_command_reports_a_failure_and_nothing_else(folder: Path, receiver: Receiver):
    secret = made_secret()
    good = command(folder, *run("good"), "--on-failure", receiver.url, webhook_secret=secret)
    bad = command(folder, *run("bad", fails=True), "--on-failure", receiver.url, webhook_secret=secret)
    assert (good.returncode, bad.returncode) == (0, 1), bad.stderr
    assert "webhook_secret" not in json.loads(bad.stdout)
    [request] = receiver.requests
    request.verify(secret)
    assert (request.event["type"], request.event["root_task_id"]) == ("tree_failed", "bad")


def test_after_a_crash_a_worker_finishes_the_run_and_delivers_the_rest(folder: Path, receiver: Receiver):
    go = folder / "go"
    with started(folder, *run("r", file=str(go)), "--webhook", receiver.url) as process:
        wait_for(lambda: "task_completed" in types(receiver, "r"), 60)
        process.send_signal(signal.SIGKILL)
        process.wait()
    go.touch()
    with started(folder, "worker", "--import", "steps") as worker:
        wait_for(lambda: "tree_completed" in types(receiver, "r"), 60)
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(60) == 0
    numbers = list(dict.fromkeys(event["sequence"] for event in receiver.events("r")))
    assert numbers == sorted(numbers)
    assert set(types(receiver, "r")) >= {"tree_started", "task_completed", "tree_completed"}


def test_the_settings_name_a_receiver_of_every_run(folder: Path, receiver: Receiver):
    secret = made_secret()
    settings = {"on_failure_url": receiver.url, "webhook_secret": secret}
    assert command(folder, *run("good"), **settings).returncode == 0
    assert command(folder, *run("bad", fails=True), **settings).returncode == 1
    assert types(receiver, "good") == []
    assert types(receiver, "bad") == ["tree_failed"]
    receiver.requests[0].verify(secret)


def test_what_a_receiver_did_not_take_is_left_to_a_worker(folder: Path, receiver: Receiver):
    receiver.answers = [503]
    settings = {"on_failure_url": receiver.url}
    with started(folder, *run("bad", fails=True), **settings) as process:
        wait_for(lambda: receiver.requests != [], 60)
        process.send_signal(signal.SIGKILL)
        process.wait()
    receiver.answers = [200]
    with started(folder, "worker", "--import", "steps", **settings) as worker:
        wait_for(lambda: types(receiver, "bad") == ["tree_failed"], 60)
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(60) == 0


def test_a_command_leaves_the_webhook_to_the_server_that_holds_the_database(folder: Path, receiver: Receiver):
    database = {"APFLOW_DATABASE_URL": f"duckdb:///{folder}/t.duckdb", "PYTHONPATH": str(folder)}
    with serve_process(folder, "--import", "steps", environment=database):
        done = command(folder, *run("r"), "--webhook", receiver.url)
        assert done.returncode == 0, done.stderr
        wait_for(lambda: types(receiver, "r")[-1:] == ["tree_completed"], 30)
        submitted = command(folder, *run("s"), "--background", "--webhook", receiver.url)
        assert submitted.returncode == 0, submitted.stderr
        assert "webhook_id" in json.loads(submitted.stdout)
        wait_for(lambda: types(receiver, "s")[-1:] == ["tree_completed"], 30)


@pytest.mark.parametrize(
    ("options", "settings", "message"),
    [
        (("--webhook", "ftp://example.com"), {}, "webhook_config.url"),
        (("--webhook", "http://127.0.0.1:9/"), {"net_policy": "public"}, "webhook_config.url"),
        (("--webhook", "http://127.0.0.1:9/", "--on-failure", "http://127.0.0.1:9/"), {}, "--on-failure"),
        ((), {"webhook_url": "nothing"}, "APFLOW_WEBHOOK_URL"),
    ],
)
def test_a_receiver_that_cannot_be_used_is_refused_before_anything_is_stored(
    folder: Path, options: tuple[str, ...], settings: dict[str, str], message: str
):
    refused = command(folder, *run("r"), *options, **settings)
    assert refused.returncode == 2, refused.stderr
    assert message in refused.stderr
    listed = command(folder, "tasks", "list", "--json")
    assert '"r"' not in listed.stdout
