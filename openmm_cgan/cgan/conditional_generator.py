"""The conditional generator: the trained artefact that makes configurations at CV values.

A conditional GAN by default, by the method of "GANs and Closures" [1]_, or a flow. The networks
know nothing of molecules: what a feature vector means is the featurization's to say.

References
----------
.. [1] E. R. Crabtree, J. M. Bello-Rivas, A. L. Ferguson, I. G. Kevrekidis, Multiscale Model. Simul.
   21, 1122 (2023), doi 10.1137/22M1517834.
"""

import copy
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from openmm_cgan import __version__
from openmm_cgan.atom_selection import Atoms
from openmm_cgan.cgan.artefact import artefact_path, read_artefact, write_artefact
from openmm_cgan.cgan.consistency import Restriction, inconsistency, require_restriction
from openmm_cgan.cgan.dataset import Dataset
from openmm_cgan.cgan.hands import require_same_hands
from openmm_cgan.cgan.latent_map import LatentMap
from openmm_cgan.cgan.networks import initial_networks
from openmm_cgan.cgan.saved_generator import contents_of, fields_of
from openmm_cgan.cgan.settings import TrainingSettings
from openmm_cgan.cgan.targets import checked_pairs, checked_targets, portions
from openmm_cgan.cgan.threads import torch_threads
from openmm_cgan.cgan.torsion_map import TorsionMap
from openmm_cgan.cgan.training import train
from openmm_cgan.collective_variable import CollectiveVariable
from openmm_cgan.devices import device_named, moved, own_defaults
from openmm_cgan.features import ConditionEncoding, Featurization, Featurize
from openmm_cgan.features.z_matrix_features import ZMatrixFeatures
from openmm_cgan.frames import Frames, frames_to_learn, hashes_of, require_molecule
from openmm_cgan.generators import Generator, density_of
from openmm_cgan.notebooks import generator_html
from openmm_cgan.short_reprs import cv_ranges
from openmm_cgan.topologies import openmm_topology


