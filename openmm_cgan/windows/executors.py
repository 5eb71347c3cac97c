"""The workers that a `Cluster` describes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import Executor
from pathlib import Path

from openmm_cgan.windows.cluster import Cluster
from openmm_cgan.windows.local_workers import LocalWorkers
from openmm_cgan.windows.parsl_workers import parsl_workers
from openmm_cgan.windows.slurm_array import SlurmArray


@contextlib.contextmanager
def executor_of(cluster: Cluster, root: str | Path) -> Iterator[Executor | None]:
    """Workers for windows as long as the block lasts.

    Parameters
    ----------
    cluster : Cluster
    root : str or Path
        The folder of the windows, which workers must see; job scripts and logs go there.

    Yields
    ------
    Executor or None
        None for no worker at all: the windows are run in this process.

    Raises
    ------
    ModuleNotFoundError
        If Parsl is asked for and not installed.
    FileNotFoundError
        If Slurm is asked for and not here.
    """
    root = Path(root)
    if cluster.executor == "parsl":
        with parsl_workers(cluster, root) as workers:
            yield workers
    elif cluster.executor == "slurm-array":
        with SlurmArray(cluster, root) as array:
            yield array
    elif cluster.workers == 0:
        yield None
    else:
        with LocalWorkers(cluster.workers, cluster.devices) as pool:
            yield pool
