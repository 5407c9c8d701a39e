"""The log of a process that runs trees for others: what failed, and what each line is about."""

from __future__ import annotations

import asyncio
import io
import logging
import re
from collections.abc import Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from apflow.core import BaseTask, MemoryStore, Worker, executor_register, get_registry
from apflow.core.engine.failure_log import MAX_ERROR_LENGTH
from apflow.core.engine.log_format import ServiceFormatter
from apflow.core.service.task_service import TaskService
from apflow.core.settings import Settings

logger = logging.getLogger("test.service")


class Work(BaseTask):
    """Logs a line, and fails on request."""

    id = "test_logging_work"

    async def execute(self, inputs: dict[str, Any]) -> None:
        logger.warning("working")
        if "error" in inputs:
            raise ValueError(inputs["error"])


@pytest.fixture(autouse=True)
def executors() -> Iterator[None]:
    executor_register(Work, override=True)
    yield
    get_registry().unregister(Work.id)


def child(task_id: str, **more: Any) -> dict[str, Any]:
    return {"id": task_id, "name": f"the {task_id}", "parent_id": "r", "schemas": {"method": Work.id}, **more}


@asynccontextmanager
async def working(db: MemoryStore) -> Any:
    worker = Worker(db, Settings(shutdown_timeout=0.0))
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        group.create_task(worker.run())
        yield TaskService(db, is_served=True)
        worker.drain()


async def run(*tasks: dict[str, Any]) -> None:
    async with working(MemoryStore()) as service:
        await service.execute(tasks=[{"id": "r", "name": "the tree"}, *tasks], wait=True)


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.getMessage() for each in caplog.records if each.name == "apflow.runs"]


async def test_what_failed_by_itself_and_the_tree_have_one_line_each(caplog: pytest.LogCaptureFixture):
    await run(
        child("a", inputs={"error": "disk full"}),
        child("b", dependencies=["a"]),
        child("c", inputs={"error": "no route"}),
        child("d"),
    )
    found = lines(caplog)
    assert sorted(found[:-1]) == ["Task 'the a' failed: disk full", "Task 'the c' failed: no route"]
    assert found[-1].startswith("Tree 'the tree' failed: ")
    records = [each for each in caplog.records if each.name == "apflow.runs"]
    assert {each.levelname for each in records} == {"WARNING"}
    assert {vars(each)["root_task_id"] for each in records} == {"r"}
    assert vars(records[0])["error_type"] == "ValueError"


async def test_a_tree_of_one_task_has_one_line(caplog: pytest.LogCaptureFixture):
    async with working(MemoryStore()) as service:
        task = {"name": "alone", "schemas": {"method": Work.id}, "inputs": {"error": "x" * 2000}}
        await service.execute(tasks=task, wait=True)
    [line] = lines(caplog)
    assert line.startswith("Tree 'alone' failed: ")
    assert len(line) < MAX_ERROR_LENGTH + 100


async def test_a_retry_that_succeeds_and_a_tree_that_completes_have_no_line(caplog: pytest.LogCaptureFixture):
    await run(child("a"), child("b", dependencies=["a"]))
    assert lines(caplog) == []


def shown(text: io.StringIO) -> list[str]:
    return text.getvalue().splitlines()


@pytest.fixture
def text() -> Iterator[io.StringIO]:
    """What a handler with the formatter writes of the loggers of this test."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(ServiceFormatter())
    loggers = [logger, logging.getLogger("apflow.runs")]
    for each in loggers:
        each.addHandler(handler)
    yield stream
    for each in loggers:
        each.removeHandler(handler)


async def test_a_line_has_the_time_the_level_the_tree_and_the_task(text: io.StringIO):
    await run(child("a", inputs={"error": "disk full"}))
    time = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d"
    first, second, third = shown(text)
    assert re.fullmatch(rf"{time} WARNING test\.service \[tree r task a\]: working", first)
    assert re.fullmatch(
        rf"{time} WARNING apflow\.runs \[tree r task a\]: Task 'the a' failed: disk full", second
    )
    assert re.match(rf"{time} WARNING apflow\.runs \[tree r\]: Tree ", third)


def test_a_line_about_no_task_names_none_and_stays_one_line(text: io.StringIO):
    logger.error("two\nlines", extra={"task_id": "a"})
    [line] = shown(text)
    assert line.endswith(r" ERROR test.service: two\nlines")
