"""Every variable and function as torch: its gradients are the forces that OpenMM has for it."""

import numpy as np
import openmm
import pytest
import torch
from openmm import app

from benchmarks.eight_atoms import BOXES, made, make_system, random_frames, reference_pdbs
from benchmarks.plumed_cases import CASES, MOLECULES
from openmm_cgan.plumed.actions import ACTIONS, actions_help
from openmm_cgan.plumed.actions.functions import Function
from openmm_cgan.plumed.actions.variables.variable import Variable
from openmm_cgan.plumed.bias import PlumedBias
from openmm_cgan.plumed.files.fields import read_fields
from openmm_cgan.plumed.input.language import PlumedInputError
from openmm_cgan.plumed.native.forces import system_box
from openmm_cgan.testsystems import alanine_dipeptide

# test_secondary_structure, test_funnel, native/test_pytorch_model
ELSEWHERE = {
    "FUNNEL_PS",
    "ALPHARMSD",
    "ANTIBETARMSD",
    "PARABETARMSD",
    "PYTORCH_MODEL",
    "FUNCPATHMSD",
}
ELSEWHERE |= {"ECV_MULTITHERMAL", "ECV_LINEAR", "ECV_UMBRELLAS_LINE"}
ELSEWHERE |= {"ECV_MULTITHERMAL_MULTIBARIC", "ECV_UMBRELLAS_FILE", "ECV_CUSTOM"}
STATIC = {name: text for name, text in (CASES | MOLECULES).items() if "METAD" not in text}


def serialised(force):
    """What tells whether two forces are the same; nothing does for some in Python."""
    try:
        return openmm.XmlSerializer.serialize(force)
    except openmm.OpenMMException:
        return None


@pytest.mark.parametrize("box", BOXES.values(), ids=BOXES.keys())
@pytest.mark.parametrize("text", STATIC.values(), ids=STATIC.keys())
def test_gradients_of_the_torch_values_are_the_forces(text, box, tmp_path, monkeypatch):
    text = text.format(pbc="", **reference_pdbs(tmp_path))
    seen = []
    for large in (False, True):
        if large:  # other forces are chosen for large systems, of some variables
            monkeypatch.setattr(system_box, "LARGE", 0)
        bias = PlumedBias(text + "\n", backend="native")
        system = make_system(box)
        bias.add_to(system)
        forces = [serialised(force) for force in system.getForces()]
        if forces != seen or None in forces:
            require_gradients(bias, system, box)
        seen = forces


def require_gradients(bias, system, box):
    platform = openmm.Platform.getPlatformByName("Reference")
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), platform)
    frames = random_frames(box, np.random.default_rng(7), 4)
    x = torch.tensor(frames, requires_grad=True)
    edges = None if box is None else torch.tensor(box).expand(4, 3, 3)
    energy = bias._engine.total_bias(bias._engine.values(x, edges)) + 0 * x[:, 0, 0]
    (gradient,) = torch.autograd.grad(energy.sum(), x)
    for frame, expected, slope in zip(frames, energy.detach(), gradient, strict=True):
        context.setPositions(frame)
        state = context.getState(energy=True, forces=True, groups=bias.force_groups())
        assert state.getPotentialEnergy()._value == pytest.approx(float(expected), rel=1e-7)
        forces = state.getForces(asNumpy=True)._value
        scale = 1 + np.abs(forces).max()
        np.testing.assert_allclose(forces / scale, -slope.numpy() / scale, atol=1e-7)


