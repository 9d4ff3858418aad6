"""Publishing: checked, numbered, grouped, bounded, and never of unknown fate for longer than it has to be."""

from __future__ import annotations

import asyncio

import pytest

from runfold.log.checking import InvalidEvent
from runfold.log.port import LogUnreachable
from runfold.log.publisher import Publisher
from runfold_schemas.events import RunInProgress, RunModified

NOW = 1_760_000_000_000
DOWN = "RUNFOLD_LOG: the log is away"


def event(run: str = "run_1", **fields) -> RunInProgress:
    return RunInProgress(run_id=run, thread_id="thread_1", **fields)


@pytest.fixture
async def publisher(sink):
    async with Publisher(sink, source="shop", clock=lambda: NOW) as publisher:
        yield publisher


async def test_a_published_event_is_in_the_log(sink, publisher):
    """When publish returns, the log has the event, under its run's key."""
    place = await publisher.publish(event())
    assert (place.offset, sink.messages[0].key, sink.events[0].sequence) == (0, b"run_1", 1)


async def test_a_batch_is_one_append(sink, publisher):
    """The events of one call go out in order, in one append, each with its place."""
    places = await publisher.publish_many([event(f"run_{number}") for number in range(100)])
    assert ([place.offset for place in places], len(sink.appends)) == (list(range(100)), 1)


async def test_an_empty_batch_is_answered_with_nothing(sink, publisher):
    """Publishing no events asks nothing of the log."""
    assert (await publisher.publish_many([]), sink.appends) == ([], [])


