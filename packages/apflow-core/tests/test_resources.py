"""Resources of tasks: the amounts and labels that calls need and workers offer."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from apflow.core import BaseTask, MemoryStore, TaskExecutor, executor_register, get_registry
from apflow.core.errors import SettingsError, TreeInvalidError
from apflow.core.model.resources import Needs, Offer, fitting, read_amounts, read_labels, unmet
from apflow.core.service.task_service import TaskService
from apflow.core.settings import overridden_defaults

GPU = Offer({"gpu": 2.0}, {"zone": "eu"}, frozenset({"x"}), False, 10)


class Together(BaseTask):
    """Counts how many of it run at once."""

    id = "test_together"
    resources: Mapping[str, float | str] = {"gpu": 1}
    running = 0
    most = 0

    async def execute(self, inputs: dict[str, Any]) -> Any:
        kind = type(self)
        kind.running += 1
        kind.most = max(kind.most, kind.running)
        await asyncio.sleep(inputs.get("seconds", 0.02))
        kind.running -= 1
        return {"ran": True}


@pytest.fixture(autouse=True)
def executor() -> Iterator[None]:
    Together.running = Together.most = 0
    executor_register(Together, override=True)
    yield
    get_registry().unregister(Together.id)


def tree(count: int, **more: Any) -> list[dict[str, Any]]:
    one = {"name": "t", "parent_id": "root", "params": {"executor_id": Together.id}}
    return [{"id": "root", "name": "root"}, *({"id": f"t{n}", **one, **more} for n in range(count))]


async def run(array: list[dict[str, Any]]) -> dict[str, Any]:
    async with MemoryStore() as db:
        outcome = await TaskExecutor().execute_tasks(array, db_session=db)
        return dict(outcome.results.tasks().items())


async def until_one_runs() -> None:
    async with asyncio.timeout(30):
        while Together.running == 0:
            await asyncio.sleep(0.01)


def test_the_needs_of_a_task_replace_those_of_its_executor_by_name():
    needs = Needs.of({"gpu": 1, "zone": "eu"}, {"gpu": 2, "disk": "fast"})
    assert needs == Needs({"gpu": 2.0}, {"zone": "eu", "disk": "fast"})
    assert Needs.of(needs.to_json()) == needs
    assert str(needs) == "gpu 2, zone 'eu', disk 'fast'"
    assert Needs.of(None, {}).is_empty


@pytest.mark.parametrize(
    ("needs", "lacking"),
    [
        ({}, []),
        ({"gpu": 2, "zone": "eu"}, []),
        ({"gpu": 2.5}, ["gpu"]),
        ({"tpu": 1, "zone": "us"}, ["tpu", "zone"]),
        ({"zone": 1}, ["zone"]),
        ({"gpu": "big"}, ["gpu"]),
    ],
)
def test_an_offer_says_what_it_lacks(needs: dict[str, Any], lacking: list[str]):
    assert GPU.lacks(Needs.of(needs)) == lacking
    assert Offer.from_json(GPU.to_json()) == GPU


def test_calls_that_fit_together_are_chosen_in_order():
    candidates = [("a", {"gpu": 1.0}), ("b", {"gpu": 2.0}), ("c", {"gpu": 1.0}), ("d", {}), ("e", {})]
    assert fitting(candidates, {"gpu": 2.0}, 3) == ["a", "c", "d"]
    assert fitting(candidates, {}, 10) == ["d", "e"]


@pytest.mark.parametrize(
    ("executor_id", "needs", "offers", "reason"),
    [
        ("x", {}, [], "No worker is alive"),
        ("y", {}, [GPU], "None of the 1 live workers has the executor 'y'."),
        ("x", {"gpu": 2}, [GPU], ""),
        ("x", {"gpu": 3}, [GPU], "offers gpu 3."),
        ("x", {"gpu": 1, "fast": "yes"}, [GPU, GPU], "offers fast 'yes'."),
        (
            "x",
            {"gpu": 1, "tpu": 1},
            [GPU, Offer({"tpu": 1.0}, {}, frozenset({"x"}), False, 1)],
            "No live worker offers all of it",
        ),
    ],
)
def test_why_no_worker_can_make_a_call(
    executor_id: str, needs: dict[str, Any], offers: list[Offer], reason: str
):
    said = unmet(executor_id, Needs.of(needs), offers)
    assert said.startswith(reason) or said.endswith(reason) if reason else said == ""


@pytest.mark.parametrize(
    ("resources", "fault"),
    [
        ([], "must be an object"),
        ({"gpu": 0}, "gpu must be a number above 0"),
        ({"gpu": True}, "gpu must be a number above 0"),
        ({"gpu": 1e12}, "up to 1,000,000"),
        ({"gpu": None}, "gpu must be"),
        ({"zone": ""}, "zone must be"),
        ({"a b": 1}, "the name 'a b'"),
        ({"x" * 64: 1}, "1 to 63"),
        ({f"r{n}": 1 for n in range(17)}, "up to 16"),
    ],
)
async def test_resources_that_are_wrong_are_refused(resources: Any, fault: str):
    with pytest.raises(TreeInvalidError, match=fault):
        await run(tree(1, resources=resources))
    with pytest.raises(TreeInvalidError, match=fault):
        await run(tree(1, policy={"resources": resources}))


@pytest.mark.parametrize(("given", "message"), [({"gpu": "two"}, "gpu=two"), ({"gpu": "0"}, "above 0")])
def test_a_setting_of_amounts_that_is_wrong_is_named(given: dict[str, str], message: str):
    with pytest.raises(SettingsError, match=f"APFLOW_WORKER_RESOURCES.*{message}"):
        read_amounts(given, "APFLOW_WORKER_RESOURCES")


def test_a_setting_of_labels_that_is_wrong_is_named():
    with pytest.raises(SettingsError, match=r"APFLOW_WORKER_LABELS.*zone"):
        read_labels({"zone": "e u"}, "APFLOW_WORKER_LABELS")


async def test_a_process_that_is_alone_counts_the_amounts_of_its_calls():
    with overridden_defaults(worker_resources="gpu=3"):
        tasks = await run(tree(10))
    assert {task.error for task in tasks.values()} == {None}
    assert Together.most == 3


async def test_a_call_that_needs_more_waits_and_is_not_passed_by():
    with overridden_defaults(worker_resources="gpu=2"):
        tasks = await run([*tree(4), {**tree(1)[1], "id": "big", "resources": {"gpu": 2}}])
    assert {task.error for task in tasks.values()} == {None}
    assert Together.most == 2


async def test_a_process_that_is_alone_and_lacks_a_resource_fails_the_task():
    tasks = await run(tree(1))
    assert tasks["t0"].result["error_type"] == "ResourceError"
    assert "APFLOW_WORKER_RESOURCES" in str(tasks["t0"].error)
    with overridden_defaults(worker_resources="gpu=1", worker_labels="zone=eu"):
        assert (await run(tree(1, resources={"zone": "us"})))["t0"].status == "failed"
        assert (await run(tree(1, resources={"zone": "eu"})))["t0"].status == "completed"


async def test_why_says_that_a_call_waits_for_other_calls_of_its_process():
    with overridden_defaults(worker_resources="gpu=1"):
        async with MemoryStore() as db:
            array = tree(2, inputs={"seconds": 600})
            running = asyncio.create_task(TaskExecutor().execute_tasks(array, db_session=db))
            await until_one_runs()
            await asyncio.sleep(0.05)
            service = TaskService(db)
            reasons = [reason for n in (0, 1) for reason in (await service.why(f"t{n}"))["reasons"]]
            running.cancel()
            await asyncio.wait([running])
    assert sum("waits until other calls free what it needs: gpu 1." in each for each in reasons) == 1


async def test_amounts_are_free_again_after_a_call_is_cancelled():
    with overridden_defaults(worker_resources="gpu=1"):
        async with MemoryStore() as db:
            array = tree(3, inputs={"seconds": 600})
            running = asyncio.create_task(TaskExecutor().execute_tasks(array, db_session=db))
            await until_one_runs()
            running.cancel()
            await asyncio.wait([running])
        assert (await run(tree(2)))["t1"].status == "completed"


def test_an_executor_whose_resources_cannot_be_read_needs_none(caplog: pytest.LogCaptureFixture):
    class Odd(BaseTask):
        id = "test_odd_resources"
        resources = {"gpu": "two gpus!"}

        async def execute(self, inputs: dict[str, Any]) -> Any:
            return inputs

    executor_register(Odd)
    try:
        assert dict(get_registry().entry(Odd.id).resources) == {}
    finally:
        get_registry().unregister(Odd.id)
    assert "resources" in caplog.text
