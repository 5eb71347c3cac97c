"""Quantities of configurations, from functions that give too little or too much."""

import numpy as np
import pytest
from openmm import unit

from openmm_cgan.closures import of_atoms, of_positions

X = np.random.default_rng(0).normal(size=(5, 3, 3))


def test_torch_functions_see_nanometres():
    x = 10.0 * X * unit.angstrom
    np.testing.assert_allclose(of_positions(lambda y: y.sum((1, 2)), x), X.sum((1, 2)))


@pytest.mark.parametrize("function", [lambda y: y.mean(), lambda y: y.mean(0)])
def test_one_row_for_each_configuration(function):
    with pytest.raises(ValueError, match="for 5 configurations; expected"):
        of_positions(function, X)


def test_mdanalysis_sees_angstroms_and_boxes():
    mda = pytest.importorskip("MDAnalysis")
    universe = mda.Universe.empty(3, trajectory=True)

    def of_one(u):
        return [np.linalg.norm(u.atoms[0].position - u.atoms[1].position), u.dimensions[0]]

    boxes = np.broadcast_to(np.diag([2.0, 3.0, 4.0]), (5, 3, 3))
    found = of_atoms(of_one, universe, X, boxes)
    expected = 10 * np.linalg.norm(X[:, 0] - X[:, 1], axis=1)
    np.testing.assert_allclose(found, np.stack([expected, np.full(5, 20.0)], 1), rtol=1e-5)
    with pytest.raises(ValueError, match="expected \\(5, 3, 3\\)"):
        of_atoms(of_one, universe, X, boxes[0])
    with pytest.raises(ValueError, match="atoms of the universe"):
        of_atoms(of_one, universe, X[:, :2])
