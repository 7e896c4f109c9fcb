"""Signals become a request to stop, once; one that was ignored stays so."""

from __future__ import annotations

import os
import signal

import pytest

from modelport.stopping import draining


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_asks_and_the_second_acts_as_before(number):
    asked, before = [], []
    earlier = signal.signal(number, lambda *_: before.append(1))
    try:
        with draining(lambda: asked.append(1)):
            os.kill(os.getpid(), number)
            os.kill(os.getpid(), number)
        assert (asked, before) == ([1], [1])
    finally:
        signal.signal(number, earlier)


def test_an_ignored_signal_stays_ignored():
    """A shell that has no job control starts what runs in the background so."""
    asked = []
    earlier = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with draining(lambda: asked.append(1)):
            os.kill(os.getpid(), signal.SIGINT)
        assert asked == []
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, earlier)
