"""Coordinates of a part about the held rest: truth from formulas, autograd and rigid motions."""

import dataclasses
import re

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from openmm import app

from openmm_cgan.attached_parts import attachments, molecule_around, references_of
from openmm_cgan.cgan.dataset import Dataset
from openmm_cgan.cgan.settings import TrainingSettings
from openmm_cgan.collective_variable import CollectiveVariable
from openmm_cgan.features import ZMatrixFeatures
from openmm_cgan.frames import Frames
from openmm_cgan.frames.parts import frames_of_atoms
from openmm_cgan.internal_coordinates import Coordinate, Internal, PartZMatrix, part_z_matrix
from openmm_cgan.testsystems import alanine_dipeptide, alanine_pentapeptide, torsion
from tests.cases.molecules import MOLECULES, molecule, random_rotation

PHI = CollectiveVariable("phi", "rad", (-np.pi, np.pi), "TORSION", (4, 6, 8, 14))
PSI = CollectiveVariable("psi", "rad", (-np.pi, np.pi), "TORSION", (6, 8, 14, 16))
METHYL, END = [10, 11, 12, 13], [14, 15, 16, 17, 18, 19, 20, 21]


@pytest.fixture(scope="module")
def alanine():
    return alanine_dipeptide("C7eq")


def part_of(alanine, part: list[int], variables=()) -> PartZMatrix:
    return part_z_matrix(alanine.topology, np.array(part), variables, range(22), alanine.positions)


@pytest.fixture
def shaken(alanine) -> NDArray:
    return alanine.positions + np.random.default_rng(1).normal(scale=0.01, size=(6, 22, 3))


@pytest.mark.parametrize("part", [METHYL, END, [0], [11], [19, 20, 21], [11, 21]], ids=str)
def test_to_and_fro_about_the_rest_of_each_frame(alanine, shaken, part: list[int]) -> None:
    z = part_of(alanine, part)
    assert z.widths == (len(part),) * 3
    every = np.concatenate([z.atoms, z.rest])
    together = z.to_internal(torch.from_numpy(shaken[:, every]))
    for k, x in enumerate(shaken):
        here = z.among(x[z.rest])
        internal = here.to_internal(torch.from_numpy(x[None, z.atoms]))
        for ours, theirs in zip(internal, together, strict=True):
            np.testing.assert_allclose(ours[0], theirs[k], atol=1e-12)
        np.testing.assert_allclose(here.to_cartesian(internal)[0], x[z.atoms], atol=1e-12)


def test_several_places_of_the_rest_at_once_are_each_of_them(alanine, shaken) -> None:
    z = part_of(alanine, END)
    every, places = z.among(shaken[:, z.rest]), np.arange(6).repeat(2)
    x = np.concatenate([shaken, shaken + 0.01])[:, z.atoms]
    internal = every.to_internal(torch.from_numpy(x))
    made = every.to_cartesian(internal)
    for row, place in enumerate(places):
        here = z.among(shaken[place, z.rest])
        alone = here.to_internal(torch.from_numpy(x[row : row + 1]))
        for ours, theirs in zip(internal, alone, strict=True):
            np.testing.assert_allclose(ours[row], theirs[0], atol=1e-12)
        np.testing.assert_allclose(made[row], here.to_cartesian(alone)[0], atol=1e-12)
    with pytest.raises(ValueError, match="5 configurations among 6 places of the held atoms"):
        every.to_internal(torch.from_numpy(x[:5]))


def test_coordinates_are_those_of_the_formulas(alanine, shaken) -> None:
    z = part_of(alanine, END)
    every = np.concatenate([z.atoms, z.rest])
    internal = z.to_internal(torch.from_numpy(shaken[:, every]))
    for column, row in enumerate(every[z.rows]):
        a, b, c, _ = np.moveaxis(shaken[:, row], 1, 0)
        lengths = np.linalg.norm(a - b, axis=1)
        np.testing.assert_allclose(internal.bonds[:, column], lengths)
        cosine = ((a - b) * (c - b)).sum(1) / lengths / np.linalg.norm(c - b, axis=1)
        np.testing.assert_allclose(internal.angles[:, column].cos(), cosine)
        turned = [torsion(x, tuple(row)) for x in shaken]
        np.testing.assert_allclose(internal.torsions[:, column], turned, atol=1e-9)


