import asyncio
import gc
from weakref import ref

import pytest

from apflow.core.concurrency.loop_local import LoopLocal, LoopRegistry


class Thing:
    def __init__(self) -> None:
        self.is_closed = False

    async def close(self) -> None:
        await asyncio.sleep(0)
        self.is_closed = True


def test_a_loop_has_one_and_closes_it_at_its_end():
    things = LoopLocal(Thing, Thing.close)

    async def use() -> Thing:
        first, second = await asyncio.gather(things.get(), things.get())
        assert first is second
        assert not first.is_closed
        return first

    one, other = asyncio.run(use()), asyncio.run(use())
    assert one is not other
    assert one.is_closed
    assert other.is_closed


async def test_what_was_closed_is_made_anew():
    things = LoopLocal(Thing, Thing.close)
    first = await things.get()
    await things.close()
    assert first.is_closed
    assert await things.get() is not first
    await things.close()


async def test_what_cannot_be_made_is_tried_again():
    made: list[int] = []

    def make() -> Thing:
        made.append(1)
        if len(made) == 1:
            raise ValueError("not yet")
        return Thing()

    things = LoopLocal(make, Thing.close)
    with pytest.raises(ValueError, match="not yet"):
        await things.get()
    await things.get()
    await things.close()


class Place:
    """A key that can be referred to weakly."""


def test_a_registry_has_one_object_for_each_key_and_loop():
    one, other = Place(), Place()
    things = LoopRegistry[Place, Thing](lambda _: Thing())

    async def use() -> list[Thing]:
        assert things.of(one) is things.of(one)
        return [things.of(one), things.of(other)]

    found = [*asyncio.run(use()), *asyncio.run(use())]
    assert len({id(each) for each in found}) == 4


async def test_a_registry_makes_the_object_of_a_key_from_it():
    places = LoopRegistry[Place, list[Place]](lambda place: [place])
    place = Place()
    assert places.of(place) == [place]


async def test_an_object_of_a_registry_goes_with_its_key():
    things = LoopRegistry[Place, Thing](lambda _: Thing())
    place = Place()
    thing = ref(things.of(place))
    gc.collect()
    assert thing() is things.of(place)
    del place
    gc.collect()
    assert thing() is None


def test_an_object_of_a_registry_goes_with_its_loop():
    things, place = LoopRegistry[Place, Thing](lambda _: Thing()), Place()

    async def use() -> ref[Thing]:
        return ref(things.of(place))

    thing = asyncio.run(use())
    gc.collect()
    assert thing() is None
