"""The openmm-cgan command: each subcommand reads its options, calls one function, writes."""

from __future__ import annotations

import logging
from dataclasses import fields
from pathlib import Path
from typing import Any

import click

from openmm_cgan import __version__
from openmm_cgan.cli.config_file import config_option, told_of_file
from openmm_cgan.cli.doctor import doctor
from openmm_cgan.cli.driver import driver
from openmm_cgan.cli.explore import explore
from openmm_cgan.cli.free_energies import free_energy
from openmm_cgan.cli.given_once import require_once
from openmm_cgan.cli.init import init
from openmm_cgan.cli.judge import judge
from openmm_cgan.cli.kept_inputs import keep_inputs, require_kept
from openmm_cgan.cli.options import (
    ATOMS,
    BACKENDS,
    FILE,
    NEW,
    SEED,
    cv_values,
    device_option,
    molecule_options,
    require_parent,
    set_threads,
)
from openmm_cgan.cli.refine import refine
from openmm_cgan.cli.reports import WORDS, leave_report, leaves_report, recording, report
from openmm_cgan.cli.stopping import stopping, writing
from openmm_cgan.cli.train import train
from openmm_cgan.cli.windows import windows

# Every room is imported where it is used: --help should not wait for OpenMM and torch.


class Commands(click.Group):
    """A group whose commands end with one line and exit code 1 where they fail."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Keep what was typed: folders remember by which commands they were made."""
        ctx.meta[WORDS] = list(args)
        return super().parse_args(ctx, args)

    def add_command(self, cmd: click.Command, name: str | None = None) -> None:
        """Add a command, which then takes --config and writes over nothing that it reads."""
        if cmd.name != "init":
            cmd.params.append(config_option())
        keep_inputs(cmd)
        super().add_command(cmd, name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the subcommand, whose options are each given once."""
        name, command, words = super().resolve_command(ctx, args)
        if command is not None and not ctx.resilient_parsing:  # as where a shell completes words
            require_once(command, words, ctx)
        return name, command, words

    def invoke(self, ctx: click.Context) -> Any:
        """Run the subcommand; errors become one line unless --debug.

        One that is stopped where it says nothing of it itself has nothing to go on from.
        """
        try:
            with writing():
                return super().invoke(ctx)
        except click.UsageError as error:
            raise told_of_file(error) from error
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            if ctx.params.get("debug"):
                raise
            known = isinstance(error, ValueError | OSError | RuntimeError)
            kind = "" if known else f"{type(error).__name__}: "
            hint = "" if known else " (perhaps a fault of openmm-cgan: see openmm-cgan --debug)"
            raise click.ClickException(f"{kind}{error}{hint}") from error


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
@click.option("--debug", is_flag=True, help="Show the whole traceback of an error.")
@click.option("-v", "--verbose", is_flag=True, help="Say what is being done and why.")
def main(debug: bool, verbose: bool) -> None:
    """PLUMED inputs, conditional GANs and seeded restarts for OpenMM simulations.

    The whole job on alanine dipeptide, three to six minutes on two cores:

    \b
        openmm-cgan demo

    The same by hand, on a molecule of your own:

    \b
        openmm-cgan run molecule.pdb --plumed metad.dat --steps 1500000 --out run
        openmm-cgan train run/frames --topology run/topology.pdb --out model.npz
        openmm-cgan propose model.npz --topology run/topology.pdb --plumed run/plumed.dat \\
            --at phi=1.0,psi=-1.0 -n 20 --out seeds.pdb
        openmm-cgan windows run --cv phi --model model.npz --steps 50000 --out windows
        openmm-cgan free-energy windows/window-* --cv phi --out profile.csv

    One file for all of these: openmm-cgan init molecule.pdb > run.toml, then --config run.toml.
    Completion of words in a shell: openmm-cgan doctor says how.

    Units: nm, ps, kJ/mol, rad, K; CV values in the units of the PLUMED input.
    """
    logging.basicConfig(format="%(levelname)s %(message)s")
    logging.getLogger("openmm_cgan").setLevel(logging.INFO if verbose else logging.WARNING)


@main.command()
@click.option("--out", type=NEW, default="demo", show_default=True, help="Folder for everything.")
@click.option("--seed", type=SEED, default=1, show_default=True, help="Seed of every random draw.")
@click.option(
    "--workers", type=int, help="Processes for the windows, default: the cores; 0: this one."
)
@click.option("--overwrite", is_flag=True, help="Replace an earlier demo in --out.")
@click.option("--quick", is_flag=True, help="A short run that shows the steps; no good numbers.")
@click.option("--resume", is_flag=True, help="Continue the demo in --out where it was stopped.")
@leaves_report
def demo(
    out: Path,
    seed: int,
    workers: int | None,
    overwrite: bool,
    quick: bool,
    resume: bool,
    with_report: bool,
) -> None:
    """Run the whole job on alanine dipeptide in vacuum.

    Metadynamics on phi and psi by a PLUMED input; a conditional GAN trained on its frames;
    umbrella windows seeded by the GAN; MBAR. Prints the free energy along phi beside the
    reference and writes plots and summary.json. Killed at any moment it goes on with the same
    command and --resume, and ends with the same numbers.
    """
    from openmm_cgan.cli.demo import RECORD, DemoSettings, run_demo

    set_threads(1)
    settings = DemoSettings.quick() if quick else DemoSettings()
    asked: dict[str, Any] = {"overwrite": overwrite, "resume": resume, "say": click.echo}
    with stopping(out / RECORD), recording(out):
        result = run_demo(out, settings, seed=seed, workers=workers, **asked)
    click.echo(result.text())
    if with_report:
        leave_report(out)


@main.command()
@molecule_options
@click.option("--plumed", "plumed_input", type=FILE, required=True, help="PLUMED input file.")
@click.option("--steps", type=click.IntRange(min=1), help="Steps to run; all but with --resume.")
@click.option("--out", type=NEW, default="run", show_default=True, help="Folder of the run.")
@click.option("--temperature", default=300.0, show_default=True, help="[K]")
@click.option("--pressure", type=float, help="[bar] With a box; default: constant volume.")
@click.option("--timestep", default=0.002, show_default=True, help="[ps]")
@click.option("--frames-every", default=100, show_default=True, help="Steps between frames.")
@click.option(
    "--atoms", help=f"{ATOMS} keep positions of; default: the solute where there is a box."
)
@click.option(
    "--platform",
    help="OpenMM platform, with properties CUDA:Precision=mixed; default: the quickest, by trying.",
)
@click.option("--backend", type=BACKENDS, default="auto", show_default=True)
@click.option("--seed", type=SEED, default=1, show_default=True)
@click.option(
    "--checkpoint-every", default=10_000, show_default=True, help="Steps between checkpoints."
)
@click.option(
    "--retries", type=click.IntRange(min=0), default=0, show_default=True,
    help="Times to go back to the last checkpoint, with new velocities, from NaN.",
)  # fmt: skip
@click.option("--model", type=FILE, help="What this model makes is proposed to the run.")
@click.option("--proposals-every", type=click.IntRange(min=1), default=500, show_default=True,
              help="With --model: steps between two proposals.")  # fmt: skip
@click.option("--mode", default="auto",
              type=click.Choice(["auto", "exact", "annealed", "local", "steered", "seed"]),
              show_default=True, help="With --model.")  # fmt: skip
@device_option("that --model makes them on; where the run itself is: --platform")
@click.option("--restart", is_flag=True, help="Continue the run in --out by --steps.")
@click.option("--resume", is_flag=True, help="Continue the run in --out to where it was to end.")
@leaves_report
def run(
    plumed_input: Path,
    steps: int | None,
    out: Path,
    pressure: float | None,
    restart: bool,
    resume: bool,
    with_report: bool,
    **options: Any,
) -> None:
    """Run a molecule under a PLUMED input and keep frames with their CVs.

    It is STRUCTURE (a PDB file) with a force field, or comes from AMBER, CHARMM or GROMACS files,
    or is a System that OpenMM serialized, with the PDB file of its atoms.

    \b
    Example:
        openmm-cgan run alanine.pdb --forcefield amber96.xml \\
            --plumed plumed_inputs/alanine_phi_psi_metad.dat --steps 1500000 --platform Reference
        openmm-cgan run --prmtop my.prmtop --inpcrd my.rst7 --plumed metad.dat --steps 1500000

    Writes OUT/frames (H5MD, MDAnalysis opens it), OUT/COLVAR and what else the input asks for,
    OUT/topology.pdb, OUT/plumed.dat, with --model OUT/proposals.csv, and from time to time
    OUT/run.chk: killed at any moment the run goes on from there with the same command and --resume,
    as if it had never stopped.
    """
    if options["model"] is None and options["device"] != "cpu":
        raise click.UsageError("--device is that of --model; the run itself is on --platform")
    from openmm_cgan.cli.molecule_files import MoleculeFiles, add_barostat, molecule_of
    from openmm_cgan.cli.run_records import RunSettings, told_of_part
    from openmm_cgan.cli.run_states import CHECKPOINT, STATE
    from openmm_cgan.cli.simulations import run_biased

    if (steps is None) != resume:
        raise click.UsageError("give --steps, or --resume for those that the run in --out has left")
    files = MoleculeFiles(**{f.name: options.pop(f.name) for f in fields(MoleculeFiles)})
    given, settings = None if resume else steps, RunSettings(**options)
    with stopping(out / CHECKPOINT, out / STATE), recording(out):
        molecule = molecule_of(files)
        if pressure is not None:
            add_barostat(molecule, pressure, settings.temperature, settings.seed)
        if not (restart or resume) and (told := told_of_part(molecule, settings)):
            click.echo(told)
        bias = run_biased(molecule, plumed_input, given, out, settings, restart or resume)
    names = ", ".join(variable.name for variable in bias.variables) or "none"
    assert bias.simulation is not None
    count = f"all {bias.simulation.currentStep}" if steps is None else str(steps)
    click.echo(f"{count} steps under {plumed_input} ({bias.backend} backend, CVs {names}) in {out}")
    if with_report:
        leave_report(out)


@main.command()
@click.argument("model", type=FILE)
@click.option("--topology", type=FILE, required=True, help="PDB file the model was trained with.")
@click.option("--plumed", "plumed_input", type=FILE, required=True, help="PLUMED input: its CVs.")
@click.option("--at", multiple=True, required=True, help="CV values, phi=1.0,psi=-0.5; repeat it.")
@click.option("-n", "number", type=click.IntRange(min=1), default=1, show_default=True,
              help="Configurations asked for at each --at.")  # fmt: skip
@click.option("--out", type=NEW, default="proposals.pdb", show_default=True,
              help="Those that passed; the ending says the format: .pdb, .dcd, .xtc.")  # fmt: skip
@click.option("--csv", type=NEW, help="All, with reasons; default: --out with the ending .csv.")
@click.option("--tolerance", type=click.FloatRange(min=0, min_open=True),
              help="Of the CVs [their units]; default: 1/20 of the range trained on.")  # fmt: skip
@click.option("--backend", type=BACKENDS, default="auto", show_default=True)
@device_option("that they are made on")
@click.option("--seed", type=SEED, default=0, show_default=True)
def propose(
    model: Path,
    topology: Path,
    plumed_input: Path,
    at: tuple[str, ...],
    number: int,
    out: Path,
    csv: Path | None,
    tolerance: float | None,
    backend: str,
    device: str,
    seed: int,
) -> None:
    """Propose configurations at CV values with MODEL, screen them, write those that passed.

    \b
    Example:
        openmm-cgan propose model.npz --topology run/topology.pdb --plumed run/plumed.dat \\
            --at phi=-1.2,psi=1.0 --at phi=1.0,psi=-1.0 -n 50 --out seeds.xtc

    The CSV file lists every proposal with the CVs asked for, the CVs that it has and why it was
    refused. The exit code is 1 if none passed.
    """
    from openmm_cgan.cgan import ConditionalGAN
    from openmm_cgan.cli.exports import (
        check_structure_ending,
        proposal_columns,
        write_structures,
        write_table,
    )
    from openmm_cgan.cli.molecules import require_whole
    from openmm_cgan.molecules import molecule_beside
    from openmm_cgan.plumed.bias import PlumedBias
    from openmm_cgan.proposals import Screen, ScreenSettings
    from openmm_cgan.proposals import propose as propose_configurations
    from openmm_cgan.topologies import read_configuration

    check_structure_ending(out)
    csv = csv or out.with_suffix(".csv")
    require_parent(out, csv)
    require_kept(click.get_current_context(), {csv: "--csv"})
    with writing(csv, out):
        pdb = read_configuration(topology)
        known = molecule_beside(topology) or pdb  # of a run: bonds, masses and force constants
        gan = ConditionalGAN.load(model, known.topology, device)
        require_whole(
            model, gan, known.topology.getNumAtoms(),
            f"openmm-cgan run --model {model} --mode seed proposes them among the others",
        )  # fmt: skip
        names = [variable.name for variable in gan.variables]
        targets = [cv_values(text, names) for text in at for _ in range(number)]
        bias = PlumedBias(plumed_input, known, backend=backend, cvs=tuple(names))
        screen = Screen(
            known, pdb.getPositions(asNumpy=True)._value, bias, ScreenSettings(tolerance)
        )
        proposals = propose_configurations(gan, targets, screen, seed=seed)
        write_table(csv, proposal_columns(proposals, names))
        counts = ", ".join(f"{count} {reason}" for reason, count in proposals.counts().items())
        if not proposals.accepted.any():
            raise ValueError(f"no proposal passed ({counts}): see {csv}")
        write_structures(out, known.topology, proposals.positions[proposals.accepted])
        click.echo(f"{counts}: {out}, {csv}")


main.add_command(init)
main.add_command(train)
main.add_command(refine)
main.add_command(windows)
main.add_command(driver)
main.add_command(report)
main.add_command(doctor)
main.add_command(judge)
main.add_command(explore)
main.add_command(free_energy)
