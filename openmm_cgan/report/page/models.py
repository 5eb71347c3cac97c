"""A model on a page: how it was trained, what it makes beside the run, what the screens refuse."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from openmm_cgan.collective_variable import CollectiveVariable
from openmm_cgan.molecules import molecule_beside
from openmm_cgan.plumed.bias import PlumedBias
from openmm_cgan.proposals import Proposals, Screen, propose
from openmm_cgan.report.axes import drawn
from openmm_cgan.report.page.blocks import (
    BAD,
    DOUBT,
    GOOD,
    Block,
    Figure,
    Finding,
    Section,
    Structures,
    Table,
    Text,
)
from openmm_cgan.report.page.figures import (
    SCALE,
    axis_of,
    bars,
    heat_map,
    line,
    named_axis,
    plain,
    subplots,
)
from openmm_cgan.report.page.found import Found, RunFound, number_in
from openmm_cgan.reporters.attempts import ACCEPTED
from openmm_cgan.run_folders import BONDS, INPUT, TOPOLOGY
from openmm_cgan.short_reprs import short_repr
from openmm_cgan.topologies import read_configuration
from openmm_cgan.topology_records import read_topology

if TYPE_CHECKING:
    from openmm_cgan.cgan import ConditionalGenerator

MOST_PROPOSALS, MOST_ATOMS_MADE = 2000, 400_000  # made for a page, atoms of all of them
FEWEST = 50
MOST_ATOMS_SHOWN = 5000
EXAMPLES = 4  # structures of each reason
MAP_BINS = 48
COLUMNS = 3
SEED = 0
SHARES = {GOOD: 0.5, DOUBT: 0.05}  # passing the screens, at least


@dataclass(frozen=True, repr=False)
class Trial:
    """Configurations that a model was asked for at CV values of frames of a run.

    Attributes
    ----------
    run : RunFound
    proposals : Proposals
    screen : Screen
    """

    run: RunFound
    proposals: Proposals
    screen: Screen

    __repr__ = short_repr


def model_sections(found: Found, path: Path) -> list[Section]:
    """Training, and a trial of the model beside the run that knows its molecule.

    Raises
    ------
    ValueError, OSError
        If the file is no model.
    """
    from openmm_cgan.cgan import ConditionalGenerator  # torch is for those who have a model

    name = found.name_of(path)
    model = ConditionalGenerator.load(path)
    return [training_section(model, name), trial_section(found, model, name)]


def training_section(model: ConditionalGenerator, name: str) -> Section:
    """What a model is and its training curves."""
    anchor = f"training-{name}"
    rows = [[key, value] for key, value in asdict(model.settings).items()]
    blocks: list[Block] = [Text(f"{model!r}")]
    if (curves := training_figure(model.history)) is not None:
        blocks.append(curves)
    blocks.append(Table(["setting", "value"], rows, "Settings of the training"))
    return Section(anchor, f"{name}: training", blocks)


def training_figure(history: Sequence[Mapping[str, Any]]) -> Figure | None:
    """A panel for each quantity of a history; None where there is none."""
    rows = [row for row in history if isinstance(row.get("step"), int | float)]
    if not rows:
        return None
    names = [k for k, v in rows[0].items()
             if k not in ("step", "seconds") and isinstance(v, int | float)]  # fmt: skip
    steps = np.array([row["step"] for row in rows], dtype=float)
    n_rows = -(-len(names) // COLUMNS)
    layout: dict[str, Any] = {
        "grid": {"rows": n_rows, "columns": COLUMNS, "pattern": "independent", "ygap": 0.35},
        "showlegend": False, "annotations": [],
    }  # fmt: skip
    traces = []
    for i, key in enumerate(names):
        number = "" if i == 0 else str(i + 1)
        values = np.array([number_in(row.get(key)) for row in rows])
        place = {"xaxis": f"x{number}", "yaxis": f"y{number}"}
        traces.append(line(steps, values, key, 1, **place))
        layout["annotations"].append({
            "text": plain(key.replace("_", " ")), "xref": f"x{number} domain", "x": 0.5, "y": 1.02,
            "yref": f"y{number} domain", "yanchor": "bottom", "showarrow": False,
            "font": {"size": 12},
        })  # fmt: skip
    return Figure(traces, layout, "Against the steps of the training.", 60 + 190 * n_rows)


def trial_section(found: Found, model: ConditionalGenerator, name: str) -> Section:
    """What the model makes at CV values of a run's frames: maps, and what screens refuse."""
    anchor, title = f"generated-{name}", f"{name}: what it makes"
    trial, why = _trial_of(found, model)
    if trial is None:
        return Section(anchor, title, left_out=why)
    proposals, made = trial.proposals, len(trial.proposals)
    counts = proposals.counts()
    share = counts[ACCEPTED] / made
    words = f"{name}: {share:.1%} of {made:,} configurations made for this page pass the screens"
    run = found.name_of(trial.run.folder)
    blocks: list[Block] = [
        Text(f"{words}; they were asked for at CV values of frames of {run} drawn at random, seed "
             f"{proposals.seed}. Click on a bar to see structures.")
    ]  # fmt: skip
    blocks.append(bars(counts, ACCEPTED))
    shown = structures_of(trial)
    blocks.append(shown if shown is not None else Text(
        f"Structures of more than {MOST_ATOMS_SHOWN} atoms are left out.", quiet=True))  # fmt: skip
    blocks.append(map_figure(model.variables, trial))
    level = next((k for k, least in SHARES.items() if share >= least), BAD)
    return Section(anchor, title, blocks, [Finding(level, words, anchor)])


