"""Where windows are run: processes of this machine, Parsl's workers, or an array of Slurm jobs."""

from __future__ import annotations

import re
from dataclasses import dataclass

from openmm_cgan.windows.jobs import MAX_LOSSES

EXECUTORS = ("local", "parsl", "slurm-array")
SCHEDULERS = ("local", "slurm", "pbs", "lsf")
WALLTIME = re.compile(r"(\d+):([0-5]\d):([0-5]\d)")


@dataclass(frozen=True)
class Cluster:
    """Where windows are run, and what is asked of a batch system.

    Parameters
    ----------
    executor : str
        One of `EXECUTORS`.
    workers : int, optional
        Processes of a machine; by default one for each of `devices` ("local") or
        `gpus_per_node` ("parsl"), else one for each core. 0, of "local" alone: none, windows are
        run in the process that asks.
    devices : tuple of str
        GPUs of this machine, as in CUDA_VISIBLE_DEVICES, one for each worker; for "local".
    scheduler : str
        One of `SCHEDULERS`, for "parsl".
    partition, account : str, optional
        Of the batch system; the partition is PBS's and LSF's queue.
    walltime : str
        Of one job, H:MM:SS.
    gpus_per_node : int
        Of one job; each worker has one of them. An array's tasks have one each.
    cpus : int
        Cores of a worker: threads of the CPU platform.
    max_blocks : int
        Jobs at the same time.
    worker_init : str
        Shell commands before a worker is started: modules, an environment.
    scheduler_options : str
        Further lines of the job script, such as ``#SBATCH --qos=normal``.
    max_losses : int
        How often in a row a window may lose its worker without having come further.

    Raises
    ------
    ValueError
        If one is none of those.
    """

    executor: str = "local"
    workers: int | None = None
    devices: tuple[str, ...] = ()
    scheduler: str = "slurm"
    partition: str | None = None
    account: str | None = None
    walltime: str = "1:00:00"
    gpus_per_node: int = 0
    cpus: int = 1
    max_blocks: int = 10
    worker_init: str = ""
    scheduler_options: str = ""
    max_losses: int = MAX_LOSSES

    def __post_init__(self) -> None:
        for name, known in (("executor", EXECUTORS), ("scheduler", SCHEDULERS)):
            if vars(self)[name] not in known:
                raise ValueError(
                    f"{name} is {vars(self)[name]!r}, expected one of {', '.join(known)}"
                )
        if not WALLTIME.fullmatch(self.walltime) or self.seconds == 0:
            raise ValueError(f"walltime is {self.walltime!r}, expected H:MM:SS, such as 12:00:00")
        least = {"gpus_per_node": 0, "max_losses": 0, "cpus": 1, "max_blocks": 1, "workers": 0}
        for name, lowest in least.items():
            if (value := vars(self)[name]) is not None and value < lowest:
                raise ValueError(f"{name} is {value}, expected {lowest} or more")
        if self.workers == 0 and not self.is_here:
            raise ValueError(f"workers is 0, which the executor {self.executor} can not do without")

    @property
    def seconds(self) -> int:
        """Walltime [s]."""
        hours, minutes, seconds = map(int, self.walltime.split(":"))
        return 3600 * hours + 60 * minutes + seconds

    @property
    def is_here(self) -> bool:
        """Whether workers are on this machine, so that it can say how quick they are."""
        return self.executor == "local"
