"""ZMatrixFeatures: bonds, angles and torsions of a molecule, scaled for a network.

What hardly varies (constrained bonds) becomes a constant; a CV that is a coordinate of the Z-matrix
is left out and put back exactly at decoding; a torsion that stays near one value is standardised
like bonds and angles, and one that turns round becomes the pair (cos, sin).
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from openmm_cgan.collective_variable import CollectiveVariable
from openmm_cgan.internal_coordinates import Internal, ZMatrix
from openmm_cgan.large_arrays import pieces
from openmm_cgan.rotors import Rotor

if TYPE_CHECKING:
    from openmm_cgan.frames import Frames

CONSTANT = 1e-4  # nm or rad; the stiffest bonds of force fields vary by 2e-3 nm at 300 K
NARROW = 0.3  # rad: a torsion with a smaller deviation is standardised; phi of a peptide has 0.45
REACH = 2.0  # rad: ... if it never strays further from its mean (a rare cis peptide bond does)
STRAIGHT = 0.02  # rad: decoded angles stay that far from 0 and pi, where torsions are undefined
BROKEN = 0.6  # nm: a longer bond means a molecule cut by the periodic boundary
DISAGREE = 1e-3  # rad or nm: between a CV of the frames and the same one of their positions
CHUNK = 2048  # frames turned into internal coordinates at a time


class ZMatrixFeatures:
    """A `Featurization` over the internal coordinates of a Z-matrix.

    A feature vector holds ``n_linear`` standardised bonds, angles and narrow torsions, then the
    cosines and then the sines of ``n_pairs`` wide torsions. All is done in float64.

    Parameters
    ----------
    z_matrix : ZMatrix
    variables : sequence of CollectiveVariable
        Columns of the CVs.
    centre, scale : Tensor, shape (3 n_atoms - 6,)
        Mean, circular for torsions, and standard deviation of each coordinate [nm, rad].
    linear, wide : Tensor of int, shape (n_linear,), (n_pairs,)
        Columns that are standardised, and columns (torsions) that are pairs.
    """

    keeps_place = False

    def __init__(
        self,
        z_matrix: ZMatrix,
        variables: Sequence[CollectiveVariable],
        *,
        centre: Tensor,
        scale: Tensor,
        linear: Tensor,
        wide: Tensor,
    ) -> None:
        self.z_matrix = z_matrix
        self.variables = tuple(variables)
        self.centre, self.scale, self.linear, self.wide = centre, scale, linear, wide
        self.n_linear, self.n_pairs = len(linear), len(wide)
        n = z_matrix.n_atoms
        self.widths = [max(n - k, 0) for k in (1, 2, 3)]
        n_bonds, n_angles, n_torsions = self.widths
        # Bounds of a decoded geometry; a network that strays must not turn an angle inside out,
        # which would change torsions that are placed exactly.
        lower = [*(0.5 * self.centre[:n_bonds]).tolist(), *[STRAIGHT] * n_angles]
        upper = [*[math.inf] * n_bonds, *[math.pi - STRAIGHT] * n_angles]
        self._lower = torch.tensor(lower + [-math.inf] * n_torsions, dtype=torch.float64)
        self._upper = torch.tensor(upper + [math.inf] * n_torsions, dtype=torch.float64)
        self._placed = list(_placed(z_matrix, self.variables))
        self.placed_variables = tuple(cv for cv, _, _ in self._placed)

    @classmethod
    def fit(cls, frames: "Frames", topology: Any) -> Self:
        """Choose a Z-matrix and find the scaling of frames.

        Parameters
        ----------
        frames : Frames
            positions (n_frames, n_atoms, 3) [nm], molecules whole.
        topology : openmm.app.Topology
            Of the whole system; its bonds must connect the atoms of the frames.

        Raises
        ------
        ValueError
            If there is one atom only, bonds do not connect the atoms, a molecule is cut by the
            periodic boundary, or CVs and positions do not belong together.
        """
        if len(frames.atoms) < 2:
            raise ValueError(
                "one atom has no internal coordinates: a particle in an external field is trained"
                " on by its plain coordinates, featurize=PlainFeatures.fit"
            )
        reference = np.zeros((1 + int(frames.atoms.max()), 3))
        reference[frames.atoms] = frames.positions[0]
        z_matrix = ZMatrix.from_topology(topology, frames.atoms, frames.variables, reference)
        scaling = _Scaling(z_matrix)
        for internal, _ in _internals(z_matrix, frames):
            _require_whole(internal)
            scaling.centre_on(internal)
        for internal, _ in _internals(z_matrix, frames):
            scaling.deviate(internal)
        features = cls(z_matrix, frames.variables, **scaling.found(frames.variables))
        for internal, cvs in _internals(z_matrix, frames):
            features._require_agreement(internal, cvs)
        return features

    @classmethod
    def of_internal(
        cls, z_matrix: ZMatrix, variables: Sequence[CollectiveVariable], internal: Internal
    ) -> Self:
        """Find the scaling of internal coordinates.

        Parameters
        ----------
        z_matrix : ZMatrix
        variables : sequence of CollectiveVariable
        internal : Internal
            Of all frames, float64: bonds (n_frames, n_atoms - 1) [nm] and so on.
        """
        scaling = _Scaling(z_matrix)
        scaling.centre_on(internal)
        scaling.deviate(internal)
        return cls(z_matrix, variables, **scaling.found(variables))

    def _require_agreement(self, internal: Internal, cvs: NDArray[np.float64]) -> None:
        """Refuse frames whose CVs are not those of their positions."""
        for k, scale, value in self.placed_values(internal):
            variable = self.variables[k]
            off = np.abs(variable.difference(cvs[:, k], value.numpy())).max()
            if off > DISAGREE * max(1.0, abs(scale)):
                raise ValueError(
                    f"{variable.name} of the frames differs from the {variable.action} of their"
                    f" positions by up to {off:.3g} {variable.unit}: CVs and positions do not"
                    " belong together"
                )

    @property
    def atoms(self) -> NDArray[np.int64]:
        """Indices in the whole topology, shape (n_atoms,)."""
        return self.z_matrix.atoms

    @property
    def encoded_atoms(self) -> NDArray[np.int64]:
        """The same atoms."""
        return self.atoms

    @property
    def n_atoms(self) -> int:
        """Number of atoms."""
        return self.z_matrix.n_atoms

    @property
    def log_scale(self) -> float:
        """log of the volume of coordinates [nm, rad] that a unit of features and CVs spans."""
        placed = sum(math.log(abs(scale)) for _, _, scale in self._placed)
        return float(self.scale[self.linear].log().sum()) - placed

    @property
    def constant(self) -> list[int]:
        """Columns, among all internal coordinates, that neither vary nor are CVs."""
        n, placed = len(self.centre), {column for _, column, _ in self._placed}
        return sorted(set(range(n)) - placed - {*self.linear.tolist(), *self.wide.tolist()})

    @property
    def constant_bonds(self) -> NDArray[np.int64]:
        """Atoms (k, 2) of the bonds that do not vary, as numbers in the whole topology."""
        rows, n_bonds = self.z_matrix.rows, self.widths[0]
        bonds = [rows[column + 1, :2] for column in self.constant if column < n_bonds]
        return self.atoms[np.array(bonds, dtype=np.int64).reshape(-1, 2)]

    @property
    def constant_others(self) -> list[str]:
        """Angles and torsions that do not vary, by their atoms in the whole topology."""
        rows, (n_bonds, n_angles, _) = self.z_matrix.rows, self.widths
        names = []
        for column in self.constant:
            if column >= n_bonds + n_angles:
                names.append(("torsion", rows[column - n_bonds - n_angles + 3, :4]))
            elif column >= n_bonds:
                names.append(("angle", rows[column - n_bonds + 2, :3]))
        return [f"{kind} {'-'.join(str(a) for a in self.atoms[row])}" for kind, row in names]

    def encode(self, positions: Tensor) -> Tensor:
        """Features (n, n_features) of positions (n, n_atoms, 3) [nm]."""
        return self.encode_internal(self.z_matrix.to_internal(positions))

    def encode_with_log_det(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        r"""Features (n, n_features) of positions (n, n_atoms, 3) [nm], and log\|J\| (n,)."""
        internal = self.z_matrix.to_internal(positions)
        return self.encode_internal(internal), self.z_matrix.log_det(internal)

    def decode(self, features: Tensor, cvs: Tensor) -> Tensor:
        """Positions (n, n_atoms, 3) [nm] of features (n, n_features), CVs (n, n_cvs) placed."""
        return self.z_matrix.to_cartesian(self.decode_internal(features, cvs))

    def decode_with_log_det(self, features: Tensor, cvs: Tensor) -> tuple[Tensor, Tensor]:
        r"""Positions (n, n_atoms, 3), as `decode`, and log\|J\| (n,) by internal coordinates."""
        internal = self.decode_internal(features, cvs)
        return self.z_matrix.to_cartesian(internal), self.z_matrix.log_det(internal)

    def encode_internal(self, internal: Internal) -> Tensor:
        """Features (n, n_features) of internal coordinates: bonds (n, n_atoms - 1) and so on."""
        q = torch.cat(internal, dim=-1).double()
        deviation = q[:, self.linear] - self.centre[self.linear]
        torsion = self.linear >= sum(self.widths[:2])
        deviation = torch.where(torsion, _wrapped(deviation), deviation)
        turning = q[:, self.wide]
        return torch.cat([deviation / self.scale[self.linear], turning.cos(), turning.sin()], dim=1)

    def decode_internal(self, features: Tensor, cvs: Tensor) -> Internal:
        """Internal coordinates of features (n, n_features), with the CVs (n, n_cvs) placed.

        CVs that are coordinates of the Z-matrix come out as they went in, to rounding.
        """
        x = features.double()
        linear, cosine, sine = x.split([self.n_linear, self.n_pairs, self.n_pairs], dim=1)
        columns, values = (
            [self.linear],
            [linear * self.scale[self.linear] + self.centre[self.linear]],
        )
        columns, values = [*columns, self.wide], [*values, torch.atan2(sine, cosine)]
        for cv, column, scale in self._placed:
            columns.append(torch.tensor([column]))
            values.append(cvs[:, cv : cv + 1].double() / scale)
        q = self.centre.repeat(len(x), 1)
        q = q.index_copy(1, torch.cat(columns), torch.cat(values, dim=1))
        q = q.clamp(self._lower, self._upper)
        bonds, angles, torsions = q.split(self.widths, dim=1)
        return Internal(bonds, angles, _wrapped(torsions))

    def within(self, features: Tensor) -> Tensor:
        """Whether (n,) decoding keeps features (n, n_features) as they are: no bound is met.

        Beyond the bounds `decode` stops bonds and angles, and a narrow torsion comes round the
        circle to where another feature vector leads too, so that no density is known there.
        """
        deviation = features[:, : self.n_linear].double() * self.scale[self.linear]
        q = deviation + self.centre[self.linear]
        stopped = (q < self._lower[self.linear]) | (q > self._upper[self.linear])
        torsion = self.linear >= sum(self.widths[:2])
        return ~(stopped | (torsion & (deviation.abs() > math.pi))).any(dim=1)

    def placed_values(self, internal: Internal) -> Iterator[tuple[int, float, Tensor]]:
        """CVs that are coordinates: which one, CV units in a nm or rad, its values (n,)."""
        q = torch.cat(internal, dim=-1)
        for cv, column, scale in self._placed:
            yield cv, scale, scale * q[:, column]

    def placeable(self, cv: int) -> tuple[float, float]:
        """Lowest and highest value of a CV [CV unit] that decoding can place."""
        for which, column, scale in self._placed:
            if which == cv:
                return scale * float(self._lower[column]), scale * float(self._upper[column])
        return -math.inf, math.inf

    def folds(self, rotors: Sequence[Rotor]) -> list[int]:
        """3 for each torsion by which a rotor turns, 1 for the other torsions that turn."""
        rows, first = self.z_matrix.rows, sum(self.widths[:2])
        wide = [rows[column - first + 3].tolist() for column in self.wide.tolist()]
        turning = [{*rotor} for rotor in rotors]
        return [
            3 if any(row[0] in rotor and row[3] not in rotor for rotor in turning) else 1
            for row in wide
        ]

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Rows and atoms of the Z-matrix, and the scaling, by name.

        Returns
        -------
        dict of str to ndarray
            ``rows`` (n_atoms, 4) and ``atoms`` (n_atoms,), ``centre`` and ``scale``
            (3 n_atoms - 6,) [nm, rad], ``linear`` (n_linear,), ``wide`` (n_pairs,).
        """
        scaling = {"centre": self.centre, "scale": self.scale}
        scaling |= {"linear": self.linear, "wide": self.wide}
        own = {name: tensor.numpy() for name, tensor in scaling.items()}
        return {"rows": self.z_matrix.rows, "atoms": self.atoms, **own}

    @classmethod
    def from_arrays(
        cls, arrays: Mapping[str, NDArray[Any]], variables: Sequence[CollectiveVariable]
    ) -> Self:
        """Make it again from its `arrays`, of the shapes that stand there."""
        names = ("centre", "scale", "linear", "wide")
        scaling = {name: torch.from_numpy(arrays[name]) for name in names}
        return cls(ZMatrix(arrays["rows"], arrays["atoms"]), variables, **scaling)