@pytest.mark.parametrize(
    ("form", "pbc"), [("triclinic", ""), ("triclinic", " NOPBC"), ("no box", "")]
)
def test_slopes_by_strain_are_those_of_differences(form, pbc, tmp_path):
    """Of each variable of all cases, against the differences that others fall back on."""
    files, box = reference_pdbs(tmp_path), BOXES[form]
    frame = random_frames(box, np.random.default_rng(8), 1)[0]
    known = set()
    for text in STATIC.values():
        own = PlumedBias(text.format(pbc=pbc, **files) + "\n", backend="native")
        own._engine.set_masses(np.arange(8) + 1.0, np.zeros(8))
        for action in own._engine.actions:
            if not isinstance(action, Variable) or not action.sites:
                continue
            if action.name == "FIT_TO_TEMPLATE":  # which nothing is biased on
                continue
            seen = action.whole_positions(frame, box)
            for index in range(len(action.outputs)):
                expected = Variable.strain_slope(action, index, seen, box)
                found = action.strain_slope(index, seen, box)
                scale = 1 + np.abs(expected).max()
                np.testing.assert_allclose(found / scale, expected / scale, atol=3e-8)
            if type(action).strain_slope is not Variable.strain_slope:
                known.add(action.name)
    assert known >= {"DISTANCE", "POSITION", "TORSION", "COORDINATION", "RMSD", "GYRATION"}


def test_every_variable_and_function_is_in_a_case():
    tried = {word for text in STATIC.values() for word in text.replace(":", " ").split()}
    kinds = {name for name, cls in ACTIONS.items() if issubclass(cls, Variable | Function)}
    assert kinds <= tried | ELSEWHERE


def test_the_help_names_every_action_and_keyword_with_its_default():
    text = actions_help()
    for name, cls in ACTIONS.items():
        one = actions_help(name.lower())
        assert one in text
        for keyword in cls.keywords:
            [line] = [row for row in one.splitlines() if row.split()[0].rstrip("=") == keyword.key]
            assert keyword.help in line
            assert keyword.default is None or f"[{keyword.default}]" in line
    assert max(map(len, text.splitlines())) <= 160
    with pytest.raises(ValueError, match="TORSION"):
        actions_help("TORSOIN")


PRINTED = (
    "UNITS LENGTH=A TIME=fs\nt: TIME\nv: VOLUME\nc: CELL\nd: DISTANCE ATOMS=1,5 COMPONENTS\n"
    "s: DISTANCE ATOMS=2,5 SCALED_COMPONENTS\np: POSITION ATOM=4 NOPBC\n"
    "k: CONSTANT VALUES=1,2 SCALARS\nf: CUSTOM ARG=t,d.x FUNC=x*y PERIODIC=NO\n"
    "r: RESTRAINT ARG=d.z AT=1 KAPPA=2\nPRINT ARG=* STRIDE=5 FILE=ALL\n"
    "PRINT ARG=*.a,d.*,k.v-1,v FILE=SOME FMT=%12.8f\n"
)


@pytest.mark.plumed
@pytest.mark.parametrize("box", BOXES.values(), ids=BOXES.keys())
def test_rows_of_vectors_and_of_what_surrounds_the_atoms_are_plumeds(box, tmp_path):
    frames = random_frames(box, np.random.default_rng(4), 8)
    for backend in ("native", "kernel"):
        made(PRINTED, backend, box, tmp_path, frames)[0].close()
    for file in ("ALL", "SOME"):
        ours, plumeds = ((tmp_path / b / file).read_text() for b in ("native", "kernel"))
        assert ours == plumeds


def test_energy_is_that_of_the_other_forces(tmp_path):
    text = (
        "UNITS ENERGY=kcal/mol\ne: ENERGY\nphi: TORSION ATOMS=5,7,9,15\n"
        "two: COMBINE ARG=e COEFFICIENTS=2 PERIODIC=NO\nRESTRAINT ARG=phi AT=1 KAPPA=5\n"
        "PRINT ARG=phi,e,two FILE=COLVAR STRIDE=5 FMT=%.8f\n"
    )
    molecule = alanine_dipeptide()
    bias = PlumedBias(text, directory=tmp_path)
    assert (bias.backend, [v.name for v in bias.variables]) == ("native", ["phi"])
    bias.add_to(molecule.system)
    platform = openmm.Platform.getPlatformByName("Reference")
    integrator = openmm.VerletIntegrator(0.001)
    simulation = app.Simulation(molecule.topology, molecule.system, integrator, platform)
    simulation.context.setPositions(molecule.positions)
    bias.attach(simulation)
    expected = []
    for _ in range(3):
        groups = set(range(32)) - bias.force_groups()
        state = simulation.context.getState(energy=True, groups=groups)
        expected.append(state.getPotentialEnergy()._value / 4.184)
        simulation.step(5)
    bias.close()
    columns = read_fields(tmp_path / "COLVAR").columns
    np.testing.assert_allclose(columns["e"][:3], expected, atol=1e-7)
    np.testing.assert_allclose(columns["two"], 2 * columns["e"], atol=1e-7)


