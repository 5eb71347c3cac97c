"""Runs that reach everywhere under a bias of their own: metadynamics, OPES, a static bias.

What a frame weighs follows from the run's PLUMED input, which says how its bias came about; what
the bias alone says of the free energy, the sum of hills or of kernels, stands beside it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from openmm_cgan import GAS_CONSTANT
from openmm_cgan.frames import Frames, tell_of_systems
from openmm_cgan.free_energy.hills import hill_variables, hills_free_energy, tiwary_log_weights
from openmm_cgan.free_energy.opes import opes_free_energy, read_opes
from openmm_cgan.free_energy.reweighting import reweight
from openmm_cgan.free_energy.samples import BiasedFrames, WeightedSamples, unbiased
from openmm_cgan.plumed.files.fields import read_fields
from openmm_cgan.plumed.files.tables import FieldTable
from openmm_cgan.plumed.input.language import Statement, include_files, read_statements
from openmm_cgan.plumed.input.words import keywords_of, read_real
from openmm_cgan.short_reprs import short_repr

logger = logging.getLogger("openmm_cgan")

HILLS, KERNELS = "HILLS", "KERNELS"
GROWING = {"METAD": HILLS, "OPES_METAD": KERNELS, "OPES_METAD_EXPLORE": KERNELS}
# biases that change with time in ways for which frames have no weight here
OTHERS = (
    "MOVINGRESTRAINT", "ABMD", "PBMETAD", "EXTENDED_LAGRANGIAN", "DRR", "EDS", "FISST", "LOGMFD",
    "MAXENT", "RESCALE", "VES_LINEAR_EXPANSION",
)  # fmt: skip
EXPANDED = "OPES_EXPANDED"  # settles as OPES_METAD does; its states tell nothing along a CV
# Of METAD: c(t) is not Tiwary's, or not that of the run's own hills (nothing says when it read
# those of other walkers), or of hills that are no products of Gaussians.
UNWEIGHED = (
    "ADAPTIVE", "TARGET", "TTBIASFACTOR", "TTBIASTHRESHOLD", "GRID_RFILE", "WALKERS_N",
    "WALKERS_MPI",
)  # fmt: skip
FEW_POINTS = 200  # of the CVs that a surface is summed over
SKIP = 0.2  # of a run at its beginning, while its bias grows fast


@dataclass(frozen=True, repr=False)
class BiasedRun:
    """Frames of one run, with the input that biased it.

    Attributes
    ----------
    frames : Frames
        Their bias is the one that acted on each, at its time.
    plumed : Path
        The input, which names the files of the bias.
    folder : Path
        Where these files are.
    statements : tuple of Statement
        Of the input, included files in their places.
    """

    frames: Frames
    plumed: Path
    folder: Path
    statements: tuple[Statement, ...]

    __repr__ = short_repr

    @classmethod
    def of(cls, frames: Frames, plumed: Path, folder: Path) -> BiasedRun:
        """Read the input of a run.

        Raises
        ------
        ValueError
            If it cannot be read, several biases of it grow, one changes in another way, or others
            acted beside it.
        """
        found = include_files(read_statements(plumed.read_text(), str(plumed)), plumed.parent)
        run = cls(frames, plumed, folder, tuple(found))
        if frames.temperature is None:
            raise ValueError(f"{folder}: the frames do not say their temperature")
        if frames.other_biases:
            raise ValueError(
                f"{folder}: beside {plumed.name} other biases acted on these frames, "
                f"{', '.join(frames.other_biases)}, whose energies they do not hold: they have no "
                "weights. Have all biases in one input"
            )
        others = sorted({s.action for s in found if s.action.startswith(OTHERS)})
        written = [w for s in run.growing for w in s.words if w.upper() != "WALKERS_N=1"]
        words = [w.split("=")[0].upper() for w in written]
        others += [f"METAD with {word}" for word in words if word in UNWEIGHED]
        run._tell_of_temperatures()
        if others or len(run.growing) > 1:
            what = others or [s.action for s in run.growing]
            raise ValueError(
                f"{plumed}: frames under {', '.join(what)} have no weights here: those of one "
                f"METAD, OPES_METAD, OPES_METAD_EXPLORE or OPES_EXPANDED have, and of biases that "
                "do not change"
            )
        return run

    @property
    def growing(self) -> list[Statement]:
        """What lays down hills or kernels, or learns the weights of states, as the run goes."""
        return [s for s in self.statements if s.action in GROWING or s.action == EXPANDED]

    def late(self, skip: float = SKIP) -> slice:
        """Which frames are taken: all but a share at the beginning, while a bias grew fast."""
        return slice(round(skip * len(self.frames)) if self.growing else 0, None)

    def _tell_of_temperatures(self) -> None:
        """Say that what a bias adds up to is nothing where it grew at several temperatures.

        Frames at each are drawn under the bias that stands, and are weighed as ever. Hills laid in
        turn at 300 and 600 K, where F differs by up to 6 kJ/mol, summed to one 2 kJ/mol off; frames
        at 300 K were off by 0.02, their error 0.05.
        """
        if not (self.growing and self.frames.other_temperatures):
            return
        there = ", ".join(f"{kelvins:g}" for kelvins in self.frames.other_temperatures)
        logger.warning(
            "%s: %s grew at %s K as well: what it adds up to is the free energy at no temperature, "
            "and is left out; frames at %g K are weighed by it",
            self.folder, self.growing[0].action, there, self.frames.temperature,
        )  # fmt: skip

    @cached_property
    def table(self) -> FieldTable | None:
        """The HILLS or KERNELS of the run; None where it lays none.

        Raises
        ------
        FileNotFoundError
            If the file is not there.
        """
        if not self.growing or self.growing[0].action == EXPANDED:
            return None
        one = self.growing[0]
        given = [word[5:] for word in one.words if word.upper().startswith("FILE=")]
        path = self.folder / (given[-1] if given else GROWING[one.action])
        if not path.exists():
            raise FileNotFoundError(f"{path} is not there: the file of the {one.action} of the run")
        return read_fields(path)

    def log_weights(self) -> NDArray[np.float64]:
        """What each frame weighs, log (n_frames,), up to a constant.

        Bias over kT; for metadynamics less c(t), the growth that is the same everywhere (Tiwary
        and Parrinello, doi 10.1021/jp504920s). Hills of BIASFACTOR=1 are written and do not act.

        Raises
        ------
        ValueError
            As for `tiwary_log_weights`.
        """
        return self._log_weights

    @cached_property
    def _log_weights(self) -> NDArray[np.float64]:
        temperature = self.frames.temperature
        assert temperature is not None, "looked at when it was made"
        table = self.table
        if table is None or self.growing[0].action != "METAD" or not self._hills_act:
            return self.frames.bias / (GAS_CONSTANT * temperature)
        times, bias = self.frames.plumed_time, self.frames.bias
        counted = self._counted_temperature
        return tiwary_log_weights(times, bias, table, temperature, self.plumed, counted)

    @property
    def _counted_temperature(self) -> float | None:
        """What the growing bias counts with [K]: its TEMP, or the temperature of the run."""
        given = read_real(keywords_of(self.growing[0].words).get("TEMP", "0"))
        if given > 0:  # OPES takes 0 as not given
            return given
        return self.frames.bias_temperature or self.frames.temperature

    @property
    def _hills_act(self) -> bool:
        assert self.table is not None, "looked at before"
        tempered = "BIASFACTOR" in keywords_of(self.growing[0].words)
        return not tempered or bool((self.table.columns["biasf"] != 1).any())

    def free_energy_of_bias(
        self, name: str, points: NDArray, share: float = 1.0
    ) -> NDArray[np.float64] | None:
        """What the sum of hills or of kernels says, without the frames.

        Parameters
        ----------
        name : str
            A CV.
        points : ndarray, shape (n,)
            Values of it [CV unit].
        share : float
            Of the hills or kernels, the first ones: what was known that early.

        Returns
        -------
        ndarray, shape (n,), or None
            Free energy, its smallest value 0 [kJ/mol]; of a bias on two CVs with the other one
            summed over. None where the bias does not grow, or has not this CV, or has more; or
            grew at several temperatures: it is the free energy at none of them.
        """
        found = self._grown({name: points}, share)
        if found is None:
            return None
        names, surface = found
        if len(names) == 2:
            assert self.frames.temperature is not None, "else nothing was found"
            kT = GAS_CONSTANT * self.frames.temperature
            surface = -kT * logsumexp(-surface / kT, axis=1 - names.index(name))
        return surface - surface.min()

    def surface_of_bias(
        self, names: Sequence[str], axes: Sequence[NDArray]
    ) -> NDArray[np.float64] | None:
        """What the sum of hills or of kernels says over two CVs, without the frames.

        Parameters
        ----------
        names : sequence of two str
            CVs.
        axes : sequence of two ndarray, shapes (n,) and (m,)
            Values of them [CV units].

        Returns
        -------
        ndarray, shape (n, m), or None
            As of `free_energy_of_bias`; None also where the bias is not on these two alone.
        """
        found = self._grown(dict(zip(names, axes, strict=True)), 1.0)
        if found is None:
            return None
        own, surface = found
        surface = surface.transpose([own.index(name) for name in names])
        return surface - surface.min()

    def _grown(
        self, axes: Mapping[str, NDArray], share: float
    ) -> tuple[list[str], NDArray[np.float64]] | None:
        """The CVs of a growing bias, and the free energy by its first hills or kernels over them.

        On the values that are given [CV units], and a grid of the others; None where those are not
        among its CVs, or these are more than two.
        """
        table, temperature = self.table, self.frames.temperature
        if table is None or temperature is None or self.frames.other_temperatures:
            return None
        counted = self._counted_temperature or temperature
        metad = self.growing[0].action == "METAD"
        names = list(hill_variables(table) if metad else read_opes(table).names)
        if len(names) > 2 or not axes.keys() <= set(names):
            return None
        table = table.first(max(1, round(share * len(table))))
        over = [axes[name] if name in axes else _axis(table, name) for name in names]
        grid = np.stack(np.meshgrid(*over, indexing="ij"), axis=-1).reshape(-1, len(names))
        surface = (
            hills_free_energy(table, grid, self.plumed)
            if metad
            else opes_free_energy(table, grid, counted)
        ).reshape([len(axis) for axis in over])
        # -V (1 + T/dT), where the bias comes to V = -F dT/(T + dT) with dT = (g-1) TEMP
        return names, surface * (1 + (temperature / counted - 1) / _bias_factor(table, metad))


def reweight_runs(
    runs: Sequence[BiasedRun], skip: float = SKIP, *, n_bootstrap: int = 100, seed: int = 0
) -> WeightedSamples:
    """Weigh the frames of runs for the ensemble without their biases.

    Parameters
    ----------
    runs : sequence of BiasedRun
        Of the same CVs; each reaches everywhere by itself.
    skip : float
        Share of each run at its beginning, while its bias still grew fast, that is left out; where
        no bias grows nothing is.
    n_bootstrap, seed : int
        As for `reweight`.

    Raises
    ------
    ValueError
        If ``skip`` is no share, or as for `reweight`.
    """
    if not 0 <= skip < 1:
        raise ValueError(f"skip is {skip}, expected a share of the run, 0 <= skip < 1")
    tell_of_systems([run.frames for run in runs], [run.folder for run in runs])
    kept, logs = [], []
    for run in runs:
        frames = run.frames
        assert frames.temperature is not None, "looked at when it was made"
        late = run.late(skip)
        variables, name = frames.variables, str(run.folder)
        cvs = frames.cvs[late]
        if run.growing and run.growing[0].action == "METAD":
            _warn_of_plain_hills(run)
        kept.append(BiasedFrames(cvs, unbiased, frames.temperature, variables, name))
        logs.append(run.log_weights()[late])
    return reweight(kept, logs, n_bootstrap=n_bootstrap, seed=seed)


def _warn_of_plain_hills(run: BiasedRun) -> None:
    """Say that hills which stay as high as they were let no bias settle.

    Untempered hills of kT / 2 each half picosecond take 0.6 kJ/mol off the rarer state of a torsion
    where errors tell 0.3 (benchmarks/metad_growth.py); tempered ones less than 0.1.
    """
    table = run.table
    if table is None or not run._hills_act or np.isfinite(_bias_factor(table, metad=True)):
        return
    logger.warning(
        "%s: the hills of its METAD are not tempered, so its bias never settles, and frames of "
        "rarer states weigh too much, by more than their error tells where hills come quickly: "
        "give BIASFACTOR, or take frames under a bias that is held",
        run.folder,
    )


def _bias_factor(table: FieldTable, metad: bool) -> float:
    """g of a bias that tempers; infinite of hills that do not."""
    if not metad:
        return read_opes(table).bias_factor
    factor = float(table.columns["biasf"].max(initial=-1.0))
    return factor if factor > 1 else np.inf


def _axis(table: FieldTable, name: str) -> NDArray[np.float64]:
    """Points along a CV that a surface is summed over: its period, or where hills reach."""
    values, sigma = table.columns[name], table.columns[f"sigma_{name}"].max()
    domain = table.domain(name)
    lower, upper = domain or (values.min() - 3 * sigma, values.max() + 3 * sigma)
    return np.linspace(lower, upper, FEW_POINTS, endpoint=domain is None)
