"""Work done ahead in a thread: order, bounds, errors and ends."""

from __future__ import annotations

import threading
import time

import pytest

from swin_unet.inference.ahead import Ahead


def test_items_come_in_order_and_from_another_thread():
    threads = set()

    def items():
        for number in range(50):
            threads.add(threading.get_ident())
            yield number

    with Ahead(items()) as ahead:
        assert list(ahead) == list(range(50))
    assert threading.get_ident() not in threads
    assert len(threads) == 1


@pytest.mark.parametrize("depth", [1, 3])
def test_no_more_is_made_than_may_wait(depth: int):
    made = []

    threads = threading.active_count()

    def items():
        for number in range(100):
            made.append(number)
            yield number

    with Ahead(items(), depth) as ahead:
        for taken, _ in enumerate(ahead, start=1):
            time.sleep(0.002)
            assert len(made) <= taken + depth + 1
            if taken == 20:
                break
    assert len(made) <= 20 + depth + 2
    assert threading.active_count() == threads


def test_an_error_is_raised_after_the_items_before_it():
    def items():
        yield 1
        yield 2
        raise ZeroDivisionError("here")

    taken: list[int] = []
    with Ahead(items()) as ahead, pytest.raises(ZeroDivisionError, match="here"):
        taken.extend(ahead)
    assert taken == [1, 2]


def test_closing_ends_a_thread_that_waits_for_room():
    threads = threading.active_count()
    with Ahead(iter(range(1000))) as ahead:
        assert next(iter(ahead)) == 0
    assert threading.active_count() == threads