def test_a_bias_on_time_is_for_plumed():
    text = "e: TIME\nc: COMBINE ARG=e PERIODIC=NO\nRESTRAINT ARG=c AT=1 KAPPA=5\n"
    with pytest.raises(PlumedInputError, match=r"<input>:3: c: .*TIME.*kernel"):
        PlumedBias(text, backend="native")
    assert PlumedBias(text, cvs=("c",)).backend == "kernel"


@pytest.mark.parametrize("backend", ["auto", "native"])
def test_a_bias_on_energy_is_native(backend):
    text = "e: ENERGY\nc: COMBINE ARG=e PERIODIC=NO\nRESTRAINT ARG=c AT=1 KAPPA=5\n"
    bias = PlumedBias(text, backend=backend)
    assert bias.backend == "native"
    assert bias.add_to(make_system(None))


@pytest.mark.plumed
def test_a_bias_on_energy_is_refused_where_plumed_runs_it():
    text = "e: ENERGY\nc: COMBINE ARG=e PERIODIC=NO\nRESTRAINT ARG=c AT=1 KAPPA=5\n"
    with pytest.raises(PlumedInputError, match=r"<input>:1: ENERGY: .*only backend='native'"):
        PlumedBias(text, backend="kernel").add_to(make_system(None))


def test_energy_and_time_are_no_functions_of_the_positions():
    text = "t: TIME\nd: DISTANCE ATOMS=1,2\nPRINT ARG=t,d\n"
    frame = np.arange(6.0).reshape(2, 3)
    assert [v.name for v in PlumedBias(text).variables] == ["d"]
    with pytest.raises(ValueError, match="TIME t is no function of the positions"):
        PlumedBias(text, backend="native", cvs=("t",)).cv_values(frame)


REFUSED = {
    "d: DISTANCE ATOMS=1,2 COMPONENTS SCALED_COMPONENTS": "not both",
    "d: DISTANCE ATOMS1=1,2 ATOMS2=3,4": "not understood natively",
    "d: TORSION ATOMS=1,2,3,4 AXIS=1,2": "not both",
    "d: TORSION VECTORA=1,2 AXIS=2,3": "VECTORB: TORSION takes 2 atoms here, 0 given",
    "d: ANGLE ATOMS=1,2": "3 or 4",
    "f: FIXEDATOM AT=1,2": "three coordinates",
    "f: FIXEDATOM AT=1,2,3\ng: FIXEDATOM AT=1,2,4\nd: DISTANCE ATOMS=f,g": "any atom",
    "f: FIXEDATOM AT=1,2,3\nc: COM ATOMS=f,1": "kernel",
    "c: CONSTANT VALUES=1,2": "SCALARS",
    "r: RMSD REFERENCE={path}": "5 models",
    "r: RMSD REFERENCE={pdb} TYPE=SIMPLER": "OPTIMAL",
    "p: PATHMSD REFERENCE={path} LAMBDA=-1": "positive",
    "p: PATHMSD REFERENCE={path} LAMBDA=1 NEIGH_SIZE=3 NEIGH_STRIDE=0": "positive",
    "p: PROPERTYMAP REFERENCE={path} LAMBDA=1 PROPERTY=X,Z": "no REMARK Z=",
    "p: PROPERTYMAP REFERENCE={path} LAMBDA=1 PROPERTY=X,X": "different names",
    "g: GYRATION ATOMS=1-5 TYPE=SIZE": "KAPPA2",
}


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_not_covered_is_refused_with_its_line(text, tmp_path):
    text_made = text.format(**reference_pdbs(tmp_path))
    with pytest.raises(PlumedInputError, match=REFUSED[text]) as error:
        PlumedBias(text_made + "\nPRINT ARG=*\n", backend="native")
    assert str(error.value).startswith(f"<input>:{text.count(chr(10)) + 1}: ")


