# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Work done by threads ahead of its use: pictures are decoded while those before them are encoded."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar


Item = TypeVar("Item")
Result = TypeVar("Result")


def ahead(work: Callable[[Item], Result], items: Iterable[Item], threads: int) -> Iterator[Result]:
    """`work(item)` of each item in order, begun by `threads` threads before it is asked for; 0: when it is asked for.

    At most two results a thread wait, so that memory is bounded. Items are taken by the caller's thread. An error is
    raised where its result would have come.

    >>> list(ahead(lambda number: number**2, range(4), threads=2))
    [0, 1, 4, 9]
    """
    if threads == 0:
        yield from map(work, items)
        return
    items, begun = iter(items), deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="ahead")
    try:
        begun.extend(pool.submit(work, item) for item in islice(items, 2 * threads))
        while begun:
            result = begun.popleft().result()
            begun.extend(pool.submit(work, item) for item in islice(items, 1))
            yield result
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
