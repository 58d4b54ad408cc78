"""What waits for a client: in order, bounded by its sound, and without what nobody wants."""

import asyncio

from serve.realtime.events import BufferCleared
from serve.realtime.outbox import Outbox


def outbox(told: list[str]) -> Outbox:
    return Outbox(1_000, full=lambda: told.append("full"), ready=lambda: told.append("ready"))


def test_events_are_taken_in_their_order_and_waited_for() -> None:
    async def run() -> None:
        box, events = outbox([]), [BufferCleared() for _ in range(3)]
        waiting = asyncio.create_task(box.next())
        await asyncio.sleep(0)
        for event in events:
            box.put(event)
        assert [await waiting, await box.next(), await box.next()] == events
        assert len(box) == 0

    asyncio.run(run())


def test_it_says_once_that_it_is_full_and_once_that_it_is_ready() -> None:
    async def run() -> None:
        told: list[str] = []
        box = outbox(told)
        for _ in range(4):
            box.put(BufferCleared(), delta_of="a", audio_ms=400)
        assert told == ["full"] and box.audio_ms == 1_600
        for _ in range(3):
            await box.next()
        assert told == ["full", "ready"] and box.audio_ms == 400

    asyncio.run(run())


def test_what_is_left_of_an_answer_is_dropped_and_all_else_stays() -> None:
    async def run() -> None:
        told: list[str] = []
        box, kept = outbox(told), [BufferCleared() for _ in range(3)]
        box.put(kept[0])
        box.put(BufferCleared(), delta_of="a", audio_ms=1_200)
        box.put(kept[1], delta_of="b", audio_ms=100)
        box.put(BufferCleared(), delta_of="a")
        box.put(kept[2])
        box.drop_deltas("a")
        assert [await box.next() for _ in range(3)] == kept
        assert told == ["full", "ready"] and box.audio_ms == 0

    asyncio.run(run())
