"""Frames of the mirror image of the structure that is given are refused before the training."""

from dataclasses import replace

import numpy as np
import pytest
from openmm import System, app, unit

from openmm_cgan.cgan import ConditionalGAN, TrainingSettings
from openmm_cgan.cgan.hands import require_same_hands
from openmm_cgan.frames import Frames, frames_of_atoms
from openmm_cgan.molecules import Molecule
from openmm_cgan.testsystems import alanine_dipeptide
from tests.cases.shaken_alanine import make_frames

QUICK = TrainingSettings(steps=20, batch=32, width=16, report_every=10)


@pytest.fixture(scope="module")
def molecule():
    return alanine_dipeptide()


@pytest.fixture(scope="module")
def frames(molecule):
    return make_frames(molecule)


def mirrored(frames, rows=slice(None)):
    x = frames.positions.copy()
    x[rows] *= [1, 1, -1]
    cvs = frames.cvs.copy()
    cvs[rows, :2] *= -1  # phi and psi
    return replace(frames, positions=x, cvs=cvs)


def pdb_of(molecule, folder, sign=1.0):
    path = folder / "alanine.pdb"
    with open(path, "w") as file:
        x = molecule.positions * [1, 1, sign]
        app.PDBFile.writeFile(molecule.topology, x * unit.nanometer, file)
    return path


def test_frames_of_the_mirror_image_are_refused_before_the_training(molecule, frames, tmp_path):
    path = pdb_of(molecule, tmp_path)
    for given in (path, str(path), app.PDBFile(str(path)), molecule):
        require_same_hands(frames, given)
        with pytest.raises(ValueError, match=r"at atom 8 \(ALA 2 CA\) the frames have the other"):
            require_same_hands(mirrored(frames), given)
    with pytest.raises(ValueError, match="mirror image"):
        ConditionalGAN.fit(mirrored(frames), path, QUICK)
    ConditionalGAN.fit(frames, pdb_of(molecule, tmp_path), QUICK)


def test_what_changed_in_the_run_is_said(molecule, frames, tmp_path, caplog):
    some = mirrored(frames, slice(0, len(frames) // 4))
    require_same_hands(some, molecule.topology)
    assert "25.0 % of the frames have another hand than most" in caplog.text
    caplog.clear()
    require_same_hands(some, pdb_of(molecule, tmp_path))
    assert "another hand than the structure given" in caplog.text


def test_without_a_structure_or_a_centre_nothing_is_said(molecule, frames, tmp_path, caplog):
    require_same_hands(frames, molecule.topology)
    require_same_hands(mirrored(frames), molecule.topology)
    require_same_hands(mirrored(frames), None)
    require_same_hands(mirrored(frames_of_atoms(frames, range(6))), molecule)
    cut = frames.positions.copy()
    cut[:, 10:] += [3, 0, 0]  # by a boundary: the features refuse it
    require_same_hands(mirrored(replace(frames, positions=cut)), pdb_of(molecule, tmp_path))
    require_same_hands(mirrored(frames), pdb_of(molecule, tmp_path, sign=0.0))  # flat
    assert not caplog.records


def test_three_neighbours_in_a_plane_have_no_hand(caplog):
    """Of phosphorus with O, N and C about it: heat bends it to either side."""
    topology = app.Topology()
    residue = topology.addResidue("LIG", topology.addChain())
    atoms = [topology.addAtom(e, app.Element.getBySymbol(e), residue) for e in "PONC"]
    for other in atoms[1:]:
        topology.addBond(atoms[0], other)
    flat = np.array([[0, 0, 0], [0.15, 0, 0], [-0.08, 0, 0.14], [-0.09, 0, -0.16]])
    x = np.repeat(flat[None], 40, axis=0)
    x[:, 0, 1] = 0.015 * np.random.default_rng(0).normal(size=40)
    bent = Frames.of_arrays(x, x[:, 0, 1], ["y"])
    require_same_hands(bent, topology)
    require_same_hands(bent, Molecule(topology, System(), x[0]))
    assert not caplog.records
    x[:, 0, 1] = 0.07 * np.repeat([1, -1], 20)  # a pyramid has one
    require_same_hands(Frames.of_arrays(x, x[:, 0, 1], ["y"]), topology)
    assert "50.0 % of the frames have another hand" in caplog.text


@pytest.mark.parametrize("turned", [False, True])
def test_an_allene_that_turns_in_the_run_is_said(frames, caplog, turned):
    """As it does where a force field has no torsion about it; proposals of one hand are refused."""
    topology = app.Topology()
    residue = topology.addResidue("ALL", topology.addChain())
    elements = [app.Element.getBySymbol(s) for s in ("C", "C", "C", "Cl", "H", "Cl", "H")]
    atoms = [topology.addAtom(f"A{i}", element, residue) for i, element in enumerate(elements)]
    for one, two in [(0, 1), (1, 2), (0, 3), (0, 4), (2, 5), (2, 6)]:
        topology.addBond(atoms[one], atoms[two])
    x = np.array(
        [[0, 0, 0], [0.131, 0, 0], [0.262, 0, 0], [-0.06, 0.15, 0], [-0.05, -0.09, 0],
         [0.32, 0, 0.15], [0.31, 0, -0.09]]
    )  # fmt: skip
    positions = np.repeat(x[None], len(frames), axis=0)
    if turned:
        positions[3::4] *= [1, 1, -1]
    require_same_hands(replace(frames_of_atoms(frames, range(7)), positions=positions), topology)
    assert ("% of the frames have another hand than most" in caplog.text) is turned
