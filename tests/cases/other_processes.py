"""Other processes: none is waited for without a limit, and what some import is imported once."""

import multiprocessing
import os
import select
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from typing import Any

PATIENCE = 120.0  # s that anything here may be waited for


def wait_until(is_so: Callable[[], bool], child: subprocess.Popen, what: str) -> None:
    """Wait until a child has brought something about, and no longer than it lives."""
    until = time.monotonic() + PATIENCE
    while not is_so():
        if child.poll() is not None:
            assert is_so(), f"{what} never came: the process ended with {child.returncode}"
        elif time.monotonic() > until:
            child.kill()
            raise AssertionError(f"{what} has not come in {PATIENCE:.0f} s")
        time.sleep(0.01)


def next_line(child: subprocess.Popen) -> Any:
    """A line that a child prints, where nothing that it printed waits; empty where it has ended."""
    if not select.select([child.stdout], [], [], PATIENCE)[0]:
        child.kill()
        raise AssertionError(f"the process has printed nothing in {PATIENCE:.0f} s")
    return child.stdout.readline()


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


def never_ending() -> int:
    """Keep this process from ending; its number."""
    threading.Thread(target=time.sleep, args=(600,)).start()
    return os.getpid()


def loopback_answers() -> bool:
    """Whether processes of this machine reach each other by 127.0.0.1."""
    try:
        with socket.create_server(("127.0.0.1", 0)) as server:
            socket.create_connection(server.getsockname(), 5).close()
    except OSError:
        return False
    return True
