"""A supervised coroutine that ends too early is logged with its traceback and restarted."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import suppress

import pytest

from apflow.core.concurrency import supervision
from apflow.core.concurrency.supervision import Supervised


class Panic(BaseException):
    pass


class Work:
    """Runs until it is cancelled, except that its first runs end in the given ways."""

    def __init__(self, *ends: Callable[[], object]) -> None:
        self.starts = 0
        self.ends = list(ends)
        self.is_steady = asyncio.Event()

    async def run(self) -> None:
        self.starts += 1
        await asyncio.sleep(0)
        if self.ends:
            self.ends.pop(0)()
            await asyncio.sleep(0)
            return
        self.is_steady.set()
        await asyncio.Event().wait()


def fail(error: BaseException) -> Callable[[], object]:
    def end() -> None:
        raise error

    return end


def cancel_itself() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()


ENDS: dict[str, Callable[[], object]] = {
    "Exception": fail(ValueError("broken")),
    "BaseException": fail(Panic("broken")),
    "SystemExit": fail(SystemExit(3)),
    "GeneratorExit": fail(GeneratorExit()),
    "CancelledError": fail(asyncio.CancelledError("broken")),
    "cancels itself": cancel_itself,
}


@pytest.fixture(autouse=True)
def short_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervision, "FIRST_PAUSE", 0.01)


@pytest.fixture
async def run_all() -> AsyncIterator[Callable[[Supervised], asyncio.Task[None]]]:
    running: list[tuple[Supervised, asyncio.Task[None]]] = []

    def start(supervised: Supervised) -> asyncio.Task[None]:
        running.append((supervised, asyncio.create_task(supervised.run())))
        return running[-1][1]

    yield start
    for supervised, task in running:
        supervised.end()
        with suppress(asyncio.CancelledError):
            await task


async def in_time(waited: asyncio.Future[None] | asyncio.Event) -> None:
    async with asyncio.timeout(30):
        await (waited.wait() if isinstance(waited, asyncio.Event) else waited)


def pauses(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage().split()[-2] for record in restarts(caplog)]


def restarts(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if "started again" in record.getMessage()]


@pytest.mark.parametrize("end", ENDS)
async def test_a_coroutine_that_ends_too_early_is_logged_and_restarted(
    end: str, caplog: pytest.LogCaptureFixture, run_all: Callable[[Supervised], asyncio.Task[None]]
):
    work = Work(ENDS[end], ENDS[end])
    supervised = Supervised("the work", work.run)
    running = run_all(supervised)
    await in_time(work.is_steady)
    assert work.starts == 3
    assert supervised.is_running
    assert not running.done()
    records = restarts(caplog)
    assert [record.levelno for record in records] == [logging.ERROR] * 2
    for record in records:
        assert record.getMessage().startswith("the work ended unexpectedly")
        assert record.exc_info is not None
        assert record.exc_info[2] is not None  # the log has the traceback


async def test_a_coroutine_that_cannot_be_made_is_logged_and_tried_again(
    caplog: pytest.LogCaptureFixture, run_all: Callable[[Supervised], asyncio.Task[None]]
):
    work = Work()
    failures = [OSError("no descriptor")]

    def make():
        if failures:
            raise failures.pop()
        return work.run()

    run_all(Supervised("the work", make))
    await in_time(work.is_steady)
    (record,) = restarts(caplog)
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], OSError)


async def test_a_coroutine_that_returns_is_not_restarted(caplog: pytest.LogCaptureFixture):
    work = Work(lambda: None)
    supervised = Supervised("the work", work.run)
    await in_time(asyncio.ensure_future(supervised.run()))
    assert work.starts == 1
    assert not supervised.is_running
    assert not caplog.records


async def test_the_pause_before_a_restart_grows_to_its_limit(
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    run_all: Callable[[Supervised], asyncio.Task[None]],
):
    monkeypatch.setattr(supervision, "MAX_PAUSE_SECONDS", 0.04)
    work = Work(*[ENDS["Exception"]] * 5)
    run_all(Supervised("the work", work.run))
    await in_time(work.is_steady)
    assert pauses(caplog) == ["0.01", "0.02", "0.04", "0.04", "0.04"]


async def test_a_restart_after_a_steady_run_pauses_briefly_again(
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    run_all: Callable[[Supervised], asyncio.Task[None]],
):
    monkeypatch.setattr(supervision, "STEADY", -1.0)  # every run counts as steady
    work = Work(*[ENDS["Exception"]] * 3)
    run_all(Supervised("the work", work.run))
    await in_time(work.is_steady)
    assert pauses(caplog) == ["0.01", "0.01", "0.01"]


async def test_a_coroutine_that_is_being_restarted_does_not_count_as_running(
    monkeypatch: pytest.MonkeyPatch, run_all: Callable[[Supervised], asyncio.Task[None]]
):
    monkeypatch.setattr(supervision, "FIRST_PAUSE", 60.0)
    work = Work(ENDS["Exception"])
    supervised = Supervised("the work", work.run)
    run_all(supervised)
    async with asyncio.timeout(30):
        while not work.starts or supervised.is_running:
            await asyncio.sleep(0.001)
    assert not supervised.is_running


async def test_ending_it_does_not_wait_for_the_restart(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(supervision, "FIRST_PAUSE", 600.0)
    work = Work(ENDS["Exception"])
    supervised = Supervised("the work", work.run)
    running = asyncio.create_task(supervised.run())
    async with asyncio.timeout(30):
        while not work.starts or supervised.is_running:
            await asyncio.sleep(0.001)
    supervised.end()
    await in_time(running)
    assert work.starts == 1


@pytest.mark.parametrize("is_owner", [False, True])
async def test_ending_it_ends_it_without_an_error(is_owner: bool, caplog: pytest.LogCaptureFixture):
    work = Work()
    supervised = Supervised("the work", work.run, is_owner=is_owner)
    running = asyncio.create_task(supervised.run())
    await in_time(work.is_steady)
    supervised.end()
    await in_time(running)
    assert not supervised.is_running
    assert not caplog.records


async def test_cancelling_the_supervision_ends_the_coroutine():
    work = Work()
    supervised = Supervised("the work", work.run)
    running = asyncio.create_task(supervised.run())
    await in_time(work.is_steady)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await in_time(running)
    assert not supervised.is_running


@pytest.mark.parametrize("is_pausing", [False, True])
async def test_the_supervision_of_an_owner_ignores_cancellations_of_other_code(
    is_pausing: bool, caplog: pytest.LogCaptureFixture, run_all: Callable[[Supervised], asyncio.Task[None]]
):
    work = Work(*[ENDS["Exception"]] * is_pausing)
    supervised = Supervised("the work", work.run, is_owner=True)
    running = run_all(supervised)
    async with asyncio.timeout(30):
        while is_pausing and (not work.starts or supervised.is_running):
            await asyncio.sleep(0)
    if not is_pausing:
        await in_time(work.is_steady)
    running.cancel()
    await in_time(work.is_steady)
    await asyncio.sleep(0.01)
    assert supervised.is_running
    assert not running.done()
    assert "the work was cancelled by other code, and continues." in caplog.text
