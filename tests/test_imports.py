"""The house rules that a test can hold: who imports whom, sizes, and a quick import."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cases import ROOT
from tests.cases.other_processes import PATIENCE
from tests.cases.sources import tree_of

PACKAGE = ROOT / "openmm_cgan"

# The order of the data (the package docstring): a room imports only from rooms above it.
ORDER = [
    "openmm_cgan",
    "quantities",
    "atomic_files",
    "json_files",
    "run_folders",
    "topology_records",
    "topologies",
    "atom_selection",
    "attached_parts",
    "short_reprs",
    "notebooks",
    "platforms",
    "collective_variable",
    "thermostats",
    "stepping",
    "states",
    "openmm_xml",
    "called_back",
    "array_files",
    "large_arrays",
    "claims",
    "signals",
    "seeds",
    "virtual_sites",
    "fingerprints",
    "molecules",
    "checkpoints.saved_states",
    "checkpoints.run_file",
    "checkpoints.portable",
    "checkpoints.running",
    "checkpoints",
    "plumed.input.words",
    "plumed.input.limits",
    "plumed.input.named_files",
    "plumed.input.language",
    "plumed.input.moved",
    "plumed.input.expressions",
    "plumed.input.expression_slopes",
    "plumed.input.selections",
    "plumed.input.pdb",
    "plumed.input.index_files",
    "plumed.input",
    "plumed.files.contents",
    "plumed.files.tables",
    "plumed.files.fields",
    "plumed.files.grid_files",
    "plumed.files.output_files",
    "plumed.files.xdr_frames",
    "plumed.files.dump_frames",
    "plumed.files.model_programs",
    "plumed.files.torch_models",
    "plumed.files",
    "plumed.geometry.lattices",
    "plumed.geometry.vectors",
    "plumed.geometry.molecules",
    "plumed.geometry.trees",
    "plumed.geometry.single_frame",
    "plumed.geometry.superposition",
    "plumed.geometry.last_frames",
    "plumed.geometry.switching",
    "plumed.geometry.near_pairs",
    "plumed.geometry.pair_blocks",
    "plumed.geometry",
    "plumed.actions.units",
    "plumed.actions.names",
    "plumed.actions.values",
    "plumed.actions.action",
    "plumed.actions.statements",
    "plumed.actions.help",
    "plumed.actions.run_keywords",
    "plumed.actions.update_window",
    "plumed.actions.neighbour_lists",
    "plumed.actions.setup",
    "plumed.actions.output",
    "plumed.actions.ignored",
    "plumed.actions.variables.atoms",
    "plumed.actions.variables.centers",
    "plumed.actions.variables.variable",
    "plumed.actions.variables.components",
    "plumed.actions.variables.chains",
    "plumed.actions.variables.contacts",
    "plumed.actions.variables.contact_maps",
    "plumed.actions.variables.distance_deviations",
    "plumed.actions.variables.reductions",
    "plumed.actions.variables.many",
    "plumed.actions.variables.distances",
    "plumed.actions.variables.alpha_beta",
    "plumed.actions.variables.coordination_numbers",
    "plumed.actions.variables.projection",
    "plumed.actions.variables.shapes",
    "plumed.actions.variables.displacements",
    "plumed.actions.variables.funnel_place",
    "plumed.actions.variables.ermsd",
    "plumed.actions.variables.puckering",
    "plumed.actions.variables.ideal_structures",
    "plumed.actions.variables.secondary",
    "plumed.actions.variables.moved",
    "plumed.actions.variables.paths",
    "plumed.actions.variables.surroundings",
    "plumed.actions.variables",
    "plumed.actions.functions",
    "plumed.actions.sort",
    "plumed.actions.function_path",
    "plumed.actions.pytorch_model",
    "plumed.actions.biases.bias",
    "plumed.actions.biases.restraint",
    "plumed.actions.biases.walls",
    "plumed.actions.biases.bias_value",
    "plumed.actions.biases.moving",
    "plumed.actions.biases.noise",
    "plumed.actions.biases.abmd",
    "plumed.actions.biases",
    "plumed.actions.expanded.expansions",
    "plumed.actions.expanded.linear",
    "plumed.actions.expanded.multibaric",
    "plumed.actions.expanded.energies",
    "plumed.actions.expanded.umbrellas",
    "plumed.actions.expanded.options",
    "plumed.actions.expanded.opes_expanded",
    "plumed.actions.expanded",
    "plumed.actions.opes.kernels",
    "plumed.actions.opes.neighbours",
    "plumed.actions.opes.options",
    "plumed.actions.opes.settings",
    "plumed.actions.opes.widths",
    "plumed.actions.opes.opes",
    "plumed.actions.opes",
    "plumed.actions.metad.gaussian",
    "plumed.actions.metad.axis",
    "plumed.actions.metad.hill_grid",
    "plumed.actions.metad.grid_texts",
    "plumed.actions.metad.hill_sums",
    "plumed.actions.metad.hill_lists",
    "plumed.actions.metad.adaptive",
    "plumed.actions.metad.tempering",
    "plumed.actions.metad.heights",
    "plumed.actions.metad.totals",
    "plumed.actions.metad.acceleration",
    "plumed.actions.metad.options",
    "plumed.actions.metad.hills",
    "plumed.actions.metad.metad",
    "plumed.actions.metad",
    "plumed.actions.pbmetad.options",
    "plumed.actions.pbmetad.family",
    "plumed.actions.pbmetad.pbmetad",
    "plumed.actions.pbmetad",
    "plumed.actions.external",
    "plumed.actions.funnel",
    "plumed.actions.dumps",
    "plumed.actions.committor",
    "plumed.actions.degrees",
    "plumed.actions",
    "plumed.native.dependence",
    "plumed.native.derivatives",
    "plumed.native.pulls",
    "plumed.native.forces.system_box",
    "plumed.native.forces.leaf_forces",
    "plumed.native.forces.energy_force",
    "plumed.native.forces.many_distances",
    "plumed.native.forces.frame_values",
    "plumed.native.forces.model_functions",
    "plumed.native.forces.input_functions",
    "plumed.native.forces.python_force",
    "plumed.native.forces.bias_forces",
    "plumed.native.forces.compiler",
    "plumed.native.forces",
    "plumed.native.values",
    "plumed.native.refusals",
    "plumed.native.runs.run",
    "plumed.native.runs.model",
    "plumed.native.runs.path",
    "plumed.native.runs.committor",
    "plumed.native.runs.external",
    "plumed.native.runs.moving",
    "plumed.native.runs.abmd",
    "plumed.native.runs.hills_files",
    "plumed.native.runs.metad",
    "plumed.native.runs.pbmetad",
    "plumed.native.runs.opes",
    "plumed.native.runs.opes_expanded",
    "plumed.native.runs.print",
    "plumed.native.runs.dumps",
    "plumed.native.runs.dumped_rows",
    "plumed.native.runs",
    "plumed.native.backend",
    "plumed.native",
    "plumed.libplumed.statements",
    "plumed.libplumed.schedule",
    "plumed.libplumed.instance",
    "plumed.libplumed.enquiries",
    "plumed.libplumed.run_by_plumed",
    "plumed.libplumed.kernel",
    "plumed.libplumed.plugin",
    "plumed.libplumed",
    "plumed.coverage",
    "plumed.backends",
    "plumed.driver.trajectories",
    "plumed.driver.virials",
    "plumed.driver.frame_forces",
    "plumed.driver.settings",
    "plumed.driver.force_files",
    "plumed.driver.driver",
    "plumed.driver",
    "plumed.bias.presence",
    "plumed.bias.reporters",
    "plumed.bias.serials",
    "plumed.bias.watch",
    "plumed.bias.attachment",
    "plumed.bias.bias",
    "plumed.bias",
    "plumed",
    "frames.journal",
    "frames.h5md",
    "frames.set_aside",
    "frames.segments",
    "frames.chosen_files",
    "frames.joining",
    "frames.frames",
    "frames.images",
    "frames.parts",
    "frames",
    "constraints",
    "potentials",
    "devices",
    "sobol",
    "radii",
    "internal_coordinates.rows",
    "internal_coordinates.molecule",
    "internal_coordinates.z_matrix",
    "internal_coordinates.part_z_matrix",
    "internal_coordinates.part_rows",
    "internal_coordinates.superposition",
    "internal_coordinates.neighbours",
    "internal_coordinates.local_geometry",
    "internal_coordinates",
    "rotors",
    "features.featurization",
    "features.condition_encoding",
    "features.part_of_frames",
    "features.scaling",
    "features.z_matrix_features",
    "features.modes",
    "features.alignment",
    "features.aligned_features",
    "features.plain_features",
    "features.skeleton",
    "features",
    "generators.posed_skeleton",
    "generators.contacts",
    "generators.contact_pairs",
    "generators.splines",
    "generators.bending",
    "generators.couplings",
    "generators.mlp",
    "generators.flow",
    "generators",
    "proposals.graph_classes",
    "proposals.valence",
    "proposals.stereochemistry",
    "proposals.stereo_axes",
    "cgan.critic",
    "cgan.scores",
    "cgan.settings",
    "cgan.divergences",
    "cgan.part_targets",
    "cgan.training_data",
    "cgan.threads",
    "cgan.training_checkpoint",
    "cgan.training",
    "cgan.dataset",
    "cgan.networks",
    "cgan.consistency",
    "cgan.artefact",
    "cgan.targets",
    "cgan.latent_map",
    "cgan.torsion_map",
    "cgan.saved_generator",
    "cgan.hands",
    "cgan.conditional_generator",
    "cgan.even_samples",
    "cgan.level_sets",
    "cgan.rows",
    "cgan.refinable",
    "cgan.effective_share",
    "cgan.weighed_torsions",
    "cgan.refining_checkpoint",
    "cgan.refining",
    "cgan",
    "proposals.samplers",
    "proposals.clashes",
    "proposals.bond_lengths",
    "proposals.screen_settings",
    "proposals.screening",
    "proposals.propose",
    "proposals.targets",
    "proposals.conditions",
    "proposals.even_draws",
    "proposals.weights",
    "proposals.selection",
    "proposals",
    "reporters.biased_values",
    "reporters.given_positions",
    "reporters.frame_reporter",
    "reporters.contexts",
    "reporters.side_by_side",
    "reporters.bath",
    "reporters.ensembles",
    "reporters.settings",
    "reporters.settling",
    "reporters.attempts",
    "reporters.tied_molecules",
    "reporters.surroundings",
    "reporters.placing",
    "reporters.parts",
    "reporters.rest_energy",
    "reporters.insertion",
    "reporters.healing",
    "reporters.moves.move",
    "reporters.moves.exactness",
    "reporters.moves.remembered",
    "reporters.moves.weighing",
    "reporters.moves.candidate_record",
    "reporters.moves.marginal",
    "reporters.moves.exact",
    "reporters.moves.quick_energies",
    "reporters.moves.held_rest",
    "reporters.moves.local",
    "reporters.moves.annealing",
    "reporters.moves.pilot",
    "reporters.moves.annealed",
    "reporters.moves.steering",
    "reporters.moves.switching",
    "reporters.moves.torsion_targets",
    "reporters.moves.steered",
    "reporters.moves.seed",
    "reporters.moves.choice",
    "reporters.moves",
    "reporters.proposal_reporter",
    "reporters.learner",
    "reporters.run_checkpoint",
    "reporters",
    "free_energy.hills",
    "free_energy.opes",
    "free_energy.newton",
    "free_energy.mbar",
    "free_energy.in_time",
    "free_energy.overlap",
    "free_energy.pareto",
    "free_energy.samples",
    "free_energy.worth",
    "free_energy.agreement",
    "free_energy.bootstrap",
    "free_energy.doubts",
    "free_energy.reweighting",
    "free_energy.biased_runs",
    "free_energy.generated",
    "free_energy.importance",
    "free_energy.profiles",
    "free_energy.differences",
    "free_energy.rounds",
    "free_energy",
    "closures.local_quantities",
    "closures.constraint_manifold",
    "closures.projection",
    "closures.observables",
    "closures.local_polynomial",
    "closures.slow_values",
    "closures.conditional_averages",
    "closures.drift_and_diffusion",
    "closures.grid",
    "closures.mean_force",
    "closures.reduced_dynamics",
    "closures.from_closure",
    "closures.bursts",
    "closures.lag_plateau",
    "closures.pair_blocks",
    "closures.kramers_moyal_coefficients",
    "closures.spline_basis",
    "closures.lagged_moments",
    "closures.lagged_fits",
    "closures.lagged_regression",
    "closures.restrained",
    "closures",
    "diffusion_maps.distances",
    "diffusion_maps.kernels",
    "diffusion_maps.groups",
    "diffusion_maps.landmarks",
    "diffusion_maps.diffusion_map",
    "diffusion_maps.interpolation",
    "diffusion_maps.plots",
    "diffusion_maps",
    "learned_variable",
    "windows.platforms",
    "windows.run_files",
    "windows.dragging",
    "windows.worker",
    "windows.jobs",
    "windows.cluster",
    "windows.local_workers",
    "windows.slurm_array",
    "windows.array_task",
    "windows.parsl_workers",
    "windows.executors",
    "windows.windows",
    "windows.runs",
    "windows.results",
    "windows.placement",
    "windows",
    "metrics.coordinates",
    "metrics.distances",
    "metrics.consistency",
    "metrics.sampling",
    "metrics.judging",
    "metrics",
    "report.axes",
    "report.free_energies",
    "report.generated",
    "report.page.blocks",
    "report.page.figures",
    "report.page.found",
    "report.page.weighed",
    "report.page.wells",
    "report.page.given_input",
    "report.page.energies",
    "report.page.course",
    "report.page.models",
    "report.page.records",
    "report.page.writing",
    "report.page",
    "report",
    "explore.torsions",
    "explore.coordinate_bias",
    "explore.coordinate_rounds",
    "explore.passes",
    "explore.allocation",
    "explore.added_bias",
    "explore.evidence",
    "explore.settings",
    "explore.coverage",
    "explore.claims",
    "explore.decisions",
    "explore.legs",
    "explore.circle",
    "explore",
    "testsystems.peptides",
    "testsystems.double_well",
    "testsystems.chain",
    "testsystems.multiscale.quadrature",
    "testsystems.multiscale.wells",
    "testsystems.multiscale.multiscale_system",
    "testsystems.multiscale.openmm_forms",
    "testsystems.multiscale.reversible",
    "testsystems.multiscale.linear",
    "testsystems.multiscale.half_moon",
    "testsystems.multiscale.angle_radius",
    "testsystems.multiscale.mueller_brown",
    "testsystems.multiscale.coupled_well",
    "testsystems.multiscale",
    "testsystems",
    "cli.exports",
    "cli.molecule_files",
    "cli.molecules",
    "cli.run_states",
    "cli.run_records",
    "cli.simulations",
    "cli.importance",
    "cli.shipped",
    "cli.demo_analysis",
    "cli.demo",
    "cli.options",
    "cli.config_file",
    "cli.kept_inputs",
    "cli.given_once",
    "cli.init",
    "cli.stopping",
    "cli.driver",
    "cli.doctor",
    "cli.refine",
    "cli.tensor_board",
    "cli.train",
    "cli.window_places",
    "cli.window_starts",
    "cli.window_runs",
    "cli.judging",
    "cli.explored_windows",
    "cli.other_cvs",
    "cli.exploration_folder",
    "cli.explored_numbers",
    "cli.explored_coordinates",
    "cli.explored_difference",
    "cli.exploration",
    "cli.free_energies",
    "cli.reports",
    "cli.windows",
    "cli.judge",
    "cli.explore",
    "cli.commands",
    "cli",
    "__main__",
]

# Third-party modules a room may import where it is loaded (inside functions and under
# TYPE_CHECKING does not count). Rooms not named here: numpy only.
ALLOWED = {
    "plumed": {"numpy", "openmm", "tqdm"},
    "checkpoints": {"numpy", "openmm"},
    "quantities": {"numpy"},
    "platforms": {"openmm"},
    "openmm_xml": {"openmm"},
    "thermostats": {"openmm"},
    "fingerprints": {"openmm"},
    "seeds": {"openmm"},
    "topology_records": {"openmm"},
    "molecules": {"openmm"},
    "called_back": {"numpy", "openmm"},
    "plumed.input": {"numpy"},
    "plumed.files": {"numpy"},
    "plumed.files.model_programs": {"numpy", "torch", "scipy"},  # loaded with a model in hand
    "plumed.geometry": {"numpy"},
    "plumed.actions": {"numpy"},
    "frames": {"numpy", "h5py"},
    "constraints": {"numpy", "openmm"},
    "virtual_sites": {"openmm"},
    "potentials": {"numpy", "openmm"},
    "devices": {"torch"},
    "internal_coordinates": {"numpy", "torch"},
    "internal_coordinates.neighbours": {"numpy", "scipy", "torch"},
    "rotors": {"numpy"},
    "radii": {"numpy"},
    "large_arrays": {"numpy"},
    "features": {"numpy", "torch"},
    "generators": {"numpy", "torch"},
    "cgan": {"numpy", "torch", "tqdm"},
    "proposals": {"numpy", "scipy", "tqdm"},
    "reporters": {"numpy", "openmm"},
    "free_energy": {"numpy", "scipy", "pymbar"},
    "free_energy.generated": {"numpy", "tqdm"},
    "closures": {"numpy", "scipy"},
    "closures.conditional_averages": {"numpy", "tqdm"},
    "closures.local_quantities": {"numpy", "torch"},
    "closures.constraint_manifold": {"torch"},
    "closures.projection": {"numpy", "torch", "tqdm"},
    "closures.bursts": {"numpy", "openmm", "tqdm"},
    "diffusion_maps": {"numpy", "scipy"},
    "diffusion_maps.plots": {"numpy", "matplotlib"},
    "learned_variable": {"numpy", "torch"},
    "windows": {"numpy", "openmm", "tqdm"},
    "metrics": {"numpy", "scipy"},
    "metrics.consistency": {"numpy", "scipy", "tqdm"},
    "metrics.judging": {"numpy", "scipy", "tqdm"},
    "report": {"numpy", "matplotlib"},
    "report.page": {"numpy"},
    "report.page.weighed": {"numpy", "scipy"},
    "report.page.writing": {"jinja2", "markupsafe"},
    "testsystems": {"numpy", "openmm"},
    "explore.coordinate_rounds": {"numpy", "openmm", "tqdm"},
    "testsystems.multiscale": {"numpy", "torch"},
    "testsystems.multiscale.openmm_forms": {"openmm"},
    "cli": {"numpy"},
    "cli.options": {"click"},
    "cli.config_file": {"click"},
    "cli.kept_inputs": {"click"},
    "cli.given_once": {"click"},
    "cli.init": {"click"},
    "cli.driver": {"click"},
    "cli.free_energies": {"click"},
    "cli.stopping": {"click"},
    "cli.refine": {"click"},
    "cli.train": {"click"},
    "cli.doctor": {"click"},
    "cli.windows": {"click"},
    "cli.judge": {"click"},
    "cli.explore": {"click"},
    "cli.judging": {"numpy", "openmm"},
    "cli.reports": {"click"},
    "cli.explored_coordinates": {"numpy"},
    "cli.other_cvs": {"numpy", "openmm", "tqdm"},
    "cli.exploration": {"numpy"},
    "cli.exploration_folder": {"numpy", "openmm"},
    "cli.commands": {"click"},
    "cli.molecule_files": {"numpy", "openmm"},
    "cli.molecules": {"numpy", "openmm"},
    "cli.run_states": {"openmm"},
    "cli.run_records": {"openmm"},
    "cli.simulations": {"openmm", "tqdm"},
}

# Words that name a drawer and not a thing.
DRAWERS = {"utils", "helpers", "manager", "managers", "common", "misc", "tools", "base", "core"}

FILES = sorted(path for path in PACKAGE.rglob("*.py") if "plumed_inputs" not in path.parts)
TEST_FILES = sorted((ROOT / "tests").rglob("*.py"))


def room_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    parts = parts[:-1] if parts[-1] == "__init__" else parts
    return ".".join(parts) or "openmm_cgan"


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def imported(tree: ast.AST, everywhere: bool) -> set[str]:
    """Full names imported: at load time only, or in functions and under TYPE_CHECKING too."""
    names: set[str] = set()
    for node in ast.iter_child_nodes(tree):
        if is_type_checking(node) and not everywhere:
            continue
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
        elif everywhere or not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            names |= imported(node, everywhere)
    return names


def rooms_imported(tree: ast.AST, everywhere: bool = True) -> set[str]:
    rooms = set()
    for name in imported(tree, everywhere):
        if name.split(".")[0] != "openmm_cgan":
            continue
        inner = name.removeprefix("openmm_cgan.")
        known = [room for room in ORDER if inner == room or inner.startswith(room + ".")]
        rooms.add(max(known, key=len) if known else "openmm_cgan")
    return rooms


def position(room: str) -> int:
    """Where a room stands in the order of the data."""
    assert room in ORDER, f"{room} has no place in ORDER: give it one, in the order of the data"
    return ORDER.index(room)


@pytest.mark.parametrize("path", FILES, ids=room_of)
def test_a_room_imports_only_from_rooms_above_it(path: Path) -> None:
    room = room_of(path)
    everywhere = room != "openmm_cgan"  # the door shows type checkers what it loads when asked
    rooms = rooms_imported(tree_of(path), everywhere)
    below = {other for other in rooms if position(other) > position(room)}
    assert not below, f"{room} imports {sorted(below)}, which come after it"


@pytest.mark.parametrize("path", TEST_FILES, ids=lambda path: path.stem)
def test_no_test_file_imports_from_another_one(path: Path) -> None:
    """What two of them share lies in tests/cases. Scripts in strings count as well."""
    assert not re.search(r"^\s*(from|import)\s+(\S+\.)?test_", path.read_text(), re.MULTILINE)


@pytest.mark.parametrize("path", FILES, ids=room_of)
def test_a_room_loads_only_the_third_party_modules_allowed_to_it(path: Path) -> None:
    room = room_of(path)
    parts = room.split(".")
    above = [".".join(parts[:n]) for n in range(len(parts), 0, -1)]
    own = next((ALLOWED[name] for name in above if name in ALLOWED), {"numpy"})
    allowed = own | {"openmm_cgan", "__future__"} | sys.stdlib_module_names
    loaded = {n.split(".")[0] for n in imported(tree_of(path), everywhere=False)}
    assert loaded <= allowed, f"{room} loads {sorted(loaded - allowed)}"


def test_torch_and_openmm_stay_on_their_sides() -> None:
    for room, allowed in ALLOWED.items():
        assert not {"torch", "openmm"} <= allowed, room


@pytest.mark.parametrize("path", FILES, ids=room_of)
def test_files_and_functions_stay_readable(path: Path) -> None:
    assert path.stem not in DRAWERS
    assert len(path.read_text().splitlines()) <= 400
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.FunctionDef):
            assert code_lines(node) <= 45, f"{node.name} has {code_lines(node)} lines of code"


def code_lines(function: ast.FunctionDef) -> int:
    """Lines of a function's body without its docstring."""
    body = function.body[ast.get_docstring(function) is not None :]
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


