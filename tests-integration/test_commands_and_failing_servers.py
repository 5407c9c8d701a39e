"""Commands whose server cannot do the work: how they end, and that Ctrl-C ends them while it says nothing."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from peers.apflowserver import wait_for
from peers.strangehttp import Answer, answer, die, hang, result, strange_peer

END_SECONDS = 30.0  # much less than what the command would wait for its server
CREATED = result({"id": "far", "ids": {}, "name": "far_say", "status": "pending", "children": []})


def command(url: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "apflow.cli", *arguments, "--server", url]


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("APFLOW_")}


def start(folder: Path, url: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command(url, *arguments),
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def interrupted(process: subprocess.Popen[str]) -> str:
    """Press Ctrl-C; return what the command says, which must end soon, with 130."""
    process.send_signal(signal.SIGINT)
    try:
        out, said = process.communicate(timeout=END_SECONDS)
    finally:
        process.kill()
    assert (process.returncode, out) == (130, ""), said
    assert "Traceback" not in said
    return said


@pytest.mark.parametrize(
    ("first", "told"),
    [
        (die, "gave no answer"),
        (answer({"error": {"code": -32603, "message": "See 1f.", "data": {"incident": "1f"}}}), "See 1f."),
        (answer({"error": {"code": -32601, "message": "No method."}}), "No method."),
        (answer(b"<h1>It works!</h1>"), "not that of a working apflow server"),
        (answer(b"away", 503), "not that of a working apflow server"),
        (answer(b"", 302), "not that of a working apflow server"),
    ],
    ids=["dies", "fails", "older", "html", "away", "moved"],
)
def test_a_server_that_cannot_do_the_work_is_no_failed_task(tmp_path: Path, first: Answer, told: str):
    with strange_peer(first) as peer:
        done = subprocess.run(
            command(peer.url, "tasks", "get", "x"),
            cwd=tmp_path,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert (done.returncode, done.stdout) == (5, "")
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_ctrl_c_ends_a_command_whose_server_accepts_and_never_answers(tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        process = start(tmp_path, f"http://127.0.0.1:{listening.getsockname()[1]}", "tasks", "list")
        listening.settimeout(30)
        connection, _ = listening.accept()
        with connection:
            assert connection.recv(1)
            assert interrupted(process).strip() == "Interrupted."


def test_a_connection_that_is_lost_without_an_answer_is_no_failed_task(tmp_path: Path):
    with strange_peer(result({"id": "x"}), die) as peer:  # the command looks for the task first
        process = start(tmp_path, peer.url, "tasks", "delete", "x", "--force")
        out, said = process.communicate(timeout=60)
    assert (process.returncode, out) == (5, "")
    assert "It is not known whether it executed the call." in said


def test_ctrl_c_ends_a_run_whose_server_never_says_that_it_cancels(tmp_path: Path):
    with strange_peer(CREATED, hang) as peer:
        process = start(tmp_path, peer.url, "run", "flow", "far_say")
        wait_for(lambda: len(peer.requests) == 2, 30)
        said = interrupted(process)
    assert f"The run may continue at {peer.url}" in said
    assert "was cancelled" not in said


def test_ctrl_c_cancels_what_is_followed_and_does_not_wait_for_ever(tmp_path: Path):
    requested = result({"root_task_id": "far", "task_id": "far", "status": "pending"})
    with strange_peer(CREATED, requested, hang) as peer:
        process = start(tmp_path, peer.url, "run", "flow", "far_say")
        wait_for(lambda: len(peer.requests) == 3, 30)
        said = interrupted(process)
    assert peer.requests[3][2]["method"] == "tasks.cancel"
    assert f"The run may continue at {peer.url}" in said


def test_a_timeout_ends_a_run_whose_server_never_answers(tmp_path: Path):
    with strange_peer(CREATED, hang) as peer:
        process = start(tmp_path, peer.url, "run", "flow", "far_say", "--timeout", "0.2")
        out, said = process.communicate(timeout=30)
    assert (process.returncode, out) == (6, "")
    assert "--timeout" in said
    assert f"may continue at {peer.url}" in said
