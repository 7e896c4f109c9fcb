"""A bounded queue between two stages that knows when its producers are done, can be aborted, and says how long it blocked."""

from __future__ import annotations

from collections import deque
from threading import Condition, Lock
from time import perf_counter
from typing import Generic, TypeVar

T = TypeVar("T")


class Closed(Exception):
    """All producers are done and everything was taken, or the channel was aborted."""


class Channel(Generic[T]):
    """A bounded first-in-first-out queue with one or more producers and consumers."""

    def __init__(self, capacity: int, producers: int = 1) -> None:
        self._items: deque[T] = deque()
        self._capacity = capacity
        self._producers = producers
        self._aborted = False
        lock = Lock()
        self._not_empty, self._not_full = Condition(lock), Condition(lock)

    def put(self, item: T) -> float:
        """Add an item, waiting for room. Returns the seconds waited.

        Raises:
            Closed: the channel was aborted.
        """
        waited = 0.0
        with self._not_full:
            if len(self._items) >= self._capacity and not self._aborted:
                start = perf_counter()
                while len(self._items) >= self._capacity and not self._aborted:
                    self._not_full.wait()
                waited = perf_counter() - start
            if self._aborted:
                raise Closed
            self._items.append(item)
            self._not_empty.notify()
        return waited

    def get(self) -> tuple[T, float]:
        """Take the oldest item, waiting for one. Returns it with the seconds waited.

        Raises:
            Closed: nothing is left and no producer is, or the channel was aborted.
        """
        waited = 0.0
        with self._not_empty:
            if not self._items and self._producers and not self._aborted:
                start = perf_counter()
                while not self._items and self._producers and not self._aborted:
                    self._not_empty.wait()
                waited = perf_counter() - start
            if self._aborted or not self._items:
                raise Closed
            item = self._items.popleft()
            self._not_full.notify()
        return item, waited

    def done(self) -> None:
        """One producer has no more items."""
        with self._not_empty:
            self._producers -= 1
            if self._producers == 0:
                self._not_empty.notify_all()

    def abort(self) -> None:
        """Make every present and future put and get raise Closed."""
        with self._not_empty:
            self._aborted = True
            self._items.clear()
            self._not_empty.notify_all()
            self._not_full.notify_all()
