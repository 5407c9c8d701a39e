"""The contract of a store: the lines that tasks log."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from apflow.core.extensions.executor import BaseTask
from apflow.core.extensions.registry import get_registry
from apflow.core.model.log import LogChunk, LogEntry, LogLine, LogQuery
from apflow.core.service.task_service import TaskService
from apflow.core.store.base import TaskStore
from apflow.testing.building import a_tree
from apflow.testing.storebase import StoreMaker

START = datetime(2026, 1, 31, 23, 59, 59, 999_999, tzinfo=UTC)
TEXTS = [
    "",
    "plain",
    "two\nlines",
    "näme \U0001f600",
    "'; DROP TABLE apflow_logs; --",
    "\x1b[31mred",
    "x" * 9000,
]


def a_chunk(task_id: str = "root", *messages: str, level: int = 20, attempt: int = 1) -> LogChunk:
    """Return lines of a task of the tree `root`."""
    return LogChunk(
        root_task_id="root",
        task_id=task_id,
        attempt=attempt,
        generation=0,
        entries=[
            LogEntry(START + timedelta(microseconds=at), level, "stdout", text)
            for at, text in enumerate(messages)
        ],
    )


def messages(lines: list[LogLine]) -> list[str]:
    """Return what the lines say."""
    return [line.entry.message for line in lines]


class StoreLogContract(StoreMaker):
    """Storing, reading and deleting log lines.

    The rules are in `TaskStore.add_logs` and `logs`. `lines_of` of `apflow.core.model.log` turns a stored
    chunk into the lines that a query asks for.
    """

    async def test_lines_come_back_as_they_were_added(self, store: TaskStore) -> None:
        chunk = a_chunk("child", *TEXTS, attempt=3)
        named = LogEntry(START, 40, "logging", "failed", "my.logger")
        await store.add_logs([replace(chunk, generation=2), replace(chunk, entries=[named])])
        found = await store.logs(LogQuery(root_task_id="root"))
        assert [line.entry for line in found] == [*chunk.entries, named]
        assert {(line.root_task_id, line.task_id, line.attempt) for line in found} == {("root", "child", 3)}
        assert [line.generation for line in found] == [2] * len(TEXTS) + [0]

    async def test_numbers_ascend_in_the_order_of_adding(self, store: TaskStore) -> None:
        for at in range(5):
            await store.add_logs([a_chunk("a", f"a{at}", f"a{at}+"), a_chunk("b", f"b{at}")])
        found = await store.logs(LogQuery(root_task_id="root"))
        numbers = [line.number for line in found]
        assert numbers == sorted(set(numbers))
        assert numbers[0] > 0
        assert messages(found) == [text for at in range(5) for text in (f"a{at}", f"a{at}+", f"b{at}")]

    async def test_reading_continues_after_a_number(self, store: TaskStore) -> None:
        texts = [str(at) for at in range(1000)]
        for start in range(0, 1000, 7):
            await store.add_logs([a_chunk("root", *texts[start : start + 7])])
        read: list[LogLine] = []
        while page := await store.logs(
            LogQuery(root_task_id="root", after=read[-1].number if read else 0, limit=30)
        ):
            assert len(page) <= 30
            read += page
        assert messages(read) == texts

    async def test_lines_are_found_by_task_attempt_and_level(self, store: TaskStore) -> None:
        await store.add_logs(
            [
                a_chunk("a", "1"),
                a_chunk("a", "2", attempt=2),
                a_chunk("b", "3", level=30),
                a_chunk("c", "4", level=40, attempt=2),
            ]
        )
        every = LogQuery(root_task_id="root")
        assert messages(await store.logs(replace(every, task_ids=["a"]))) == ["1", "2"]
        assert messages(await store.logs(replace(every, task_ids=["c", "b", "other"]))) == ["3", "4"]
        assert messages(await store.logs(replace(every, task_ids=[]))) == []
        assert messages(await store.logs(replace(every, attempt=2))) == ["2", "4"]
        assert messages(await store.logs(replace(every, min_level=30))) == ["3", "4"]
        assert messages(await store.logs(replace(every, min_level=21, attempt=2))) == ["4"]
        assert messages(await store.logs(LogQuery(root_task_id="other"))) == []
        assert messages(await store.logs(LogQuery(root_task_id="\x00"))) == []

    async def test_a_level_filter_looks_at_each_line(self, store: TaskStore) -> None:
        chunk = a_chunk("a", *map(str, range(6)))
        mixed = [each._replace(level=20 + 10 * (at % 3)) for at, each in enumerate(chunk.entries)]
        await store.add_logs([replace(chunk, entries=mixed)] * 100)
        found = await store.logs(LogQuery(root_task_id="root", min_level=40, limit=150))
        assert messages(found) == ["2", "5"] * 75

    async def test_lines_are_deleted_with_their_task_and_tree(self, store: TaskStore) -> None:
        tree = a_tree("root", "a", "b")
        await store.add(tree)
        ids = [task.id for task in tree]
        await store.add_logs([replace(a_chunk(each, each), root_task_id=ids[0]) for each in ids])
        await store.add_logs([replace(a_chunk("x", "kept"), root_task_id="elsewhere")])
        query = LogQuery(root_task_id=ids[0])
        await store.remove(ids[1:2])
        assert messages(await store.logs(query)) == [ids[0], *ids[2:]]
        await store.remove([*ids[2:], ids[0]])
        assert messages(await store.logs(query)) == []
        assert messages(await store.logs(LogQuery(root_task_id="elsewhere"))) == ["kept"]

    async def test_writers_at_the_same_time_lose_nothing(self, store: TaskStore) -> None:
        async def add(task_id: str) -> None:
            for at in range(20):
                await store.add_logs([a_chunk(task_id, str(at))])

        await asyncio.gather(*map(add, "abcde"))
        for task_id in "abcde":
            found = await store.logs(LogQuery(root_task_id="root", task_ids=[task_id]))
            assert messages(found) == [str(at) for at in range(20)]

    async def test_durable_lines_are_there_after_reopening(self, tmp_path: Path) -> None:
        store = self.make_store(tmp_path)
        if not store.capabilities.is_durable:
            pytest.skip("the store keeps nothing")
        async with store:
            await store.add_logs([a_chunk("a", "one")])
        async with self.make_store(tmp_path) as again:
            await again.add_logs([a_chunk("a", "two")])
            assert messages(await again.logs(LogQuery(root_task_id="root"))) == ["one", "two"]

    async def test_another_process_follows_the_lines_of_a_run(self, two: tuple[TaskStore, TaskStore]) -> None:
        here, there = two
        await TaskService(here).create({"id": "root", "name": "test_follows"})
        seen: list[str] = []
        registry = get_registry()
        registry.register(_Talks)
        _Talks.go_on = asyncio.Event()
        try:
            async with asyncio.timeout(60), asyncio.TaskGroup() as group:
                group.create_task(TaskService(here).run("root"))
                async for line in TaskService(there).follow_logs("root"):
                    seen.append(line["message"])
                    _Talks.go_on.set()
        finally:
            registry.unregister(_Talks.id)
        assert seen == ["before", "after"]


class _Talks(BaseTask):
    """Logs a line, and another one when the first was seen."""

    id = "test_follows"
    go_on: asyncio.Event

    async def execute(self, inputs: dict[str, Any]) -> None:
        del inputs
        self.log("before")
        await _Talks.go_on.wait()
        self.log("after")
