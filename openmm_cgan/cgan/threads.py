"""Threads of torch while a network is trained: one unless more are asked for.

In networks this small they mostly wait for each other, and where the cores are busy the wait takes
over: 300 steps took 26 s with one thread and were not done after 300 s with two.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def torch_threads(number: int) -> Iterator[None]:
    """Let torch use so many threads; the user's own number is set again at the end.

    Raises
    ------
    ValueError
        If it is less than 1.
    """
    if number < 1:
        raise ValueError(f"threads is {number}; expected 1 or more")
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