@pytest.mark.parametrize("folder", ["openmm_cgan", "tests", "benchmarks", "examples", "docs", "."])
def test_nothing_holds_the_marks_of_a_merge(folder: str) -> None:
    depth = "*" if folder == "." else "**/*"
    for path in (ROOT / folder).glob(depth):
        if path.suffix in (".py", ".md", ".toml", ".dat"):
            assert not re.search(r"^\s*(<{7}|>{7}) ", path.read_text(), re.MULTILINE), path


def test_no_benchmark_hides_a_module_of_others() -> None:
    """Their folder comes first in the path where one runs: a coverage.py broke numba."""
    names = [path.stem for path in (ROOT / "benchmarks").glob("*.py")]
    code = f"from importlib.util import find_spec; print([n for n in {names} if find_spec(n)])"
    command = [sys.executable, "-I", "-c", code]
    run = subprocess.run(command, capture_output=True, text=True, check=True, timeout=PATIENCE)
    assert run.stdout == "[]\n"


def test_the_package_docstring_names_every_room() -> None:
    lines = (ast.get_docstring(tree_of(PACKAGE / "__init__.py")) or "").splitlines()
    # names begin a line, joined by commas; what they hold follows after blanks
    named = {word for line in lines for word in line.split("  ")[0].split(", ")}
    rooms = {room_of(path).split(".")[0] for path in FILES} - {"openmm_cgan"}
    assert not rooms - named


