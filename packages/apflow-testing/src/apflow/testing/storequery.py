"""The contract of a store: finding and counting tasks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import pytest_asyncio

from apflow.core.errors import InvalidInputError
from apflow.core.model.status import TaskStatus
from apflow.core.store.base import ORDERS, Change, TaskQuery, TaskStore, Transition
from apflow.testing.building import a_task
from apflow.testing.storebase import StoreMaker

START = datetime(2030, 1, 1, tzinfo=UTC)


def minute(number: int) -> datetime:
    """Return a moment, minutes after the first one."""
    return START + timedelta(minutes=number)


class StoreQueryContract(StoreMaker):
    """Two trees, and what is found in them.

    `TaskQuery` of `apflow.core.store.base` describes each condition, and `ORDERS` each order: ties by
    position, then id; null times last.
    """

    @pytest_asyncio.fixture
    async def filled(self, tmp_path: Path) -> AsyncIterator[TaskStore]:
        """Give a store that holds two trees."""
        store = self.make_store(tmp_path)
        await store.add(
            [
                a_task("r1", user_id="ann", created_at=minute(1), run_requested_at=START),
                a_task(
                    "b",
                    "r1",
                    user_id="ann",
                    created_at=minute(1),
                    name="same",
                    priority=3,
                    label="Import of 100% _new_",
                    tags=["a b", "nightly", "x"],
                ),
                a_task(
                    "a",
                    "r1",
                    user_id="ann",
                    created_at=minute(1),
                    started_at=minute(5),
                    completed_at=minute(7),
                    name="same",
                    cache_key="0f",
                    status=TaskStatus.FAILED,
                ),
            ]
        )
        await store.add(
            [
                a_task(
                    "r2",
                    user_id="bob",
                    created_at=minute(2),
                    priority=0,
                    original_task_id="r1",
                    tags=["nightly", "'"],
                    spawned_by="a",
                ),
                a_task(
                    "c",
                    "r2",
                    created_at=minute(3),
                    started_at=minute(6),
                    completed_at=minute(6),
                    status=TaskStatus.COMPLETED,
                    parent_id="r2",
                    key="b",
                ),
            ]
        )
        yield store
        await store.close()

    @pytest.mark.parametrize(
        ("query", "ids"),
        [
            (TaskQuery(), ["r1", "b", "a", "r2", "c"]),
            (TaskQuery(order="-created_at"), ["c", "r2", "r1", "b", "a"]),
            (TaskQuery(order="priority"), ["r2", "r1", "a", "c", "b"]),
            (TaskQuery(order="name"), ["c", "r1", "r2", "b", "a"]),
            (TaskQuery(order="-name"), ["b", "a", "r2", "r1", "c"]),
            (TaskQuery(order="started_at"), ["a", "c", "r1", "r2", "b"]),
            (TaskQuery(order="-started_at"), ["c", "a", "r1", "r2", "b"]),
            (TaskQuery(order="completed_at"), ["c", "a", "r1", "r2", "b"]),
            (TaskQuery(order="-completed_at"), ["a", "c", "r1", "r2", "b"]),
            (TaskQuery(order="-updated_at"), ["c", "r2", "r1", "b", "a"]),
            (TaskQuery(id_prefix="r"), ["r1", "r2"]),
            (TaskQuery(id_prefix="r2"), ["r2"]),
            (TaskQuery(id_prefix="r1x"), []),
            (TaskQuery(id_prefix=""), ["r1", "b", "a", "r2", "c"]),
            (TaskQuery(ids=["c", "a", "ghost", "a"]), ["a", "c"]),
            (TaskQuery(ids=[]), []),
            (TaskQuery(user_id="bob"), ["r2"]),
            (TaskQuery(status=TaskStatus.FAILED), ["a"]),
            (TaskQuery(status=[TaskStatus.FAILED, TaskStatus.COMPLETED]), ["a", "c"]),
            (TaskQuery(status=TaskStatus.SKIPPED), []),
            (TaskQuery(status=[]), []),
            (TaskQuery(name="same"), ["b", "a"]),
            (TaskQuery(key="b"), ["b", "c"]),  # an id is the key of a task that has no other one
            (TaskQuery(key="c"), []),
            (TaskQuery(root_id="r2", key="b"), ["c"]),
            (TaskQuery(root_only=True, key="r2"), ["r2"]),
            (TaskQuery(label="Import of 100% _new_"), ["b"]),
            (TaskQuery(label="0% _"), ["b"]),
            (TaskQuery(label="import"), []),  # letters are compared exactly
            (TaskQuery(label="%"), ["b"]),
            (TaskQuery(tags=["nightly"]), ["b", "r2"]),
            (TaskQuery(tags=["x", "nightly"]), ["b"]),
            (TaskQuery(tags=["night"]), []),
            (TaskQuery(tags=["b"]), []),
            (TaskQuery(tags=["a b"]), ["b"]),
            (TaskQuery(tags=["'"]), ["r2"]),
            (TaskQuery(tags=[","]), []),  # no tag can be a comma
            (TaskQuery(tags=["nightly"], user_id="bob"), ["r2"]),
            (TaskQuery(root_only=True), ["r1", "r2"]),
            (TaskQuery(root_id="r1"), ["r1", "b", "a"]),
            (TaskQuery(root_id="ghost"), []),
            (TaskQuery(parent_id="r2"), ["c"]),
            (TaskQuery(original_task_id="r1"), ["r2"]),
            (TaskQuery(cache_key="0f"), ["a"]),
            (TaskQuery(cache_key="0"), []),
            (TaskQuery(created_after=minute(1)), ["r2", "c"]),
            (TaskQuery(created_before=minute(2)), ["r1", "b", "a"]),
            (TaskQuery(created_after=minute(1), created_before=minute(3)), ["r2"]),
            (TaskQuery(completed_before=minute(7)), ["c"]),  # exclusive, and of ended tasks only
            (TaskQuery(completed_before=minute(8), order="completed_at"), ["c", "a"]),
            (TaskQuery(is_spawned=True), ["r2"]),
            (TaskQuery(is_spawned=False, root_only=True), ["r1"]),
            (TaskQuery(is_requested=True), ["r1"]),
            (TaskQuery(is_requested=False, root_only=True), ["r2"]),
            (TaskQuery(user_id="ann", root_only=True, name="r1"), ["r1"]),
            (TaskQuery(user_id="ann", ids=["r2", "a"]), ["a"]),
            (TaskQuery(limit=2), ["r1", "b"]),
            (TaskQuery(limit=2, offset=2), ["a", "r2"]),
            (TaskQuery(offset=4), ["c"]),
            (TaskQuery(limit=0), []),
            (TaskQuery(offset=9), []),
        ],
    )
    async def test_a_query_finds_what_matches_in_its_order(
        self, filled: TaskStore, query: TaskQuery, ids: list[str]
    ) -> None:
        assert [task.id for task in await filled.find(query)] == ids

    @pytest.mark.parametrize("order", sorted(ORDERS))
    @pytest.mark.parametrize("size", [1, 2, 3])
    async def test_pages_that_follow_the_last_task_of_the_one_before_are_the_whole(
        self, filled: TaskStore, order: str, size: int
    ) -> None:
        whole = [task.id for task in await filled.find(TaskQuery(order=order))]
        found: list[str] = []
        query = TaskQuery(order=order, limit=size)
        while page := await filled.find(query):
            found.extend(task.id for task in page)
            query = replace(query, after=page[-1])
        assert found == whole

    async def test_a_page_follows_a_task_that_does_not_match_or_is_no_more(self, filled: TaskStore) -> None:
        [last] = (await filled.get(["a"])).values()
        found = await filled.find(TaskQuery(after=last, root_only=True))
        assert [task.id for task in found] == ["r2"]
        await filled.write(Change(remove=["a"]))
        assert [task.id for task in await filled.find(TaskQuery(after=last))] == ["r2", "c"]

    async def test_counting_is_by_status_and_ignores_pages(self, filled: TaskStore) -> None:
        counts = await filled.count(TaskQuery(root_id="r1", limit=1, offset=1, order="name"))
        assert counts == {TaskStatus.PENDING: 2, TaskStatus.FAILED: 1}
        assert await filled.count(TaskQuery(user_id="nobody")) == {}

    @pytest.mark.parametrize("text", ["\0", "a\0b", "\ud800"])
    async def test_what_no_row_can_hold_finds_nothing(self, filled: TaskStore, text: str) -> None:
        assert await filled.get([text]) == {}
        assert list(await filled.get([text, "a"])) == ["a"]
        assert (await filled.tree(text), await filled.events(text)) == ([], [])
        for query in (
            TaskQuery(user_id=text),
            TaskQuery(name=text),
            TaskQuery(label=text),
            TaskQuery(tags=[text]),
            TaskQuery(key=text),
            TaskQuery(root_id=text),
            TaskQuery(parent_id=text),
            TaskQuery(original_task_id=text),
            TaskQuery(ids=[text]),
            TaskQuery(id_prefix=text),
        ):
            assert await filled.find(query) == []
            assert await filled.count(query) == {}

    async def test_trees_are_tallied_by_status_with_their_progress(self, filled: TaskStore) -> None:
        half = Transition(
            "b", "r1", {"status": TaskStatus.PENDING}, {"status": TaskStatus.IN_PROGRESS, "progress": 0.5}
        )
        await filled.write(Change(moves=[half]))
        found = await filled.tallies(["r2", "r1", "ghost", "r1"])
        assert sorted(found) == ["r1", "r2"]
        assert found["r1"].by_status == {
            TaskStatus.PENDING: 1,
            TaskStatus.IN_PROGRESS: 1,
            TaskStatus.FAILED: 1,
        }
        assert (found["r1"].total, found["r1"].done, found["r1"].has_started) == (3, 1.5, True)
        assert (found["r2"].progress, found["r2"].has_started) == (0.5, True)
        assert await filled.tallies([]) == {}

    async def test_a_tree_of_which_nothing_started_has_no_progress(self, store: TaskStore) -> None:
        await store.add([a_task("r"), a_task("s", "r")])
        tally = (await store.tallies(["r"]))["r"]
        assert (tally.by_status, tally.progress, tally.has_started) == ({TaskStatus.PENDING: 2}, 0.0, False)

    async def test_a_skipped_task_is_found_by_its_status_and_counts_as_done(self, store: TaskStore) -> None:
        await store.add([a_task("r"), a_task("s", "r"), a_task("t", "r")])
        skips = Transition(
            "s", "r", {"status": TaskStatus.PENDING}, {"status": TaskStatus.SKIPPED, "error": "why"}
        )
        await store.write(Change(moves=[skips]))
        [found] = await store.find(TaskQuery(status=TaskStatus.SKIPPED))
        assert (found.id, found.error, found.fraction) == ("s", "why", 1.0)
        assert await store.count(TaskQuery(root_id="r")) == {TaskStatus.PENDING: 2, TaskStatus.SKIPPED: 1}
        tally = (await store.tallies(["r"]))["r"]
        assert (tally.by_status[TaskStatus.SKIPPED], tally.done, tally.has_started) == (1, 1.0, False)

    async def test_an_unknown_order_is_refused(self, filled: TaskStore) -> None:
        with pytest.raises(InvalidInputError, match="colour"):
            await filled.find(TaskQuery(order="colour"))

    async def test_an_empty_store_has_nothing(self, store: TaskStore) -> None:
        assert await store.find(TaskQuery()) == []
        assert await store.get(["x"]) == {}
        assert await store.get([]) == {}
        assert await store.tree("x") == []
        assert await store.count(TaskQuery()) == {}