@pytest.mark.parametrize("part", [METHYL, END])
def test_log_det_is_the_determinant_that_autograd_finds(alanine, part: list[int]) -> None:
    z = part_of(alanine, part)
    internal = z.to_internal(torch.from_numpy(alanine.positions[None, z.atoms]))
    n = z.n_atoms

    def cartesian(q: torch.Tensor) -> torch.Tensor:
        return z.to_cartesian(Internal(*q[None].split([n, n, n], dim=1))).flatten()

    jacobian = torch.autograd.functional.jacobian(cartesian, torch.cat(internal, dim=1)[0])
    log_det = torch.linalg.slogdet(jacobian)[1]
    np.testing.assert_allclose(z.log_det(internal)[0], log_det, atol=1e-9)


def test_they_do_not_see_where_all_stands(alanine, shaken) -> None:
    z = part_of(alanine, END)
    every = np.concatenate([z.atoms, z.rest])
    turn = random_rotation(torch.Generator().manual_seed(2)).numpy()
    found = [
        torch.cat(z.to_internal(torch.from_numpy(x[:, every])), dim=1)
        for x in (shaken, shaken @ turn.T + [3.0, -1.0, 2.0])
    ]
    np.testing.assert_allclose(*found, atol=1e-9)


def test_torsions_of_attachments_do_not_follow_the_backbone(alanine) -> None:
    """CB hangs on CA by its other neighbours there: stiff, whatever phi and psi are."""
    z = part_of(alanine, METHYL)
    every = np.concatenate([z.atoms, z.rest])
    assert every[z.rows[0]].tolist()[:2] == [10, 8]
    assert set(every[z.rows[0]].tolist()[2:]) == {6, 14}


def test_cvs_are_coordinates_where_an_end_of_them_is_in_the_part(alanine) -> None:
    z = part_of(alanine, END, [PHI, PSI])
    every = np.concatenate([z.atoms, z.rest])
    found = z.coordinate_of(PSI)
    assert isinstance(found, Coordinate)
    assert {*every[z.rows[found.column]].tolist()} == {6, 8, 14, 16}
    internal = z.to_internal(torch.from_numpy(alanine.positions[None, z.atoms]))
    expected = torsion(alanine.positions, PSI.atoms)
    assert found.scale * internal.torsions[0, found.column] == pytest.approx(expected)
    assert part_of(alanine, METHYL, [PHI, PSI]).coordinate_of(PSI) is None, "of the rest alone"


def test_what_is_held_at_both_ends_is_refused_in_words(alanine) -> None:
    with pytest.raises(ValueError, match=re.escape("at 2 places (8 (ALA CA)-6 (ALA N), ")):
        part_of(alanine, [8, 9, *METHYL, 14, 15, 16, 17, 18, 19, 20, 21][:6])
    ring = molecule(*MOLECULES["proline"])
    with pytest.raises(ValueError, match=r"at 2 places .*mode='seed'"):
        attachments(ring, [4, 5, 6, 10, 11, 12, 13, 14, 15])
    assert attachments(alanine.topology, range(22)) == [], "a molecule by itself"
    peptide = alanine_pentapeptide().topology
    residues = [[a.index for a in r.atoms()] for r in peptide.residues()]
    with pytest.raises(ValueError, match="at 2 places"):
        attachments(peptide, residues[3])
    assert len(attachments(peptide, [a for r in residues[4:] for a in r])) == 1
    joined = app.Topology()
    chain = joined.addChain()
    atoms = []
    for name in ("CYS", "CYX"):
        residue = joined.addResidue(name, chain)
        atoms += [joined.addAtom(n, app.element.carbon, residue) for n in ("N", "CA", "CB", "SG")]
    for k in (0, 1, 2, 4, 5, 6):
        joined.addBond(atoms[k], atoms[k + 1])
    joined.addBond(atoms[3], atoms[7])
    with pytest.raises(ValueError, match="at 2 places"):
        attachments(joined, [2, 3])


