"""Features: internal coordinates and CVs scaled for a network, and the way back.

Fitted to the frames once and kept with the trained artefact. What hardly varies (constrained bonds)
becomes a constant; a CV that is a coordinate of the Z-matrix is left out and put back exactly at
decoding; a torsion that stays near one value is standardised like bonds and angles, and one that
turns round becomes the pair (cos, sin).
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

import torch
from torch import Tensor

from openmm_cgan.collective_variable import CollectiveVariable
from openmm_cgan.internal_coordinates import Internal, ZMatrix

CONSTANT = 1e-4  # nm or rad; the stiffest bonds of force fields vary by 2e-3 nm at 300 K
NARROW = 0.3  # rad: a torsion with a smaller deviation is standardised; phi of a peptide has 0.45
REACH = 2.0  # rad: ... if it never strays further from its mean (a rare cis peptide bond does)
STRAIGHT = 0.02  # rad: decoded angles stay that far from 0 and pi, where torsions are undefined


class Features(torch.nn.Module):
    """Scaling of internal coordinates and CVs, fitted to frames.

    A feature vector holds ``n_linear`` standardised bonds, angles and narrow torsions, then the
    cosines and then the sines of ``n_pairs`` wide torsions. All is done in float64.

    Parameters
    ----------
    z_matrix : ZMatrix
    variables : sequence of CollectiveVariable
        Columns of the CVs.
    statistics : mapping of str to Tensor
        What `fit` found, and what a saved artefact holds.

    Attributes
    ----------
    placed_variables : tuple of int
        Which CVs are coordinates of the Z-matrix, and so are placed exactly.
    """

    centre: Tensor  # (3 n_atoms - 6,) mean of each coordinate, circular for torsions
    scale: Tensor  # (3 n_atoms - 6,) standard deviation
    linear: Tensor  # columns that are standardised
    wide: Tensor  # columns (torsions) that are pairs
    cv_centre: Tensor  # (n_cvs,)
    cv_scale: Tensor  # (n_cvs,)

    def __init__(
        self,
        z_matrix: ZMatrix,
        variables: Sequence[CollectiveVariable],
        statistics: Mapping[str, Tensor],
    ) -> None:
        super().__init__()
        self.z_matrix = z_matrix
        self.variables = tuple(variables)
        for name in ("centre", "scale", "linear", "wide", "cv_centre", "cv_scale"):
            self.register_buffer(name, statistics[name])
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
    def fit(
        cls,
        z_matrix: ZMatrix,
        variables: Sequence[CollectiveVariable],
        internal: Internal,
        cvs: Tensor,
    ) -> "Features":
        """Find the scaling of frames.

        Parameters
        ----------
        z_matrix : ZMatrix
        variables : sequence of CollectiveVariable
        internal : Internal
            Of all frames, float64: bonds (n_frames, n_atoms - 1) and so on.
        cvs : Tensor, shape (n_frames, n_cvs)
            Values of the CVs [their units].
        """
        q = torch.cat(internal, dim=-1)
        torsion = torch.arange(q.shape[1]) >= q.shape[1] - internal.torsions.shape[-1]
        circular = torch.atan2(q.sin().mean(0), q.cos().mean(0))
        centre = torch.where(torsion, circular, q.mean(0))
        deviation = torch.where(torsion, _wrapped(q - centre), q - centre)
        scale = deviation.std(0, correction=0)
        free = scale > CONSTANT
        free[[column for _, column, _ in _placed(z_matrix, variables)]] = False
        wide = torsion & free & ((scale > NARROW) | (deviation.abs().amax(0) > REACH))
        cv_scale = cvs.std(0, correction=0)
        statistics = {
            "centre": centre,
            "scale": scale,
            "linear": (free & ~wide).nonzero()[:, 0],
            "wide": wide.nonzero()[:, 0],
            "cv_centre": cvs.mean(0),
            "cv_scale": torch.where(cv_scale > 0, cv_scale, torch.ones_like(cv_scale)),
        }
        return cls(z_matrix, variables, statistics)

    @property
    def n_linear(self) -> int:
        """Number of standardised coordinates."""
        return len(self.linear)

    @property
    def n_pairs(self) -> int:
        """Number of (cos, sin) pairs."""
        return len(self.wide)

    @property
    def n_condition(self) -> int:
        """Length of a condition vector."""
        return self.condition(self.cv_centre[None]).shape[1]

    @property
    def log_scale(self) -> float:
        """log of the volume of internal coordinates [nm, rad] that a unit of features spans."""
        return float(self.scale[self.linear].log().sum())

    @property
    def constant(self) -> list[int]:
        """Columns, among all internal coordinates, that neither vary nor are CVs."""
        n, placed = len(self.centre), {column for _, column, _ in self._placed}
        return sorted(set(range(n)) - placed - {*self.linear.tolist(), *self.wide.tolist()})

    def encode(self, internal: Internal) -> Tensor:
        """Features (n, n_linear + 2 n_pairs) of internal coordinates."""
        q = torch.cat(internal, dim=-1).double()
        deviation = q[:, self.linear] - self.centre[self.linear]
        torsion = self.linear >= sum(self.widths[:2])
        deviation = torch.where(torsion, _wrapped(deviation), deviation)
        turning = q[:, self.wide]
        return torch.cat([deviation / self.scale[self.linear], turning.cos(), turning.sin()], dim=1)

    def decode(self, features: Tensor, cvs: Tensor) -> Internal:
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
        """Whether decoding keeps features (n, n_features) as they are: no bound is met.

        Beyond the bounds `decode` stops bonds and angles, and a narrow torsion comes round the
        circle to where another feature vector leads too, so that no density is known there.
        """
        deviation = features[:, : self.n_linear].double() * self.scale[self.linear]
        q = deviation + self.centre[self.linear]
        stopped = (q < self._lower[self.linear]) | (q > self._upper[self.linear])
        torsion = self.linear >= sum(self.widths[:2])
        return ~(stopped | (torsion & (deviation.abs() > math.pi))).any(dim=1)

    def condition(self, cvs: Tensor) -> Tensor:
        """What the networks are told of CVs (n, n_cvs).

        First and second harmonics of each periodic CV and of the sum and difference of each two;
        of the others the standardised value and its square.
        """
        angles, plain = [], []
        for k, variable in enumerate(self.variables):
            value = cvs[:, k].double()
            if variable.domain is not None:
                low, high = variable.domain
                angles.append((value - low) * (2 * math.pi / (high - low)) - math.pi)
            else:
                plain.append((value - self.cv_centre[k]) / self.cv_scale[k])
        angles += [c for a, b in combinations(angles, 2) for c in (a + b, a - b)]
        harmonics = [f(m * a) for a in angles for m in (1, 2) for f in (torch.cos, torch.sin)]
        return torch.stack([*harmonics, *plain, *(p * p for p in plain)], dim=1)

    @property
    def log_cv_scale(self) -> float:
        """log of the CV units that a nm or rad of the placed coordinates spans."""
        return sum(math.log(abs(scale)) for _, _, scale in self._placed)

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
