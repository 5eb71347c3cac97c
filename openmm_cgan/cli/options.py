"""Options that several commands share: their types, and what is read from their text."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
NEW = click.Path(path_type=Path)
SEED = click.IntRange(0, 2**31 - 1)  # what OpenMM, numpy and torch all take
THERE = click.Path(exists=True, path_type=Path)
ATOMS = "A selection of MDAnalysis ('protein', 'resname LIG', 'all'), the atoms to"
CONSTRAINTS = click.Choice(["HBonds", "AllBonds", "HAngles", "None"])
IMPLICIT = click.Choice(["HCT", "OBC1", "OBC2", "GBn", "GBn2"])
BACKENDS = click.Choice(["auto", "native", "kernel", "plugin"])


EXECUTORS = click.Choice(["local", "parsl", "slurm-array"])
SCHEDULERS = click.Choice(["local", "slurm", "pbs", "lsf"])


class ForceFieldFile(click.ParamType):
    """A file of OpenMM's own, or a path."""

    name = "file"


class SharedOption(click.Option):
    """An option that stands in a table of its own of a configuration file, for all commands.

    Parameters
    ----------
    table : str
        The table; other arguments are click's.
    """

    def __init__(self, *words: Any, table: str, **options: Any) -> None:
        super().__init__(*words, **options)
        self.table = table


class SharedArgument(click.Argument):
    """An argument that stands in a table of its own, as a SharedOption does."""

    def __init__(self, *words: Any, table: str, **options: Any) -> None:
        super().__init__(*words, **options)
        self.table = table


def molecule_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the files of a molecule, as `MoleculeFiles` takes them."""
    positive = click.FloatRange(min=0, min_open=True)
    several: dict[str, Any] = {"multiple": True}
    options: dict[str, dict[str, Any]] = {
        "prmtop": {"type": FILE, "help": "AMBER, with --inpcrd."},
        "inpcrd": {"type": FILE, "help": "AMBER coordinates or restart."},
        "psf": {"type": FILE, "help": "CHARMM, with --crd and --params."},
        "crd": {"type": FILE, "help": "CHARMM coordinates: .crd, .pdb or .cif."},
        "params": {"type": FILE, "help": "CHARMM .prm, .rtf, .str; repeat it.", **several},
        "top": {"type": FILE, "help": "GROMACS, with --gro."},
        "gro": {"type": FILE, "help": "GROMACS coordinates."},
        "system": {"type": FILE, "help": "A System serialized by OpenMM, with STRUCTURE."},
        "forcefield": {
            "type": ForceFieldFile(),
            "help": "Of STRUCTURE: OpenMM force-field file, once for each; default: "
            "amber14-all.xml amber14/tip3pfb.xml.",
            **several,
        },
        "constraints": {"type": CONSTRAINTS, "help": "Default: HBonds."},
        "implicit-solvent": {"type": IMPLICIT, "help": "Of AMBER and CHARMM files."},
        "hydrogen-mass": {"type": positive, "help": "[amu]"},
        "cutoff": {"type": positive, "help": "[nm] With a box; default: 1, less in a small one."},
        "switch-distance": {"type": positive, "help": "[nm] With a box; default: no switch."},
        "box": {"help": "Three lengths [nm], where no file has them."},
    }
    for name, about in reversed(options.items()):
        command = click.option(f"--{name}", cls=SharedOption, table="system", **about)(command)
    structure = click.argument(
        "structure", type=FILE, required=False, cls=SharedArgument, table="system"
    )
    return structure(command)


def cluster_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command what `Cluster` takes."""
    count, some = click.IntRange(min=1), click.IntRange(min=0)
    options: dict[str, dict[str, Any]] = {
        "executor": {
            "type": EXECUTORS, "default": "local",
            "help": "Processes of this machine, Parsl's workers, or an array of Slurm jobs, which "
            "is submitted and waited for by --collect.",
        },
        "workers": {
            "type": some,
            "help": "Processes of a machine; default: one for each of --devices or "
            "--gpus-per-node, else for each core; 0: none, windows are run here.",
        },
        "devices": {"help": "GPUs of this machine, 0,1: one for each worker."},
        "scheduler": {"type": SCHEDULERS, "default": "slurm", "help": "With parsl."},
        "partition": {"help": "Or queue."},
        "account": {"help": "That pays."},
        "walltime": {"default": "1:00:00", "help": "Of a job; windows go on in the next."},
        "gpus-per-node": {"type": some, "default": 0, "help": "Of a job, one for each worker."},
        "cpus": {"type": count, "default": 1, "help": "Cores of a worker."},
        "max-blocks": {"type": count, "default": 10, "help": "Jobs at the same time."},
        "worker-init": {"help": "Shell commands before a worker: modules, an environment."},
        "scheduler-options": {"help": "Further lines of the job script."},
        "max-losses": {
            "type": some, "default": 5,
            "help": "How often in a row a window may lose its worker and come no further.",
        },
    }  # fmt: skip
    for name, about in reversed(options.items()):
        about |= {"cls": SharedOption, "table": "cluster", "show_default": True}
        command = click.option(f"--{name}", **about)(command)
    return command


def device_option(what: str) -> Callable[..., Any]:
    """--device of a command with a model: a device of torch, looked for before anything is done."""

    def there(_: click.Context, __: click.Parameter, value: str) -> str:
        if value != "cpu":  # torch is loaded for no other
            from openmm_cgan.devices import device_named

            try:
                device_named(value)
            except ValueError as error:
                raise click.BadParameter(str(error)) from None
        return value

    about = f"Of torch, {what}: cpu, cuda, cuda:1."
    return click.option("--device", default="cpu", show_default=True, callback=there, help=about)


def set_threads(number: int) -> None:
    """Threads of torch: in networks this small they mostly wait for each other."""
    import torch

    torch.set_num_threads(number)


def require_parent(*paths: Path | None) -> None:
    """Fail before the work is done, not after it."""
    for path in paths:
        if path is not None and not path.absolute().parent.is_dir():
            raise FileNotFoundError(f"{path}: there is no folder {path.absolute().parent}")


def cv_values(text: str, names: Sequence[str]) -> list[float]:
    """Read ``phi=1.0,psi=-0.5`` into the order of the names."""
    try:
        words = [word.split("=") for word in text.split(",")]
        given = [(name.strip(), float(value)) for name, value in words]
    except ValueError:
        given = []
    # sorted, not as a dict: of a CV that is given twice neither value counts
    if sorted(name for name, _ in given) != sorted(names):
        example = ",".join(f"{name}=1.0" for name in names)
        raise ValueError(f"--at {text!r}: expected one number for each CV, such as {example}")
    return [dict(given)[name] for name in names]


def cv_names(text: str) -> list[str]:
    """Read ``phi`` or ``phi,psi``: one or two CVs."""
    names = [name.strip() for name in text.split(",")]
    if not all(names) or len(set(names)) != len(names) or len(names) > 2:
        raise ValueError(f"--cv {text!r}: expected one name, or two different ones as in phi,psi")
    return names


def interval(text: str) -> tuple[float, float]:
    """Read ``0,2.3``: both ends of an interval."""
    try:
        lower, upper = (float(word) for word in text.split(","))
    except ValueError:
        lower = upper = math.nan
    if not lower < upper:
        raise ValueError(f"--basin {text!r}: expected LOWER,UPPER, such as 0,2.3")
    return lower, upper
