"""Forces and virial of a native bias on frames, for ``openmm-cgan driver --dump-forces``."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import openmm
from numpy.typing import NDArray
from openmm import app, unit

from openmm_cgan.plumed.actions.variables.centers import Centroid
from openmm_cgan.plumed.driver.virials import virial
from openmm_cgan.plumed.geometry.lattices import shortest_vectors
from openmm_cgan.plumed.geometry.vectors import shortest_image
from openmm_cgan.plumed.native.backend import NativeBackend
from openmm_cgan.plumed.native.pulls import own_slopes, pull_on_atoms, slopes_below

_BIAS_GROUP = 1
_NO_BOX = 1000.0  # nm: so wide that nothing reaches its image


class BiasForces:
    """The OpenMM forces of a bias, evaluated on frames.

    Parameters
    ----------
    backend : NativeBackend
    masses, charges : ndarray, shape (n_atoms,)
        [dalton], [e]; may be NaN where the input needs none.
    box : ndarray, shape (3, 3), or None
        Box of the first frame; the forces are made anew where one is of a more general kind.
    """

    def __init__(
        self, backend: NativeBackend, masses: NDArray, charges: NDArray, box: NDArray | None
    ) -> None:
        self._backend = backend
        self._masses, self._charges = masses, charges
        self._make_context(box)

    def _make_context(self, box: NDArray | None) -> None:
        """Make the forces anew, for the kind of box that the frames now have."""
        self._kind = _kind(box)
        system = openmm.System()
        for mass in self._masses:
            system.addParticle(mass if np.isfinite(mass) else 0.0)
        if box is not None:
            system.setDefaultPeriodicBoxVectors(*openmm_box(box)[0])
            system.addForce(_periodic_nothing())
        for force in self._backend.forces(system):
            force.setForceGroup(_BIAS_GROUP)
            system.addForce(force)
        self._backend.set_masses(self._masses, self._charges)  # `forces` took the System's
        self._context = openmm.Context(
            system,
            openmm.VerletIntegrator(0.001),
            openmm.Platform.getPlatformByName("Reference"),
        )
        self.refresh()

    def refresh(self) -> None:
        """Take the bias as it is now."""
        self._backend.upload(self._context)

    def at(self, positions: NDArray, box: NDArray | None, step: int) -> tuple[NDArray, NDArray]:
        """Forces [kJ/mol/nm] and virial [kJ/mol], shapes (n_atoms, 3) and (3, 3), of a frame.

        Parameters
        ----------
        positions : ndarray, shape (n_atoms, 3)
            [nm]
        box : ndarray, shape (3, 3), or None
            Box vectors as rows [nm].
        step : int

        Raises
        ------
        ValueError
            If the bias is not finite.
        """
        self._refuse_phases(box, step)
        actions = self._backend.actions
        values = self._backend.values(positions, box, step)
        slopes = slopes_below(actions, values, own_slopes(actions, step), step)
        strained = virial(actions, slopes, positions, box)
        energy = self._backend.felt(positions, box, step)
        felt = self._felt_by_openmm(positions, box, step)
        if felt is not None and np.isclose(energy, felt[0], rtol=1e-6, atol=1e-8):
            return felt[1], strained
        if not np.isfinite(energy):
            raise ValueError(f"step {step}: the bias is {energy} kJ/mol: no forces")
        # OpenMM takes other images than PLUMED: of a box that it has only turned, of distances
        # beyond half the shortest width, of molecules that the box has torn
        return -pull_on_atoms(actions, slopes, positions, box), strained

    def _felt_by_openmm(
        self, positions: NDArray, box: NDArray | None, step: int
    ) -> tuple[float, NDArray] | None:
        """Energy of the bias and its forces (n_atoms, 3); None of frames that it can not be of."""
        turn = np.eye(3)
        if _kind(box) > self._kind:
            self._make_context(box)
        if box is not None:
            whole = self._whole(positions, box)
            if whole is None:
                return None
            positions = whole
            vectors, turn = openmm_box(box)
            self._context.setPeriodicBoxVectors(*vectors)
        elif self._kind:
            self._context.setPeriodicBoxVectors(*np.diag([_NO_BOX] * 3))
        self._context.setPositions(positions @ turn)
        self._context.setStepCount(step)
        state = self._context.getState(energy=True, forces=True, groups={_BIAS_GROUP})
        return state.getPotentialEnergy()._value, state.getForces(asNumpy=True)._value @ turn.T

    def _whole(self, positions: NDArray, box: NDArray) -> NDArray | None:
        """Bring the groups that OpenMM takes as they are to one image, as PLUMED does.

        In a run OpenMM keeps molecules whole by itself; frames may be torn. None where groups that
        share atoms are torn differently, so that they can not all be whole at once.
        """
        made = positions.copy()
        groups = self._backend.groups()
        for atoms in groups:
            for before, after in pairwise(atoms):
                made[after] = made[before] + _step_between(made, before, after, box)
        for atoms in groups:
            for before, after in pairwise(atoms):
                step = _step_between(made, before, after, box)
                if not np.allclose(made[after] - made[before], step, atol=1e-6):
                    return None
        return made

    def _refuse_phases(self, box: NDArray | None, step: int) -> None:
        virtual = [a for a in self._backend.actions if isinstance(a, Centroid) and a.phases]
        if virtual and _kind(box) == 2:
            raise ValueError(
                f"step {step}: PLUMED's forces of PHASES, in {virtual[0].statement.location}, are "
                "not the slope of the bias in a triclinic box; use --backend kernel"
            )


def _kind(box: NDArray | None) -> int:
    """0 without box, 1 for an orthorhombic one, 2 for any other."""
    return 0 if box is None else 1 + bool(np.any(box != np.diag(np.diag(box))))


def openmm_box(box: NDArray) -> tuple[NDArray, NDArray]:
    """The same lattice in OpenMM's reduced form.

    Parameters
    ----------
    box : ndarray, shape (3, 3)
        Box vectors as rows.

    Returns
    -------
    vectors : ndarray, shape (3, 3)
        The reduced box vectors as rows.
    turn : ndarray, shape (3, 3)
        Rotation that positions as rows are multiplied with; of unity if the first vector is along
        x and the second in the plane of x and y.
    """
    rows, turn = np.array(box, dtype=float), np.eye(3)
    if np.any(np.abs(rows[np.triu_indices(3, 1)]) > 1e-9) or np.any(np.diag(rows) <= 0):
        rows = shortest_vectors(rows)
        rows[2] *= np.sign(np.linalg.det(rows))  # right-handed: the lattice stays
        turn = np.linalg.qr(rows.T)[0]
        turn = turn * np.sign(np.diag(rows @ turn))
        rows = rows @ turn
    rows = np.tril(rows)  # OpenMM wants zeros, not what rounding leaves
    reduced = app.internal.unitcell.reducePeriodicBoxVectors([openmm.Vec3(*row) for row in rows])
    return np.array(reduced.value_in_unit(unit.nanometer)), turn


def _step_between(positions: NDArray, before: int, after: int, box: NDArray) -> NDArray:
    x, y, z = positions[after] - positions[before]
    return np.array(shortest_image((x, y, z), box))


def _periodic_nothing() -> openmm.CustomBondForce:
    """A force that makes a System periodic and does nothing."""
    force = openmm.CustomBondForce("0")
    force.setUsesPeriodicBoundaryConditions(True)
    return force
