"""A disk that is full: no file of this process may be longer than some bytes."""

import contextlib
import resource
from collections.abc import Iterator


@contextlib.contextmanager
def full_at(length: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (length, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
