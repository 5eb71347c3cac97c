"""Windows on Parsl's workers: this machine's, or jobs of Slurm, PBS or LSF that Parsl submits.

Parsl finds out that a worker or a whole job was lost (WorkerLost, ManagerLost) and says so in the
future; whether the window is begun again is decided where all executors' losses are counted, so
that Parsl itself retries nothing.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shlex
import sys
from collections.abc import Iterator
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

from openmm_cgan.windows.cluster import Cluster

FOLDER = "parsl"  # in that of the windows: Parsl's logs and the scripts of its jobs
LOG = "parsl.log"
LOGGERS = ("parsl", "concurrent.futures")  # the second tells of what callbacks raise
POOL = "parsl.executors.high_throughput.process_worker_pool"
INTERCHANGE = "parsl.executors.high_throughput.interchange"
HEARTBEAT, SILENCE = 10, 60  # s between two looks at workers, and after which a job is lost
NEAR = 2  # s between looks at workers of this machine


@contextlib.contextmanager
def parsl_workers(cluster: Cluster, root: Path) -> Iterator[Executor]:
    """Parsl's workers as long as the block lasts; the jobs are cancelled after it.

    Parameters
    ----------
    cluster : Cluster
    root : Path
        The folder of the windows, which all nodes must see.

    Yields
    ------
    parsl.concurrent.ParslPoolExecutor

    Raises
    ------
    ModuleNotFoundError
        If Parsl is not installed.
    RuntimeError
        If it does not start, as where its own processes can not reach each other.
    """
    try:
        import parsl
        from parsl.concurrent import ParslPoolExecutor
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"{error}: the executor parsl needs Parsl, pip install 'openmm_cgan[parsl]'"
        ) from error
    config, logs = parsl_config(cluster, root), root.resolve() / FOLDER
    with _logged(logs):
        try:
            kernel = parsl.DataFlowKernel(config)
        except Exception as error:
            for executor in config.executors:
                executor.shutdown()  # Parsl leaves the process that it could not reach
            raise RuntimeError(f"Parsl did not start ({error}); its logs are in {logs}") from error
        try:
            yield ParslPoolExecutor(dfk=kernel)
        finally:
            kernel.cleanup()  # waits for no window: who stops wants the jobs cancelled


@contextlib.contextmanager
def _logged(folder: Path) -> Iterator[None]:
    """Keep in a file what Parsl says in the block; its own way leaves the file open."""
    folder.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(folder / LOG)
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(levelname)s %(message)s"))
    loggers = [logging.getLogger(name) for name in LOGGERS]
    before = loggers[0].level
    loggers[0].setLevel(logging.DEBUG)
    for logger in loggers:
        logger.addHandler(handler)
    try:
        yield
    finally:
        loggers[0].setLevel(before)
        for logger in loggers:
            logger.removeHandler(handler)
        handler.close()


def parsl_config(cluster: Cluster, root: Path) -> Any:
    """Parsl's configuration: one HighThroughputExecutor, in which nothing is retried."""
    from parsl.config import Config
    from parsl.executors import HighThroughputExecutor
    from parsl.executors.high_throughput.executor import DEFAULT_LAUNCH_CMD
    from parsl.jobs.error_handlers import windowed_error_handler

    folder = root.resolve() / FOLDER
    number = cluster.workers or cluster.gpus_per_node or None
    if number is None and cluster.scheduler == "local":
        number = os.cpu_count()
    # Parsl itself looks for its scripts in PATH, which has no environment that was not activated
    python = "python" if cluster.worker_init else shlex.quote(sys.executable)
    some: dict[str, Any] = {} if number is None else {"max_workers_per_node": number}
    if cluster.scheduler == "local":
        some |= {"address": "127.0.0.1", "loopback_address": "127.0.0.1"}
    workers = HighThroughputExecutor(
        label="windows",
        provider=_provider(cluster),
        launch_cmd=DEFAULT_LAUNCH_CMD.replace("process_worker_pool.py", f"{python} -m {POOL}", 1),
        interchange_launch_cmd=[sys.executable, "-m", INTERCHANGE],
        cores_per_worker=cluster.cpus,
        available_accelerators=cluster.gpus_per_node,  # each worker sees one
        heartbeat_period=NEAR if cluster.scheduler == "local" else HEARTBEAT,
        heartbeat_threshold=SILENCE,
        block_error_handler=windowed_error_handler,  # several jobs in a row; one may be lost
        encrypted=True,  # tasks are pickles: nobody else on the network may send one
        worker_logdir_root=str(folder),
        **some,
    )
    return Config(
        [workers], retries=0, run_dir=str(folder), strategy_period=1, initialize_logging=False
    )


def _provider(cluster: Cluster) -> Any:
    """What submits Parsl's jobs."""
    from parsl import providers

    common: dict[str, Any] = {
        "init_blocks": 1,
        "max_blocks": cluster.max_blocks,
        "worker_init": cluster.worker_init,
    }
    if cluster.scheduler == "local":
        return providers.LocalProvider(**common | {"max_blocks": 1})
    common |= {"walltime": cluster.walltime, "scheduler_options": cluster.scheduler_options}
    gpus = cluster.gpus_per_node
    if cluster.scheduler == "slurm":
        return providers.SlurmProvider(
            partition=cluster.partition, account=cluster.account, exclusive=False,
            cores_per_node=cluster.cpus * (cluster.workers or gpus or 1),
            gpus_per_node=gpus or None, **common,
        )  # fmt: skip
    if cluster.scheduler == "pbs":
        return providers.PBSProProvider(
            queue=cluster.partition, account=cluster.account,
            cpus_per_node=cluster.cpus * (cluster.workers or gpus or 1),
            select_options=f"ngpus={gpus}" if gpus else "", **common,
        )  # fmt: skip
    return providers.LSFProvider(queue=cluster.partition, project=cluster.account, **common)
