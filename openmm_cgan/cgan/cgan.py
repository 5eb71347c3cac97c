"""The conditional GAN: the trained artefact that makes configurations at CV values asked for.

The method is that of "GANs and Closures" [1]_; the critic and the training loop stand in
training.py.

References
----------
.. [1] E. R. Crabtree, J. M. Bello-Rivas, A. L. Ferguson, I. G. Kevrekidis, Multiscale Model. Simul.
   21, 1122 (2023), doi 10.1137/22M1517834.
"""

import io
import json
import math
import os
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from openmm_cgan import __version__
from openmm_cgan.atomic_files import write_atomically
from openmm_cgan.cgan.critic import Critic
from openmm_cgan.cgan.dataset import Dataset
from openmm_cgan.cgan.training import TrainingSettings, train
from openmm_cgan.collective_variable import CollectiveVariable
from openmm_cgan.features import Features
from openmm_cgan.frames import Frames, read_frames, topology_hash
from openmm_cgan.generators import KINDS, DensityGenerator, FlowGenerator
from openmm_cgan.internal_coordinates import Internal, ZMatrix

FORMAT = "openmm_cgan.ConditionalGAN"
FORMAT_VERSION = 2
MAX_BYTES = 2**30  # of an artefact once unpacked
CHUNK = 2048  # configurations made at a time: enough for speed, few enough for the caches
MARGIN = 0.25  # conditions may lie outside the range trained on by this part of its width


