"""Webhooks: what is taken, what is refused, and what is stored of them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from apflow.core import BaseTask, MemoryStore, executor_register, get_registry
from apflow.core.errors import AlreadyRunningError, ForbiddenError, InvalidInputError, NotFoundError
from apflow.core.service.operations import OPERATIONS
from apflow.core.service.task_service import TaskService
from apflow.core.store.base import Record
from apflow.core.webhooks.kinds import ENDED_KIND, KIND
from apflow.core.webhooks.webhook import Webhook, key_of, made_secret

URL = "http://127.0.0.1:9/hook"
ONE = {"id": "r", "name": "webhook_nothing"}


class Nothing(BaseTask):
    """Does nothing."""

    id = "webhook_nothing"

    async def execute(self, inputs: dict[str, Any]) -> dict[str, Any]:
        return inputs


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    executor_register(Nothing, override=True)
    yield
    get_registry().unregister(Nothing.id)


@pytest.fixture
def service() -> TaskService:
    return TaskService(MemoryStore(), is_served=True)


async def stored(service: TaskService) -> list[Webhook]:
    return [Webhook.of(record) for record in await service.db.records("webhook")]


async def execute(service: TaskService, config: dict[str, Any], **more: Any) -> dict[str, Any]:
    given = {"tasks": [ONE], "webhook_config": {"url": URL, **config}, **more}
    answer: dict[str, Any] = await OPERATIONS["tasks.execute"].call(service, given)
    return answer


async def test_types_of_events_are_stored_and_shown_and_unknown_ones_are_refused(service: TaskService):
    await execute(service, {"events": ["tree_failed", "task_failed"]})
    [shown] = await service.webhooks("r")
    assert shown["events"] == ["tree_failed", "task_failed"]
    for unknown in ("tree_ended", "log"):
        with pytest.raises(InvalidInputError) as refused:
            await execute(service, {"events": [unknown]})
        [violation] = refused.value.violations
        assert violation.startswith("webhook_config.events: ")
        assert f"'{unknown}' is not delivered to webhooks" in violation


async def test_a_webhook_needs_a_package_that_delivers_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("apflow.core.webhooks.delivery.GROUP", "apflow.webhooks.of_no_package")
    service = TaskService(MemoryStore())
    with pytest.raises(InvalidInputError, match="apflow-server"):
        await execute(service, {})
    assert await service.list() == []


async def test_a_webhook_is_stored_with_a_secret_that_is_returned_once(service: TaskService):
    answer = await execute(service, {"headers": {"Authorization": {"$secret": "HOOK"}}})
    [webhook] = await stored(service)
    assert answer["webhook_id"] == webhook.id
    assert answer["webhook_secret"] == webhook.secret
    assert (webhook.root_id, webhook.sent, webhook.status) == ("r", 1, "active")
    assert webhook.headers == {"Authorization": {"$secret": "HOOK"}}
    [shown] = await service.webhooks("r")
    assert "secret" not in shown
    assert shown["headers"] == webhook.headers


async def test_a_secret_that_is_given_is_not_told_again(service: TaskService):
    answer = await execute(service, {"secret": made_secret()})
    assert "webhook_secret" not in answer
    assert (await stored(service))[0].secret == (await stored(service))[0].secret


async def test_a_header_in_clear_is_shown_as_stars(service: TaskService):
    await execute(service, {"headers": {"Authorization": "Bearer abcdefgh", "X-Of": "me"}})
    assert (await service.webhooks("r"))[0]["headers"] == {"Authorization": "***", "X-Of": "me"}


async def test_the_same_key_stores_one_webhook_and_tells_the_same_secret(service: TaskService):
    first = await execute(service, {}, idempotency_key="k")
    again = await execute(service, {}, idempotency_key="k")
    assert first["webhook_secret"] == again["webhook_secret"]
    assert len(await stored(service)) == 1


class Slow(MemoryStore):
    """Lets others have a turn where a database would."""

    async def records(self, kind: str, *, prefix: str = "", limit: int | None = None) -> list[Record]:
        found = await super().records(kind, prefix=prefix, limit=limit)
        await asyncio.sleep(0.01)
        return found


async def test_of_many_callers_with_the_same_key_all_are_told_the_secret_that_is_used():
    service = TaskService(Slow(), is_served=True)
    answers = await asyncio.gather(*(execute(service, {}, idempotency_key="k") for _ in range(20)))
    assert {answer["webhook_secret"] for answer in answers} == {(await stored(service))[0].secret}


async def test_a_refused_run_leaves_no_webhook(service: TaskService):
    await service.execute(tasks=[ONE])
    with pytest.raises(AlreadyRunningError):
        await service.execute("r", webhook_config={"url": URL})
    assert await stored(service) == []


async def test_of_a_refused_webhook_nothing_is_created(service: TaskService):
    with pytest.raises(InvalidInputError):
        await service.execute(tasks=[ONE], webhook_config={"url": "http://169.254.169.254/"})
    assert (await service.count())["total"] == 0


async def test_a_tree_has_a_limited_number_of_webhooks(service: TaskService, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("apflow.core.webhooks.webhook.MAX_PER_TREE", 1)
    await execute(service, {})
    await service.cancel(["r"])
    with pytest.raises(InvalidInputError, match="maximum of 1"):
        await service.execute("r", webhook_config={"url": URL})


async def test_a_tree_with_the_longest_id_has_webhooks_as_any_other(service: TaskService):
    longest = "\N{GRINNING FACE}" * 255
    await execute(service, {}, tasks=[{"id": longest, "name": "webhook_nothing"}])
    [shown] = await service.webhooks(longest)
    assert shown["status"] == "active"


async def test_a_stranger_sees_no_webhook(service: TaskService):
    await execute(service, {})
    with pytest.raises(NotFoundError):
        await TaskService(service.db, "bob").webhooks("r")


REFUSED: list[dict[str, Any]] = [
    {},
    {"url": "ftp://example.com/"},
    {"url": "https://"},
    {"url": "https://me:pw@example.com/"},
    {"url": "http://example.com:99999/"},
    {"url": "http://127.0.0.1:0/"},
    {"url": "http://127.0.0.1:9/a b"},
    {"url": "http://127.0.0.1:9/a\r\nX-B: 2"},
    {"url": " http://127.0.0.1:9/"},
    {"url": "http://127.0.0.1:9/\x7f"},
    {"url": URL, "method": "GET"},
    {"url": URL, "method": "post"},
    {"url": URL, "timeout": "30"},
    {"url": URL, "timeout": True},
    {"url": URL, "max_retries": "3"},
    {"url": URL, "max_retries": True},
    {"url": URL, "max_retries": 1.5},
    {"url": URL, "headers": {"X-A": "é"}},
    {"url": URL, "headers": {f"X-{at}": "" for at in range(51)}},
    {"url": URL, "timeout": 0},
    {"url": URL, "timeout": 301},
    {"url": URL, "max_retries": -1},
    {"url": URL, "headers": {"Host": "other"}},
    {"url": URL, "headers": {"webhook-id": "1"}},
    {"url": URL, "headers": {"X A": "1"}},
    {"url": URL, "headers": {"X-A": "1\r\nX-B: 2"}},
    {"url": URL, "headers": {"X-A": {"$secret": "A", "more": 1}}},
    {"url": URL, "headers": {"Authorization": "***"}},
    {"url": URL, "secret": "short"},
    {"url": URL, "secret": "whsec_" + "A" * 20},
    {"url": URL, "colour": "red"},
    {"url": "http://no-such-host.invalid/"},
]


async def test_of_very_many_faults_few_are_told(service: TaskService):
    for config in (
        {"url": URL, "headers": {str(at): 0 for at in range(10_000)}},
        {"url": URL, "headers": {"X-A": {str(at): 0 for at in range(10_000)}}},
        {"url": URL} | {str(at): 0 for at in range(10_000)},
    ):
        with pytest.raises(InvalidInputError) as caught:
            await service.execute(tasks=[ONE], webhook_config=config)
        assert len(caught.value.violations) == 1


async def test_a_whole_number_may_be_written_in_any_form(service: TaskService):
    await execute(service, {"max_retries": 2.0, "timeout": 3})
    [webhook] = await stored(service)
    assert (webhook.max_retries, webhook.timeout) == (2, 3.0)


@pytest.mark.parametrize("config", REFUSED, ids=lambda config: repr(config)[:60])
async def test_what_cannot_be_used_is_refused_before_anything_is_written(
    service: TaskService, config: dict[str, Any]
):
    with pytest.raises(InvalidInputError) as caught:
        await service.execute(tasks=[ONE], webhook_config=config)
    assert caught.value.violations
    assert await stored(service) == []
    assert (await service.count())["total"] == 0


async def test_private_addresses_are_refused_where_the_policy_says_so(
    service: TaskService, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("APFLOW_NET_POLICY", "public")
    with pytest.raises(InvalidInputError) as caught:
        await service.execute(tasks=[ONE], webhook_config={"url": URL})
    assert "loopback" in caught.value.violations[0]


def test_a_made_secret_is_one_of_32_bytes():
    assert len(key_of(made_secret())) == 32
    assert "whsec_" not in repr(
        Webhook(id="w", root_id="r", user_id=None, url=URL, created_at="", secret="whsec_a")
    )


async def test_webhooks_that_are_not_done_are_listed_for_admins_with_those_that_were_given_up_first():
    db = MemoryStore()
    service = TaskService(db, is_served=True)
    for status, failures in (("active", 0), ("active", 3), ("dead", 5), ("done", 0)):
        await execute(service, {}, tasks=[{**ONE, "id": f"{status}{failures}"}])
    for record in await db.records(KIND):
        webhook = Webhook.of(record)
        status, failures = webhook.root_id[:-1], int(webhook.root_id[-1])
        changed = webhook.to_json() | {"status": status, "failures": failures}
        if status == "active":
            await db.put_record(KIND, webhook.key, changed)
        else:
            await db.remove_record(KIND, webhook.key)
            await db.put_record(ENDED_KIND, webhook.key, changed)
    found = await OPERATIONS["system.webhooks"].call(service, {})
    assert [each["root_task_id"] for each in found] == ["dead5", "active3", "active0"]
    assert all("secret" not in each for each in found)
    assert len(await service.unfinished_webhooks(limit=2)) == 2
    with pytest.raises(ForbiddenError):
        await TaskService(db, "ann").unfinished_webhooks()