def test_what_a_part_hangs_on_is_found() -> None:
    peptide = alanine_pentapeptide().topology
    beta = next(a.index for a in peptide.atoms() if a.name == "HB1")
    near = references_of(peptide, [beta])
    names = {a.index: a.name for a in peptide.atoms()}
    called = [names[a] for a in near]
    assert called[0] == "CB"
    assert sorted(called[1:4]) == ["CA", "HB2", "HB3"]
    assert sorted(called[4:]) == ["C", "HA", "N"]
    assert sorted([*molecule_around(peptide, [beta]), beta]) == list(range(62))


def frames_of(alanine, n: int = 40) -> Frames:
    rng = np.random.default_rng(3)
    x = alanine.positions + rng.normal(scale=0.003, size=(n, 22, 3))
    cvs = np.array([[torsion(one, v.atoms) for v in (PHI, PSI)] for one in x])
    made = Frames.of_arrays(x, cvs, ["phi", "psi"], temperature=300.0)
    return dataclasses.replace(made, variables=(PHI, PSI))


def test_frames_may_hold_no_more_than_the_part_and_what_it_hangs_on(alanine) -> None:
    whole = frames_of(alanine)
    settings = TrainingSettings(generator="FlowGenerator")
    featurize = ZMatrixFeatures.of_part(METHYL)
    needed = sorted({*METHYL, *references_of(alanine.topology, METHYL)})
    rows = []
    for frames in (whole, frames_of_atoms(whole, needed)):
        made = Dataset.prepare(frames, alanine.topology, settings, featurize)
        rows.append(torch.cat([made.rows.held_features, made.rows.features]))
        assert made.folds == [3] * made.features.n_pairs
        assert made.condition_noise.tolist() == pytest.approx(
            settings.condition_noise * frames.cvs.std(axis=0)
        )
    np.testing.assert_array_equal(*rows)
    for missing, told in (
        (13, r"lack the atoms \[13\] of the part"),
        (8, r"not 8 \(ALA CA\); expected three at least. Write"),
    ):
        less = frames_of_atoms(whole, [a for a in range(22) if a != missing])
        with pytest.raises(ValueError, match=told):
            Dataset.prepare(less, alanine.topology, settings, featurize)


def test_features_survive_their_arrays_and_place_the_part(alanine) -> None:
    frames = frames_of(alanine)
    features = ZMatrixFeatures.of_part(END)(frames, alanine.topology)
    assert features.placed_variables == (0, 1), "C and N of psi are of the part"
    assert features.keeps_place
    again = ZMatrixFeatures.from_arrays(features.arrays(), features.variables)
    x = torch.from_numpy(frames.positions[:, features.encoded_atoms].astype(float))
    encoded = features.encode(x)
    np.testing.assert_array_equal(again.encode(x), encoded)
    cvs = torch.from_numpy(frames.cvs)
    made = again.decode(encoded, cvs).numpy()
    turn = random_rotation(torch.Generator().manual_seed(2)).numpy()
    moved = frames.positions[0].astype(float) @ turn.T + 2.0
    placed = again.place(made[:1], moved[again.rest], frames.cvs[:1])
    np.testing.assert_allclose(placed[0], moved[again.atoms], atol=2e-5)
    with pytest.raises(ValueError, match="a whole molecule hangs on nothing"):
        ZMatrixFeatures.fit(frames, alanine.topology).among(alanine.positions)
