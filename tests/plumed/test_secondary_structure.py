"""ALPHARMSD, ANTIBETARMSD and PARABETARMSD of two chains: what they give is PLUMED's."""

import numpy as np
import pytest
import torch

from openmm_cgan.plumed.actions import read_actions
from openmm_cgan.plumed.actions.variables.ideal_structures import ALPHA, ANTIPARALLEL, PARALLEL_2
from openmm_cgan.plumed.bias import PlumedBias
from openmm_cgan.plumed.input.language import PlumedInputError, read_statements
from tests.cases.driver_runs import compare, driven

pytestmark = pytest.mark.plumed

NAMES = ("N", "CA", "CB", "C", "O")
LENGTHS = (9, 8)  # residues of the chains
BOXES = {
    "no box": None,
    "orthorhombic": np.diag([3.4, 3.9, 4.3]),
    "triclinic": np.array([[3.6, 0, 0], [0.8, 3.5, 0], [-0.9, 1.1, 3.7]]),
}


def write_pdb(path, names=("ALA", "GLY")):
    """Residue 5 is a glycine, whose third atom is called HA2."""
    lines, serial, number = [], 0, 0
    for chain, length in zip("AB", LENGTHS, strict=True):
        for _ in range(length):
            number += 1
            kind = names[number == 5]
            for name in NAMES:
                serial += 1
                shown = "HA2" if (kind, name) == ("GLY", "CB") else name
                lines.append(
                    f"ATOM  {serial:5d}  {shown:<3s} {kind} {chain}{number:4d}    "
                    "   0.000   0.000   0.000  1.00  1.00"
                )
    path.write_text("\n".join([*lines, "END", ""]))


def frames_near(box, n=4, seed=5):
    """Pieces of ideal structures, one after the other, moved a little; each chain in one image."""
    rng = np.random.default_rng(seed)
    pieces = [ALPHA, ANTIPARALLEL, PARALLEL_2]
    frames = []
    for k in range(n):
        atoms = np.concatenate([pieces[k % 3], pieces[k % 3][:15], *np.roll(pieces, k, axis=0)])
        atoms = atoms[: 5 * sum(LENGTHS)] + rng.normal(scale=0.02, size=(5 * sum(LENGTHS), 3))
        shift = np.zeros_like(atoms)
        if box is not None:
            shift[5 * LENGTHS[0] :] = rng.integers(-1, 2, size=3) @ box
        frames.append(atoms + shift)
    return np.array(frames)


@pytest.mark.parametrize("kind", ["DRMSD", "OPTIMAL"])
@pytest.mark.parametrize("box", BOXES.values(), ids=BOXES.keys())
def test_values_forces_and_virials_are_plumeds(box, kind, tmp_path):
    for backend in ("native", "kernel"):
        (tmp_path / backend).mkdir()
        write_pdb(tmp_path / backend / "p.pdb")
    more = "LESS_THAN={RATIONAL R_0=0.1 NN=8 MM=12}"
    text = (
        f"MOLINFO STRUCTURE=p.pdb\na: ALPHARMSD RESIDUES=all TYPE={kind}\n"
        f"b: ANTIBETARMSD RESIDUES=all TYPE={kind} {more} STRANDS_CUTOFF=0.9\n"
        f"c: PARABETARMSD RESIDUES=all TYPE={kind} R_0=0.09\n"
        f"d: ANTIBETARMSD RESIDUES=all TYPE={kind} STYLE=inter NOPBC\n"
        f"e: ALPHARMSD RESIDUES=2-8 TYPE={kind} {more}\n"
        "RESTRAINT ARG=a,b.lessthan,c,d,e.lessthan AT=0,0,0,0,0 KAPPA=20,30,40,50,60\n"
        "PRINT ARG=a,b_lessthan,c,d,e_lessthan FILE=COLVAR FMT=%12.8f\n"
    )
    driven(text, tmp_path, frames_near(box), box, full_virial=True)
    compare(tmp_path, "COLVAR", "forces", tolerance=2e-6)


@pytest.mark.parametrize("action", ["ALPHARMSD", "ANTIBETARMSD", "PARABETARMSD"])
@pytest.mark.parametrize("kind", ["DRMSD", "OPTIMAL", "SIMPLE"])
def test_gradients_are_those_of_torch(kind, action, tmp_path):
    write_pdb(tmp_path / "p.pdb")
    text = f"MOLINFO STRUCTURE=p.pdb\na: {action} RESIDUES=all TYPE={kind} R_0=0.3\n"
    *_, variable = read_actions(read_statements(text, "<input>"), folder=tmp_path)
    frames = frames_near(BOXES["triclinic"], 2)
    x = torch.tensor(frames, requires_grad=True)
    box = torch.tensor(BOXES["triclinic"]).expand(2, 3, 3)
    values = variable.value(x, box)
    (slopes,) = torch.autograd.grad(values.sum(), x)
    for frame, value, slope in zip(frames, values.detach(), slopes, strict=True):
        found, gradient = variable.gradient(0, frame, BOXES["triclinic"])
        assert found == pytest.approx(float(value), rel=1e-10)
        assert found == pytest.approx(float(variable.value(frame, BOXES["triclinic"])))
        total = np.zeros_like(frame)
        total[list(variable.sites)] = gradient
        np.testing.assert_allclose(total, slope.numpy(), atol=1e-8 * (1 + np.abs(total).max()))


REFUSED = {
    "a: ALPHARMSD RESIDUES=1-4": "less than 6",
    "a: ANTIBETARMSD RESIDUES=all STYLE=some": "all, inter or intra",
    "a: ALPHARMSD RESIDUES=all TYPE=FAST": "DRMSD, OPTIMAL",
    "a: ALPHARMSD RESIDUES=1-40": "no residue 18",
}


@pytest.mark.parametrize("line", REFUSED)
def test_what_is_wrong_is_told(line, tmp_path):
    write_pdb(tmp_path / "p.pdb")
    with pytest.raises(PlumedInputError, match=rf"<input>:2: .*{REFUSED[line]}"):
        PlumedBias(f"MOLINFO STRUCTURE=p.pdb\n{line}\nPRINT ARG=a\n", directory=tmp_path)
    with pytest.raises(PlumedInputError, match="needs a MOLINFO"):
        PlumedBias(f"{line}\nPRINT ARG=a\n", directory=tmp_path)
