"""A Slurm of one node on this machine, for as long as a block lasts.

munged, slurmctld and slurmd of Debian's packages slurm-wlm and munge, started by this user with a
key, a slurm.conf and ports of their own; all that they write is in one temporary folder. Nothing of
a Slurm that the machine belongs to is read or changed.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

NEEDED = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "sinfo", "scontrol")
PATIENCE = 60.0  # s that a daemon has to answer, or to end
CONF = """
ClusterName=here
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ctld_port}
SlurmdPort={slurmd_port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
ReturnToService=2
SlurmdTimeout=10
SlurmdParameters=config_overrides
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus}
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> list[str]:
    """The commands of Slurm that are not installed."""
    return [name for name in NEEDED if shutil.which(name, path=_path()) is None]


class Slurm:
    """The daemons; `conf` is what SLURM_CONF has to name."""

    def __init__(self, folder: Path, cpus: int) -> None:
        self.folder, self.conf = folder, folder / "slurm.conf"
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        for name in ("state", "spool"):
            (folder / name).mkdir()
        key = folder / "munge.key"
        key.touch(mode=0o600)
        key.write_bytes(os.urandom(1024))
        host = socket.gethostname().partition(".")[0]
        ctld_port, slurmd_port = _free_ports()
        self.conf.write_text(CONF.format(
            host=host, ctld_port=ctld_port, slurmd_port=slurmd_port, user=getpass.getuser(),
            folder=folder, cpus=cpus,
        ))  # fmt: skip

    def start(self) -> None:
        """Start all three, and wait until the node is idle."""
        files = {"key-file": "munge.key", "socket": "munge.socket", "log-file": "munged.log",
                 "pid-file": "munged.pid", "seed-file": "munged.seed"}  # fmt: skip
        named = [f"--{name}={self.folder / file}" for name, file in files.items()]
        # --force: folders above a temporary one may be written to by all
        self._begin("munged", "--foreground", "--force", *named)
        self._wait("munged", (self.folder / "munge.socket").exists)
        self._begin("slurmctld", "-D", "-f", str(self.conf))
        self._wait("slurmctld", lambda: "UP" in self.asked("scontrol", "ping"))
        self.start_node()

    def start_node(self) -> None:
        """Start slurmd, and wait until jobs can run."""
        self._begin("slurmd", "-D", "-f", str(self.conf))
        states = ("idle", "mix", "alloc")
        self._wait("slurmd", lambda: self.asked("sinfo", "-h", "-o", "%t").startswith(states))

    def kill_node(self) -> None:
        """As where its power fails: slurmd, its steps and their tasks die at once.

        Comes back when slurmctld has given the node up, and put its jobs back into the queue.
        """
        slurmd = self._running.pop("slurmd")
        tasks = self._tasks()
        for number in [slurmd.pid, *tasks.values(), *tasks]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
        slurmd.wait(PATIENCE)
        self._wait("slurmctld", lambda: self.asked("sinfo", "-h", "-o", "%t").startswith("down"))

    def asked(self, *command: str) -> str:
        """What a command of Slurm says; nothing where it fails."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            done = subprocess.run(
                command, capture_output=True, text=True, check=False, timeout=PATIENCE
            )
            return done.stdout if done.returncode == 0 else ""
        return ""

    def stop(self) -> None:
        """Cancel what is left, and end the daemons."""
        self.asked("scancel", f"--user={getpass.getuser()}", "--signal=KILL", "--full")
        self.asked("scancel", f"--user={getpass.getuser()}")
        until = time.monotonic() + PATIENCE
        while self.asked("squeue", "-h") and time.monotonic() < until:
            time.sleep(0.2)
        for process in reversed(self._running.values()):
            process.terminate()
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(PATIENCE)

    def _tasks(self) -> dict[int, int]:
        """Processes of jobs, by number, and the slurmstepd above each."""
        found = {}
        for path in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError, ValueError):  # it has ended meanwhile
                begun_with = (path / "environ").read_bytes().split(b"\0")
                parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
                above = Path(f"/proc/{parent}/comm").read_text().strip()
                if f"SLURM_CONF={self.conf}".encode() in begun_with and above == "slurmstepd":
                    found[int(path.name)] = parent
        return found

    def _begin(self, name: str, *words: str) -> None:
        program = shutil.which(name, path=_path())
        with (self.folder / f"{name}.out").open("ab") as output:
            self._running[name] = subprocess.Popen(
                [str(program), *words], stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )

    def _wait(self, name: str, answers: Callable[[], bool]) -> None:
        until = time.monotonic() + PATIENCE
        while not answers():
            ended = self._running[name].poll() is not None
            if ended or time.monotonic() > until:
                said = (self.folder / f"{name}.out").read_text(errors="replace")[-2000:]
                raise RuntimeError(f"{name} {'ended' if ended else 'does not answer'}:\n{said}")
            time.sleep(0.2)


@contextlib.contextmanager
def slurm_here(cpus: int = 4) -> Iterator[Slurm]:
    """A Slurm whose commands work in this process and those that it starts.

    Parameters
    ----------
    cpus : int
        That its node is said to have; so many tasks run at a time.

    Raises
    ------
    FileNotFoundError
        If Slurm is not installed.
    RuntimeError
        If a daemon does not start; with what it said.
    """
    if absent := missing():
        raise FileNotFoundError(f"no {', '.join(absent)} here (apt-get install slurm-wlm munge)")
    before = dict(os.environ)
    # in /tmp itself: the path of a socket has 107 characters at most
    with tempfile.TemporaryDirectory(prefix="slurm-", dir="/tmp") as name:
        slurm = Slurm(Path(name), cpus)
        inherited = {key for key in os.environ if key.startswith(("SLURM_", "SBATCH_"))}
        for key in inherited:
            del os.environ[key]
        os.environ |= {"SLURM_CONF": str(slurm.conf), "PATH": _path()}
        try:
            slurm.start()
            yield slurm
        finally:
            slurm.stop()
            os.environ.clear()
            os.environ.update(before)


def _path() -> str:
    """Daemons are in sbin, which users seldom have in their PATH."""
    return os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])


def _free_ports() -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(2)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
