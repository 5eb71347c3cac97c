"""Workers on this machine: processes that each have a window, and perhaps a GPU, of their own."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor
from multiprocessing.connection import wait as wait_for
from queue import SimpleQueue
from typing import Any

from openmm_cgan.signals import end_with_parent

VISIBLE = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES")

PATIENCE = 30.0  # s that a process without a job may take to end

_Job = tuple[Future[Any], Callable[..., Any], tuple[Any, ...], dict[str, Any]]
_environment = threading.Lock()  # of this process, which what it starts inherits


class LocalWorkers(Executor):
    """A pool of processes, of which one that dies takes no other job with it than its own.

    Parameters
    ----------
    number : int, optional
        Of processes; by default one for each device, or each core.
    devices : sequence of str
        GPUs, as in CUDA_VISIBLE_DEVICES: worker i sees device i, counted round, as its only one.

    Notes
    -----
    A ProcessPoolExecutor gives up all that it was doing where it loses one process, so each worker
    here is such a pool of one.
    """

    def __init__(self, number: int | None = None, devices: Sequence[str] = ()) -> None:
        number = number or len(devices) or os.cpu_count() or 1
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._stopped = False
        self._workers = [
            _Worker(self._jobs, devices[i % len(devices)] if devices else None)
            for i in range(number)
        ]

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Have a worker call a function, as of any Executor."""
        if self._stopped:
            raise RuntimeError("these workers were shut down")
        future: Future[Any] = Future()
        self._jobs.put((future, fn, args, kwargs))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End, after what is running, and what waits unless that is cancelled."""
        self._stopped = True
        if cancel_futures:
            self._cancel()
        for _ in self._workers:
            self._jobs.put(None)
        for worker in self._workers if wait else []:
            worker.thread.join()

    def stop(self) -> None:
        """Begin nothing more, and send SIGTERM to the processes."""
        self._stopped = True
        self._cancel()
        for worker in self._workers:
            worker.terminate()

    def _cancel(self) -> None:
        while not self._jobs.empty():
            if (job := self._jobs.get()) is not None:
                job[0].cancel()


class _Worker:
    """A thread that hands jobs to a process, and has another one where that has died."""

    def __init__(self, jobs: SimpleQueue[_Job | None], device: str | None) -> None:
        self._jobs, self._device = jobs, device
        self._pool: ProcessPoolExecutor | None = None
        self.thread = threading.Thread(target=self._work, daemon=True, name="window worker")
        self.thread.start()

    def terminate(self) -> None:
        """Send SIGTERM to the process, if there is one."""
        for process in list((getattr(self._pool, "_processes", None) or {}).values()):
            process.terminate()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            future, fn, args, kwargs = job
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(self._submitted(fn, args, kwargs).result())
            except BaseException as error:
                if isinstance(error, BrokenExecutor):
                    self._close()
                future.set_exception(error)
            del job, future, fn, args, kwargs  # a result need not wait for the next job
        self._close()

    def _submitted(self, fn: Callable[..., Any], args: Any, kwargs: Any) -> Future[Any]:
        if self._pool is not None:
            return self._pool.submit(fn, *args, **kwargs)
        # spawn: a fork would copy torch's threads, one of which may hold a lock for ever
        spawn = multiprocessing.get_context("spawn")
        self._pool = ProcessPoolExecutor(1, spawn, initializer=end_with_parent)
        with _sees(self._device):  # from its birth: libraries look once
            return self._pool.submit(fn, *args, **kwargs)

    def _close(self) -> None:
        """End the process; one that will not end is killed."""
        if self._pool is None:
            return
        processes = list((self._pool._processes or {}).values())
        self._pool.shutdown(wait=False)  # it waits for ever for a process that hangs as it ends
        self._pool = None
        for process in processes:
            if not wait_for([process.sentinel], PATIENCE):
                process.kill()


@contextlib.contextmanager
def _sees(device: str | None) -> Iterator[None]:
    """Have processes that are started in the block see one GPU."""
    with _environment:
        before = {name: os.environ.get(name) for name in VISIBLE}
        if device is not None:
            os.environ.update(dict.fromkeys(VISIBLE, device))
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value
