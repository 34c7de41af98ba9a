"""Do the next piece of work in a thread while this one is used."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class _Failure:
    """What the iterator raised."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


class _End:
    """The iterator is done."""


class Ahead(Generic[T]):
    """Run an iterator in a thread, at most `depth` items ahead of who takes them.

    An exception of the iterator is raised where its item would have been taken. `close`, or the
    end of a with block, stops the thread after the item that it is at.

    Args:
        items: Runs in the thread only.
        depth: Items that may wait; one more is being made.
    """

    def __init__(self, items: Iterator[T], depth: int = 1) -> None:
        self._items = items
        self._queue: queue.Queue[T | _Failure | _End] = queue.Queue(depth)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ahead", daemon=True)
        self._thread.start()

    def __enter__(self) -> Ahead[T]:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[T]:
        while True:
            item = self._queue.get()
            if isinstance(item, _End):
                return
            if isinstance(item, _Failure):
                raise item.error
            yield item

    def close(self) -> None:
        """Stop the thread and wait for it."""
        self._stopped.set()
        while self._thread.is_alive():
            try:  # a put that waits for room
                self._queue.get_nowait()
            except queue.Empty:
                self._thread.join(0.01)

    def _run(self) -> None:
        try:
            for item in self._items:
                if self._stopped.is_set():
                    return
                self._queue.put(item)
                del item  # or it would be kept while the next one is made
            self._queue.put(_End())
        except BaseException as error:
            self._queue.put(_Failure(error))