FORCES = {  # in a rectangular box: for few particles, and for many
    "d: DISTANCE ATOMS=1,2": ("CustomBondForce", "CustomBondForce"),
    "d: TORSION ATOMS=1,2,3,4 COSINE": ("CustomTorsionForce", "CustomTorsionForce"),
    "c: COM ATOMS=1,2\nd: DISTANCE ATOMS=c,4": ("CustomCentroidBondForce",) * 2,
    "t: TORSION ATOMS=1,2,3,4\nd: CUSTOM ARG=t FUNC=sin(x) PERIODIC=NO": ("CustomTorsionForce",)
    * 2,
    "e: DISTANCE ATOMS=1,2 COMPONENTS\nd: COMBINE ARG=e.x PERIODIC=NO": (
        "CustomCVForce",
        "CustomCompoundBondForce",
    ),
    "t: TORSION ATOMS=1,2,3,4\na: ANGLE ATOMS=1,3,4\nd: CUSTOM ARG=t,a FUNC=x*y PERIODIC=NO": (
        "CustomCVForce",
        "CustomCompoundBondForce",
    ),
    "d: GYRATION ATOMS=1-4 TYPE=KAPPA2": ("CustomCVForce", "PythonForce"),
}


@pytest.mark.parametrize("large", [0, 1], ids=["small", "large"])
@pytest.mark.parametrize("text", FORCES)
def test_the_cheapest_force_is_chosen_and_can_be_moved(text, large, monkeypatch):
    monkeypatch.setattr(system_box, "LARGE", 0 if large else 500)
    bias = PlumedBias(text + "\nRESTRAINT ARG=d AT=1 KAPPA=3\n", backend="native")
    system = make_system(BOXES["orthorhombic"], bonded=True)
    [force] = bias.add_to(system)
    assert type(force).__name__ == FORCES[text][large]
    platform = openmm.Platform.getPlatformByName("Reference")
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), platform)
    [frame] = random_frames(None, np.random.default_rng(3), 1)
    context.setPositions(frame)
    for _ in range(2):
        state = context.getState(energy=True, groups=bias.force_groups())
        values, energy = bias._engine.evaluate(frame, BOXES["orthorhombic"], 0)
        assert state.getPotentialEnergy()._value == pytest.approx(energy)
        assert energy == pytest.approx(1.5 * (values[0] - bias._engine._biases[0].at[0]) ** 2)
        bias.move_restraint(context, [0.3])


def test_a_constant_function_is_one_for_each_frame_and_has_a_slope():
    molecule = alanine_dipeptide("C7eq")
    text = "d: DISTANCE ATOMS=1,5\nc: CUSTOM ARG=d FUNC=3 PERIODIC=NO\n"
    bias = PlumedBias(text, molecule.topology, cvs=["c"])
    frames = np.repeat(molecule.positions[None], 4, axis=0)
    np.testing.assert_array_equal(bias.cv_values(frames), np.full((4, 1), 3.0))
    x = torch.tensor(frames, requires_grad=True)
    bias.differentiable_cvs(x).sum().backward()
    assert not x.grad.any()


def test_single_precision_is_measured_as_double(tmp_path):
    """What networks make is of single precision; references and weights are not."""
    molecule, path = alanine_dipeptide("C7eq"), reference_pdbs(tmp_path)["path"]
    text = (
        f"p: PATHMSD REFERENCE={path} LAMBDA=60\nc: COM ATOMS=1-4\nd: DISTANCE ATOMS=c,9\n"
        "u: PUCKERING ATOMS=5-9\ng: GYRATION ATOMS=1-9 TYPE=ASPHERICITY\n"
    )
    names = ["p.sss", "p.zzz", "d", "u.Zx", "g"]
    bias = PlumedBias(text, molecule, cvs=names)
    x = torch.tensor(molecule.positions[None], dtype=torch.float32, requires_grad=True)
    found = bias.differentiable_cvs(x)
    assert found.dtype == torch.float32
    expected = bias.cv_values(x.detach().numpy().astype(float))
    np.testing.assert_allclose(found.detach().numpy(), expected, rtol=1e-6)
    found.sum().backward()
    assert x.grad.abs().max() > 0
