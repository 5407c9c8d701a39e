"""Logs: lines for people, or JSON with the ids of request, task and tree."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from serving import Served, wait_for
from trees import steps
from websockets.asyncio.client import connect

from apflow.core import BaseTask, MemoryStore, TaskExecutor, executor_register, get_registry
from apflow.core.errors import SettingsError
from apflow.core.service.task_service import TaskService
from apflow.core.settings import Settings
from apflow.server.http.request_log import request_id
from apflow.server.observability import logs


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    """Loggers are the process's: each test leaves them as they were."""
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    with steps():
        yield
    root.handlers[:] = before
    root.setLevel(level)
    logging.getLogger("uvicorn.error").setLevel(logging.NOTSET)


def said(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def set_up(**settings: Any) -> io.StringIO:
    stream = io.StringIO()
    logs.set_up(Settings(**settings), stream)
    return stream


def test_json_has_what_was_given_beside_the_message():
    stream = set_up(log_format="json", log_level="info")
    token = request_id.set("abc")
    logging.getLogger("some.where").info("%s and more", "text", extra={"user": "ann", "seconds": 0.5})
    request_id.reset(token)
    [line] = said(stream)
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "message": "text and more",
        "level": "info",
        "logger": "some.where",
        "request_id": "abc",
        "user": "ann",
        "seconds": 0.5,
    }


def test_a_traceback_is_part_of_its_line():
    stream = set_up(log_format="json")
    try:
        int("bad\nnews")
    except ValueError:
        logging.getLogger("some.where").exception("It failed")
    [line] = said(stream)
    assert "ValueError: invalid literal" in line["exception"]


def test_text_is_for_people():
    stream = set_up(log_level="debug")
    logging.getLogger("some.where").debug("done")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.+-]+ DEBUG some\.where: done\n", stream.getvalue())


async def test_what_an_executor_logs_names_its_task_and_its_tree():
    class Talks(BaseTask):
        id = "log_talks"

        async def execute(self, inputs: dict[str, Any]) -> None:
            logging.getLogger("executor").info("at work")

    executor_register(Talks, override=True)
    stream = set_up(log_format="json", log_level="info")
    try:
        db = MemoryStore()
        child = {"id": "c", "name": "log_talks", "parent_id": "r"}
        await TaskService(db).create([{"id": "r", "name": "group"}, child])
        await TaskExecutor().execute_task_by_id("r", db_session=db)
    finally:
        get_registry().unregister(Talks.id)
    [line] = [each for each in said(stream) if each["logger"] == "executor"]
    assert (line["task_id"], line["root_task_id"]) == ("c", "r")


def test_requests_are_logged_with_their_ids(served: Served):
    stream = set_up(log_format="json", log_level="info")
    with httpx.Client(base_url=served.url) as http:
        http.get("/health", headers={"X-Request-ID": "mine"})
    wait_for(lambda: "apflow.access" in stream.getvalue())  # it is written once the answer is sent
    [line] = [each for each in said(stream) if each["logger"] == "apflow.access"]
    assert (line["request_id"], line["http_path"], line["http_status"]) == ("mine", "/health", 200)


async def test_what_stands_in_the_query_of_a_websocket_is_not_logged(served: Served):
    stream = set_up(log_level="info")
    async with connect(served.url.replace("http", "ws", 1) + "/ws?token=a-token", proxy=None):
        pass
    await asyncio.to_thread(wait_for, lambda: "/ws" in stream.getvalue())
    assert "a-token" not in stream.getvalue()


@pytest.mark.parametrize("wrong", [{"log_format": "xml"}, {"log_level": "loud"}])
def test_what_is_unknown_is_refused(wrong: dict[str, str]):
    with pytest.raises(SettingsError, match="APFLOW_LOG_"):
        logs.set_up(Settings(**wrong))


def test_text_of_tasks_forges_no_line_and_json_keeps_it():
    hostile = "a\x1b[2J\nERROR apflow: forged\r\x9b\u202e"
    for kind in logs.FORMATS:
        stream = io.StringIO()
        logs.set_up(Settings(log_format=kind, log_level="INFO"), stream)
        logging.getLogger("apflow.core").warning("Task %s has ended", hostile)
        try:
            raise ValueError(hostile)  # noqa: TRY301 - as code of users does
        except ValueError:
            logging.getLogger("apflow.core").exception("Task %s has failed", hostile)
        written = stream.getvalue()
        if kind == "json":
            assert said(stream)[0]["message"] == f"Task {hostile} has ended"
            continue
        heads = [line for line in written.split("\n") if line and not line.startswith("  ")]
        assert [line.split(" ")[1] for line in heads] == ["WARNING", "ERROR"]
        assert all(line.isprintable() for line in written.split("\n"))
