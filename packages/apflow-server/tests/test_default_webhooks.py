"""Webhooks that the settings name: for every run, without their URL or secret in the database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from receiver import Receiver, receiving
from trees import Steps, steps, tree

from apflow.core import MemoryStore, TaskCreator, TaskManager
from apflow.core.engine.worker import Worker
from apflow.core.errors import SettingsError
from apflow.core.service.task_service import TaskService
from apflow.core.settings import get_settings, reset_settings
from apflow.core.store.base import TaskStore
from apflow.core.webhooks.delivery import delivering
from apflow.core.webhooks.kinds import ENDED_KIND, KIND
from apflow.core.webhooks.webhook import made_secret

SECRET = made_secret()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as found:
        yield found


@pytest.fixture(autouse=True)
def settings(monkeypatch: pytest.MonkeyPatch, receiver: Receiver) -> Iterator[pytest.MonkeyPatch]:
    monkeypatch.setenv("APFLOW_WEBHOOK_SECRET", SECRET)
    reset_settings()
    with steps():
        yield monkeypatch
    monkeypatch.undo()
    reset_settings()


def given(settings: pytest.MonkeyPatch, **values: str) -> None:
    for name, value in values.items():
        settings.setenv(f"APFLOW_{name.upper()}", value)
    reset_settings()


@asynccontextmanager
async def working(db: TaskStore) -> AsyncGenerator[TaskService]:
    """Run what is submitted and deliver, as a worker does."""
    worker = Worker(db, get_settings())
    async with asyncio.timeout(60), delivering(db, get_settings()), asyncio.TaskGroup() as group:
        group.create_task(worker.run())
        try:
            yield TaskService(db, is_served=True)
            await until_delivered(db)
        finally:
            Steps.go_on.set()
            worker.drain()


async def until_delivered(db: TaskStore) -> None:
    while await db.records(KIND):
        await asyncio.sleep(0.02)


def types(receiver: Receiver, root_id: str) -> list[str]:
    return [event["type"] for event in receiver.events(root_id)]


async def test_each_run_is_delivered_and_signed(settings: pytest.MonkeyPatch, receiver: Receiver):
    given(settings, webhook_url=receiver.url)
    db = MemoryStore()
    async with working(db) as service:
        await service.execute(tasks=tree("a", 3), wait=True)
        await service.execute("a", force=True, wait=True)
    stored = [event.to_dict() for event in await db.events("a") if event.type != "task_created"]
    assert receiver.events("a") == stored
    assert types(receiver, "a").count("tree_completed") == 2
    for request in receiver.requests:
        request.verify(SECRET)


async def test_a_run_of_the_library_is_registered_and_the_next_process_delivers_it(
    settings: pytest.MonkeyPatch, receiver: Receiver
):
    given(settings, webhook_url=receiver.url, webhook_events="tree_completed")
    db = MemoryStore()
    node = await TaskCreator(db).create_task_tree_from_array(tree("a", 3))
    await TaskManager(db).distribute_task_tree(node)
    assert receiver.requests == []
    async with working(db):
        pass
    assert types(receiver, "a") == ["tree_completed"]


async def test_failures_only(settings: pytest.MonkeyPatch, receiver: Receiver):
    given(settings, on_failure_url=receiver.url)
    async with working(MemoryStore()) as service:
        await service.execute(tasks=tree("good", 3), wait=True)
        await service.execute(tasks=tree("bad", 3, fails=5), wait=True)
    assert types(receiver, "good") == []
    assert types(receiver, "bad") == ["tree_failed"]


async def test_the_database_holds_neither_the_url_nor_the_secret_and_only_an_admin_sees_the_webhook(
    settings: pytest.MonkeyPatch, receiver: Receiver
):
    given(settings, webhook_url=receiver.url)
    db = MemoryStore()
    async with working(db) as service:
        await service.execute(tasks=tree("a", 3), user_id="ann", wait=True)
    [record] = await db.records(ENDED_KIND)
    assert receiver.url not in str(record.value)
    assert SECRET not in str(record.value)
    [shown] = await TaskService(db).webhooks("a")
    assert (shown["url"], shown["status"]) == ("APFLOW_WEBHOOK_URL", "done")
    assert await TaskService(db, "ann", is_admin=False).webhooks("a") == []


async def test_a_process_without_the_setting_leaves_the_events_to_others(
    settings: pytest.MonkeyPatch, receiver: Receiver
):
    given(settings, webhook_url=receiver.url)
    db = MemoryStore()
    node = await TaskCreator(db).create_task_tree_from_array(tree("a", 3))
    await TaskManager(db).distribute_task_tree(node)
    settings.delenv("APFLOW_WEBHOOK_URL")
    reset_settings()
    async with asyncio.timeout(30), delivering(db, get_settings()) as delivery:
        assert delivery is not None
        delivery.wake()
        await asyncio.sleep(0.2)
    [record] = await db.records(KIND)
    assert (record.value["status"], record.value["owner"]) == ("active", None)
    given(settings, webhook_url=receiver.url)
    async with working(db):
        pass
    assert types(receiver, "a")[-1] == "tree_completed"


async def test_a_run_that_is_not_requested_leaves_no_webhook(
    settings: pytest.MonkeyPatch, receiver: Receiver
):
    given(settings, webhook_url=receiver.url)
    db = MemoryStore()
    async with working(db) as service:
        await service.execute(tasks=tree("a", 3), wait=True)
        answer = await service.execute("a", wait=True)  # nothing is left to run
    assert answer["status"] == "completed"
    assert types(receiver, "a").count("tree_completed") == 1


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"webhook_url": "ftp://example.com"}, "APFLOW_WEBHOOK_URL"),
        ({"on_failure_url": "example.com"}, "APFLOW_ON_FAILURE_URL"),
        ({"webhook_url": "http://example.com", "webhook_events": "tree_ended"}, "APFLOW_WEBHOOK_EVENTS"),
        ({"webhook_url": "http://example.com", "webhook_secret": "short"}, "APFLOW_WEBHOOK_SECRET"),
    ],
)
async def test_an_invalid_setting_is_refused_before_the_run(
    settings: pytest.MonkeyPatch, values: dict[str, str], named: str
):
    given(settings, **values)
    db = MemoryStore()
    node = await TaskCreator(db).create_task_tree_from_array(tree("a", 3))
    with pytest.raises(SettingsError, match=named):
        await TaskManager(db).distribute_task_tree(node)
    assert await db.records(KIND) == []
    assert (await db.get(["a"]))["a"].run_requested_at is None


async def test_types_of_events_are_selected_for_one_run(receiver: Receiver):
    async with working(MemoryStore()) as service:
        config: dict[str, Any] = {"url": receiver.url, "events": ["task_completed", "tree_completed"]}
        await service.execute(tasks=tree("a", 4), webhook_config=config, wait=True)
    assert set(types(receiver, "a")) == {"task_completed", "tree_completed"}
    assert types(receiver, "a")[-1] == "tree_completed"