class _Scaling:
    """Centre and scale of each internal coordinate, of frames that are seen piece by piece, twice.

    Parameters
    ----------
    z_matrix : ZMatrix
    """

    def __init__(self, z_matrix: ZMatrix) -> None:
        self.z_matrix = z_matrix
        n_bonds, n_angles, n_torsions = (max(z_matrix.n_atoms - k, 0) for k in (1, 2, 3))
        n = n_bonds + n_angles + n_torsions
        self.torsion = torch.arange(n) >= n_bonds + n_angles
        self.n = 0
        self.plain, self.cosine, self.sine, self.square = torch.zeros(4, n, dtype=torch.float64)
        self.off, self.farthest = torch.zeros(2, n, dtype=torch.float64)

    def centre_on(self, internal: Internal) -> None:
        """Take in a piece, the first time."""
        q = torch.cat(internal, dim=-1)
        self.n += len(q)
        self.plain += q.sum(0)
        self.cosine += q.cos().sum(0)
        self.sine += q.sin().sum(0)

    @property
    def centre(self) -> Tensor:
        """Mean, circular for torsions."""
        return torch.where(self.torsion, torch.atan2(self.sine, self.cosine), self.plain / self.n)

    def deviate(self, internal: Internal) -> None:
        """Take in a piece, the second time."""
        deviation = torch.cat(internal, dim=-1) - self.centre
        deviation = torch.where(self.torsion, _wrapped(deviation), deviation)
        self.off += deviation.sum(0)
        self.square += (deviation**2).sum(0)
        self.farthest = torch.maximum(self.farthest, deviation.abs().amax(0))

    def found(self, variables: Sequence[CollectiveVariable]) -> dict[str, Tensor]:
        """``centre``, ``scale``, ``linear`` and ``wide`` of ZMatrixFeatures."""
        scale = (self.square / self.n - (self.off / self.n) ** 2).clamp(min=0).sqrt()
        free = scale > CONSTANT
        free[[column for _, column, _ in _placed(self.z_matrix, variables)]] = False
        wide = self.torsion & free & ((scale > NARROW) | (self.farthest > REACH))
        columns = {"linear": (free & ~wide).nonzero()[:, 0], "wide": wide.nonzero()[:, 0]}
        return {"centre": self.centre, "scale": scale, **columns}


