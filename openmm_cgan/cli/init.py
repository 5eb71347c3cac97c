"""The init command: a TOML file that describes a run, made from the options of the commands."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from openmm_cgan.cli.config_file import Key, schema_of
from openmm_cgan.cli.options import FILE

HEADS = {
    "system": "The molecule. Paths are those of this file's folder.",
    "run": "Biased MD that keeps frames: openmm-cgan run --config FILE",
    "train": "The generator: openmm-cgan train --config FILE",
    "windows": "Umbrella windows: openmm-cgan windows --config FILE",
    "free-energy": "MBAR: openmm-cgan free-energy --config FILE",
    "explore": "Or all of it by one command: openmm-cgan explore --config FILE",
    "cluster": "Where the windows are run.",
}
TABLES = tuple(HEADS)
ENDINGS = {
    ".pdb": "structure", ".ent": "structure", ".cif": "structure", ".mmcif": "structure",
    ".pdbx": "structure", ".prmtop": "prmtop", ".parm7": "prmtop", ".inpcrd": "inpcrd",
    ".rst7": "inpcrd", ".ncrst": "inpcrd", ".psf": "psf", ".crd": "crd", ".cor": "crd",
    ".prm": "params", ".rtf": "params", ".str": "params", ".par": "params",
    ".top": "top", ".gro": "gro", ".xml": "system",
}  # fmt: skip
USUAL: dict[Key, Any] = {
    ("run", "plumed"): "plumed.dat",
    ("run", "steps"): 1_500_000,
    ("run", "out"): "run",
    ("train", "frames"): ["run/frames"],
    ("train", "topology"): "run/topology.pdb",
    ("train", "out"): "model.npz",
    ("windows", "run"): "run",
    ("windows", "cv"): "phi",
    ("windows", "model"): "model.npz",
    ("windows", "steps"): 50_000,
    ("windows", "out"): "windows",
    ("free-energy", "folders"): ["windows/window-*"],
    ("free-energy", "cv"): "phi",
    ("free-energy", "out"): "profile.csv",
    ("free-energy", "plot"): "profile.png",
    ("explore", "plumed"): "plumed.dat",
    ("explore", "out"): "explored",
    ("cluster", "executor"): "local",
}


@click.command()
@click.argument("files", type=FILE, nargs=-1)
@click.option("--plumed", "plumed_input", type=FILE, help="PLUMED input; default: plumed.dat.")
@click.option("--forcefield", multiple=True, help="OpenMM force-field file of a PDB; repeat it.")
@click.pass_context
def init(
    context: click.Context, files: tuple[Path, ...], plumed_input: Path | None,
    forcefield: tuple[str, ...],
) -> None:  # fmt: skip
    """Write a commented TOML file for a molecule, which every command takes as --config.

    \b
    Example:
        openmm-cgan init alanine.pdb --forcefield amber96.xml --plumed metad.dat > run.toml
        openmm-cgan init my.prmtop my.rst7 > run.toml
        openmm-cgan init my.psf my.crd par_all36_prot.prm top_all36_prot.rtf > run.toml
        openmm-cgan init system.top system.gro > run.toml
        openmm-cgan init system.xml system.pdb > run.toml
        openmm-cgan run --config run.toml --steps 2000000

    FILES are those of one molecule: PDB or mmCIF, AMBER, CHARMM, GROMACS, or a System that OpenMM
    serialized with its PDB. They are read, and their System is made, before anything is written.
    """
    from openmm_cgan.cli.molecule_files import MoleculeFiles, molecule_of

    given = _sorted(files)
    values = dict(USUAL)
    if files:
        molecule = molecule_of(MoleculeFiles(**given, forcefield=forcefield))
        periodic = molecule.system.usesPeriodicBoundaryConditions()
    else:
        given, periodic = {"structure": Path("molecule.pdb")}, False
    words = given | ({"forcefield": list(forcefield)} if forcefield else {})
    values |= {("system", name): _plain(value) for name, value in words.items()}
    if plumed_input is not None:
        values |= _of_input(plumed_input)
    if periodic:  # windows start from whole frames
        values[("run", "atoms")] = "all"
        del values[("windows", "model")]
    root = context.find_root().command
    assert isinstance(root, click.Group)
    click.echo(text_of(root.commands, values), nl=False)


def _sorted(files: tuple[Path, ...]) -> dict[str, Any]:
    """Files of a molecule by what they are, which their endings tell."""
    kinds = [(ENDINGS.get(path.suffix.lower()), path) for path in files]
    if unknown := [path for kind, path in kinds if kind is None]:
        known = ", ".join(ENDINGS)
        raise click.UsageError(f"{unknown[0]} ends in none of {known}")
    found: dict[str, Any] = {}
    for kind, path in kinds:
        name = _by_the_others(str(kind), {other for other, _ in kinds})
        if name == "params":
            found[name] = (*found.get(name, ()), path)
        elif name in found:
            raise click.UsageError(f"{found[name]} and {path}: which of them is it?")
        else:
            found[name] = path
    return found


def _by_the_others(kind: str, kinds: set[str | None]) -> str:
    """What a file is whose ending two programs use."""
    if kind == "structure" and "psf" in kinds:
        return "crd"
    if kind == "crd" and "prmtop" in kinds:
        return "inpcrd"
    return "prmtop" if kind == "top" and "inpcrd" in kinds else kind


def _plain(value: Any) -> Any:
    return [str(one) for one in value] if isinstance(value, tuple | list) else str(value)


def _of_input(path: Path) -> dict[Key, Any]:
    """What a PLUMED input says of CVs: the first of them for windows."""
    from openmm_cgan.plumed.bias import PlumedBias

    first = PlumedBias(path).variables[0].name
    return {
        ("run", "plumed"): str(path), ("explore", "plumed"): str(path),
        ("windows", "cv"): first, ("free-energy", "cv"): first,
    }  # fmt: skip


def text_of(commands: Mapping[str, click.Command], values: Mapping[Key, Any]) -> str:
    """The text of a file: what has a value, and as comments what else there is."""
    lines = [
        "# What openmm-cgan does with one molecule. Flags override what stands here.",
        "# Behind a # stand defaults; an example is none.",
    ]
    schema = schema_of(commands)
    for table in TABLES:
        lines += ["", f"# {HEADS[table]}", f"[{table}]"]
        keys = [key for key in schema if key[0] == table]
        keys.sort(key=lambda key: key not in values)
        for key in keys:
            lines += _line(key, schema[key], values)
    return "\n".join(lines) + "\n"


def _line(key: Key, parameter: click.Parameter, values: Mapping[Key, Any]) -> Iterator[str]:
    """The line of a key, with its help; nothing for a flag, which is of the moment."""
    if isinstance(parameter, click.Option) and parameter.is_flag:
        return
    several = getattr(parameter, "multiple", False) or parameter.nargs != 1
    value = values.get(key, _usual(parameter))
    if value is None:
        value = [_example(parameter)] if several else _example(parameter)
    entry = f"{key[1]} = {_toml(list(value) if several else value)}"
    told = " ".join((getattr(parameter, "help", None) or "").split())
    if key not in values and _usual(parameter) is None:
        told = f"(an example) {told}".rstrip()
    mark = "" if key in values else "# "
    yield f"{mark}{entry}" + (f"  # {told}" if told else "")


def _usual(parameter: click.Parameter) -> Any:
    """The default of a parameter, if it has one."""
    value = parameter.to_info_dict().get("default")
    return value if isinstance(value, str | int | float) or (value and list(value)) else None


def _example(parameter: click.Parameter) -> Any:
    kind = parameter.type
    if isinstance(kind, click.IntRange | click.FloatRange):
        least = int(kind.min or 0) + (1 if kind.min_open else 0)
        return least if isinstance(kind, click.IntRange) else float(least)
    if isinstance(kind, click.Choice):
        return str(kind.choices[0])
    if isinstance(kind, click.types.IntParamType):
        return 1
    return 1.0 if isinstance(kind, click.types.FloatParamType) else "..."


def _toml(value: Any) -> str:
    """A TOML value; its texts are JSON's."""
    if isinstance(value, list):
        return "[" + ", ".join(_toml(one) for one in value) + "]"
    if isinstance(value, float) and math.isinf(value):
        return "inf"
    return json.dumps(value, ensure_ascii=False)
