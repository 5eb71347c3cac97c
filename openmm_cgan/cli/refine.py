"""The refine command: a flow trained further on the energy of a run's System."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from openmm_cgan.cli.options import FILE, NEW, SEED, THERE, device_option, require_parent
from openmm_cgan.cli.stopping import alone, checkpoint_for, stopping

if TYPE_CHECKING:
    from openmm_cgan.molecules import Molecule

SMALL = 500  # particles: up to as many Reference is taken, whose numbers repeat


@click.command()
@click.argument("model", type=FILE)
@click.argument("run", type=THERE)
@click.option("--steps", type=click.IntRange(min=1), default=1200, show_default=True)
@click.option("--batch", type=click.IntRange(min=1), default=256, show_default=True,
              help="Energies a step.")  # fmt: skip
@click.option("--threads", default=1, show_default=True, help="Of torch.")
@device_option("that it is refined on")
@click.option("--seed", type=SEED, default=0, show_default=True)
@click.option("--checkpoint", type=NEW, help="What the refining is saved to; default: OUT.chk.")
@click.option("--resume", is_flag=True, help="Continue the refining that was stopped.")
@click.option("--out", type=NEW, default="refined.npz", show_default=True)
def refine(
    model: Path,
    run: Path,
    steps: int,
    batch: int,
    threads: int,
    device: str,
    seed: int,
    checkpoint: Path | None,
    resume: bool,
    out: Path,
) -> None:
    """Train MODEL, a FlowGenerator, further on the energy of the System of RUN.

    \b
    Example:
        openmm-cgan train run/frames --topology run/topology.pdb --generator FlowGenerator \\
            --out flow.npz
        openmm-cgan refine flow.npz run --out refined.npz
        openmm-cgan run alanine.pdb --forcefield amber96.xml --plumed metad.dat --steps 500000 \\
            --model refined.npz --mode exact --out exact

    RUN is the folder of `openmm-cgan run`: its System without the bias, and its frames, at whose CV
    values is refined, and beside which. A part that hangs on the others (`train --local`) is
    refined among them as they stand in the frames, which must hold all atoms (`run --atoms all`
    where there is a box). MODEL stays as it is.

    Killed at any moment the refining goes on with the same command and --resume, as if it had never
    stopped; its checkpoint goes when the model is there, unless --checkpoint names it.
    """
    from openmm_cgan.cgan import ConditionalGAN, RefiningSettings, rows_for
    from openmm_cgan.cgan import refine as refined_on
    from openmm_cgan.cli.molecules import require_whole
    from openmm_cgan.frames import read_frames
    from openmm_cgan.molecules import read_molecule
    from openmm_cgan.potentials import Potential
    from openmm_cgan.proposals import hangs_on_rest
    from openmm_cgan.run_folders import FRAMES

    require_parent(out, checkpoint)
    click.get_current_context().with_resource(alone(out))
    kept = checkpoint_for(out, checkpoint, resume)
    molecule = read_molecule(run)
    gan = ConditionalGAN.load(model, molecule.topology)
    if not hangs_on_rest(gan):
        require_whole(
            model, gan, molecule.system.getNumParticles(),
            "it is refined on its energy, which the others have a part in",
        )  # fmt: skip
    frames = read_frames(run / FRAMES, temperature=gan.temperature)
    settings = RefiningSettings(steps=steps, batch=batch, seed=seed)
    with stopping(kept):
        made, history = refined_on(
            gan,
            Potential(molecule.system, platform=_platform_for(molecule)),
            None,
            settings,
            frames=rows_for(gan, frames, molecule.topology),
            threads=threads,
            device=device,
            checkpoint=kept,
        )
        written = made.save(out)
    if checkpoint is None:
        kept.unlink()
    first, last = history[0]["loss"], history[-1]["loss"]
    click.echo(f"{written}: mean of u + log q from {first:.2f} to {last:.2f} kT")


def _platform_for(molecule: Molecule) -> str | None:
    """The quickest platform for the energies of a large System."""
    from openmm_cgan.windows.platforms import fastest_platform

    if molecule.system.getNumParticles() <= SMALL:
        return None
    return fastest_platform(molecule.system, molecule.positions)
