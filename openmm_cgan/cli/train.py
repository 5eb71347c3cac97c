"""The train command: a conditional generator of the frames of a run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from openmm_cgan.cli.options import ATOMS, FILE, NEW, SEED, THERE, device_option, require_parent
from openmm_cgan.cli.stopping import alone, checkpoint_for, stopping
from openmm_cgan.cli.tensor_board import tensor_board


@click.command()
@click.argument("frames", type=THERE, nargs=-1, required=True)
@click.option(
    "--topology", type=FILE, required=True, help="PDB file (or mmCIF, prmtop, psf) of the system."
)
@click.option("--out", type=NEW, default="model.npz", show_default=True, help="The model file.")
@click.option(
    "--generator",
    type=click.Choice(["MLPGenerator", "FlowGenerator"]),
    help="The paper's MLPGenerator (default), or a FlowGenerator, whose density is known (exact "
    "proposals; default with --local).",
)
@click.option("--atoms", help=f"{ATOMS} make; default: the solute of frames with a box, else all.")
@click.option("--local", is_flag=True, help="--atoms hang on the others: for run --mode local.")
@click.option("--temperature", type=click.FloatRange(min=0, min_open=True),
              help="[K] Of the frames to train on, where FRAMES are of several.")  # fmt: skip
@click.option("--steps", type=int, help="Training steps; default: the package's.")
@click.option("--seed", type=SEED, default=0, show_default=True)
@click.option("--threads", default=1, show_default=True, help="Of torch; small networks want 1.")
@device_option("that the networks are trained on")
@click.option("--checkpoint", type=NEW, help="What the training is saved to; default: OUT.chk.")
@click.option(
    "--checkpoint-every", default=100, show_default=True, help="Steps between checkpoints."
)
@click.option("--resume", is_flag=True, help="Continue the training that was stopped.")
@click.option("--plot", type=NEW, help="PNG file for the training curves.")
@click.option("--tensorboard", type=NEW, help="Folder for TensorBoard, written as it goes.")
def train(
    frames: tuple[Path, ...],
    topology: Path,
    out: Path,
    generator: str | None,
    atoms: str | None,
    local: bool,
    temperature: float | None,
    steps: int | None,
    seed: int,
    threads: int,
    device: str,
    checkpoint: Path | None,
    checkpoint_every: int,
    resume: bool,
    plot: Path | None,
    tensorboard: Path | None,
) -> None:
    """Train a conditional GAN on FRAMES (folders or files that a run wrote).

    \b
    Example:
        openmm-cgan train run/frames --topology run/topology.pdb --out model.npz --plot training.png

    The model holds the CVs with their units, the topology's fingerprint and the range it was
    trained on, and refuses another molecule. Killed at any moment the training goes on with the
    same command and --resume, as if it had never stopped; its checkpoint goes when the model is
    there, unless --checkpoint names it. Of a side chain, a rotor or the end of a chain:

    \b
        openmm-cgan train run/frames --topology run/topology.pdb --out chi.npz \\
            --local --atoms "resid 5 and not name N H CA HA C O"
    """
    from openmm_cgan.cgan import ConditionalGAN, TrainingSettings
    from openmm_cgan.features import ZMatrixFeatures
    from openmm_cgan.frames import read_frames

    if local and atoms is None:
        raise click.UsageError("--local needs --atoms: which hang on the others")
    require_parent(out, plot, checkpoint)
    click.get_current_context().with_resource(alone(out))
    kept = checkpoint_for(out, checkpoint, resume)
    generator = generator or ("FlowGenerator" if local else "MLPGenerator")
    settings = TrainingSettings(generator=generator, seed=seed, report_every=checkpoint_every)
    if steps is not None:
        settings = replace(settings, steps=steps)
    with stopping(kept), tensor_board(tensorboard):
        part = (
            {"featurize": ZMatrixFeatures.of_part(atoms)} if local and atoms else {"atoms": atoms}
        )
        gan = ConditionalGAN.fit(
            read_frames(list(frames), temperature=temperature),
            topology,
            settings,
            checkpoint=kept,
            threads=threads,
            device=device,
            **part,
        )
        written = gan.save(out)
        if plot is not None:
            from openmm_cgan.report import plot_training

            plot_training(gan.history, plot)
    if checkpoint is None:
        kept.unlink()
    names = ", ".join(variable.name for variable in gan.variables)
    click.echo(f"{written}: {gan.n_atoms} atoms given {names}")
