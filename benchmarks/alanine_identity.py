"""The identity b = -sigma^2 A'/2kT + (sigma^2)'/2 on alanine dipeptide, bonds to hydrogen held.

Umbrella windows along phi, along phi with psi looked at too, and along the distance of the inner
hydrogen bond; at how many values of the CVs the residual is within two of its standard errors, and
how large it is beside the terms that cancel. With --flow the configurations are a flow's instead,
made at values of phi and psi and weighed; no frame is among them. It is that of MODEL, whose CVs
are phi and psi, or one that is trained on windows and refined here.

    OMP_NUM_THREADS=1 python benchmarks/alanine_identity.py [--steps 50000]
    OMP_NUM_THREADS=1 python benchmarks/alanine_identity.py --flow [--model MODEL] [--made 40000]
"""

import argparse
import logging
import os
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from alanine import Umbrella, Weigher, free_bias, umbrella_frames
from provenance import in_words, provenance

from openmm_cgan import ConditionalGAN, PlumedBias
from openmm_cgan.cgan import RefiningSettings, TrainingSettings, refine
from openmm_cgan.closures import Grid, identity, local_dynamics_of_frames, of_samples
from openmm_cgan.free_energy import WeightedSamples, reweight_windows
from openmm_cgan.free_energy.generated import GeneratedFrames, generate_frames
from openmm_cgan.free_energy.importance import reweight_generated
from openmm_cgan.potentials import Potential
from openmm_cgan.proposals.conditions import GridConditions
from openmm_cgan.reporters.moves import ExactMove
from openmm_cgan.testsystems import alanine_dipeptide
from openmm_cgan.windows import (
    DragSettings,
    LocalWorkers,
    WindowSettings,
    drag,
    read_window_frames,
    read_windows,
    run_windows,
    umbrella_windows,
)

TEMPERATURE, FRICTION = 300.0, 10.0  # K, 1/ps
DATA = Umbrella(n_side=18, steps=2_000, stride=20, seed=1)  # for the flow: 1.6 ns
TRAINING = TrainingSettings(generator="FlowGenerator", steps=1200, batch=512, seed=0)
REFINING = RefiningSettings(steps=600, batch=256, learning_rate=1e-3)
FIRST, CHUNK = 4000, 1000  # configurations
TORSIONS = "phi: TORSION ATOMS=5,7,9,15\npsi: TORSION ATOMS=7,9,15,17\n"


@dataclass(frozen=True)
class Case:
    """CVs, the template of their windows with ``${at}``, where these stand, and what is asked."""

    name: str
    template: str
    centres: np.ndarray
    cells: int | tuple[int, int]
    bounds: tuple[tuple[float, float] | None, ...]


CASES = (
    Case(
        "phi",
        "phi: TORSION ATOMS=5,7,9,15\nRESTRAINT ARG=phi AT=${at} KAPPA=200\n",
        -1.3 + np.arange(36) * 2 * np.pi / 36,
        72,
        (None,),
    ),
    Case(
        "phi and psi",
        TORSIONS + "RESTRAINT ARG=phi,psi AT=${at},0 KAPPA=200,0\n",
        -1.3 + np.arange(36) * 2 * np.pi / 36,
        (24, 24),
        (None, None),
    ),
    Case(
        "distance",
        "d: DISTANCE ATOMS=6,18\nRESTRAINT ARG=d AT=${at} KAPPA=4000\n",
        np.linspace(0.18, 0.55, 20),
        40,
        ((0.19, 0.53),),
    ),
)


