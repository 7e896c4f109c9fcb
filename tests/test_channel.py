"""The queue between stages: order, bounds, the end of its producers, and being aborted from either side."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from modelport.channel import Channel, Closed

pytestmark = pytest.mark.timeout(60)
PATIENCE = 20  # seconds; only a failing test waits so long


class Worker:
    """A thread whose outcome can be asked for."""

    def __init__(self, work: Callable[[], object]) -> None:
        self._work, self._outcome = work, None
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            self._outcome = self._work()
        except Closed:
            self._outcome = Closed

    @property
    def waits(self) -> bool:
        self.thread.join(0.05)
        return self.thread.is_alive()

    def result(self) -> object:
        self.thread.join(PATIENCE)
        assert not self.thread.is_alive(), "still blocked"
        return self._outcome


def drain(channel: Channel) -> list:
    items = []
    while True:
        try:
            items.append(channel.get()[0])
        except Closed:
            return items


def test_first_in_first_out_without_waiting():
    channel: Channel[int] = Channel(3)
    assert [channel.put(item) for item in (1, 2, 3)] == [0, 0, 0]
    assert [channel.get() for _ in range(3)] == [(1, 0), (2, 0), (3, 0)]


def test_a_full_channel_makes_its_producer_wait_and_says_so():
    channel: Channel[int] = Channel(1)
    channel.put(1)
    producer = Worker(lambda: channel.put(2))
    assert producer.waits
    assert channel.get()[0] == 1
    assert producer.result() > 0
    assert channel.get()[0] == 2


def test_an_empty_channel_makes_its_consumer_wait_and_says_so():
    channel: Channel[str] = Channel(1)
    consumer = Worker(channel.get)
    assert consumer.waits
    channel.put("x")
    item, waited = consumer.result()
    assert item == "x"
    assert waited > 0


def test_what_is_left_is_taken_after_the_last_producer():
    channel: Channel[int] = Channel(3)
    channel.put(1)
    channel.put(2)
    channel.done()
    assert drain(channel) == [1, 2]


def test_ends_with_the_last_of_several_producers():
    channel: Channel[int] = Channel(3, producers=2)
    consumer = Worker(lambda: drain(channel))
    channel.done()
    channel.put(1)
    assert consumer.waits
    channel.done()
    assert consumer.result() == [1]


def test_the_end_wakes_every_consumer():
    channel: Channel[int] = Channel(1)
    consumers = [Worker(channel.get) for _ in range(3)]
    assert all(consumer.waits for consumer in consumers)
    channel.done()
    assert [consumer.result() for consumer in consumers] == [Closed] * 3


def test_abort_wakes_waiting_consumers():
    channel: Channel[int] = Channel(1)
    consumers = [Worker(channel.get) for _ in range(3)]
    assert all(consumer.waits for consumer in consumers)
    channel.abort()
    assert [consumer.result() for consumer in consumers] == [Closed] * 3


def test_abort_wakes_waiting_producers():
    channel: Channel[int] = Channel(1)
    channel.put(0)
    producers = [Worker(lambda: channel.put(1)) for _ in range(3)]
    assert all(producer.waits for producer in producers)
    channel.abort()
    assert [producer.result() for producer in producers] == [Closed] * 3


def test_nothing_goes_in_or_out_after_an_abort():
    channel: Channel[int] = Channel(2)
    channel.put(1)
    channel.abort()
    channel.abort()
    with pytest.raises(Closed):
        channel.get()
    with pytest.raises(Closed):
        channel.put(2)


@pytest.mark.parametrize("capacity", [1, 2, 7])
def test_many_producers_and_consumers_lose_and_double_nothing(capacity):
    channel: Channel[int] = Channel(capacity, producers=4)

    def produce(first: int) -> None:
        for item in range(first, 400, 4):
            channel.put(item)
        channel.done()

    consumers = [Worker(lambda: drain(channel)) for _ in range(3)]
    producers = [Worker(lambda first=first: produce(first)) for first in range(4)]
    for producer in producers:
        producer.result()
    assert sorted(item for consumer in consumers for item in consumer.result()) == list(range(400))
