"""Work ahead in threads: what is needed next is made while something else, as a GPU, is busy with what came before."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

MOST_THREADS = 8

T = TypeVar("T")
R = TypeVar("R")


def ahead(
    items: Iterable[T], work: Callable[[T], R], cost: Callable[[T], int], most: int
) -> Iterator[tuple[T, Future[R]]]:
    """Compute with items in threads, ahead of who takes the results, in their order.

    Args:
        items: what to work on.
        work: called in some thread.
        cost: of an item.
        most: cost of all items that are worked on or wait to be taken, together; one item may cost more.
    """
    waiting: deque[tuple[T, Future[R]]] = deque()
    held = 0
    with ThreadPoolExecutor(min(MOST_THREADS, os.cpu_count() or 1), "ahead") as pool:
        try:
            for item in items:
                while waiting and held + cost(item) > most:
                    held -= cost(waiting[0][0])
                    yield waiting.popleft()
                waiting.append((item, pool.submit(work, item)))
                held += cost(item)
            while waiting:
                yield waiting.popleft()
        finally:
            pool.shutdown(cancel_futures=True)
