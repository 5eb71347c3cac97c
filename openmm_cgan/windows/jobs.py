"""Windows as jobs of an executor, whose workers may die."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import (
    BrokenExecutor,
    Executor,
    Future,
    ProcessPoolExecutor,
    as_completed,
)
from pathlib import Path
from typing import Any

from openmm_cgan.windows.run_files import read_record
from openmm_cgan.windows.worker import run_window

logger = logging.getLogger("openmm_cgan")

RETRIES = 2  # of windows whose worker was lost


def records_of(
    folders: Sequence[str], platform: str, threads: int | None, executor: Executor | None
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Records of windows as they end; a worker that dies costs no other window."""
    if executor is None:
        yield from ((folder, run_window(folder, platform, threads)) for folder in folders)
        return
    left, pool = list(folders), executor
    for attempt in range(1 + RETRIES):
        lost: dict[str, str] = {}
        with contextlib.ExitStack() as fresh:
            if attempt and isinstance(executor, ProcessPoolExecutor):
                # one that has lost a process takes no more jobs
                n, kind = min(len(left), os.cpu_count() or 1), executor._mp_context
                pool = fresh.enter_context(ProcessPoolExecutor(n, mp_context=kind))
            yield from _ended(left, platform, threads, pool, lost)
        if not lost:
            return
        left = list(lost)
        logger.warning("workers were lost, and with them %s", ", ".join(left))
    for folder, error in lost.items():
        told = {"status": "failed", "error": f"its worker was lost: {error}"}
        yield folder, read_record(Path(folder)) | told


def _ended(
    folders: Sequence[str],
    platform: str,
    threads: int | None,
    executor: Executor,
    lost: dict[str, str],
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Records of windows as they end; those whose worker died go to `lost`, with the reason."""
    futures = {}
    for folder in folders:
        try:
            futures[executor.submit(run_window, folder, platform, threads)] = folder
        except BrokenExecutor as error:
            lost[folder] = f"{type(error).__name__}: {error}"
    try:
        for future in as_completed(futures):
            folder = futures[future]
            try:
                yield folder, future.result()
            except Exception as error:  # the worker itself died
                lost[folder] = f"{type(error).__name__}: {error}"
    except KeyboardInterrupt:
        _stop(executor, futures)
        raise


def _stop(executor: Executor, futures: Iterable[Future[Any]]) -> None:
    """Begin no more windows, and have workers that are processes save theirs and end."""
    for future in futures:
        future.cancel()
    if isinstance(executor, ProcessPoolExecutor):
        for process in list((executor._processes or {}).values()):
            process.terminate()
