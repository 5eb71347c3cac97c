"""Windows as jobs of an executor, whose workers may die."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Protocol, runtime_checkable

from openmm_cgan.windows.run_files import is_finished, read_record
from openmm_cgan.windows.worker import run_window

logger = logging.getLogger("openmm_cgan")

MAX_LOSSES = 5  # of the worker of a window, one after another, that brought it no further


@runtime_checkable
class Stoppable(Protocol):
    """An executor that can have its workers save what they have, and end."""

    def stop(self) -> None:
        """Have them end."""
        ...


def records_of(
    folders: Sequence[str],
    platform: str | None,
    threads: int | None,
    executor: Executor | None,
    max_losses: int = MAX_LOSSES,
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Records of windows as they end; a worker that dies costs no window."""
    if executor is None:
        for folder in folders:
            try:
                yield folder, run_window(folder, platform, threads)
            except RuntimeError as error:  # another process has it
                yield folder, read_record(Path(folder)) | _failed(str(error))
        return
    waiting = []
    for folder in folders:  # who has ended waits in no queue to be told so
        if (record := _finished(folder)) is None:
            waiting.append(folder)
        else:
            yield folder, record
    with contextlib.ExitStack() as pools:
        jobs = _Jobs(executor, pools, (platform, threads))
        losses = _Losses(waiting, max_losses)
        for folder in waiting:
            jobs.begin(folder)
        try:
            yield from _ended(jobs, losses)
        except KeyboardInterrupt:
            _stop(jobs.executor, jobs.running)
            raise


def _ended(jobs: _Jobs, losses: _Losses) -> Iterator[tuple[str, dict[str, Any]]]:
    while jobs.running:
        future = jobs.ended.get()
        folder = jobs.running.pop(future)
        try:
            record = future.result()
        except Exception as error:  # the worker itself died
            why = f"{type(error).__name__}: {error}"
            if losses.may_go_on(folder, why):
                jobs.begin(folder)
                continue
            record = read_record(Path(folder)) | _failed(f"its worker was lost: {why}")
        yield folder, record


def _finished(folder: str) -> dict[str, Any] | None:
    """The record of a window that is at its end; None of one that is not, or can not be read."""
    with contextlib.suppress(OSError, ValueError):
        if is_finished(record := read_record(Path(folder))):
            return record
    return None


def _failed(why: str) -> dict[str, Any]:
    return {"status": "failed", "error": why}


class _Losses:
    """Counts for each window how often in a row its worker was lost while it came no further."""

    def __init__(self, folders: Sequence[str], most: int) -> None:
        self._most = most
        self._seen = {folder: (0, _step(folder)) for folder in folders}

    def may_go_on(self, folder: str, why: str) -> bool:
        count, before = self._seen[folder]
        step = _step(folder)
        count = 1 if step > before else count + 1
        self._seen[folder] = count, step
        logger.warning("a worker was lost, and with it %s (%d): %s", folder, count, why)
        return count <= self._most


def _step(folder: str) -> int:
    """How far a window is; 0 where that can not be told."""
    try:
        return int(read_record(Path(folder)).get("step", 0))
    except (OSError, ValueError):
        return 0


class _Jobs:
    """Windows that run on an executor; one that has broken is replaced where that is known how."""

    def __init__(
        self,
        executor: Executor,
        pools: contextlib.ExitStack,
        machine: tuple[str | None, int | None],
    ) -> None:
        self.executor = executor
        self.running: dict[Future[Any], str] = {}
        self.ended: SimpleQueue[Future[Any]] = SimpleQueue()  # waits without looking at all
        self._pools, self._machine = pools, machine

    def begin(self, folder: str) -> None:
        """Have a window run."""
        future = self._submitted(folder)
        self.running[future] = folder
        future.add_done_callback(self.ended.put)

    def _submitted(self, folder: str) -> Future[Any]:
        try:
            return self.executor.submit(run_window, folder, *self._machine)
        except BrokenExecutor as error:
            if isinstance(self.executor, ProcessPoolExecutor):
                # one that has lost a process takes no more jobs
                kind = self.executor._mp_context
                fresh = ProcessPoolExecutor(os.cpu_count(), mp_context=kind)
                self.executor = self._pools.enter_context(fresh)
                return self.executor.submit(run_window, folder, *self._machine)
            future: Future[Any] = Future()
            future.set_exception(error)
            return future


def _stop(executor: Executor, futures: Iterable[Future[Any]]) -> None:
    """Begin no more windows, and have workers that are processes save theirs and end."""
    for future in futures:
        future.cancel()
    if isinstance(executor, Stoppable):
        executor.stop()
    if isinstance(executor, ProcessPoolExecutor):
        for process in list((executor._processes or {}).values()):
            process.terminate()
