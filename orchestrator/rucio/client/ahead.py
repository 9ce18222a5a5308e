"""Some questions at the same time: while one answer is read, the server works on the next."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Final, TypeVar

_Batch = TypeVar("_Batch")
_Thing = TypeVar("_Thing")

#: Questions that the server has before it at once.
AT_ONCE: Final = 2


def asked_ahead(
    pool: ThreadPoolExecutor, ask: Callable[[_Batch], Sequence[_Thing]], batches: Iterable[_Batch]
) -> Iterator[_Thing]:
    """What is answered to each batch, in order. No more answers wait than are asked for at once, and one."""
    rest = iter(batches)
    waiting: deque[Future[Sequence[_Thing]]] = deque()
    for batch in islice(rest, AT_ONCE + 1):
        waiting.append(pool.submit(ask, batch))
    while waiting:
        things = waiting.popleft().result()
        for batch in islice(rest, 1):
            waiting.append(pool.submit(ask, batch))
        yield from things


def pool_of(name: str) -> ThreadPoolExecutor:
    """Threads to ask with, to be left as a context."""
    return ThreadPoolExecutor(AT_ONCE, thread_name_prefix=name)