def test_importing_the_package_is_quick() -> None:
    code = "import sys, openmm_cgan; print(sorted(sys.modules))"
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=PATIENCE
    )
    heavy = {"torch", "openmm", "numpy", "h5py", "MDAnalysis", "pymbar", "matplotlib"}
    assert not heavy & set(ast.literal_eval(run.stdout))


def test_what_is_slow_to_load_is_not_in_the_import_path_of_what_runs_and_analyses() -> None:
    slow = {"torch", "scipy"}  # 1.7 s, and 0.3 to 1.1 s
    code = "import importlib, sys\n"
    for rooms in (["frames", "proposals", "reporters", "windows"], ["free_energy"]):
        code += f"for room in {rooms}:\n    importlib.import_module('openmm_cgan.' + room)\n"
        code += f"    assert not {slow} & set(sys.modules), room\n"
        slow = {"torch", "scipy.spatial", "scipy.stats"}
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE
    )
    assert run.returncode == 0, run.stderr


def test_public_names_are_found_and_unknown_ones_refused() -> None:
    import openmm_cgan

    aliases = {"ConditionalGAN": "ConditionalGenerator"}
    for name in openmm_cgan.__all__:
        assert getattr(openmm_cgan, name).__name__ == aliases.get(name, name)
        assert name in dir(openmm_cgan)
    with pytest.raises(AttributeError, match="no attribute 'PlumedBais'"):
        _ = openmm_cgan.PlumedBais
