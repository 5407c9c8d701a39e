"""The setting that refuses trees: by what they say, by what they get in the run, and with clear errors."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from apflow.core import (
    BaseTask,
    MemoryStore,
    TaskCreator,
    TaskExecutor,
    TaskManager,
    executor_register,
    get_registry,
)
from apflow.core.authoring.repository import TaskRepository
from apflow.core.engine.submit import submit
from apflow.core.errors import CapabilityRefusedError, SettingsError
from apflow.core.permissions.capability_policy import capability_policy
from apflow.core.service.task_service import TaskService
from apflow.core.settings import reset_settings

Allow = Callable[..., None]


class Visits(BaseTask):
    """Records what it gets, and returns what it is given as `give`."""

    id = "visits"
    calls: list[dict[str, Any]] = []

    def __init__(self, api_base: str | None = None) -> None:
        super().__init__()
        Visits.calls.append({"api_base": api_base})

    async def execute(self, inputs: dict[str, Any]) -> Any:
        Visits.calls.append(inputs)
        return inputs.get("give")


@pytest.fixture(autouse=True)
def visits() -> Iterator[None]:
    Visits.calls.clear()
    executor_register(Visits, override=True)
    yield
    get_registry().unregister(Visits.id)


@pytest.fixture
def allow(monkeypatch: pytest.MonkeyPatch) -> Iterator[Allow]:
    """Set what is allowed; the executor is, unless it is given."""

    def allow(**kinds: Any) -> None:
        monkeypatch.setenv("APFLOW_ALLOWED_CAPABILITIES", json.dumps({"executors": ["visits"], **kinds}))
        reset_settings()

    yield allow
    monkeypatch.undo()
    reset_settings()


def entry(name: str, *needs: str, params: dict[str, Any] | None = None, **inputs: Any) -> dict[str, Any]:
    return {
        "id": name,
        "name": "visits",
        "dependencies": list(needs),
        "inputs": inputs,
        "params": params or {},
    }


def tree(*entries: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"id": "root", "name": "root"}, *({**each, "parent_id": "root"} for each in entries)]


async def faults(*entries: dict[str, Any]) -> list[str]:
    """Return why a tree is refused; empty if it is created."""
    db = MemoryStore()
    try:
        await TaskCreator(db).create_task_tree_from_array(tree(*entries))
    except CapabilityRefusedError as error:
        assert await db.tree("root") == []
        return error.violations
    return []


async def test_everything_is_allowed_without_the_setting():
    assert await faults(entry("a", url="https://anywhere.example", command="rm")) == []


async def test_what_is_not_allowed_is_named_with_its_place(allow: Allow):
    allow(hosts=["*.example.com"], commands=["ls"])
    found = await faults(
        entry("a", url="https://API.example.com/x", command=["ls", "-l"]),
        entry("b", url="https://example.org"),
        entry("c", command="rm -rf /"),
        entry("d", image="alpine:3", command="ls"),
        entry("e", headers={"token": {"$secret": "TOKEN"}}),
        entry("f", params={"api_base": "http://10.0.0.1/v1"}),
        entry("g", auth={"token_url": "https://login.example.net/token"}),
        {"id": "h", "name": "other"},
    )
    assert found == [
        "tasks[2] ('visits'): inputs.url names the host 'example.org', which `hosts` does not allow.",
        "tasks[3] ('visits'): inputs.command names the program 'rm', which `commands` does not allow.",
        "tasks[4] ('visits'): inputs.image names the image 'alpine:3', which `images` does not allow.",
        "tasks[5] ('visits'): inputs names the secret 'TOKEN', which `secrets` does not allow.",
        "tasks[6] ('visits'): params.api_base names the host '10.0.0.1', which `hosts` does not allow.",
        "tasks[7] ('visits'): inputs.auth.token_url names the host 'login.example.net', which `hosts` does "
        "not allow.",
    ]


async def test_executors_that_are_not_listed_are_refused(allow: Allow):
    allow(executors=["rest_*"])
    (found,) = await faults(entry("a"))
    assert found.endswith("executor names the executor 'visits', which `executors` does not allow.")


@pytest.mark.parametrize(
    "inputs",
    [
        {"url": {"$from": "a", "path": "url"}},
        {"url": {"$secret": "WHERE"}},
        {"url": ["https://example.com"]},
        {"command": "ls; rm", "shell": True},
        {"command": "ls $(rm)", "host": "db.example.com"},
        {"command": "'ls"},
    ],
)
async def test_what_is_not_known_before_the_run_is_refused(allow: Allow, inputs: dict[str, Any]):
    allow(hosts=["*"], commands=["*"], secrets=["*"])
    (found,) = await faults(entry("a"), entry("b", "a", **inputs))
    assert "is not known before the run" in found
    assert "'b.inputs." in found
    allow(hosts=["*"], commands=["*"], secrets=["*"], undetermined=["b.inputs.*"])
    assert await faults(entry("a"), entry("b", "a", **inputs)) == []


async def run(*entries: dict[str, Any]) -> dict[str, Any]:
    db = MemoryStore()
    await TaskExecutor().execute_tasks(tree(*entries), db_session=db)
    return {task.id: task for task in await db.tree("root")}


async def test_a_value_that_another_task_gives_is_checked_at_the_call(allow: Allow):
    allow(hosts=["good.example"], undetermined=["*"])
    tasks = await run(
        entry("good", give={"url": "https://good.example"}),
        entry("bad", give={"url": "https://bad.example"}),
        entry("to good", "good", url={"$from": "good", "path": "url"}),
        entry("to bad", "bad", url={"$from": "bad", "path": "url"}),
    )
    assert str(tasks["to good"].status) == "completed"
    assert tasks["to bad"].result["error_type"] == "CapabilityRefusedError"
    assert "inputs.url names the host 'bad.example'" in tasks["to bad"].error
    assert [each["url"] for each in Visits.calls if "url" in each] == ["https://good.example"]


async def test_a_value_from_a_secret_is_checked_at_the_call(allow: Allow, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("APFLOW_SECRET_BASE", "https://bad.example")
    allow(hosts=["good.example"], secrets=["BASE"], undetermined=["*"])
    base = {"$secret": "BASE"}
    tasks = await run(entry("a", params={"api_base": base}), entry("b", url=base))
    assert {tasks[each].result["error_type"] for each in "ab"} == {"CapabilityRefusedError"}
    assert [each for each in Visits.calls if each.get("api_base") or each.get("url")] == []


async def test_a_tree_that_was_stored_before_is_refused_too(allow: Allow):
    db = MemoryStore()
    node = await TaskCreator(db).create_task_tree_from_array(tree(entry("a", url="http://a.example")))
    allow(hosts=["b.example"])
    with pytest.raises(CapabilityRefusedError):
        await submit(db, "root")
    await TaskManager(db).distribute_task_tree(node)
    assert (await db.tree("root"))[1].result["error_type"] == "CapabilityRefusedError"
    assert [each for each in Visits.calls if "url" in each] == []


async def test_each_way_to_store_tasks_is_checked(allow: Allow):
    db = MemoryStore()
    service, repository = TaskService(db), TaskRepository(db)
    array = tree(entry("a", url="http://a.example"))
    await service.create(array)
    allow(hosts=["b.example"])
    inputs = {"url": "http://a.example"}
    attempts: list[Callable[[], Awaitable[Any]]] = [
        lambda: service.submit(array),
        lambda: service.create_schedule(array, every="1h"),
        lambda: service.copy("root"),
        lambda: service.fork("root", from_task_ids=["a"]),
        lambda: repository.create_task(name="visits", inputs=inputs),
        lambda: repository.create_task(name="visits", parent_id="root", inputs=inputs),
    ]
    for attempt in attempts:
        with pytest.raises(CapabilityRefusedError, match=r"inputs\.url names the host 'a\.example'"):
            await attempt()


async def test_a_plan_lists_what_is_not_allowed_as_problems(allow: Allow):
    allow(hosts=["b.example"])
    plan = await TaskService(MemoryStore()).plan(tree(entry("a", url="http://a.example")))
    assert [each for each in plan["problems"] if "names the host 'a.example'" in each]


async def test_the_capabilities_of_a_plan_are_a_list_that_allows_the_tree(allow: Allow):
    entries = entry("a", url="http://a.example", command="ls"), entry("b", "a", host={"$from": "a"})
    plan = await TaskService(MemoryStore()).plan(tree(*entries))
    allow(**plan["capabilities"])
    assert await faults(*entries) == []


def test_a_file_is_read_again_when_it_has_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    file = tmp_path / "allowed.toml"
    file.write_text('hosts = ["a.example"]\n')
    monkeypatch.setenv("APFLOW_ALLOWED_CAPABILITIES", str(file))
    reset_settings()
    policy = capability_policy()
    assert policy is not None and policy.permits("hosts", "A.example.") and not policy.permits("secrets", "A")
    file.write_text('hosts = ["a.example", "bb.example"]\n')
    policy = capability_policy()
    assert policy is not None and policy.permits("hosts", "bb.example")
    monkeypatch.undo()
    reset_settings()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("/nowhere/allowed.json", "cannot be read"),
        ("{", "neither JSON nor TOML"),
        ('{"host": []}', "unknown key 'host'"),
        ('{"hosts": "*"}', "hosts must be a list"),
        ('{"hosts": [1]}', "hosts must be a list"),
    ],
)
def test_a_setting_that_cannot_be_meant_is_an_error(text: str, said: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("APFLOW_ALLOWED_CAPABILITIES", text)
    reset_settings()
    with pytest.raises(SettingsError, match=said):
        capability_policy()
    monkeypatch.undo()
    reset_settings()
