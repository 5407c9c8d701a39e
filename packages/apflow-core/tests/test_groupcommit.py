"""Group commit: waiting changes are committed together, each writer gets its result, without extra delay."""

import asyncio
import threading

import pytest

from apflow.core.errors import StoreError, StoreUnavailableError
from apflow.core.store import group_commit
from apflow.core.store.base import Change, Transition, TransitionResult
from apflow.core.store.group_commit import GroupCommit


class Ledger:
    """Commits that are remembered, the first of them only when the gate is opened."""

    def __init__(self) -> None:
        self.batches: list[list[Change]] = []
        self.has_begun = threading.Event()
        self.gate = threading.Event()

    def commit(self, changes: list[Change]) -> list[TransitionResult | BaseException]:
        self.batches.append(changes)
        self.has_begun.set()
        assert self.gate.wait(10)
        return [[()] for _ in changes]


async def test_what_waits_while_a_commit_runs_rides_in_the_next_one_in_order():
    ledger = Ledger()
    group = GroupCommit(ledger.commit, "test")
    changes = [Change(remove=[str(each)]) for each in range(50)]
    first = asyncio.ensure_future(group.submit(changes[0]))
    await asyncio.to_thread(ledger.has_begun.wait, 10)
    rest = [asyncio.ensure_future(group.submit(change)) for change in changes[1:]]
    await asyncio.sleep(0)
    ledger.gate.set()
    await asyncio.gather(first, *rest)
    assert ledger.batches == [changes[:1], changes[1:]]
    assert group.figures() == {"commits": 2, "changes": 50}
    group.close()


async def test_a_lonely_change_is_committed_at_once():
    group = GroupCommit(lambda changes: [[()]] * len(changes), "test")
    assert await group.submit(Change()) == [()]
    group.close()


async def test_each_writer_gets_its_own_outcome():
    def commit(changes: list[Change]) -> list[TransitionResult | BaseException]:
        return [ValueError("bad") if change.remove else [()] for change in changes]

    group = GroupCommit(commit, "test")
    good, bad = await asyncio.gather(
        group.submit(Change()), group.submit(Change(remove=["x"])), return_exceptions=True
    )
    assert good == [()]
    assert isinstance(bad, ValueError)
    group.close()


async def test_a_commit_that_raises_fails_its_writer_and_the_next_one_continues():
    def commit(changes: list[Change]) -> list[TransitionResult | BaseException]:
        if changes[0].remove:
            raise OSError("disk full")
        return [[()] for _ in changes]

    group = GroupCommit(commit, "test")
    with pytest.raises(OSError, match="disk full"):
        await group.submit(Change(remove=["x"]))
    assert await group.submit(Change()) == [()]
    group.close()


async def test_what_was_submitted_is_written_even_when_its_writer_is_cancelled():
    ledger = Ledger()
    group = GroupCommit(ledger.commit, "test")
    first = asyncio.ensure_future(group.submit(Change()))
    await asyncio.to_thread(ledger.has_begun.wait, 10)
    second = asyncio.ensure_future(group.submit(Change(remove=["x"])))
    await asyncio.sleep(0)
    second.cancel()
    ledger.gate.set()
    await first
    await asyncio.to_thread(group.close)
    assert [change.remove for batch in ledger.batches for change in batch] == [(), ["x"]]
    assert second.cancelled()


async def test_after_closing_nothing_is_taken():
    group = GroupCommit(lambda changes: [[()]] * len(changes), "test")
    await group.submit(Change())
    group.close()
    group.close()
    with pytest.raises(StoreError, match="closed"):
        await group.submit(Change())


def test_several_event_loops_share_one_writer():
    group = GroupCommit(lambda changes: [[()]] * len(changes), "test")
    told: list[TransitionResult] = []

    async def write_many() -> None:
        told.extend(await asyncio.gather(*(group.submit(Change()) for _ in range(100))))

    threads = [threading.Thread(target=lambda: asyncio.run(write_many())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    asyncio.run(write_many())
    group.close()
    assert told == [[()]] * 500


async def test_a_job_is_done_in_the_thread_that_commits_and_its_result_comes_back():
    threads: list[str] = []

    def commit(changes: list[Change]) -> list[TransitionResult]:
        threads.append(threading.current_thread().name)
        return [[()] for _ in changes]

    group = GroupCommit(commit, "test")
    await group.submit(Change())
    assert await group.run(lambda: threading.current_thread().name) == threads[0] == "test"
    group.close()


async def test_a_failing_job_fails_its_caller_and_the_next_one_continues():
    group = GroupCommit(lambda changes: [[()]] * len(changes), "test")
    with pytest.raises(ZeroDivisionError):
        await group.run(lambda: 1 // 0)
    assert await group.run(lambda: 2) == 2
    assert await group.submit(Change()) == [()]
    group.close()


async def test_many_jobs_do_not_hold_up_a_change():
    done: list[str] = []
    gate = threading.Event()

    def commit(changes: list[Change]) -> list[TransitionResult]:
        done.extend("change" for _ in changes)
        return [[()] for _ in changes]

    group = GroupCommit(commit, "test")
    first = asyncio.ensure_future(group.run(lambda: gate.wait(10)))
    jobs = [asyncio.ensure_future(group.run(lambda: done.append("job"))) for _ in range(9)]
    changes = [asyncio.ensure_future(group.submit(Change())) for _ in range(3)]
    await asyncio.sleep(0)
    gate.set()
    await asyncio.gather(first, *jobs, *changes)
    assert done == ["change"] * 3 + ["job"] * 9
    group.close()


async def test_closing_does_the_jobs_that_wait_and_takes_no_more():
    gate = threading.Event()
    done: list[int] = []
    group = GroupCommit(lambda changes: [[()]] * len(changes), "test")
    first = asyncio.ensure_future(group.run(lambda: gate.wait(10)))
    jobs = [asyncio.ensure_future(group.run(lambda each=each: done.append(each))) for each in range(5)]
    await asyncio.sleep(0)
    jobs[4].cancel()
    closing = asyncio.ensure_future(asyncio.to_thread(group.close))
    gate.set()
    await asyncio.gather(first, *jobs[:4], closing)
    assert done == list(range(5))
    with pytest.raises(StoreError, match="closed"):
        await group.run(lambda: None)


async def test_trouble_lasts_while_larger_writes_fail(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(group_commit, "TROUBLE_LASTS", 0.05)
    full = StoreUnavailableError("duckdb:///a", "No space left on device", "cannot be written now.")
    group = GroupCommit(lambda changes: [full if change.remove else [()] for change in changes], "test")
    small, large = Change(moves=[Transition("a", "a", {}, {})]), Change(remove=["a"])
    try:
        await group.submit(small)
        assert group.trouble is None
        with pytest.raises(StoreUnavailableError):
            await group.submit(large)
        await asyncio.sleep(0.1)
        assert group.trouble is full  # nothing was written since
        with pytest.raises(StoreUnavailableError):
            await group.submit(large)
        await group.submit(small)
        await asyncio.sleep(0.1)
        assert group.trouble is None
    finally:
        group.close()
