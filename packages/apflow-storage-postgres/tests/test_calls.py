"""Calls that one process makes for another, between two stores of one database."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import timedelta

import asyncpg
import pytest

from apflow.core.model.resources import Needs, Offer
from apflow.core.store.calls import CallExchange, CallMessage, OfferedCall
from apflow.storage.postgres.store import PostgresStore

LEASE = timedelta(seconds=3)
OFFER = Offer({"gpu": 2.0}, {"zone": "eu"}, frozenset({"x_executor"}), False, 10)
ANY: Mapping[str, float | str] = {}


@pytest.fixture
async def stores(postgres_url: str) -> AsyncIterator[tuple[PostgresStore, PostgresStore]]:
    async with (
        PostgresStore(postgres_url, lease=LEASE) as one,
        PostgresStore(postgres_url, lease=LEASE) as two,
    ):
        yield one, two


@pytest.fixture
async def sides(stores: tuple[PostgresStore, PostgresStore]) -> tuple[CallExchange, CallExchange]:
    owner, worker = (exchange_of(each) for each in stores)
    await owner.join("o", None, lambda: None)
    await worker.join("w", OFFER, lambda: None)
    return owner, worker


def exchange_of(store: PostgresStore) -> CallExchange:
    assert store.call_exchange is not None
    return store.call_exchange


def call(call_id: str, needs: Mapping[str, float | str] = ANY, **more: object) -> OfferedCall:
    values: dict[str, object] = {
        "owner": "o", "task_id": f"task-{call_id}", "executor_id": "x_executor", "user_id": None,
        "priority": 2, "is_importable": False, "body": json.dumps({"id": call_id}),
    }  # fmt: skip
    return OfferedCall(id=call_id, needs=Needs.of(needs), **{**values, **more})  # type: ignore[arg-type]


async def take(
    exchange: CallExchange,
    offer: Offer = OFFER,
    limit: int = 10,
    known: Sequence[str] = (),
    free: Mapping[str, float] | None = None,
    worker: str = "w",
) -> list[str]:
    taken = await exchange.take(worker, offer, offer.amounts if free is None else free, limit, known)
    return [each.id for each in taken]


async def test_a_call_is_taken_once_and_its_messages_arrive_in_order(
    sides: tuple[CallExchange, CallExchange],
):
    owner, worker = sides
    await owner.offer([call("a"), call("b")])
    taken = await worker.take("w", OFFER, OFFER.amounts, 10, ())
    assert [(each.id, each.owner, json.loads(each.body)) for each in taken] == [
        ("a", "o", {"id": "a"}),
        ("b", "o", {"id": "b"}),
    ]
    assert await take(worker, known=["a", "b"]) == []
    await worker.post([CallMessage("o", "a", f"{n}") for n in range(2500)], ended=["a"])
    found: list[str] = []
    seen: list[int] = []
    while received := await owner.collect("o", seen):
        seen = [each.number for each in received]
        found += [each.body for each in received]
    assert found == [f"{n}" for n in range(2500)]
    assert await owner.lost("o", ["a", "b"]) == ["a"]  # it has ended
    assert await worker.lost("w", ["b"]) == []


async def test_only_a_worker_that_offers_what_a_call_needs_takes_it(sides: tuple[CallExchange, CallExchange]):
    owner, worker = sides
    await owner.offer([
        call("much", {"gpu": 3}),
        call("other zone", {"zone": "us"}),
        call("other executor", executor_id="y"),
        call("import", executor_id="y", is_importable=True),
        call("fits", {"gpu": 2, "zone": "eu"}),
        call("fits next", {"gpu": 1}),
    ])  # fmt: skip
    assert await take(worker) == ["fits"]
    assert await take(worker, free={"gpu": 0.0}, known=["fits"]) == []
    assert await take(worker, known=["fits"]) == ["fits next"]
    opened = Offer(OFFER.amounts, OFFER.labels, OFFER.executors, True, 10)
    assert await take(worker, opened, known=["fits", "fits next"]) == ["import"]
    left = await owner.waiting("task-much")
    assert left is not None
    assert (left.needs, left.worker) == (Needs({"gpu": 3.0}, {}), None)
    assert await owner.withdraw(["much", "fits"]) == ["much"]


async def test_users_have_their_calls_taken_by_turns(sides: tuple[CallExchange, CallExchange]):
    owner, worker = sides
    await owner.offer([call(f"ann{n}", user_id="ann") for n in range(4)])
    await owner.offer([call("bob0", user_id="bob"), call("bob1", user_id="bob")])
    await owner.offer([call("urgent", user_id="ann", priority=0)])
    assert (await take(worker, limit=1)) == ["urgent"]
    # Ann has a call that runs, so Bob is first; calls of one user that are taken count from then on.
    known = ["urgent"]
    for expected in (["bob0"], ["ann0"], ["bob1"], ["ann1"], ["ann2"]):
        assert await take(worker, limit=1, known=known) == expected
        known += expected


async def test_two_workers_never_take_the_same_call(stores: tuple[PostgresStore, PostgresStore]):
    exchanges = [exchange_of(each) for each in stores]
    await exchanges[0].join("o", None, lambda: None)
    for number, each in enumerate(exchanges):
        await each.join(f"w{number}", OFFER, lambda: None)
    await exchanges[0].offer([call(f"c{n:03}") for n in range(200)])
    taken: dict[int, list[str]] = {0: [], 1: []}

    async def work(number: int) -> None:
        while found := await take(exchanges[number], limit=3, known=taken[number], worker=f"w{number}"):
            taken[number] += found

    await asyncio.gather(work(0), work(1))
    assert sorted(taken[0] + taken[1]) == [f"c{n:03}" for n in range(200)]


async def test_a_notice_wakes_the_party_that_a_message_is_for(stores: tuple[PostgresStore, PostgresStore]):
    one, two = (exchange_of(each) for each in stores)
    woken = {"o": asyncio.Event(), "w": asyncio.Event()}
    loop = asyncio.get_running_loop()
    await one.join("o", None, lambda: loop.call_soon_threadsafe(woken["o"].set))
    await two.join("w", OFFER, lambda: loop.call_soon_threadsafe(woken["w"].set))
    for each in woken.values():  # at the start of listening
        async with asyncio.timeout(10):
            await each.wait()
        each.clear()
    await asyncio.sleep(0.2)
    await one.offer([call("a")])
    async with asyncio.timeout(0.9):
        await woken["w"].wait()
    await two.post([CallMessage("o", "a", "[1, {}]")])
    async with asyncio.timeout(0.9):
        await woken["o"].wait()


async def test_a_side_whose_other_side_is_gone_loses_its_calls(sides: tuple[CallExchange, CallExchange]):
    owner, worker = sides
    await owner.offer([call("a"), call("b"), call("c")])
    assert await take(worker, limit=2) == ["a", "b"]
    assert [(each.party, each.offer, each.calls) for each in await owner.workers()] == [("w", OFFER, 2)]
    await worker.leave("w")
    assert await owner.workers() == []
    assert sorted(await owner.lost("o", ["a", "b", "c"])) == ["a", "b"]
    await worker.join("w2", OFFER, lambda: None)
    assert await take(worker, worker="w2") == ["c"]
    await owner.leave("o")
    assert await worker.lost("w2", ["c"]) == ["c"]
    await owner.join("o2", None, lambda: None)
    await owner.offer([call("d", owner="o")])  # of a party that is not there, so that no process waits for it
    assert await take(worker, worker="w2") == []


async def test_a_party_without_a_sign_of_life_counts_as_gone_for_good(
    sides: tuple[CallExchange, CallExchange], postgres_url: str
):
    owner, worker = sides
    await owner.offer([call("a")])
    assert await take(worker) == ["a"]
    connection = await asyncpg.connect(postgres_url)
    try:
        # Its signs of life fail, as behind a network that is cut.
        await connection.execute(
            "ALTER TABLE apflow_call_parties ADD CONSTRAINT cut CHECK (id <> 'w') NOT VALID"
        )
        async with asyncio.timeout(30):
            while worker.is_joined("w"):
                await asyncio.sleep(0.1)
            while await owner.lost("o", ["a"]) == []:
                await asyncio.sleep(0.1)
        await connection.execute("ALTER TABLE apflow_call_parties DROP CONSTRAINT cut")
        await asyncio.sleep(LEASE.total_seconds() / 2)
        assert not worker.is_joined("w")
        assert owner.is_joined("o")
        assert await owner.workers() == []
    finally:
        await connection.close()


async def test_a_server_that_loses_the_calls_is_noticed_by_both_sides(
    sides: tuple[CallExchange, CallExchange], postgres_url: str
):
    owner, worker = sides
    await owner.offer([call("a"), call("b")])
    assert await take(worker, limit=1) == ["a"]
    connection = await asyncpg.connect(postgres_url)
    try:  # as a server does that was not shut down cleanly
        await connection.execute("TRUNCATE apflow_calls, apflow_call_messages, apflow_call_parties")
    finally:
        await connection.close()
    assert await worker.lost("w", ["a"]) == ["a"]
    assert sorted(await owner.lost("o", ["a", "b"])) == ["a", "b"]
