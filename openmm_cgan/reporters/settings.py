"""How a ProposalReporter proposes, heals and judges."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from openmm import unit

from openmm_cgan.proposals import ScreenSettings
from openmm_cgan.proposals.conditions import Conditions
from openmm_cgan.quantities import has_units, kelvin, number_of_steps, numbers_of, positive


@dataclass(frozen=True)
class ProposalSettings:
    """How a ProposalReporter proposes, heals and judges.

    Exact, annealed and local moves look at ``temperature``, ``candidates``, ``conditions``, and at
    ``chirality`` and ``cis_trans`` of ``screen``, annealed ones also at ``annealing_steps``.
    Steered moves look at the same but ``candidates``, at ``switching_steps``,
    ``switching_timestep`` and ``steering_kappa``; seeds at all others.

    Parameters
    ----------
    temperature : float or Quantity, optional
        Of the velocities and the healing [K]; that of the integrator by default.
    batch : int
        Configurations generated at each target.
    choose_from : int
        One of the so many lowest in energy is healed, drawn uniformly: the raw energy tells bad
        geometry, and always to take the lowest would seed one hidden basin again and again. Among
        other atoms it is that of the generated ones alone.
    screen : ScreenSettings
        What a configuration must hold before it is healed; all but the CVs also afterwards.
    kappa : float or tuple of float, optional
        Force constant of the healing restraint [kJ/mol per CV unit squared], default
        ``4 kT / cv_tolerance**2``: two standard deviations are the tolerance of the screen.
    minimise_iterations : int
        At most so many iterations of the minimiser. Among other atoms only the generated ones are
        minimised, by themselves, and only where their energy is above the current one by more
        than ``max_energy`` allows.
    heal_steps : int
        Steps of dynamics in the second Context, with the step size of the run. Among other atoms
        half of them push these aside while the generated ones go to their place; the rest,
        or all where all atoms are generated, are run with the CVs restrained.
    max_energy : float
        A healed configuration is refused when its energy (bias included, where the bias is a
        function of the CVs) exceeds that of the current one by more than
        ``max_energy * kT * sqrt(n_dof)``: the energies of two equilibrated configurations differ by
        ``kT * sqrt(n_dof)`` (one standard deviation, n_dof harmonic degrees of freedom). What is
        around the generated atoms does not count among itself, only with them, and n_dof then is
        twice theirs.
    settle_steps : int, optional
        Length of the settle window after an injection. By default it is measured on the first 20
        injections, and again on the first 40, 80 and 160, by the rule of `SettleWatch`. Before the
        20th it is ``1 / friction`` of the integrator, or 1 ps where it has none; among other atoms
        ten times as long, or until the next attempt if that is sooner. Before the 160th it is no
        shorter than ``1 / friction``.
    candidates : int, optional
        Fresh configurations of an exact move, by default 100, or of an annealed one, by default as
        many as a pilot finds to be enough for four moves of five, at most so many that they cost
        what the steps between two moves do.
    conditions : "marginal", "uniform" or Conditions
        Where moves that weigh draw CV values from: by default near the marginal density of the run,
        under the bias as it stands, which a pilot of 1,024 candidates finds (exact and annealed
        moves; local and steered ones draw uniformly); uniformly over the range that the sampler was
        trained on; or from an object with ``draw`` and ``log_density`` (GridConditions).
    annealing_steps : int, optional
        Steps by which annealed moves mend each candidate, by default as many as a pilot finds to
        give most for an energy.
    switching_steps : int, optional
        Steps of a steered move, by default as many as there are between two moves. Twice as many
        dissipate about half.
    switching_timestep : float or Quantity, optional
        Length of these steps [ps], by default that of the run's own, but at most 2 fs: what steps
        do not conserve is charged to the move, and it grows with their fourth power.
    steering_kappa : float
        Force constant by which steered moves hold torsions [kJ/mol/rad^2].
    """

    temperature: float | unit.Quantity | None = None
    batch: int = 64
    choose_from: int = 8
    screen: ScreenSettings = field(default_factory=ScreenSettings)
    kappa: float | tuple[float, ...] | None = None
    minimise_iterations: int = 200
    heal_steps: int = 350
    max_energy: float = 5.0
    settle_steps: int | None = None
    candidates: int | None = None
    conditions: str | Conditions = "marginal"
    annealing_steps: int | None = None
    switching_steps: int | None = None
    switching_timestep: float | unit.Quantity | None = None
    steering_kappa: float = 300.0

    def __post_init__(self) -> None:
        kelvin(self.temperature)
        for name in ("batch", "choose_from"):
            number_of_steps(vars(self)[name], name, what="a whole number")
        for name, least in (("candidates", 1), ("annealing_steps", 0), ("switching_steps", 1)):
            if (value := vars(self)[name]) is not None:
                number_of_steps(value, name, least, "a whole number")
        number_of_steps(self.heal_steps, "heal_steps")
        number_of_steps(self.minimise_iterations, "minimise_iterations", least=0)
        if self.switching_timestep is not None:
            positive(self.switching_timestep, "ps", "switching_timestep")
        if self.settle_steps is not None:
            number_of_steps(self.settle_steps, "settle_steps", least=0)
        if has_units(self.max_energy):
            raise ValueError(
                f"max_energy is {self.max_energy}; expected a plain number: it counts standard "
                "deviations of an energy, kT * sqrt(n_dof)"
            )
        expected = {"kappa": "kJ/mol per CV unit squared", "max_energy": "1"}
        for name, unit_name in (expected | {"steering_kappa": "kJ/mol/rad^2"}).items():
            value = vars(self)[name]
            if value is None:
                continue
            numbers = numbers_of(value, name, unit_name)
            if not (np.isfinite(numbers) & (numbers > 0)).all():
                raise ValueError(f"{name} is {value}; expected a positive number")
        if np.ndim(self.steering_kappa) > 0:
            raise ValueError(f"steering_kappa is {self.steering_kappa}; expected one number")
        if isinstance(self.conditions, str) and self.conditions not in ("marginal", "uniform"):
            raise ValueError(
                f"conditions is {self.conditions!r}; expected 'marginal', 'uniform' or an object "
                "with draw and log_density, such as GridConditions"
            )
