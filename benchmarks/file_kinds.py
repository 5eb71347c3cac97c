"""The kinds of files that the package reads: how each is made, and what is read of it.

What `fuzz_files.py` changes. A reader gives plain data: arrays, numbers and text, in lists.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import openmm
from openmm import app

from openmm_cgan import ConditionalGAN, PlumedBias, restore_run, save_run
from openmm_cgan.cgan import TrainingSettings
from openmm_cgan.checkpoints import read_run
from openmm_cgan.collective_variable import CollectiveVariable
from openmm_cgan.frames import Frames, read_frames, read_segments, topology_hash
from openmm_cgan.frames.h5md import SegmentHeader
from openmm_cgan.frames.segments import Row, SegmentWriter
from openmm_cgan.free_energy.hills import hills_bias
from openmm_cgan.free_energy.opes import opes_bias
from openmm_cgan.plumed.actions.units import UnitSystem
from openmm_cgan.plumed.files.fields import read_fields
from openmm_cgan.plumed.input.index_files import read_index_file
from openmm_cgan.plumed.input.pdb import MolInfo, read_models, read_remarks
from openmm_cgan.reporters.attempts import Attempt, AttemptTable
from openmm_cgan.testsystems import Chain, alanine_dipeptide
from openmm_cgan.topology_records import read_topology, topology_record
from openmm_cgan.windows.results import read_windows
from openmm_cgan.windows.run_files import (
    RECORD,
    TOPOLOGY,
    write_record,
)

T = 300.0  # K
POINTS = np.linspace(0.1, 2.9, 15)[:, None]  # nm
GRID = "GRID_MIN=0 GRID_MAX=3 GRID_BIN=60"
DISTANCE = "d: DISTANCE ATOMS=1,2\n"
METAD = f"{DISTANCE}m: METAD ARG=d SIGMA=0.1 HEIGHT=1 PACE=2 FILE=HILLS"
OPES = f"{DISTANCE}o: OPES_METAD ARG=d SIGMA=0.1 BARRIER=10 PACE=2 FILE=KERNELS"
INPUTS = {
    "HILLS": f"{METAD} {GRID}\n",
    "HILLS without a grid": f"{METAD}\n",
    "KERNELS": f"{OPES} STATE_WFILE=STATE STATE_WSTRIDE=4\n",
    "STATE": f"{OPES} STATE_RFILE=STATE\n",
    "GRID": f"{METAD} {GRID} GRID_RFILE=GRID\n",
}
VARIABLES = tuple(CollectiveVariable(name, "rad", (-np.pi, np.pi)) for name in ("phi", "psi"))
INDEX = "[ System ]\n" + " ".join(map(str, range(1, 60))) + "\n[ b ] ; not all\n3 1 2\n7 9\n"
SELECTORS = ("phi-2", "psi-2", "back-2", "sidechain-2", "CA-2", "protein", "nonhydrogens")
TRAINED = TrainingSettings(steps=2, batch=8, width=8)


@dataclass(frozen=True)
class Kind:
    """One kind of file.

    Attributes
    ----------
    name : str
    group : str
        What it is counted under.
    write : callable
        Make one in a folder; gives its path.
    read : callable
        All that the package reads of it. What is not finite there is a fault.
    checked : bool
        Whether it has checksums, so that no change may pass.
    """

    name: str
    group: str
    write: Callable[[Path], Path]
    read: Callable[[Path], list[Any]]
    checked: bool = False


# ---- frames


def write_frames(folder: Path, periodic: bool = False) -> Path:
    """Two segments of three atoms, flushed twice."""
    rng = np.random.default_rng(3)
    header = SegmentHeader(VARIABLES, (0, 1, 5), "abc", T, periodic, "phi: ...\n", {"seed": 1})
    writer = SegmentWriter(folder / "frames", header)
    for k in range(1, 61):
        box = np.diag([2.0, 2.5, 3.0]) if periodic else None
        writer.append(Row(10 * k, 0.02 * k, rng.random((6, 3)), box, rng.random(2), float(k)))
        if k == 30:
            writer.flush()
            writer.start_segment(300, {"kind": "proposal", "number": 3}, 50)
    writer.close()
    return folder / "frames" / "segment-00001.h5md"


def read_all_frames(path: Path) -> list[Any]:
    """Every column, and the table of segments."""
    found = read_frames(path, settling=True)
    columns = [found.positions, found.cvs, found.bias, found.step, found.time, found.segment]
    more = [found.settling, found.atoms, [] if found.box is None else found.box]
    about = [repr(found.variables), str(found.temperature), found.topology_hash]
    return [*columns, *more, *about, repr(read_segments(path))]


# ---- tables


def biased(text: str, folder: Path, restart: bool) -> tuple[app.Simulation, PlumedBias]:
    """Four free atoms with a bias, attached."""
    system = openmm.System()
    for _ in range(4):
        system.addParticle(12.0)
    bias = PlumedBias(text, temperature=T, directory=folder, backend="native", restart=restart)
    bias.add_to(system)
    integrator = openmm.LangevinMiddleIntegrator(T, 1.0, 0.001)
    integrator.setRandomNumberSeed(1)
    platform = openmm.Platform.getPlatformByName("Reference")
    simulation = app.Simulation(app.Topology(), system, integrator, platform)
    simulation.context.setPositions(np.random.default_rng(7).random((4, 3)))
    simulation.context.setVelocitiesToTemperature(T, 2)
    try:
        bias.attach(simulation)
    except BaseException:
        bias.close()
        raise
    return simulation, bias


def write_table(name: str) -> Callable[[Path], Path]:
    """What makes a table of that name by a short run."""

    def write(folder: Path) -> Path:
        text = INPUTS[name].replace(" STATE_RFILE=STATE", " STATE_WFILE=STATE STATE_WSTRIDE=4")
        text = text.replace("GRID_RFILE=GRID", "GRID_WFILE=GRID GRID_WSTRIDE=10")
        simulation, bias = biased(text, folder, restart=False)
        simulation.step(30)
        bias.close()
        return folder / name.split(" ")[0]

    return write


def read_by_restart(name: str) -> Callable[[Path], list[Any]]:
    """The bias of a run that goes on from the table."""

    def read(path: Path) -> list[Any]:
        restart = name != "GRID" and "STATE" not in name
        _, bias = biased(INPUTS[name], path.parent, restart or name == "STATE")
        try:
            return [bias.bias_of_cvs(POINTS)]
        finally:
            bias.close()

    return read


def read_hills(path: Path) -> list[Any]:
    """The bias of the hills, without a run."""
    return [hills_bias(read_fields(path), POINTS, UnitSystem())]


def read_kernels(path: Path) -> list[Any]:
    """The estimate of OPES, without a run."""
    return [opes_bias(read_fields(path), POINTS, T)]


def write_colvar(folder: Path) -> Path:
    """A COLVAR with constants, as a run prints it."""
    rows = np.random.default_rng(1).random((40, 3))
    lines = ["#! FIELDS time phi psi", "#! SET min_phi -pi", "#! SET max_phi pi"]
    lines += [" " + " ".join(f"{x:.6f}" for x in row) for row in rows]
    path = folder / "COLVAR"
    path.write_text("\n".join([*lines, ""]))
    return path


def read_colvar(path: Path) -> list[Any]:
    """Columns and constants; NaN is what a run may have printed."""
    table = read_fields(path)
    assert table.values is not None
    domain = table.domain("phi")
    return [repr(table.values.tolist()), repr(table.constants), repr(domain), repr(table.fields)]


def write_attempts(folder: Path) -> Path:
    """A table of forty attempts."""
    table = AttemptTable(folder / "proposals.csv", VARIABLES)
    for k in range(40):
        reason = "clash" if k % 3 else ""
        table.write(10 * k, 0.02 * k, Attempt(*np.random.default_rng(k).random((3, 2)), 1.0, 2.0,
                    reason), k, "seed", k)  # fmt: skip
    return table.path


def read_attempts(path: Path) -> list[Any]:
    """What a run that goes on from step 250 leaves of it."""
    table = AttemptTable(path, VARIABLES, append=True)
    table.cut_after(250)
    return [path.read_bytes().decode(errors="replace")]


# ---- archives


def chain_frames() -> Frames:
    """Frames of a chain of four atoms with its torsion."""
    chain = Chain()
    x = chain.sample(200, T, seed=1).astype(np.float32)
    bias = PlumedBias("phi: TORSION ATOMS=1,2,3,4\nPRINT ARG=phi\n", chain.topology(),
                      temperature=T)  # fmt: skip
    n = len(x)
    return Frames(
        positions=x, cvs=bias.cv_values(x), bias=np.zeros(n), step=np.arange(n),
        time=np.zeros(n), segment=np.ones(n, np.int64), settling=np.zeros(n, bool),
        variables=bias.variables, atoms=np.arange(4), temperature=T,
        topology_hash=topology_hash(chain.topology()),
    )  # fmt: skip


def write_model(generator: str) -> Callable[[Path], Path]:
    """What trains a generator of that kind for two steps."""

    def write(folder: Path) -> Path:
        settings = TrainingSettings(**{**asdict(TRAINED), "generator": generator})
        return ConditionalGAN.fit(chain_frames(), Chain().topology(), settings).save(
            folder / "model.npz"
        )

    return write


def read_model(path: Path) -> list[Any]:
    """All arrays, and what it says of itself."""
    gan = ConditionalGAN.load(path, Chain().topology())
    state = {name: tensor.numpy() for name, tensor in gan.generator.state_dict().items()}
    arrays = [*state.values(), *gan.features.arrays().values(), *gan.conditions.arrays().values()]
    about = [repr(gan.variables), repr(gan.settings), repr(gan.history), repr(gan.versions)]
    return [*arrays, gan.cv_range, gan.condition_noise, *about, str(gan.temperature)]


def write_training(folder: Path) -> Path:
    """The checkpoint of a training that has ended."""
    path = folder / "training.chk"
    ConditionalGAN.fit(chain_frames(), Chain().topology(), TRAINED, checkpoint=path)
    return path


def read_training(path: Path) -> list[Any]:
    """What the training that goes on from it gives: nothing is left to do."""
    gan = ConditionalGAN.fit(chain_frames(), Chain().topology(), TRAINED, checkpoint=path)
    return [*(x.numpy() for x in gan.generator.state_dict().values()), repr(gan.history)]


def write_checkpoint(name: str) -> Callable[[Path], Path]:
    """What saves a short run with the bias of that table."""

    def write(folder: Path) -> Path:
        simulation, bias = biased(INPUTS[name], folder, restart=False)
        simulation.step(30)
        save_run(folder / "run.chk", simulation, {"bias": bias})
        bias.close()
        return folder / "run.chk"

    return write


def read_checkpoint(name: str) -> Callable[[Path], list[Any]]:
    """All that it holds, and the bias of the run that goes on from it."""

    def read(path: Path) -> list[Any]:
        run = read_run(path)
        new = path.parent / "again"
        shutil.copytree(path.parent, new)
        simulation, bias = unattached(INPUTS[name], new)
        try:
            restore_run(path, simulation, {"bias": bias})
            restored = bias.bias_of_cvs(POINTS)
        finally:
            bias.close()
        arrays = [array for state in run.keepers.values() for array in state.arrays.values()]
        about = [(k, s.step, s.updated, s.files, s.saved_by) for k, s in run.keepers.items()]
        return [*arrays, restored, run.checkpoint.hex(), repr(about), repr(run.made_with), run.step]

    return read


def unattached(text: str, folder: Path) -> tuple[app.Simulation, PlumedBias]:
    """As `biased`, for a run that is to go on."""
    system = openmm.System()
    for _ in range(4):
        system.addParticle(12.0)
    bias = PlumedBias(text, temperature=T, directory=folder, backend="native")
    bias.add_to(system)
    integrator = openmm.LangevinMiddleIntegrator(T, 1.0, 0.001)
    platform = openmm.Platform.getPlatformByName("Reference")
    return app.Simulation(app.Topology(), system, integrator, platform), bias


# ---- structures, groups, records


def write_pdb(folder: Path) -> Path:
    """Alanine dipeptide, with words for PATHMSD."""
    molecule = alanine_dipeptide()
    path = folder / "a.pdb"
    with path.open("w") as file:
        file.write("REMARK X=1.0 Y=2\n")
        app.PDBFile.writeFile(molecule.topology, molecule.positions * openmm.unit.nanometer, file)
    return path


def read_pdb_file(path: Path) -> list[Any]:
    """Atoms, selections and words."""
    molecule = MolInfo(path)
    chosen = []
    for selector in SELECTORS:
        chosen.append(molecule.select(selector))
    return [repr(read_models(path)), repr(chosen), repr(read_remarks(path))]


def write_index(folder: Path) -> Path:
    """Two groups."""
    (folder / "i.ndx").write_text(INDEX)
    return folder / "i.ndx"


def read_index(path: Path) -> list[Any]:
    """Both groups."""
    return [repr(read_index_file(path)), repr(read_index_file(path, "b"))]


def write_window(folder: Path) -> Path:
    """A finished window with frames."""
    write_frames(folder)
    text = "phi: TORSION ATOMS=1,2,3,4\npsi: TORSION ATOMS=2,3,4,5\n"
    (folder / "plumed.dat").write_text(text + "RESTRAINT ARG=phi,psi AT=0.1,0.2 KAPPA=3,4\n")
    record = {"status": "finished", "step": 600, "steps": 600, "attempts": 1, "error": ""}
    write_record(folder, record | {"temperature": T, "backend": "native"})
    return folder / RECORD


def read_window(path: Path) -> list[Any]:
    """The frames of a window and their bias."""
    [window] = read_windows([path.parent])
    return [window.cvs, window.bias(window.cvs), window.temperature]


def write_topology(folder: Path) -> Path:
    """That of alanine dipeptide."""
    import json

    (folder / TOPOLOGY).write_text(json.dumps(topology_record(alanine_dipeptide().topology)))
    return folder / TOPOLOGY


def read_topology_file(path: Path) -> list[Any]:
    """What the topology holds."""
    return [repr(topology_record(read_topology(path.parent)))]


TABLES = [Kind(name, "tables", write_table(name), read_by_restart(name)) for name in INPUTS]
KINDS = [
    Kind("frames", "H5MD", write_frames, read_all_frames, checked=True),
    Kind("frames in a box", "H5MD", lambda f: write_frames(f, True), read_all_frames, checked=True),
    *TABLES,
    Kind("HILLS, analysed", "tables", write_table("HILLS"), read_hills),
    Kind("KERNELS, analysed", "tables", write_table("KERNELS"), read_kernels),
    Kind("STATE, analysed", "tables", write_table("STATE"), read_kernels),
    Kind("COLVAR", "tables", write_colvar, read_colvar),
    Kind("attempts", "tables", write_attempts, read_attempts),
    Kind("flow", "models", write_model("FlowGenerator"), read_model, checked=True),
    Kind("perceptron", "models", write_model("MLPGenerator"), read_model, checked=True),
    *(
        Kind(f"run, {name}", "checkpoints", write_checkpoint(name), read_checkpoint(name), True)
        for name in ("HILLS", "HILLS without a grid", "KERNELS")
    ),
    Kind("training", "checkpoints", write_training, read_training, checked=True),
    Kind("PDB", "PDB files", write_pdb, read_pdb_file),
    Kind("index", "index files", write_index, read_index),
    Kind("window.json", "records", write_window, read_window),
    Kind("topology.json", "records", write_topology, read_topology_file),
]  # fmt: skip


def is_finite(data: Any) -> bool:
    """Whether no number of what was read is NaN or infinite."""
    if isinstance(data, list):
        return all(map(is_finite, data))
    if isinstance(data, float):
        return math.isfinite(data)
    if isinstance(data, np.ndarray) and data.dtype.kind == "f":
        return bool(np.isfinite(data).all())
    return True
