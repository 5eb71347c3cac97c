"""Other processes: none is waited for without a limit, and what some import is imported once."""

import multiprocessing
import time
from collections.abc import Callable
from typing import Any

PATIENCE = 120.0  # s that anything here may be waited for


def wait_until(is_so: Callable[[], bool], is_alive: Callable[[], bool], what: str) -> None:
    """Wait until something is so; fail in words when it can not come any more."""
    until = time.monotonic() + PATIENCE
    while not is_so():
        if not is_alive():
            if is_so():  # it came while we looked
                return
            raise AssertionError(f"{what} never came: the process has ended")
        if time.monotonic() > until:
            raise AssertionError(f"{what} has not come in {PATIENCE:.0f} s")
        time.sleep(0.01)


def in_another_process(work: Callable[..., None], *arguments: Any) -> None:
    """Call a function, found by its name, in a process forked from one that only has imported."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["openmm_cgan.plumed.bias", "openmm_cgan.testsystems"])
    process = context.Process(target=work, args=arguments)
    process.start()
    process.join(PATIENCE)
    if process.exitcode is None:
        process.kill()
        process.join(PATIENCE)
        raise AssertionError(f"{work.__name__} has not ended in {PATIENCE:.0f} s")
    assert process.exitcode == 0, f"{work.__name__} ended with {process.exitcode}"
