"""DRMSD: its values are those of its formula, and what is wrong with it is said.

With libplumed, torch and the virial it is compared where all variables are: plumed_cases.
"""

import numpy as np
import openmm
import pytest

from benchmarks.eight_atoms import make_system, random_frames, reference_pdbs
from openmm_cgan.plumed.bias import PlumedBias
from openmm_cgan.plumed.input.language import PlumedInputError
from openmm_cgan.plumed.input.pdb import read_blocks, read_models

FRAMES = random_frames(None, np.random.default_rng(6), 5)


def expected(path, wanted=lambda i, j, length: True):
    """By its definition, of the frames [nm]."""
    atoms, blocks = read_models(path)[0], read_blocks(path)
    squares = []
    for i in range(len(atoms)):
        for j in range(i):
            length = np.linalg.norm(np.subtract(atoms[i].position, atoms[j].position))
            if wanted(blocks[i], blocks[j], length):
                now = FRAMES[:, atoms[i].serial - 1] - FRAMES[:, atoms[j].serial - 1]
                squares.append((np.linalg.norm(now, axis=1) - length) ** 2)
    return np.sqrt(np.mean(squares, axis=0))


def measured(text):
    return PlumedBias(text + "\nPRINT ARG=r\n", backend="native", cvs=("r",)).cv_values(FRAMES)[
        :, 0
    ]


def test_values_are_those_of_the_formula(tmp_path):
    files = reference_pdbs(tmp_path)
    head = f"r: DRMSD REFERENCE={files['blocks']} "
    assert sorted(set(read_blocks(files["blocks"]))) == [0, 1]
    for words, wanted in (
        ("", lambda i, j, length: True),
        ("LOWER_CUTOFF=0.12 UPPER_CUTOFF=0.2", lambda i, j, length: 0.12 < length < 0.2),
        ("TYPE=INTER-DRMSD", lambda i, j, length: i != j),
        ("TYPE=INTRA-DRMSD UPPER_CUTOFF=0.2", lambda i, j, length: i == j and length < 0.2),
    ):
        found = expected(files["blocks"], wanted)
        np.testing.assert_allclose(measured(head + words), found, atol=1e-6)
        np.testing.assert_allclose(measured(f"{head}{words} SQUARED"), found**2, atol=1e-6)


def test_cutoffs_and_values_are_in_the_input_s_unit_of_length(tmp_path):
    """PLUMED 2.11 counts the reference in nm whatever that is."""
    path = reference_pdbs(tmp_path)["pdb"]
    inside = measured(f"r: DRMSD REFERENCE={path} LOWER_CUTOFF=0.12 UPPER_CUTOFF=0.2")
    others = measured(
        f"UNITS LENGTH=A\nr: DRMSD REFERENCE={path} LOWER_CUTOFF=1.2 UPPER_CUTOFF=2.0"
    )
    np.testing.assert_allclose(others, 10 * inside, rtol=1e-12)


def test_at_the_reference_itself_there_is_no_force_and_no_nan(tmp_path):
    path = tmp_path / "two.pdb"
    lines = (
        f"ATOM  {k:5d}  C   MOL A   1    {x:8.3f}   0.000   0.000" for k, x in ((1, 0), (2, 1))
    )
    path.write_text("\n".join(lines) + "\nEND\n")
    bias = PlumedBias(f"r: DRMSD REFERENCE={path}\nRESTRAINT ARG=r AT=0.1 KAPPA=300\n")
    system = make_system(None)
    bias.add_to(system)
    context = openmm.Context(
        system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName("Reference")
    )
    frame = FRAMES[0].copy()
    frame[:2] = [[0, 0, 0], [0.1, 0, 0]]
    context.setPositions(frame)
    state = context.getState(energy=True, forces=True, groups=bias.force_groups())
    assert np.isfinite(state.getForces(asNumpy=True)._value).all()
    assert state.getPotentialEnergy()._value == pytest.approx(1.5, rel=1e-6)
    assert bias.cv_values(frame) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("REFERENCE={pdb} TYPE=RMSD", "TYPE=RMSD: expected one of DRMSD, INTER-DRMSD, INTRA"),
        ("REFERENCE=none.pdb", "no PDB file"),
        ("LOWER_CUTOFF=1", "keyword REFERENCE= is missing"),
        ("REFERENCE={pdb} LOWER_CUTOFF=8", "no pair of its atoms is between LOWER_CUTOFF"),
        ("REFERENCE={pdb} TYPE=INTER-DRMSD", "or none that TER parts so"),
        ("REFERENCE={path}", "5 models; natively one"),
        ("REFERENCE={pdb} FOO=1", "FOO=1: not understood natively by DRMSD"),
    ],
)
def test_what_is_wrong_is_said(words, message, tmp_path):
    words = words.format(**reference_pdbs(tmp_path))
    with pytest.raises(PlumedInputError) as told:
        PlumedBias(f"r: DRMSD {words}\nPRINT ARG=r\n", backend="native")
    assert message in str(told.value)