async def test_an_invalid_event_is_not_sent(sink, publisher):
    """An invalid event is refused by name, and the log sees nothing."""
    with pytest.raises(InvalidEvent, match="occurred_at"):
        await publisher.publish(event(occurred_at=NOW // 1000))
    assert sink.appends == []


async def test_the_largest_event_is_the_publishers_to_know(sink):
    """An event over ``largest_value`` is refused."""
    async with Publisher(sink, largest_value=1_000) as publisher:
        with pytest.raises(InvalidEvent, match="at most 1,000"):
            await publisher.publish(RunModified(run_id="r", thread_id="t", metadata={"a": "x" * 1_000}))


async def test_one_invalid_event_stops_its_batch(sink, publisher):
    """Of a batch with an invalid event nothing is sent."""
    with pytest.raises(InvalidEvent, match="thread_id"):
        await publisher.publish_many([event(), RunInProgress(run_id="run_1", thread_id="")])
    assert sink.appends == []


async def test_an_invalid_event_takes_no_number(sink, publisher):
    """The event after a refused one gets the number the refused one would have had."""
    with pytest.raises(InvalidEvent):
        await publisher.publish(RunModified(run_id="run_1", thread_id="thread_1", metadata="none"))
    await publisher.publish(event())
    assert sink.events[0].sequence == 1


async def test_concurrent_calls_share_an_append(sink, publisher):
    """What is published while an append is under way goes out together in the next one."""
    sink.gate.clear()
    async with asyncio.TaskGroup() as group:
        group.create_task(publisher.publish(event()))
        await sink.asked.wait()
        for _ in range(50):
            group.create_task(publisher.publish(event()))
        await asyncio.sleep(0)
        sink.gate.set()
    assert [len(messages) for messages in sink.appends] == [1, 50]


async def test_concurrent_calls_get_their_own_places(sink, publisher):
    """Each of many concurrent calls is told where its own event stands."""
    places = await asyncio.gather(*(publisher.publish(event(f"run_{number}")) for number in range(50)))
    assert [sink.messages[place.offset].key for place in places] == [f"run_{number}".encode() for number in range(50)]


async def test_numbers_are_in_the_order_of_the_log(sink, publisher):
    """However calls interleave, the events of a run stand in the log in the order of their numbers."""
    await asyncio.gather(*(publisher.publish(event()) for _ in range(200)))
    assert [one.sequence for one in sink.events] == list(range(1, 201))


async def test_an_append_that_fails_is_told(sink, publisher):
    """A call whose append failed raises what the log said."""
    sink.faults.append(LogUnreachable(DOWN))
    with pytest.raises(LogUnreachable, match="away"):
        await publisher.publish(event())
    await publisher.publish(event())


async def test_an_event_of_unknown_fate_goes_before_the_next(sink, publisher):
    """After a failed append the same event, with id and number, is sent again before that run's next one."""
    sink.faults.append(LogUnreachable(DOWN))
    with pytest.raises(LogUnreachable):
        await publisher.publish(event())
    await publisher.publish(event())
    assert sink.messages[0] == sink.refused[0][0]
    assert [one.sequence for one in sink.events] == [1, 2]


async def test_what_failed_for_longer_keeps_its_order(sink, publisher):
    """Several failures in a row leave the events in the order of their numbers, each once."""
    sink.faults += [LogUnreachable(DOWN)] * 3
    for _ in range(3):
        with pytest.raises(LogUnreachable):
            await publisher.publish(event())
    await publisher.publish(event())
    assert [one.sequence for one in sink.events] == [1, 2, 3, 4]


async def test_closing_sends_what_failed(sink):
    """An event of unknown fate is sent again at the latest when the publisher closes."""
    async with Publisher(sink) as publisher:
        sink.faults.append(LogUnreachable(DOWN))
        with pytest.raises(LogUnreachable):
            await publisher.publish(event())
    assert (len(sink.messages), sink.closed) == (1, True)


async def test_closing_tells_what_remains_unknown(sink):
    """Where the log is still away at the close, that is raised with the count, and the sink is closed."""
    publisher = Publisher(sink)
    await publisher.__aenter__()
    sink.faults += [LogUnreachable(DOWN)] * 2
    with pytest.raises(LogUnreachable):
        await publisher.publish(event())
    with pytest.raises(LogUnreachable, match="1 events"):
        await publisher.close()
    assert sink.closed


async def test_closing_waits_for_the_log(sink):
    """What is queued when the publisher closes is sent, and its callers get their places."""
    publisher = Publisher(sink)
    await publisher.__aenter__()
    sink.gate.clear()
    calls = [asyncio.create_task(publisher.publish(event())) for _ in range(3)]
    await sink.asked.wait()
    closing = asyncio.create_task(publisher.close())
    await asyncio.sleep(0)
    sink.gate.set()
    await closing
    assert [place.offset for place in await asyncio.gather(*calls)] == [0, 1, 2]


async def test_a_closed_publisher_takes_nothing(sink):
    """Publishing after the close is a mistake, and said to be one."""
    async with Publisher(sink) as publisher:
        pass
    with pytest.raises(RuntimeError, match="not open"):
        await publisher.publish(event())


async def test_a_publisher_that_cannot_start_closes_its_sink(sink, monkeypatch):
    """When the log cannot be opened, nothing is left open."""

    async def refuse():
        raise LogUnreachable(DOWN)

    monkeypatch.setattr(sink, "start", refuse)
    with pytest.raises(LogUnreachable):
        await Publisher(sink).__aenter__()
    assert sink.closed


async def test_a_full_queue_holds_callers_back(sink):
    """Beyond the bound a call waits until the log has taken what is queued."""
    async with Publisher(sink, most_events=10) as publisher, asyncio.TaskGroup() as group:
        sink.gate.clear()
        for _ in range(30):
            group.create_task(publisher.publish(event()))
        await sink.asked.wait()
        assert publisher._events == 10
        sink.gate.set()
    assert [one.sequence for one in sink.events] == list(range(1, 31))


async def test_the_queue_is_bounded_by_bytes_too(sink):
    """Large events fill the queue by their bytes."""
    large = RunModified(run_id="run_1", thread_id="thread_1", metadata={"text": "x" * 10_000})
    async with Publisher(sink, most_bytes=50_000) as publisher, asyncio.TaskGroup() as group:
        sink.gate.clear()
        for _ in range(30):
            group.create_task(publisher.publish(large))
        await sink.asked.wait()
        assert publisher._bytes < 70_000
        sink.gate.set()
    assert len(sink.events) == 30


async def test_a_full_queue_before_a_dead_log_is_told(sink):
    """When the queue is full of what could not be sent, a call tries once more, and raises if the log is still away."""
    async with Publisher(sink, most_events=2) as publisher:
        sink.faults += [LogUnreachable(DOWN)] * 3
        for _ in range(2):
            with pytest.raises(LogUnreachable):
                await publisher.publish(event())
        with pytest.raises(LogUnreachable, match="no room"):
            await publisher.publish(event())
        await publisher.publish(event())
    assert [one.sequence for one in sink.events] == [1, 2, 3]


async def test_a_cancelled_call_does_not_recall_its_event(sink, publisher):
    """Cancelling a call that is queued leaves its event, and the calls beside it, alone."""
    sink.gate.clear()
    first = asyncio.create_task(publisher.publish(event()))
    await sink.asked.wait()
    second = asyncio.create_task(publisher.publish(event()))
    await asyncio.sleep(0)
    first.cancel()
    sink.gate.set()
    await second
    assert [one.sequence for one in sink.events] == [1, 2]


async def test_a_cancelled_wait_for_room_takes_no_number(sink):
    """A call that is cancelled while it waits for room was never numbered."""
    async with Publisher(sink, most_events=1) as publisher:
        sink.gate.clear()
        first = asyncio.create_task(publisher.publish(event()))
        await sink.asked.wait()
        waiting = asyncio.create_task(publisher.publish(event()))
        await asyncio.sleep(0)
        waiting.cancel()
        sink.gate.set()
        await first
        await publisher.publish(event())
    assert [one.sequence for one in sink.events] == [1, 2]


async def test_a_fault_of_the_sink_reaches_the_caller(sink, publisher):
    """An error that no log should raise is told to the caller, and the publisher lives on."""
    sink.faults.append(KeyError("a bug"))
    with pytest.raises(KeyError):
        await publisher.publish(event())
    assert (await publisher.publish(event())).offset == 1
