"""The contract of a store: records, which are kept beside the tasks."""

from __future__ import annotations

import asyncio
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apflow.core.errors import InvalidInputError, StoreError
from apflow.core.model.task import Json
from apflow.core.store.base import Record, TaskStore
from apflow.testing.building import a_move, a_task, a_tree
from apflow.testing.storebase import StoreMaker

MIB = 1 << 20
VALUES: list[Json] = [
    None, True, 0, 1.5, "", "text", [], {}, [None, [1]], 2**63 - 1,
    {"": [], "it's": 'a "quote" \\ \x1f', "näme \u2028": "\U0001f600", "value": {"version": 7}},
]  # fmt: skip
# In the order of their bytes.
KEYS = [
    "%", "'; DROP TABLE apflow_records; --", "B", "\\", "_", "a", "a%", "a*b", "aX", "a_b", "ab", "b", "é",
    "\ud7ff", "\ue000", "\uffff", "\U0001f600",
]  # fmt: skip


class Step(NamedTuple):
    """A write of a record; one without a value removes it."""

    key: str
    value: int | None
    version: int | None


steps = st.builds(
    Step,
    st.sampled_from(["a", "a%", "ab", "b"]),
    st.none() | st.integers(0, 3),
    st.none() | st.integers(0, 3),
)


def follow(model: dict[str, Record], step: Step) -> Record | bool | None:
    """Do to a dictionary what a store does, and return what it returns."""
    found = model.get(step.key)
    version = found.version if found else 0
    is_expected = step.version is None or step.version == version
    if step.value is None:
        if is_expected and found:
            del model[step.key]
        return is_expected and found is not None
    if not is_expected:
        return None
    model[step.key] = Record("k", step.key, step.value, version + 1)
    return model[step.key]


async def do(store: TaskStore, step: Step) -> Record | bool | None:
    """Do the same to a store."""
    if step.value is None:
        return await store.remove_record("k", step.key, version=step.version)
    return await store.put_record("k", step.key, step.value, version=step.version)


async def count_up(store: TaskStore, times: int) -> None:
    """Raise the number in a record, each time on what was read."""
    while times:
        [record] = await store.records("k", prefix="n")
        if await store.put_record("k", "n", record.value + 1, version=record.version):
            times -= 1