def _internals(z_matrix: ZMatrix, frames: "Frames") -> Iterator[tuple[Internal, NDArray]]:
    """Internal coordinates and CVs of frames, piece by piece."""
    for piece in pieces(frames.positions):
        x, cvs = frames.positions[piece], frames.cvs[piece]
        for start in range(0, len(x), CHUNK):
            some = torch.from_numpy(np.array(x[start : start + CHUNK])).double()
            yield z_matrix.to_internal(some), cvs[start : start + CHUNK]


def _require_whole(internal: Internal) -> None:
    longest = float(internal.bonds.max()) if internal.bonds.numel() else 0.0
    if longest > BROKEN:
        raise ValueError(
            f"a bond is {longest:.3g} nm long: the molecule is cut by the periodic boundary."
            " Write frames with whole molecules"
        )


def _placed(
    z_matrix: ZMatrix, variables: Sequence[CollectiveVariable]
) -> Iterator[tuple[int, int, float]]:
    """(CV, column among all internal coordinates, scale) of the CVs that are coordinates."""
    n = z_matrix.n_atoms
    first = {"bond": 0, "angle": n - 1, "torsion": 2 * n - 3}
    taken = set()
    for k, variable in enumerate(variables):
        found = z_matrix.coordinate_of(variable)
        if found is not None and found[:2] not in taken:
            taken.add(found[:2])
            yield k, first[found.kind] + found.column, found.scale


def _wrapped(angles: Tensor) -> Tensor:
    """Angles [rad] brought into [-pi, pi)."""
    return angles - 2 * math.pi * torch.floor(angles / (2 * math.pi) + 0.5)
