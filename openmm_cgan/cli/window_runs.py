"""Umbrella windows of the command line are run: here, on a cluster, or gone on with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from openmm_cgan.array_files import read_array
from openmm_cgan.molecules import Molecule
from openmm_cgan.platforms import platform_word_anywhere
from openmm_cgan.windows import (
    Cluster,
    Window,
    WindowResult,
    executor_of,
    run_prepared,
    run_windows,
)
from openmm_cgan.windows.parsl_workers import parsl_config
from openmm_cgan.windows.platforms import fastest_platform
from openmm_cgan.windows.run_files import START, is_finished, read_record, read_system
from openmm_cgan.windows.runs import ANY, folders_of, prepare_windows
from openmm_cgan.windows.slurm_array import job_script, submit_windows


def run_all(
    windows: Sequence[Window], molecule: Molecule, cluster: Cluster, platform: str | None
) -> list[WindowResult]:
    """Run windows where a cluster says, until all have ended."""
    root = windows[0].folder.parent
    with executor_of(cluster, root) as workers:
        return run_windows(
            windows, molecule.system, molecule.topology, workers,
            platform=platform or (None if cluster.is_here else ANY), reference=molecule.positions,
            threads=cluster.cpus, max_losses=cluster.max_losses,
        )  # fmt: skip


def submit_all(
    windows: Sequence[Window], molecule: Molecule, cluster: Cluster, platform: str | None
) -> int:
    """Submit windows as arrays of Slurm jobs; how many were not done or in the queue before."""
    # of a node: the machine that submits may have no GPU
    name = None if platform in (None, ANY) else platform_word_anywhere(str(platform))
    root = prepare_windows(
        windows, molecule.system, molecule.topology, reference=molecule.positions
    )
    folders = [window.folder for window in windows]
    return submit_windows(cluster, root, folders, (name, cluster.cpus))


def go_on(root: Path, cluster: Cluster, platform: str | None) -> list[WindowResult]:
    """Go on with all windows in a folder until they have ended."""
    folders = folders_of(root)
    if platform is None and cluster.is_here:
        platform = fastest_platform(read_system(root), read_array(folders[0] / START))
    with executor_of(cluster, root) as workers:
        return run_prepared(
            folders, root, workers, platform=platform or ANY,
            threads=cluster.cpus, max_losses=cluster.max_losses,
        )  # fmt: skip


def states(root: Path) -> str:
    """How many windows of a folder are in which state, in words."""
    records = [read_record(folder) for folder in folders_of(root)]
    words = ["finished" if is_finished(r) else f"not finished ({r['status']})" for r in records]
    return ", ".join(f"{words.count(word)} {word}" for word in sorted(set(words)))


def what_is_submitted(cluster: Cluster, root: Path, number: int) -> str:
    """What a batch system would be given for so many windows."""
    if cluster.executor == "slurm-array":
        return job_script(cluster, root.resolve() / "slurm" / "cgan.sh", number)
    return str(parsl_config(cluster, root)) if cluster.executor == "parsl" else ""