def _trial_of(found: Found, model: ConditionalGenerator) -> tuple[Trial | None, str]:
    """A trial beside the first run that fits; else why there is none."""
    why = "there is no run here whose frames say where to ask for configurations"
    for run in found.runs:
        try:
            return try_beside(model, run), ""
        except (ValueError, OSError, RuntimeError) as error:
            why = f"no trial beside {found.name_of(run.folder)}: {error}"
    return None, why


def try_beside(model: ConditionalGenerator, run: RunFound) -> Trial:
    """Ask a model for configurations at CV values of a run's frames, and screen them.

    Raises
    ------
    ValueError, OSError
        If the run is of another molecule or other CVs, or the model makes a part of the atoms.
    """
    from openmm_cgan.frames import require_molecule

    structure = read_configuration(run.folder / TOPOLOGY)
    molecule = molecule_beside(run.folder / TOPOLOGY)  # knows the masses
    known = (run.folder / BONDS).is_file()  # scripts and earlier versions leave none
    topology = read_topology(run.folder) if known else structure.topology
    hashes = model.molecule_hash, model.topology_hash
    require_molecule(topology, model.atoms, *hashes, "the model")
    if model.n_atoms != topology.getNumAtoms():
        raise ValueError(
            f"it makes {model.n_atoms} of {topology.getNumAtoms()} atoms, whose CVs are not known "
            "without the others"
        )
    names = [variable.name for variable in model.variables]
    columns = [[v.name for v in run.frames.variables].index(name) for name in names]
    temperature = run.frames.temperature
    bias = PlumedBias(
        run.folder / INPUT, molecule or topology, temperature=temperature, directory=run.folder,
        cvs=tuple(names),
    )  # fmt: skip
    screen = Screen(molecule or topology, structure.getPositions(asNumpy=True)._value, bias)
    n = min(MOST_PROPOSALS, max(FEWEST, MOST_ATOMS_MADE // model.n_atoms), len(run.frames))
    rows = np.random.default_rng(SEED).choice(len(run.frames), n, replace=False)
    return Trial(
        run, propose(model, run.frames.cvs[np.sort(rows)][:, columns], screen, seed=SEED), screen
    )


def structures_of(trial: Trial) -> Structures | None:
    """Some configurations of each reason; None where they are too large to be looked at."""
    from openmm.app import Element

    graph, proposals = trial.screen.graph, trial.proposals
    if len(graph.elements) > MOST_ATOMS_SHOWN:
        return None
    names = [v.name for v in trial.run.frames.variables]
    groups: dict[str, dict[str, Any]] = {}
    for reason, count in proposals.counts().items():
        rows = np.flatnonzero(proposals.reasons == ("" if reason == ACCEPTED else reason))
        rows = rows[np.isfinite(proposals.positions[rows]).all(axis=(1, 2))][:EXAMPLES]
        examples = [
            {"label": _label(names, proposals.targets[row], proposals.cvs[row]),
             "x": _picometres(proposals.positions[row])} for row in rows
        ]  # fmt: skip
        groups[reason] = {"count": count, "examples": examples}
    elements = [Element.getByAtomicNumber(z).symbol if z else "X" for z in graph.elements]
    return Structures(elements, [(int(i), int(j)) for i, j in graph.bonds], groups)


def _label(names: Sequence[str], asked: NDArray, has: NDArray) -> str:
    each = (f"{name} {a:.3g} asked, {h:.3g} made"
            for name, a, h in zip(names, asked, has, strict=False))  # fmt: skip
    return "; ".join(each)


def _picometres(positions: NDArray) -> list[int]:
    centred = positions - positions.mean(axis=0)
    return np.clip(np.round(1000 * centred), -(10**6), 10**6).astype(int).ravel().tolist()


def map_figure(variables: Sequence[CollectiveVariable], trial: Trial) -> Figure:
    """Where MD frames, generated and accepted configurations are: over two CVs, or along one."""
    frames, proposals = trial.run.frames, trial.proposals
    known = [v.name for v in frames.variables]
    columns = [known.index(v.name) for v in variables][:2]
    panels = {
        f"MD, {len(frames):,} frames": frames.cvs[:, columns],
        f"generated, {len(proposals):,}": proposals.cvs[:, :2],
        f"accepted, {int(proposals.accepted.sum()):,}": proposals.cvs[proposals.accepted][:, :2],
    }
    shown = {title: _finite(values) for title, values in panels.items()}
    return _map(variables[:2], shown) if len(columns) > 1 else _along(variables[0], shown)


def _finite(values: NDArray) -> NDArray[np.float64]:
    return values[np.isfinite(values).all(axis=1)]


def _edges(variable: CollectiveVariable, values: NDArray) -> NDArray[np.float64]:
    low, high = variable.domain or (values.min(initial=0.0), values.max(initial=1.0))
    return np.linspace(low, high if high > low else low + 1.0, MAP_BINS + 1)


def _map(variables: Sequence[CollectiveVariable], panels: Mapping[str, NDArray]) -> Figure:
    whole = np.concatenate(list(panels.values()))
    edges = [_edges(v, whole[:, k]) for k, v in enumerate(variables)]
    layout, traces = subplots(list(panels)), []
    x, y = (drawn((e[1:] + e[:-1]) / 2, v) for e, v in zip(edges, variables, strict=True))
    for i, values in enumerate(panels.values()):
        number = "" if i == 0 else str(i + 1)
        folded = [v.in_domain(values[:, k]) for k, v in enumerate(variables)]
        counts = np.histogram2d(folded[0], folded[1], bins=(edges[0], edges[1]))[0]
        share = np.log10(np.where(counts > 0, counts, np.nan) / max(1, len(values)))
        traces.append(heat_map(
            x, y, share, "log10 of share", SCALE, xaxis=f"x{number}", yaxis=f"y{number}",
            coloraxis="coloraxis",
        ))  # fmt: skip
        layout[f"xaxis{number}"] |= axis_of(variables[0])
        layout[f"yaxis{number}"] |= axis_of(variables[1])
    title = {"text": "log10 of share", "side": "right"}
    layout["coloraxis"] = {"colorscale": [list(stop) for stop in SCALE],
                           "colorbar": {"title": title, "thickness": 12}}  # fmt: skip
    return Figure(traces, layout, "Share of the configurations in each cell.", 400)


def _along(variable: CollectiveVariable, panels: Mapping[str, NDArray]) -> Figure:
    whole = np.concatenate(list(panels.values()))[:, 0]
    edges, traces = _edges(variable, whole), []
    for number, (title, values) in enumerate(panels.items()):
        density = np.histogram(variable.in_domain(values[:, 0]), edges)[0] / max(1, len(values))
        x = drawn((edges[1:] + edges[:-1]) / 2, variable)
        traces.append(line(x, density, title, number))
    layout = {"xaxis": axis_of(variable), "yaxis": named_axis("share")}
    return Figure(traces, layout, "Share of the configurations in each bin.", 320)