def identity_of(case: Case, steps: int, folder: str, workers: int):
    """Windows of a case and the identity on its grid."""
    molecule = alanine_dipeptide("C7eq")
    first = case.template.replace("${at}", str(case.centres[0]))
    bias = PlumedBias(first, molecule.topology, temperature=TEMPERATURE)
    # What has no spring in the windows is dragged nowhere: it stands at the start's own value.
    here = bias.cv_values(molecule.positions)
    centres = np.tile(here, (len(case.centres), 1))
    centres[:, 0] = case.centres
    stiff = np.array([4000.0 if case.name == "distance" else 400.0, 1e-3][: len(here)])
    settings = DragSettings(TEMPERATURE, kappa=stiff, steps=2000, platform="Reference")
    starts = drag(bias, molecule.system, molecule.positions, centres, settings)
    windows = umbrella_windows(
        case.template,
        case.centres[:, None],
        starts,
        WindowSettings(TEMPERATURE, steps, steps // 10, 25, friction=FRICTION),
        folder,
        "dragged",
    )
    with LocalWorkers(workers) as pool:
        run_windows(windows, molecule.system, molecule.topology, pool, platform="Reference")
    folders = [window.folder for window in windows]
    samples = reweight_windows(read_windows(folders), max_samples=30_000)
    positions = of_samples(samples, [f.positions for f in read_window_frames(folders)])
    local = local_dynamics_of_frames(
        bias.differentiable_cvs, positions, Potential(molecule.system), TEMPERATURE, FRICTION
    )
    return identity(samples, local, Grid.over(samples.variables, case.cells, case.bounds).points)


def trained_flow() -> ConditionalGAN:
    """A flow of phi and psi, from windows on a grid of both."""
    molecule = alanine_dipeptide("C7eq")
    gan = ConditionalGAN.fit(umbrella_frames(DATA), molecule.topology, TRAINING)
    weigher = Weigher(gan, free_bias(molecule))
    drawn = weigher.move.conditions.draw(20_000, np.random.default_rng(0))
    return refine(gan, weigher.potential, drawn, REFINING)[0]


def flow_move(gan: ConditionalGAN, seed: int) -> ExactMove:
    """What weighs a flow's configurations, phi and psi drawn by the root of their density.

    That is known roughly from some at values drawn evenly: low places are drawn from more often,
    and barriers too.
    """
    even = Weigher(gan, free_bias(alanine_dipeptide("C7eq"))).move
    first = generate_frames(even, FIRST, seed)
    drawn = GridConditions.from_weights(
        first.cvs, first.log_weights, gan.cv_range, gan.variables, 18, uniform_share=0.25, power=0.5
    )
    return Weigher(gan, free_bias(alanine_dipeptide("C7eq")), drawn).move


def flow_samples(gan: ConditionalGAN, n: int, seed: int) -> tuple[WeightedSamples, np.ndarray]:
    """Configurations made by a flow, weighed, and their positions (n_kept, 22, 3)."""
    move, rng = flow_move(gan, seed), np.random.default_rng(seed)
    cvs, logs, positions = [], [], []
    for _ in range(0, n, CHUNK):
        at = move.conditions.draw(CHUNK, rng)
        x, log_prob = gan.sample_with_log_prob(at, seed=int(rng.integers(2**31)))
        weighed = move.weigh(x, at, log_prob)
        cvs.append(weighed.cvs)
        logs.append(weighed.log_weights)
        positions.append(x)
    columns = np.concatenate(cvs), np.concatenate(logs)
    samples = reweight_generated(GeneratedFrames(*columns, TEMPERATURE, gan.variables), seed=seed)
    return samples, np.concatenate(positions)[samples.frame]


def flow_identities(gan: ConditionalGAN, n: int, seed: int) -> None:
    """The identity along the CVs of each case, from the same configurations.

    And as if they had no weights: if that held, the test would tell nothing.
    """
    samples, positions = flow_samples(gan, n, seed)
    molecule = alanine_dipeptide("C7eq")
    print(
        f"{n} made, {len(positions)} with a weight, Kish {samples.effective_samples:.0f}, "
        f"Pareto k {samples.k_hat:.2f}",
        flush=True,
    )
    kept = np.isfinite(samples.replicates)
    unweighed = replace(
        samples,
        log_weights=np.full(len(positions), -np.log(len(positions))),
        replicates=np.where(kept, samples.replicates - samples.log_weights, -np.inf),
    )
    for case in CASES:
        bias = PlumedBias(case.template.replace("${at}", "0"), molecule.topology)
        cvs, variables = bias.cv_values(positions), tuple(bias.variables)
        local = local_dynamics_of_frames(
            bias.differentiable_cvs, positions, Potential(molecule.system), TEMPERATURE, FRICTION
        )
        points = Grid.over(variables, case.cells, case.bounds).points
        for name, law in ((case.name, samples), ("  unweighed", unweighed)):
            own = replace(law, cvs=cvs, variables=variables)
            print(f"{name:12s} {identity(own, local, points)}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=50_000, help="of each window")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--flow", action="store_true", help="of a flow's configurations")
    parser.add_argument("--model", type=Path, help="the flow; by default one is trained")
    parser.add_argument("--made", type=int, default=40_000, help="configurations of the flow")
    parser.add_argument("--seed", type=int, default=1, help="of these")
    arguments = parser.parse_args()
    logging.getLogger("openmm_cgan").setLevel(logging.ERROR)
    print(in_words(provenance()))
    if arguments.flow:
        torch.set_num_threads(1)
        gan = ConditionalGAN.load(arguments.model) if arguments.model else trained_flow()
        flow_identities(gan, arguments.made, arguments.seed)
        return
    for case in CASES:
        with tempfile.TemporaryDirectory() as folder:
            found = identity_of(case, arguments.steps, str(Path(folder, "w")), arguments.workers)
        print(f"{case.name:12s} {found}", flush=True)


if __name__ == "__main__":
    main()