class StoreRecordContract(StoreMaker):
    """Storing, reading and removing records.

    The rules are in `TaskStore.put_record`, `records` and `remove_record`. `check_record`, `check_records`
    and `record_text` of `apflow.core.store.rules` refuse and clean what every store must refuse and clean.
    """

    @pytest.mark.parametrize("value", VALUES, ids=repr)
    async def test_a_record_comes_back_as_it_was_stored(self, store: TaskStore, value: Json) -> None:
        stored = await store.put_record("kind", "key", value)
        assert stored == Record("kind", "key", value, 1)
        [found] = await store.records("kind")
        assert repr(found) == repr(stored)

    async def test_each_change_raises_the_version(self, store: TaskStore) -> None:
        for before, version in enumerate([0, 1, None, None, 4]):
            stored = await store.put_record("k", "a", before, version=version)
            assert stored == Record("k", "a", before, before + 1)
            assert await store.records("k") == [stored]

    @pytest.mark.parametrize("version", [0, 1, 3, 2**63 - 1])
    async def test_a_record_of_another_version_is_left_alone(self, store: TaskStore, version: int) -> None:
        for each in (1, 2):
            await store.put_record("k", "a", each)
        assert await store.put_record("k", "a", "new", version=version) is None
        assert await store.remove_record("k", "a", version=version) is False
        assert await store.records("k") == [Record("k", "a", 2, 2)]

    async def test_what_is_to_be_changed_must_exist(self, store: TaskStore) -> None:
        assert await store.put_record("k", "a", 1, version=1) is None
        assert await store.remove_record("k", "a") is False
        assert await store.remove_record("k", "a", version=0) is False
        assert await store.records("k") == []

    async def test_a_record_that_was_removed_begins_anew(self, store: TaskStore) -> None:
        for _ in range(3):
            assert await store.put_record("k", "a", 1, version=0) == Record("k", "a", 1, 1)
            assert await store.put_record("k", "a", 2) == Record("k", "a", 2, 2)
            assert await store.remove_record("k", "a", version=1) is False
            assert await store.remove_record("k", "a", version=2) is True
        assert await store.put_record("k", "a", 1) == Record("k", "a", 1, 1)
        assert await store.remove_record("k", "a") is True
        assert await store.records("k") == []

    async def test_kinds_do_not_mix(self, store: TaskStore) -> None:
        await store.put_record("k", "a", 1)
        await store.put_record("kk", "a", 2)
        assert await store.remove_record("kk", "a") is True
        assert await store.records("k") == [Record("k", "a", 1, 1)]
        assert await store.records("kk") == []

    async def test_nobody_shares_the_value_with_the_store(self, store: TaskStore) -> None:
        value = {"list": [1]}
        stored = await store.put_record("k", "a", value)
        assert stored is not None
        value["list"].append(2)
        stored.value["list"].append(3)
        (await store.records("k"))[0].value["list"].append(4)
        assert (await store.records("k"))[0].value == {"list": [1]}

    async def test_records_are_in_the_order_of_the_bytes_of_their_keys(self, store: TaskStore) -> None:
        await asyncio.gather(*(store.put_record("k", key, key) for key in reversed(KEYS)))
        assert [record.key for record in await store.records("k")] == KEYS
        assert [record.value for record in await store.records("k", limit=3)] == KEYS[:3]
        assert await store.records("k", limit=0) == []

    @pytest.mark.parametrize("prefix", ["", "a", "a%", "a_", "a*", "%", "_", "\\", "'", "A", "\ud7ff", "zz"])
    async def test_a_prefix_is_meant_as_it_is(self, store: TaskStore, prefix: str) -> None:
        for key in KEYS:
            await store.put_record("k", key, None)
        wanted = [key for key in KEYS if key.startswith(prefix)]
        assert [record.key for record in await store.records("k", prefix=prefix)] == wanted
        limited = await store.records("k", prefix=prefix, limit=1)
        assert [record.key for record in limited] == wanted[:1]

    async def test_text_that_cannot_be_stored_is_replaced_in_a_value(self, store: TaskStore) -> None:
        stored = await store.put_record("k", "a", {"\0": ["\ud800", ("x\udfffy",)]})
        assert stored == Record("k", "a", {"\ufffd": ["\ufffd", ["x\ufffdy"]]}, 1)
        assert await store.records("k") == [stored]

    @pytest.mark.parametrize("text", ["", "a\0", "\ud800", "x" * 1001, "é" * 501, None, 7, b"a"], ids=repr)
    async def test_a_name_that_cannot_be_stored_is_refused(self, store: TaskStore, text: Json) -> None:
        for work in (
            store.put_record(text, "a", 1),
            store.put_record("k", text, 1),
            store.remove_record(text, "a"),
            store.remove_record("k", text),
            store.records(text),
        ):
            with pytest.raises(InvalidInputError, match="of a record"):
                await work
        if text != "":
            with pytest.raises(InvalidInputError, match="prefix of the key of a record"):
                await store.records("k", prefix=text)

    async def test_the_longest_names_are_stored(self, store: TaskStore) -> None:
        # Not repeating itself, so that no database makes it shorter.
        name = "".join(map(chr, range(0x4E00, 0x4E00 + 333)))
        assert await store.put_record(name, name, 1) == Record(name, name, 1, 1)
        assert await store.records(name, prefix=name) == [Record(name, name, 1, 1)]

    @pytest.mark.parametrize("number", [-1, 2**63, 1.0, "1", True], ids=repr)
    async def test_a_version_or_a_limit_that_is_no_count_is_refused(
        self, store: TaskStore, number: Json
    ) -> None:
        for work in (
            store.put_record("k", "a", 1, version=number),
            store.remove_record("k", "a", version=number),
            store.records("k", limit=number),
        ):
            with pytest.raises(InvalidInputError, match=r"version of a record|limit of records"):
                await work

    async def test_what_is_too_large_or_not_json_is_refused_and_changes_nothing(
        self, store: TaskStore
    ) -> None:
        largest = {"text": "é" * (MIB // 2 - 6)}
        stored = await store.put_record("k", "a", largest)
        assert stored == Record("k", "a", largest, 1)
        with pytest.raises(InvalidInputError, match=r"1,048,577 bytes.*at most 1,048,576"):
            await store.put_record("k", "a", "x" * (MIB - 1))
        for value in ({"a": [object()]}, {"a": [float("nan")]}, {1: 2}, 2**64):
            with pytest.raises(InvalidInputError, match="value"):
                await store.put_record("k", "a", value)
        assert await store.records("k") == [stored]

    async def test_of_many_that_create_or_change_a_record_one_wins(self, store: TaskStore) -> None:
        for version in range(3):
            stored = await asyncio.gather(
                *(store.put_record("k", "a", each, version=version) for each in range(30))
            )
            [winner] = [each for each in stored if each is not None]
            assert winner.version == version + 1
            assert await store.records("k") == [winner]
        removed = await asyncio.gather(*(store.remove_record("k", "a", version=3) for _ in range(30)))
        assert removed.count(True) == 1

    async def test_records_and_tasks_are_written_beside_each_other(self, store: TaskStore) -> None:
        ids = [f"t{each}" for each in range(30)]
        await store.add(a_tree("r", *ids))
        await asyncio.gather(
            *(store.move([a_move(each, "pending", "in_progress")]) for each in ids),
            *(store.put_record("k", each, each) for each in ids),
            *(store.put_record("k", "one", each) for each in ids),
        )
        assert {task.status for task in (await store.tree("r"))[1:]} == {"in_progress"}
        records = await store.records("k")
        assert {record.key: record.version for record in records} == {**dict.fromkeys(ids, 1), "one": 30}

    async def test_a_closed_store_keeps_no_records(self, tmp_path: Path) -> None:
        store = self.make_store(tmp_path)
        await store.put_record("k", "a", 1)
        await store.close()
        for work in (store.put_record("k", "a", 1), store.records("k"), store.remove_record("k", "a")):
            with pytest.raises(StoreError, match="closed"):
                await work

    async def test_records_are_there_when_the_store_is_opened_again(self, tmp_path: Path) -> None:
        store = self.make_store(tmp_path)
        if not store.capabilities.is_durable:
            pytest.skip("the store is not durable")
        await store.put_record("k", "a", {"at": 1})
        stored = await store.put_record("k", "a", {"at": 2})
        await store.put_record("k", "b", 1)
        await store.remove_record("k", "b")
        await store.close()
        again = self.make_store(tmp_path)
        assert await again.records("k") == [stored]
        assert await again.put_record("k", "b", 1, version=0) == Record("k", "b", 1, 1)
        assert await again.put_record("k", "a", 3, version=2) == Record("k", "a", 3, 3)
        await again.close()

    async def test_what_is_being_written_is_written_before_the_store_closes(self, tmp_path: Path) -> None:
        store = self.make_store(tmp_path)
        if not store.capabilities.is_durable:
            pytest.skip("the store is not durable")
        await store.add([a_task("r")])
        puts = [asyncio.ensure_future(store.put_record("k", f"{each}", each)) for each in range(20)]
        await asyncio.sleep(0)
        await asyncio.to_thread(lambda: asyncio.run(store.close()))
        assert all(await asyncio.gather(*puts))
        again = self.make_store(tmp_path)
        assert len(await again.records("k")) == 20
        await again.close()

    async def test_processes_share_records(self, two: tuple[TaskStore, TaskStore]) -> None:
        mine, other = two
        assert await mine.put_record("k", "n", 0, version=0) is not None
        assert await other.put_record("k", "n", 0, version=0) is None
        await asyncio.gather(count_up(mine, 10), count_up(mine, 10), count_up(other, 10), count_up(other, 10))
        assert await mine.records("k") == await other.records("k") == [Record("k", "n", 40, 41)]
        assert await other.remove_record("k", "n", version=41) is True
        assert await mine.records("k") == []

    # differing_executors: one test, inherited by the classes of several stores, which share no examples.
    @settings(
        max_examples=25,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.differing_executors],
    )
    @given(written=st.lists(steps, max_size=12))
    def test_records_do_what_a_dictionary_does(self, written: list[Step]) -> None:
        with TemporaryDirectory() as folder:
            asyncio.run(self._keep(Path(folder), written))

    async def _keep(self, folder: Path, written: list[Step]) -> None:
        store = self.make_store(folder)
        model: dict[str, Record] = {}
        for step in written:
            assert await do(store, step) == follow(model, step)
        for prefix in ("", "a", "a%", "c"):
            wanted = [model[key] for key in sorted(model) if key.startswith(prefix)]
            assert await store.records("k", prefix=prefix) == wanted
        await store.close()