@dataclass(frozen=True, eq=False, repr=False)
class ConditionalGenerator:
    """A trained conditional generator: configurations at any CV values asked for.

    Made by `fit` or `load`.

    Attributes
    ----------
    features : Featurization
        Turns what the generator makes into positions.
    conditions : ConditionEncoding
        What the generator is told of CVs.
    generator : Generator
    topology_hash : str
        Of the whole topology it was trained in; empty if there was none.
    cv_range : ndarray, shape (n_cvs, 2)
        Lowest and highest CV values trained on [CV units].
    settings : TrainingSettings
    history : list of dict
        Rows as `train` gives them; ``seconds`` are not saved.
    temperature : float or None
        Of the run that was trained on [K].
    condition_noise : ndarray, shape (n_cvs,)
        Standard deviation by which each condition is blurred [CV units]: 0 for CVs that are
        coordinates of the featurization, which are placed exactly, and where no density is known.
    versions : dict
        Versions of this package and of torch that trained it.
    molecule_hash : str
        Of the atoms that it makes; empty if there was no topology, and of earlier files.
    system_hash : str
        Of the System that was trained on, as `Frames` have it.
    """

    features: Featurization
    conditions: ConditionEncoding
    generator: Generator
    topology_hash: str
    cv_range: np.ndarray
    settings: TrainingSettings
    history: list[dict[str, float]]
    temperature: float | None
    condition_noise: np.ndarray
    versions: dict[str, str]
    molecule_hash: str = ""
    system_hash: str = ""
    _repr_html_ = generator_html

    @classmethod
    @own_defaults()
    def fit(
        cls,
        frames: Frames | str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        topology: Any = None,
        settings: TrainingSettings | None = None,
        *,
        restriction: Restriction | None = None,
        checkpoint: str | os.PathLike[str] | None = None,
        featurize: Featurize | None = None,
        threads: int = 1,
        atoms: Atoms | None = None,
        device: str | torch.device = "cpu",
    ) -> "ConditionalGenerator":
        """Train on the frames of a run.

        Parameters
        ----------
        frames : Frames, or path or paths for `read_frames`
        topology : openmm.app.Topology, or what `openmm_topology` finds one in, optional
            Of the whole system; of `Frames.of_arrays` none.
        settings : TrainingSettings, optional
        restriction : callable, optional
            Positions (n, n_atoms, 3) to CVs (n, n_cvs), both tensors: `differentiable_cvs` of a
            PlumedBias. Needed if ``settings.consistency`` is not 0.
        checkpoint : path, optional
            Written while training; training goes on from it if it exists.
        featurize : callable, optional
            Frames and topology to a Featurization, as `AlignedFeatures.of_part("resid 9:17")`;
            `default_featurize` chooses if omitted.
        threads : int, of torch, while it trains
        atoms : str, sequence of int or AtomGroup, optional
            What to make, for `selected_atoms`; the solute of frames with a box, else all they hold.
        device : torch.device or str
            Of the networks, while they train and afterwards: "cpu", "cuda", ... A checkpoint may
            be gone on from on another one.

        Raises
        ------
        ValueError
            If frames are too few, without CVs, of another topology or the mirror image of its
            positions, or the checkpoint is not its, or there is no such device.
        RuntimeError
            If training diverges.
        """
        settings, device = settings or TrainingSettings(), device_named(device)
        frames = frames_to_learn(frames, topology, atoms)
        given, topology = topology, None if topology is None else openmm_topology(topology)
        require_restriction(settings, restriction)
        with torch_threads(threads):
            dataset = Dataset.prepare(frames, topology, settings, featurize)
            require_same_hands(frames, given)
            features, conditions = moved((dataset.features, dataset.conditions), device)
            generator, critic = initial_networks(dataset, settings, device)
            loss = restriction and partial(inconsistency, features, conditions, restriction)
            history = train(generator, critic, dataset.rows, settings, checkpoint, loss)
        whole, molecule, system = hashes_of(frames, topology, features.atoms)
        versions = {"openmm_cgan": __version__, "torch": torch.__version__}
        return cls(
            features, conditions, generator, whole, dataset.cv_range, settings, history,
            frames.temperature, dataset.condition_noise, versions, molecule, system,
        )  # fmt: skip

    def __repr__(self) -> str:
        kind, cvs = type(self.generator).__name__, cv_ranges(self.variables, self.cv_range.T)
        return f"ConditionalGenerator({kind} of {self.n_atoms} atoms given {cvs})"

    @property
    def variables(self) -> tuple[CollectiveVariable, ...]:
        """The CVs, in the order of the columns of ``cvs``."""
        return self.conditions.variables

    @property
    def device(self) -> torch.device:
        """Where configurations and densities are computed."""
        return self.conditions.device

    @own_defaults()
    def to(self, device: str | torch.device) -> "ConditionalGenerator":
        """The same on another device, "cpu" or "cuda"; ValueError if there is no such one here."""
        device = device_named(device)
        if device == self.device:
            return self
        generator: Any = copy.deepcopy(self.generator)
        features, conditions = moved((self.features, self.conditions), device)
        return replace(
            self, features=features, conditions=conditions, generator=generator.to(device)
        )

    @property
    def n_atoms(self) -> int:
        """Number of atoms of a configuration."""
        return self.features.n_atoms

    @property
    def atoms(self) -> np.ndarray:
        """Their indices in the whole topology, shape (n_atoms,)."""
        return self.features.atoms

    @property
    def has_density(self) -> bool:
        """Whether `log_prob` is known."""
        return self.generator.has_density

    @property
    def keeps_place(self) -> bool:
        """Whether configurations stand where they belong, and must not be moved as a whole."""
        return self.features.keeps_place

    @property
    def rest(self) -> np.ndarray:
        """Indices (n_rest,) of what a part hangs on; none of a whole molecule."""
        return self.features.rest if isinstance(self.features, ZMatrixFeatures) else np.arange(0)

    @own_defaults()
    def among(self, held: np.ndarray) -> "ConditionalGenerator":
        """The same generator of a part where the atoms that it hangs on are at (n_rest, 3) [nm]."""
        assert isinstance(self.features, ZMatrixFeatures), "nothing else hangs on a rest"
        return replace(self, features=self.features.among(held))

    @property
    def constant_bonds(self) -> np.ndarray:
        """Atoms (k, 2) of the bonds that do not vary, as numbers in the whole topology."""
        return self.features.constant_bonds

    @property
    def constant_others(self) -> list[str]:
        """What else does not vary (angles, torsions), in words."""
        return self.features.constant_others

    @own_defaults()
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
            Positions [nm], float64; the first atom of a Z-matrix is at the origin. CVs that are
            coordinates of the featurization (bonds, angles, torsions of the Z-matrix; what is
            linear in plain coordinates) are as asked for to 1e-10.

        Raises
        ------
        ValueError
            If a value is not finite, or far outside its domain or the range trained on.
        """
        targets = self.checked(cvs, n)
        rng = torch.Generator().manual_seed(seed)
        positions = np.empty((len(targets), self.n_atoms, 3))
        with torch.no_grad():
            for rows in portions(len(targets)):
                made = self.generator.sample(self.conditions.encode(targets[rows]).float(), rng)
                positions[rows] = self.features.decode(made, targets[rows]).cpu().numpy()
        return positions

    @own_defaults()
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
        generator = density_of(self.generator)
        targets = self.checked(cvs, n)
        rng = torch.Generator().manual_seed(seed)
        positions, log_prob = np.empty((len(targets), self.n_atoms, 3)), np.empty(len(targets))
        with torch.no_grad():
            for rows in portions(len(targets)):
                condition = self.conditions.encode(targets[rows]).float()
                features, log_q = generator.sample_with_log_prob(condition, rng)
                x, log_det = self.features.decode_with_log_det(features, targets[rows])
                positions[rows] = x.cpu().numpy()
                log_prob[rows] = self._log_prob(features, log_q, log_det).cpu().numpy()
        return positions, log_prob

    def latent_map(self) -> LatentMap:
        """Its latent numbers as coordinates; ValueError if the generator is no flow."""
        return LatentMap(self.generator, self.features, self.conditions)

    def torsion_map(self) -> TorsionMap:
        """Its torsions, of known density by themselves; ValueError if there are none."""
        return TorsionMap(self.generator, self.features, self.conditions)

    @own_defaults()
    def log_prob(self, positions: Any, cvs: Any) -> np.ndarray:
        """Log density of configurations given CV values.

        The density is over the shape of the molecule: times a density of the CVs it is one over
        Cartesian coordinates [nm], position and orientation of a molecule integrated out, with
        bonds that do not vary held. The Jacobian of the featurization is in it. Of plain
        coordinates it is one over all that vary.

        Parameters
        ----------
        positions : array_like, shape (m, n_atoms, 3)
            [nm]
        cvs : array_like, shape (m, n_cvs)
            The conditions [CV units]; of CVs that are placed exactly, their values.

        Returns
        -------
        ndarray, shape (m,)
            Infinite where a coordinate is beyond the bounds within which it can be generated.

        Raises
        ------
        ValueError
            If the generator has no density, or the shapes do not fit.
        """
        generator = density_of(self.generator)
        x, values = checked_pairs(positions, cvs, self.n_atoms, len(self.variables))
        log_prob = np.empty(len(x))
        with torch.no_grad():
            for part in portions(len(x)):
                some, given = (torch.from_numpy(a[part]).to(self.device) for a in (x, values))
                condition = self.conditions.encode(given)
                encoded, log_det = self.features.encode_with_log_det(some)
                log_q = generator.log_prob(encoded.float(), condition.float())
                log_prob[part] = self._log_prob(encoded, log_q, log_det).cpu().numpy()
        return log_prob

    def _log_prob(self, features: Tensor, log_q: Tensor, log_det: Tensor) -> Tensor:
        """Log densities (m,) over positions of those of features; infinite beyond the bounds."""
        log_q = log_q.double() + (-self.features.log_scale - log_det)
        return torch.where(self.features.within(features), log_q, math.inf)

    def checked(self, cvs: Any, n: int | None) -> Tensor:
        """CV values (m, n_cvs), one row for each configuration, if they may be asked for."""
        placeable = [self.features.placeable(k) for k in range(len(self.variables))]
        targets = checked_targets(cvs, n, self.variables, self.cv_range, placeable)
        return torch.from_numpy(targets).to(self.device)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the artefact, ``model.npz`` of "model" (other endings stay); give its path."""
        metadata, arrays = contents_of(self.to("cpu"))
        write_artefact(written := artefact_path(path), metadata, arrays)
        return written

    @classmethod
    @own_defaults()
    def load(
        cls,
        path: str | os.PathLike[str],
        topology: Any = None,
        device: str | torch.device = "cpu",
    ) -> "ConditionalGenerator":
        """Read an artefact, also one of the version before.

        Parameters
        ----------
        path : path
            ``model.npz``, or "model" where no file has that name.
        topology : as for `fit`, optional
            Refused unless it has the molecule trained on at the same numbers.
        device : torch.device or str
            As of `to`, whichever it was trained on.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If the file is no artefact, is damaged, or belongs to another molecule, or there is no
            such device.
        """
        device = device_named(device)
        path = Path(path) if Path(path).is_file() else artefact_path(path)
        metadata, arrays = read_artefact(path)
        try:
            gan = cls(**fields_of(metadata, arrays))
            if not np.isfinite(gan.sample(gan.cv_range.mean(axis=1))).all():  # shows wrong sizes
                raise ValueError("it generates positions that are not finite")
        except Exception as error:
            raise ValueError(f"{path} is damaged: {type(error).__name__}: {error}") from error
        if topology is not None:
            hashes = gan.molecule_hash, gan.topology_hash
            require_molecule(topology, gan.atoms, *hashes, str(path))
        return gan.to(device)
