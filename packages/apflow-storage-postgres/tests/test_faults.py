"""Where a connection or the server is lost, nothing is lost of what was written, and nothing comes twice."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from itertools import count

import asyncpg
import pytest

from apflow.core.errors import StoreError, StoreUnavailableError
from apflow.core.model.task import utc_now
from apflow.core.model.usage import UsageEntry, UsageQuery, UsageTotals
from apflow.core.store.base import Change, Transition
from apflow.storage.postgres import PostgresStore
from apflow.testing.building import a_move, a_task, a_tree, an_event
from apflow.testing.postgres import extended, is_commit, target_of, through
from apflow.testing.postgresserver import Server, a_server
from apflow.testing.proxy import Proxy, a_proxy, at_most


@pytest.fixture
def proxy(postgres_url: str) -> Iterator[Proxy]:
    with a_proxy(target_of(postgres_url)) as proxy:
        yield proxy


@pytest.fixture
def proxied(proxy: Proxy, postgres_url: str) -> str:
    """The URL of the database, by way of the proxy."""
    return through(proxy.port, postgres_url)


def lose_for_good_at_commit(proxy: Proxy, *, arrives: bool = True) -> None:
    """Lose the answer to the next COMMIT, or the COMMIT itself, and whatever is said after it."""

    def lose(piece: bytes) -> bool:
        if is_commit(piece):
            proxy.cut_before = lambda _: True
            return True
        return False

    if arrives:
        proxy.cut_after = lose
    else:
        proxy.cut_before = lose


async def moved_once(store: PostgresStore) -> None:
    """Check that the move below was written, and once."""
    task = (await store.get(["a"]))["a"]
    assert (task.status, task.attempts) == ("in_progress", 1)
    assert [event.sequence for event in await store.events("r")] == [1, 2, 3]


def the_move() -> Change:
    return Change(moves=[a_move("a", "pending", "in_progress", sets={"attempts": 1})], is_strict=True)


async def test_a_commit_whose_answer_was_lost_is_looked_up_and_not_repeated(proxy: Proxy, proxied: str):
    async with PostgresStore(proxied) as store:
        await store.add(a_tree("r", "a"))
        proxy.cut_after = at_most(1, is_commit)
        [events] = await store.write(the_move())
        assert events is not None
        assert events[0].sequence == 3
        assert proxy.count > 1
        await moved_once(store)


async def test_a_commit_that_never_arrived_is_repeated(proxy: Proxy, proxied: str):
    async with PostgresStore(proxied) as store:
        await store.add(a_tree("r", "a"))
        proxy.cut_before = at_most(1, is_commit)
        assert await store.write(the_move()) != [None]
        await moved_once(store)


@pytest.mark.parametrize("is_answered", [True, False])
async def test_wherever_the_connection_is_lost_a_change_is_written_once(
    proxy: Proxy, proxied: str, is_answered: bool
):
    async with PostgresStore(proxied) as store:
        await store.add(a_tree("r", *(f"t{each}" for each in range(12))))
        for number in range(12):
            pieces = count()
            cut = at_most(1, lambda _piece, number=number, pieces=pieces: next(pieces) == number)
            if is_answered:
                proxy.cut_after = cut
            else:
                proxy.cut_before = cut
            move = a_move(f"t{number}", "pending", "in_progress", sets={"attempts": 1})
            [events] = await store.write(Change(moves=[move], is_strict=True))
            assert events is not None
        proxy.cut_after = proxy.cut_before = lambda _: False
        assert [task.attempts for task in (await store.tree("r"))[1:]] == [1] * 12
        assert [event.sequence for event in await store.events("r")] == list(range(1, 26))


@pytest.mark.parametrize("is_answered", [True, False])
async def test_wherever_the_connection_is_lost_a_record_is_written_once_and_its_writer_is_told(
    proxy: Proxy, proxied: str, is_answered: bool
):
    async with PostgresStore(proxied) as store:
        await store.put_record("k", "a", "same")
        version = 1

        async def put(expected: int | None) -> None:
            nonlocal version
            version += 1
            assert await store.put_record("k", "a", "same", version=expected) == ("k", "a", "same", version)

        for number in range(8):
            pieces = count()
            cut = at_most(1, lambda _piece, number=number, pieces=pieces: next(pieces) == number)
            if is_answered:
                proxy.cut_after = cut
            else:
                proxy.cut_before = cut
            await put(version)
            await put(None)
        for look in (lambda piece: b"DELETE" in piece, is_commit):
            cut = at_most(1, look)
            if is_answered:
                proxy.cut_after = cut
            else:
                proxy.cut_before = cut
            await store.put_record("k", "b", 1, version=0)
            assert await store.remove_record("k", "b", version=1) is True
        proxy.cut_after = proxy.cut_before = lambda _: False
        assert await store.records("k") == [("k", "a", "same", version)]


async def test_a_writer_whose_answer_was_lost_has_not_won_where_another_one_wrote_the_same(
    proxy: Proxy, proxied: str, postgres_url: str
):
    async with PostgresStore(proxied) as store, PostgresStore(postgres_url) as other:
        await store.put_record("k", "a", "free")
        assert await other.put_record("k", "a", "taken", version=1) is not None
        proxy.cut_after = at_most(1, is_commit)
        assert await store.put_record("k", "a", "taken", version=1) is None
        assert await store.records("k") == [("k", "a", "taken", 2)]


async def test_a_record_of_which_nobody_knows_whether_it_was_written_is_told_so(proxy: Proxy, proxied: str):
    async with PostgresStore(proxied, patience=0.3) as store:
        await store.put_record("k", "a", 1)
        lose_for_good_at_commit(proxy)
        with pytest.raises(StoreError, match="whether"):
            await store.put_record("k", "a", 2)


def a_call(number: int) -> UsageEntry:
    return UsageEntry(
        task_id="a",
        root_id="r",
        top_id="r",
        user_id=None,
        model="m",
        totals=UsageTotals(calls=1, input_tokens=1),
        call_id=f"c{number}",
    )


async def calls_of(store: PostgresStore) -> int:
    return sum(each.totals.calls for each in await store.usage(UsageQuery()))


@pytest.mark.parametrize("is_answered", [True, False])
async def test_wherever_the_connection_is_lost_usage_is_added_once(
    proxy: Proxy, proxied: str, is_answered: bool
):
    async with PostgresStore(proxied) as store:
        await store.add_usage([a_call(100)])
        for number in range(10):
            pieces = count()
            cut = at_most(1, lambda _piece, number=number, pieces=pieces: next(pieces) == number)
            if is_answered:
                proxy.cut_after = cut
            else:
                proxy.cut_before = cut
            await store.add_usage([a_call(number)])
        proxy.cut_after = proxy.cut_before = lambda _: False
        assert await calls_of(store) == 11


@pytest.mark.parametrize("arrives", [True, False])
async def test_usage_of_which_it_is_unknown_whether_it_was_written_is_added_once_when_repeated(
    proxy: Proxy, proxied: str, arrives: bool
):
    async with PostgresStore(proxied, patience=0.3) as store:
        await store.add_usage([a_call(0)])
        lose_for_good_at_commit(proxy, arrives=arrives)
        with pytest.raises(StoreUnavailableError):
            await store.add_usage([a_call(1)])
        proxy.cut_after = proxy.cut_before = lambda _: False
        # Other writes come first, so the last batch of the writer is another one.
        await store.put_record("k", "a", 1)
        await store.add_usage([a_call(2)])
        await store.add_usage([a_call(1)])
        assert await calls_of(store) == 3


async def test_a_record_that_somebody_holds_is_told_and_the_next_one_goes_on(postgres_url: str):
    async with PostgresStore(extended(postgres_url, lock_timeout="300")) as store:
        await store.put_record("k", "held", 1)
        holder = await asyncpg.connect(postgres_url)
        async with holder.transaction():
            await holder.execute("SELECT * FROM apflow_records FOR UPDATE")
            held, free = await asyncio.gather(
                store.put_record("k", "held", 2), store.put_record("k", "free", 1), return_exceptions=True
            )
        await holder.close()
        assert isinstance(held, StoreError)
        assert "took too long" in str(held)
        assert free == ("k", "free", 1, 1)
        assert await store.put_record("k", "held", 2) == ("k", "held", 2, 2)


async def test_reads_go_on_after_all_connections_were_lost(proxy: Proxy, proxied: str):
    async with PostgresStore(proxied) as store:
        await store.add(a_tree("r", "a"))
        await asyncio.gather(*(store.get(["r"]) for _ in range(10)))
        for _ in range(3):
            proxy.lose_all()
            found = await asyncio.gather(*(store.get(["r"]) for _ in range(10)))
            assert all(list(each) == ["r"] for each in found)
            assert await store.renew("me", ["r"]) == {}


async def test_notices_are_heard_again_after_the_connection_was_lost(proxy: Proxy, proxied: str):
    heard = asyncio.Event()
    loop = asyncio.get_running_loop()
    async with PostgresStore(proxied) as store, PostgresStore(proxied) as other:
        await store.add(a_tree("r", "a"))
        store.listen(lambda _: loop.call_soon_threadsafe(heard.set))
        for _ in range(2):
            heard.clear()
            async with asyncio.timeout(30):
                while not heard.is_set():
                    await other.move([Transition("r", "r", {}, {}, (an_event("r", "r"),))])
                    await asyncio.sleep(0.05)
            proxy.lose_all()


async def test_a_renewal_over_a_connection_that_says_nothing_ends_in_time_for_the_next(
    proxy: Proxy, proxied: str
):
    async with PostgresStore(proxied, lease=timedelta(seconds=1.5)) as store:
        await store.add([a_task("r")])
        await store.move([Transition("r", "r", {}, {"run_owner": "me", "run_requested_at": utc_now()})])
        assert await store.renew("me", ["r"]) == {"r": False}
        proxy.stall()
        with pytest.raises(StoreError, match="cannot be reached"):
            async with asyncio.timeout(30):
                await store.renew("me", ["r"])
        proxy.pass_on()
        assert await store.renew("me", ["r"]) == {"r": False}


async def test_a_server_that_is_lost_for_too_long_is_told(proxy: Proxy, proxied: str):
    async with PostgresStore(proxied, patience=0.3) as store:
        await store.add(a_tree("r", "a"))
        proxy.stop()
        with pytest.raises(StoreError, match="cannot be reached"):
            await store.get(["r"])
        with pytest.raises(StoreError, match="cannot be reached"):
            await store.write(the_move())


async def test_a_commit_that_cannot_be_looked_up_is_told_as_unknown_and_not_repeated(
    proxy: Proxy, proxied: str, postgres_url: str
):
    async with PostgresStore(proxied, patience=0.3) as store:
        await store.add(a_tree("r", "a"))
        lose_for_good_at_commit(proxy)
        with pytest.raises(StoreError, match="whether"):
            await store.write(the_move())
    async with PostgresStore(postgres_url) as direct:
        await moved_once(direct)


async def test_a_backend_that_is_ended_in_the_middle_costs_nothing(postgres_url: str):
    async with PostgresStore(postgres_url) as store:
        await store.add(a_tree("r", *(f"t{each}" for each in range(200))))
        killer = await asyncpg.connect(postgres_url)
        end_all = (
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )

        async def write(number: int) -> None:
            if number % 20 == 0:
                await killer.execute(end_all)
            move = a_move(f"t{number}", "pending", "in_progress", sets={"attempts": 1})
            [events] = await store.write(Change(moves=[move], is_strict=True))
            assert events is not None

        for start in range(0, 200, 10):
            await asyncio.gather(*(write(start + each) for each in range(10)))
        await killer.close()
        assert [task.attempts for task in (await store.tree("r"))[1:]] == [1] * 200
        assert [event.sequence for event in await store.events("r")] == list(range(1, 402))


@pytest.fixture
def own_server() -> Iterator[Server]:
    """A server that may be killed."""
    with a_server() as server:
        yield server


async def test_a_server_that_is_killed_and_started_again_costs_patience_only(own_server: Server):
    ids = [f"t{number}" for number in range(150)]
    half_way = asyncio.Event()

    async def write_all(store: PostgresStore) -> None:
        for task_id in ids:
            move = a_move(task_id, "pending", "in_progress", sets={"attempts": 1})
            await store.write(Change(moves=[move], is_strict=True))
            if task_id == "t50":
                half_way.set()

    async def kill() -> None:
        await half_way.wait()
        own_server.kill()
        await asyncio.to_thread(own_server.start)

    async with PostgresStore(own_server.url()) as store:
        await store.add(a_tree("r", *ids))
        await asyncio.gather(write_all(store), kill())
        assert [task.attempts for task in (await store.tree("r"))[1:]] == [1] * 150
        assert [each.sequence for each in await store.events("r")] == list(range(1, 302))


def start(root_id: str) -> Transition:
    return a_move(root_id, "pending", "in_progress", root_id=root_id)


async def test_a_row_that_somebody_holds_is_told_and_the_others_go_on(postgres_url: str):
    async with PostgresStore(extended(postgres_url, lock_timeout="300")) as store:
        await store.add([a_task("held")])
        await store.add([a_task("free")])
        holder = await asyncpg.connect(postgres_url)
        async with holder.transaction():
            await holder.execute("SELECT * FROM apflow_tasks WHERE id = 'held' FOR UPDATE")
            outcomes = await asyncio.gather(
                *(store.move([start(each)]) for each in ("held", "free")),
                return_exceptions=True,
            )
        await holder.close()
        assert isinstance(outcomes[0], StoreError)
        assert "took too long" in str(outcomes[0])
        assert outcomes[1] != [None]
        assert not isinstance(outcomes[1], BaseException)
        assert await store.move([start("held")]) != [None]


async def test_only_the_writer_of_a_change_that_cannot_be_written_is_told(postgres_url: str):
    async with PostgresStore(postgres_url) as store:
        await store.add([a_task("first")])
        outcomes = await asyncio.gather(
            *(store.add([a_task(f"t{each}", priority=2**40 if each == 3 else 2)]) for each in range(6)),
            return_exceptions=True,
        )
        assert [isinstance(each, BaseException) for each in outcomes] == [each == 3 for each in range(6)]
        assert isinstance(outcomes[3], StoreError)