Restriction = Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False, repr=False)
class ConditionalGAN:
    """A trained conditional generator: configurations at any CV values asked for.

    Made by `fit` or `load`.

    Attributes
    ----------
    features : Features
        Scaling of the internal coordinates; holds the Z-matrix and the CVs.
    generator : Generator
    topology_hash : str
        Of the whole topology it was trained for.
    cv_range : ndarray, shape (n_cvs, 2)
        Lowest and highest CV values trained on [CV units].
    settings : TrainingSettings
    history : list of dict
        Rows as `train` gives them; ``seconds`` are not saved.
    temperature : float or None
        Of the run that was trained on [K].
    condition_noise : ndarray, shape (n_cvs,)
        Standard deviation by which each condition is blurred [CV units]: 0 for CVs that are
        internal coordinates, which are placed exactly, and where no density is known.
    versions : dict
        Versions of this package and of torch that trained it.
    """

    features: Features
    generator: Any
    topology_hash: str
    cv_range: np.ndarray
    settings: TrainingSettings
    history: list[dict[str, float]]
    temperature: float | None
    condition_noise: np.ndarray
    versions: dict[str, str]

    @classmethod
    def fit(
        cls,
        frames: Frames | str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        topology: Any,
        settings: TrainingSettings | None = None,
        *,
        restriction: Restriction | None = None,
        checkpoint: str | os.PathLike[str] | None = None,
    ) -> "ConditionalGAN":
        """Train on the frames of a run.

        Parameters
        ----------
        frames : Frames, or path or paths for `read_frames`
        topology : openmm.app.Topology
            Of the whole system; the frames may hold some of its atoms.
        settings : TrainingSettings, optional
        restriction : callable, optional
            Positions (n, n_atoms, 3) to CVs (n, n_cvs), both tensors: `differentiable_cvs` of a
            PlumedBias. Needed if ``settings.consistency`` is not 0.
        checkpoint : path, optional
            Written while training; training goes on from it if it exists.

        Raises
        ------
        ValueError
            If there are too few frames or no CVs, if frames and topology do not belong together, or
            if the checkpoint belongs to another training.
        RuntimeError
            If training diverges.
        """
        settings = settings or TrainingSettings()
        if not isinstance(frames, Frames):
            frames = read_frames(frames)  # type: ignore[arg-type]
        found = topology_hash(topology)
        if settings.consistency > 0 and restriction is None:
            raise ValueError(
                f"TrainingSettings(consistency={settings.consistency}) needs what measures the CVs:"
                " ConditionalGAN.fit(..., restriction=bias.differentiable_cvs)"
            )
        dataset = Dataset.prepare(frames, topology, settings)
        features, data = dataset.features, dataset.rows
        sizes = (features.n_linear, features.n_pairs, features.n_condition)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            kind = KINDS[settings.generator]
            options = {"folds": dataset.folds} if kind is FlowGenerator else {}
            generator = kind(*sizes, width=settings.width, depth=settings.depth, **options)
            critic = Critic(*sizes, settings.width, settings.depth)
        generator.start_from(data.features, data.condition)
        loss = None if restriction is None else partial(_inconsistency, features, restriction)
        history = train(generator, critic, data, settings, checkpoint, loss)
        versions = {"openmm_cgan": __version__, "torch": torch.__version__}
        return cls(
            features, generator, found, dataset.cv_range, settings, history, frames.temperature,
            dataset.condition_noise, versions,
        )  # fmt: skip

    @property
    def variables(self) -> tuple[CollectiveVariable, ...]:
        """The CVs, in the order of the columns of ``cvs``."""
        return self.features.variables

    @property
    def n_atoms(self) -> int:
        """Number of atoms of a configuration."""
        return self.features.z_matrix.n_atoms

    @property
    def atoms(self) -> np.ndarray:
        """Their indices in the whole topology, shape (n_atoms,)."""
        return self.features.z_matrix.atoms

    @property
    def has_density(self) -> bool:
        """Whether `log_prob` is known."""
        return isinstance(self.generator, DensityGenerator)

    @property
    def constant_bonds(self) -> np.ndarray:
        """Atoms (k, 2) of the bonds that do not vary, as numbers in the whole topology."""
        rows, n_bonds = self.features.z_matrix.rows, self.features.widths[0]
        bonds = [rows[column + 1, :2] for column in self.features.constant if column < n_bonds]
        return self.atoms[np.array(bonds, dtype=np.int64).reshape(-1, 2)]

    @property
    def constant_others(self) -> list[str]:
        """Angles and torsions that do not vary, by their atoms in the whole topology."""
        rows, (n_bonds, n_angles, _) = self.features.z_matrix.rows, self.features.widths
        names = []
        for column in self.features.constant:
            if column >= n_bonds + n_angles:
                names.append(("torsion", rows[column - n_bonds - n_angles + 3, :4]))
            elif column >= n_bonds:
                names.append(("angle", rows[column - n_bonds + 2, :3]))
        return [f"{kind} {'-'.join(str(a) for a in self.atoms[row])}" for kind, row in names]

    def sample(self, cvs: Any, n: int | None = None, seed: int = 0) -> np.ndarray:
        """Configurations at CV values.

        Parameters
        ----------
        cvs : array_like, shape (n_cvs,) or (m, n_cvs)
            Values asked for [CV units]: one row for all, or one for each configuration.
        n : int, optional
            Number of configurations at a single row (1 if omitted).
        seed : int

        Returns
        -------
        ndarray, shape (n or m, n_atoms, 3)
            Positions [nm], float64, first atom at the origin. CVs that are bonds, angles or
            torsions of the Z-matrix have the values asked for to 1e-10.

        Raises
        ------
        ValueError
            If a value is not finite, or far outside its domain or the range trained on.
        """
        targets = self._targets(cvs, n)
        rng = torch.Generator().manual_seed(seed)
        positions = np.empty((len(targets), self.n_atoms, 3))
        with torch.no_grad():
            for start in range(0, len(targets), CHUNK):
                part = targets[start : start + CHUNK]
                made = self.generator.sample(self.features.condition(part).float(), rng)
                internal = self.features.decode(made, part)
                x = self.features.z_matrix.to_cartesian(internal)
                positions[start : start + CHUNK] = x.numpy()
        return positions

    def sample_with_log_prob(
        self, cvs: Any, n: int | None = None, seed: int = 0
    ) -> tuple[np.ndarray, np.ndarray]:
        """Configurations at CV values, and their log densities.

        Parameters
        ----------
        cvs, n, seed
            As for `sample`.

        Returns
        -------
        positions : ndarray, shape (n or m, n_atoms, 3)
            [nm]
        log_prob : ndarray, shape (n or m,)
            As `log_prob` gives it; infinite where a coordinate was stopped at a bound, so that
            the weight of such a configuration is zero.

        Raises
        ------
        ValueError
            As for `sample`, and if the generator has no density.
        """
        self._require_density()
        targets = self._targets(cvs, n)
        rng = torch.Generator().manual_seed(seed)
        positions = np.empty((len(targets), self.n_atoms, 3))
        log_prob = np.empty(len(targets))
        with torch.no_grad():
            for start in range(0, len(targets), CHUNK):
                part = targets[start : start + CHUNK]
                x, log_q = self.draw(part, rng)
                positions[start : start + CHUNK] = x.numpy()
                log_prob[start : start + CHUNK] = log_q.numpy()
        return positions, log_prob

    def draw(self, cvs: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """Positions (m, n_atoms, 3) and log densities (m,) as tensors, differentiable.

        What `sample_with_log_prob` does, without its checks.
        """
        features, log_q = self.generator.sample_with_log_prob(
            self.features.condition(cvs).float(), rng
        )
        internal = self.features.decode(features, cvs)
        log_q = log_q.double() + self._log_volume(internal)
        log_q = torch.where(self.features.within(features), log_q, math.inf)
        return self.features.z_matrix.to_cartesian(internal), log_q

    def log_prob(self, positions: Any, cvs: Any) -> np.ndarray:
        """Log density of configurations given CV values.

        The density is over the shape of the molecule: times a density of the CVs it is one over
        Cartesian coordinates [nm], position and orientation integrated out, with bonds that do not
        vary held. The Jacobian of the internal coordinates is in it.

        Parameters
        ----------
        positions : array_like, shape (m, n_atoms, 3)
            [nm]
        cvs : array_like, shape (m, n_cvs)
            The conditions [CV units]; of CVs that are internal coordinates, their values.

        Returns
        -------
        ndarray, shape (m,)
            Infinite where a coordinate is beyond the bounds within which it can be generated.

        Raises
        ------
        ValueError
            If the generator has no density, or the shapes do not fit.
        """
        self._require_density()
        x, values = np.asarray(positions, dtype=np.float64), np.asarray(cvs, dtype=np.float64)
        expected = (len(x), len(self.variables))
        if x.ndim != 3 or values.shape != expected:
            raise ValueError(
                f"positions have shape {x.shape} and cvs {values.shape}, expected"
                f" (m, {self.n_atoms}, 3) and (m, {len(self.variables)})"
            )
        log_prob = np.empty(len(x))
        with torch.no_grad():
            for start in range(0, len(x), CHUNK):
                part = slice(start, start + CHUNK)
                internal = self.features.z_matrix.to_internal(torch.from_numpy(x[part]))
                condition = self.features.condition(torch.from_numpy(values[part]))
                encoded = self.features.encode(internal)
                log_q = self.generator.log_prob(encoded.float(), condition.float()).double()
                log_q = log_q + self._log_volume(internal)
                log_prob[part] = torch.where(self.features.within(encoded), log_q, math.inf).numpy()
        return log_prob

    def _log_volume(self, internal: Internal) -> Tensor:
        """log of density in Cartesian coordinates over density of features, (m,)."""
        features = self.features
        return features.log_cv_scale - features.log_scale - features.z_matrix.log_det(internal)

    def _require_density(self) -> None:
        if not self.has_density:
            raise ValueError(
                f"the density of a {type(self.generator).__name__} is not known: train with"
                ' TrainingSettings(generator="FlowGenerator")'
            )

    def _targets(self, cvs: Any, n: int | None) -> Tensor:
        """Checked CV values (m, n_cvs), one row for each configuration."""
        values = np.asarray(cvs, dtype=np.float64)
        names = ", ".join(v.name for v in self.variables)
        n_cvs = len(self.variables)
        if values.shape == (n_cvs,):
            values = np.repeat(values[None], 1 if n is None else n, axis=0)
        if values.ndim != 2 or values.shape[1] != n_cvs or n not in (None, len(values)):
            raise ValueError(
                f"cvs has shape {np.shape(cvs)} with n={n}, but the generator was trained on"
                f" {n_cvs} CVs ({names}): give ({n_cvs},) with n, or (m, {n_cvs}) without"
            )
        limits = np.array([self._limits(k) for k in range(n_cvs)])
        good = np.isfinite(values) & (values >= limits[:, 0]) & (values <= limits[:, 1])
        for k in np.flatnonzero(~good.all(axis=0)):
            variable, wrong = self.variables[k], values[~good[:, k], k]
            raise ValueError(
                f"{variable.name} = {wrong[0]:g} {variable.unit} is asked for ({len(wrong)} of"
                f" {len(values)} rows), expected a number from {limits[k, 0]:.4g} to"
                f" {limits[k, 1]:.4g}: training saw {self.cv_range[k, 0]:.4g} to"
                f" {self.cv_range[k, 1]:.4g}"
            )
        return torch.from_numpy(values)

    def _limits(self, k: int) -> tuple[float, float]:
        """Lowest and highest value of a CV that may be asked for."""
        variable, (low, high) = self.variables[k], self.cv_range[k].tolist()
        if variable.domain is not None:  # a turn too many is no mistake, but degrees are
            half = 0.5 * (variable.domain[1] - variable.domain[0])
            return variable.domain[0] - half, variable.domain[1] + half
        margin = MARGIN * (high - low)
        least, most = self.features.placeable(k)
        return max(low - margin, least), min(high + margin, most)

    def with_generator(self, generator: Any) -> "ConditionalGAN":
        """The same artefact with another generator of the same kind."""
        return replace(self, generator=generator)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the artefact: a zip of arrays, readable by ``numpy.load``, without pickle."""
        metadata = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "versions": self.versions,
            "units": {"length": "nm", "angle": "rad", "temperature": "K"},
            "variables": [v.to_dict() for v in self.variables],
            "topology_hash": self.topology_hash,
            "temperature": self.temperature,
            "generator": {"kind": type(self.generator).__name__, **self.generator.settings},
            "settings": asdict(self.settings),
            "history": [{k: v for k, v in row.items() if k != "seconds"} for row in self.history],
        }
        text = json.dumps(metadata, indent=1).encode()
        arrays = {"metadata": np.frombuffer(text, np.uint8), "cv_range": self.cv_range}
        arrays["condition_noise"] = self.condition_noise
        arrays |= {"rows": self.features.z_matrix.rows, "atoms": self.atoms}
        for name, part in (("features", self.features), ("generator", self.generator)):
            arrays |= {f"{name}.{k}": v.numpy() for k, v in part.state_dict().items()}
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)  # type: ignore[arg-type]
        write_atomically(path, buffer.getvalue())

    @classmethod
    def load(cls, path: str | os.PathLike[str], topology: Any = None) -> "ConditionalGAN":
        """Read an artefact.

        Parameters
        ----------
        path : path
        topology : openmm.app.Topology, optional
            Refused unless it is the one trained on.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If the file is no artefact, is damaged, or belongs to another topology.
        """
        metadata, arrays = _read(Path(path))
        found = metadata["topology_hash"]
        if topology is not None and topology_hash(topology) != found:
            raise ValueError(
                f"{path} was trained for another topology: its hash is {found[:12]}..., that of the"
                f" topology given is {topology_hash(topology)[:12]}...; give the one it was trained"
                " with, or train again"
            )
        try:
            variables = [CollectiveVariable.from_dict(d) for d in metadata["variables"]]
            z_matrix = ZMatrix(arrays["rows"], arrays["atoms"])
            features = Features(z_matrix, variables, _tensors(arrays, "features."))
            options = dict(metadata["generator"])
            generator = KINDS[options.pop("kind")](**options)
            generator.load_state_dict(_tensors(arrays, "generator."))
            settings = TrainingSettings(**metadata["settings"])
            gan = cls(
                features, generator, found, arrays["cv_range"], settings, metadata["history"],
                metadata["temperature"], arrays["condition_noise"], metadata["versions"],
            )  # fmt: skip
            made = gan.sample(gan.cv_range.mean(axis=1))  # wrong sizes and indices show themselves
            if not np.isfinite(made).all():
                raise ValueError("it generates positions that are not finite")
        except Exception as error:
            raise ValueError(f"{path} is damaged: {type(error).__name__}: {error}") from error
        return gan


def _inconsistency(
    features: Features, restriction: Restriction, made: Tensor, cvs: Tensor
) -> Tensor:
    """Mean square of restriction(lifting(c)) - c [standard deviations of the CVs]."""
    x = features.z_matrix.to_cartesian(features.decode(made, cvs))
    off = restriction(x) - cvs
    periods = torch.tensor([v.period or math.inf for v in features.variables])
    turns = torch.floor(off / periods + 0.5)
    off = off - torch.where(turns == 0, 0.0, turns * periods)
    return (off / features.cv_scale).square().sum(1).mean().float()


def _tensors(arrays: dict[str, np.ndarray], prefix: str) -> dict[str, Tensor]:
    return {
        k.removeprefix(prefix): torch.from_numpy(v)
        for k, v in arrays.items()
        if k.startswith(prefix)
    }


def _read(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Metadata and arrays of an artefact."""
    with path.open("rb") as file:  # FileNotFoundError, PermissionError speak for themselves
        try:
            with zipfile.ZipFile(file) as archive:
                size = sum(member.file_size for member in archive.infolist())
            if size > MAX_BYTES:
                raise ValueError(f"it unpacks to {size} bytes, more than {MAX_BYTES}")
            file.seek(0)
            with np.load(file, allow_pickle=False) as archive:
                arrays = {name: archive[name] for name in archive.files}
            metadata = json.loads(arrays.pop("metadata").tobytes())
            known = isinstance(metadata, dict) and metadata.get("format") == FORMAT
        except Exception as error:
            raise ValueError(
                f"{path} is no saved ConditionalGAN, or is damaged: {type(error).__name__}: {error}"
            ) from error
    if not known:
        raise ValueError(f"{path} is no saved ConditionalGAN: it does not name the format {FORMAT}")
    if metadata.get("format_version") != FORMAT_VERSION:
        raise ValueError(
            f"{path} has format version {metadata.get('format_version')}, this openmm_cgan"
            f" ({__version__}) reads {FORMAT_VERSION}: use the release that wrote it"
            f" ({metadata.get('versions')}) or train again"
        )
    return metadata, arrays
