"""Runs weighed by what their inputs say of their bias, against exact free energies."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import openmm
import pytest
from openmm import app

from openmm_cgan import GAS_CONSTANT
from openmm_cgan.collective_variable import CollectiveVariable
from openmm_cgan.frames import Frames, read_frames
from openmm_cgan.free_energy import basin_difference, free_energy_profile
from openmm_cgan.free_energy.biased_runs import BiasedRun, reweight_runs
from openmm_cgan.free_energy.opes import read_opes
from openmm_cgan.plumed.bias import PlumedBias
from openmm_cgan.plumed.files.fields import read_fields
from openmm_cgan.reporters import FrameReporter
from openmm_cgan.testsystems import alanine_dipeptide

TEMPERATURE = 300.0
REFERENCE = openmm.Platform.getPlatformByName("Reference")
KT = GAS_CONSTANT * TEMPERATURE
FACTOR = 6.0
VARIABLE = CollectiveVariable("s", "rad", (-np.pi, np.pi))
GRID = np.linspace(-np.pi, np.pi, 181)[:-1] + np.pi / 180
TRUE = 6.0 * np.cos(2 * GRID) + 3.0 * np.cos(GRID)
ENTROPY = 6.0 * np.sin(GRID)  # kJ/mol, by which a run at twice the temperature has another TRUE
SETS = "#! SET min_s -pi\n#! SET max_s pi\n"


def hill(centre: float, sigma: float = 0.3) -> np.ndarray:
    """A Gaussian of height 1 on the grid, cut and stretched as PLUMED does."""
    x = 0.5 * ((GRID - centre + np.pi) % (2 * np.pi) - np.pi) ** 2 / sigma**2
    edge = np.exp(-6.25)
    return np.where(x < 6.25, (np.exp(-x) - edge) / (1 - edge), 0.0)


def metadynamics(
    folder: Path,
    n_hills: int = 400,
    n_frames: int = 20,
    seed: int = 1,
    tempering: tuple[float, float] = (FACTOR, TEMPERATURE),
    hotter: float | None = None,
) -> BiasedRun:
    """Well-tempered metadynamics on TRUE, fully relaxed between hills, as files and frames.

    METAD tempers by a BIASFACTOR and a TEMP, which need not be the temperature of the run. A run
    that is at another temperature each second time, where its free energy is another, has frames at
    the first.
    """
    factor, temp = tempering
    rng = np.random.default_rng(seed)
    bias, rows, values, biases = np.zeros(len(GRID)), [], [], []
    for i in range(n_hills):
        now = TEMPERATURE if hotter is None or i % 2 == 0 else hotter
        free_energy = TRUE + (now / TEMPERATURE - 1) * ENTROPY
        p = np.exp(-(free_energy + bias) / (GAS_CONSTANT * now))
        drawn = rng.choice(len(GRID), n_frames + 1, p=p / p.sum())
        values.append(GRID[drawn[:-1]])
        biases.append(bias[drawn[:-1]] if now == TEMPERATURE else np.full(n_frames, np.nan))
        centre = GRID[drawn[-1]]
        height = 1.5 * np.exp(-bias[drawn[-1]] / (GAS_CONSTANT * temp * (factor - 1)))
        bias += height * hill(centre)
        rows.append(f"{i + 1} {centre} 0.3 {height * factor / (factor - 1)} {factor}")
    header = "#! FIELDS time s sigma_s height biasf\n" + SETS
    (folder / "MYHILLS").write_text(header + "\n".join(rows) + "\n")
    plumed = folder / "plumed.dat"
    plumed.write_text(
        "s: TORSION ATOMS=1,2,3,4\nMETAD ARG=s SIGMA=0.3 HEIGHT=1.5 PACE=1 "
        f"BIASFACTOR={factor:g} TEMP={temp:g} FILE=MYHILLS\n"
    )
    frames = frames_of(np.concatenate(values), np.concatenate(biases))
    times = np.repeat(np.arange(n_hills) + 0.5, n_frames)
    object.__setattr__(frames, "time", times)
    frames = frames.select(np.isfinite(frames.bias))
    others = () if hotter is None else (hotter,)
    return BiasedRun.of(replace(frames, other_temperatures=others), plumed, folder)


def frames_of(values: np.ndarray, bias: np.ndarray) -> Frames:
    return Frames.of_arrays(
        np.zeros((len(values), 1)), values, [VARIABLE], bias=bias, temperature=TEMPERATURE
    )


def exact_difference() -> float:
    """Free energy of 0 < s over the rest."""
    p = np.exp(-TRUE / KT)
    return -KT * np.log(p[(GRID > 0) & (GRID < 1.5)].sum() / p[(GRID <= 0) | (GRID >= 1.5)].sum())


def inside(cvs: np.ndarray) -> np.ndarray:
    return (cvs[:, 0] > 0) & (cvs[:, 0] < 1.5)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_metadynamics_gives_the_exact_difference(tmp_path: Path, seed: int) -> None:
    samples = reweight_runs([metadynamics(tmp_path, seed=seed)])
    found = basin_difference(samples, inside)
    assert abs(found.value - exact_difference()) < 3.5 * found.error
    assert found.error < 0.3


def test_frames_at_one_of_several_temperatures_are_weighed_rightly(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Not so what the hills add up to, which were laid at all of them: 2 kJ/mol off."""
    run = metadynamics(tmp_path, n_hills=800, hotter=600.0)
    assert "METAD grew at 600 K as well" in caplog.text
    found = basin_difference(reweight_runs([run]), inside)
    assert abs(found.value - exact_difference()) < 3.5 * found.error
    assert found.error < 0.3
    assert run.free_energy_of_bias("s", GRID) is None


def test_runs_of_other_molecules_are_not_joined_in_silence(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    runs = []
    for name in ("alanine", "serine"):
        (tmp_path / name).mkdir()
        run = metadynamics(tmp_path / name, n_hills=40, seed=ord(name[0]))
        object.__setattr__(run.frames, "topology_hash", name)
        runs.append(run)
        reweight_runs([run])
        assert "taken together" not in caplog.text
    reweight_runs(runs)
    assert f"2 topologies are taken together (of {runs[0].folder}, {runs[1].folder})" in caplog.text


def after_equilibration(folder: Path, counted: bool, clock_as_steps: bool) -> np.ndarray:
    """Weights of frames of METAD that goes on from 200 shorter steps, which are counted or not."""
    folder.mkdir()
    molecule, plumed = alanine_dipeptide("C7eq"), folder / "plumed.dat"
    plumed.write_text(
        "phi: TORSION ATOMS=5,7,9,15\n"
        "METAD ARG=phi SIGMA=0.35 HEIGHT=3 PACE=10 BIASFACTOR=6 TEMP=300\n"
    )
    bias = PlumedBias(plumed, molecule.topology, directory=folder)
    bias.add_to(molecule.system)
    integrator = openmm.LangevinMiddleIntegrator(TEMPERATURE, 5.0, 0.0005)
    integrator.setRandomNumberSeed(1)
    platform = openmm.Platform.getPlatformByName("Reference")
    simulation = app.Simulation(molecule.topology, molecule.system, integrator, platform)
    simulation.context.setPositions(molecule.positions)
    simulation.step(200)
    integrator.setStepSize(0.001)
    if not counted:
        simulation.currentStep = 0
    if clock_as_steps:
        simulation.context.setTime(0.001 * simulation.currentStep)
    bias.attach(simulation)
    reporter = FrameReporter(folder / "frames", 10, bias)
    simulation.reporters.append(reporter)
    simulation.step(100)
    bias.close()
    reporter.close()
    return BiasedRun.of(read_frames(folder / "frames"), plumed, folder).log_weights()


@pytest.mark.parametrize("counted", [True, False])
def test_what_went_before_does_not_shift_the_hills(tmp_path: Path, counted: bool) -> None:
    """HILLS counts steps, a Simulation has a clock: which of them went wrong must not matter."""
    found = [
        after_equilibration(tmp_path / str(as_steps), counted, as_steps)
        for as_steps in (False, True)
    ]
    np.testing.assert_allclose(*found, rtol=1e-10)
    assert np.ptp(found[0]) > 0.1


def begun(folder: Path, timestep: float, restart: bool) -> tuple[app.Simulation, PlumedBias]:
    molecule = alanine_dipeptide("C7eq")
    bias = PlumedBias(
        "phi: TORSION ATOMS=5,7,9,15\nMETAD ARG=phi SIGMA=0.35 HEIGHT=3 PACE=10 BIASFACTOR=6\n",
        molecule.topology, directory=folder, temperature=TEMPERATURE, restart=restart,
    )  # fmt: skip
    bias.add_to(molecule.system)
    integrator = openmm.LangevinMiddleIntegrator(TEMPERATURE, 5.0, timestep)
    platform = openmm.Platform.getPlatformByName("Reference")
    simulation = app.Simulation(molecule.topology, molecule.system, integrator, platform)
    simulation.context.setPositions(molecule.positions)
    return simulation, bias


def test_frames_have_the_times_of_the_hills(tmp_path: Path) -> None:
    """Whatever becomes of time step and clock beside, and over two starts of other steps."""
    for start, timestep in enumerate((0.0005, 0.001)):
        simulation, bias = begun(tmp_path, timestep, restart=start > 0)
        simulation.currentStep = 30 * start
        bias.attach(simulation)
        simulation.integrator.setStepSize(0.0007)
        simulation.context.setTime(5.0 * start + 1.0)
        reporter = FrameReporter(tmp_path / "frames", 10, bias, append=start > 0)
        simulation.reporters.append(reporter)
        simulation.step(30)
        bias.close()
        reporter.close()
    frames = read_frames(tmp_path / "frames")
    laid = read_fields(tmp_path / "HILLS").columns["time"]
    np.testing.assert_allclose(frames.plumed_time, laid, rtol=1e-6)
    np.testing.assert_allclose(laid, [0.005, 0.010, 0.015, 0.040, 0.050, 0.060], rtol=1e-6)
    np.testing.assert_array_equal(frames.select([0, 4]).plumed_time, frames.plumed_time[[0, 4]])


def test_the_sum_of_hills_stands_beside_it(tmp_path: Path) -> None:
    """Fluctuations of well-tempered hills: one hill's height at most, near the bottom."""
    run = metadynamics(tmp_path, n_hills=3000, n_frames=1)
    found = run.free_energy_of_bias("s", GRID)
    assert found is not None
    low = TRUE - TRUE.min() < 15
    difference = found[low] - TRUE[low]
    assert np.ptp(difference) < 3.0
    assert run.free_energy_of_bias("t", GRID) is None


def test_hills_over_two_cvs_in_either_order(tmp_path: Path) -> None:
    """Hills laid where the analytic free energy of two torsions asks for them."""
    sigma, side = 0.25, 2 * np.pi / 24
    middles = -np.pi + side * (np.arange(24) + 0.5)
    s, t = np.meshgrid(middles, middles, indexing="ij")
    wanted = 4.0 * np.cos(s) + 3.0 * np.sin(2 * t) + 2.0 * np.cos(s - t)
    # many wide hills of one height each make their convolution: a cosine shrinks by exp(-sigma^2/2)
    heights = (10.0 - wanted) * side**2 / (2 * np.pi * sigma**2)
    rows = [
        f"{k + 1} {a} {b} {sigma} {sigma} {h * FACTOR / (FACTOR - 1)} {FACTOR}"
        for k, (a, b, h) in enumerate(zip(s.ravel(), t.ravel(), heights.ravel(), strict=True))
    ]
    sets = "".join(f"#! SET min_{name} -pi\n#! SET max_{name} pi\n" for name in "st")
    header = f"#! FIELDS time s t sigma_s sigma_t height biasf\n{sets}"
    (tmp_path / "HILLS").write_text(header + "\n".join(rows) + "\n")
    plumed = tmp_path / "plumed.dat"
    plumed.write_text(
        "s: TORSION ATOMS=1,2,3,4\nt: TORSION ATOMS=2,3,4,5\nMETAD ARG=s,t SIGMA=0.25,0.25"
        f" HEIGHT=1 PACE=1 BIASFACTOR={FACTOR:g} TEMP={TEMPERATURE:g} FILE=HILLS\n"
    )
    variables = [VARIABLE, replace(VARIABLE, name="t")]
    cvs = np.zeros((1000, 2))
    frames = Frames.of_arrays(
        np.zeros((1000, 1)), cvs, variables, bias=np.zeros(1000), temperature=TEMPERATURE
    )
    run = BiasedRun.of(frames, plumed, tmp_path)
    blurred = (
        np.exp(-(sigma**2) / 2) * 4.0 * np.cos(s)
        + np.exp(-2 * sigma**2) * 3.0 * np.sin(2 * t)
        + np.exp(-(sigma**2)) * 2.0 * np.cos(s - t)
    ) * FACTOR / (FACTOR - 1)  # fmt: skip
    found = run.surface_of_bias(["s", "t"], [middles, middles])
    other = run.surface_of_bias(["t", "s"], [middles, middles[:5]])
    assert found is not None
    assert other is not None
    # PLUMED cuts hills at exp(-6.25)
    np.testing.assert_allclose(found - found.mean(), blurred - blurred.mean(), atol=0.1)
    np.testing.assert_allclose(other - other[0, 0], (found.T - found[0, 0])[:, :5], atol=1e-9)
    along = run.free_energy_of_bias("t", middles)
    summed = -KT * np.log(np.exp(-found / KT).sum(axis=0))
    np.testing.assert_allclose(along, summed - summed.min(), atol=0.05)
    assert run.surface_of_bias(["s", "u"], [middles, middles]) is None


def test_the_sum_of_hills_knows_what_metad_counted_with(tmp_path: Path) -> None:
    """V comes to -F dT/(T + dT), dT = (g-1) TEMP: here a quarter of F is not filled."""
    run = metadynamics(tmp_path, n_hills=3000, n_frames=1, tempering=(2.0, 900.0))
    found = run.free_energy_of_bias("s", GRID)
    assert found is not None
    low = TRUE - TRUE.min() < 15
    assert np.ptp(found[low] - TRUE[low]) < 3.0


def test_hills_of_bias_factor_one_weigh_nothing(tmp_path: Path) -> None:
    """They are written and do not act: the frames are those of no bias."""
    run = metadynamics(tmp_path, n_hills=20)
    hills = tmp_path / "MYHILLS"
    hills.write_text(hills.read_text().replace(" 6.0\n", " 1\n"))
    run.plumed.write_text(run.plumed.read_text().replace("BIASFACTOR=6", "BIASFACTOR=1"))
    found = BiasedRun.of(frames_of(GRID, 0 * GRID), run.plumed, tmp_path)
    assert (found.log_weights() == 0).all()


def test_a_static_bias_is_weighed_from_its_first_frame_on(tmp_path: Path) -> None:
    bias = 0.5 * 2.0 * (GRID - 0.5) ** 2
    p = np.exp(-(TRUE + bias) / KT)
    drawn = np.random.default_rng(4).choice(len(GRID), 20_000, p=p / p.sum())
    (tmp_path / "p.dat").write_text("s: TORSION ATOMS=1,2,3,4\nRESTRAINT ARG=s AT=0.5 KAPPA=2\n")
    run = BiasedRun.of(frames_of(GRID[drawn], bias[drawn]), tmp_path / "p.dat", tmp_path)
    samples = reweight_runs([run])
    assert len(samples.cvs) == 20_000
    assert run.free_energy_of_bias("s", GRID) is None
    edges = np.array([0.2, 0.4, 0.6, 0.8])
    profile = free_energy_profile(samples, "s", edges)
    shares = np.histogram(GRID, edges, weights=np.exp(-TRUE / KT))[0]
    exact = -KT * np.log(shares / shares.max())
    assert (np.abs(profile.free_energy - exact) < 4 * profile.error + 1e-9).all()


def test_frames_of_opes_expanded_are_weighed_by_the_bias_that_acted(tmp_path: Path) -> None:
    """A bias of two temperatures that settles as the run goes; it was refused."""
    (tmp_path / "p.dat").write_text(
        "s: TORSION ATOMS=1,2,3,4\nu: ENERGY\necv: ECV_MULTITHERMAL ARG=u TEMP_MAX=900\n"
        "OPES_EXPANDED ARG=ecv.* PACE=1\n"
    )
    rng, values, biases = np.random.default_rng(5), [], []
    for shift in np.linspace(0, 3, 20):  # deltaF over kT of the hotter state
        bias = -KT * np.log(0.5 * (1 + np.exp(TRUE * (1 - 1 / 3) / KT - shift)))
        p = np.exp(-(TRUE + bias) / KT)
        drawn = rng.choice(len(GRID), 2000, p=p / p.sum())
        values.append(GRID[drawn])
        biases.append(bias[drawn])
    frames = frames_of(np.concatenate(values), np.concatenate(biases))
    run = BiasedRun.of(frames, tmp_path / "p.dat", tmp_path)
    samples = reweight_runs([run])
    assert len(samples.cvs) == 32_000  # it grew at first
    found = basin_difference(samples, inside)
    assert abs(found.value - exact_difference()) < 3.5 * found.error
    assert run.free_energy_of_bias("s", GRID) is None


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("MOVINGRESTRAINT ARG=s STEP0=0 AT0=0 KAPPA0=1\n", "MOVINGRESTRAINT have no weights"),
        ("METAD ARG=s SIGMA=1 PACE=1\nOPES_METAD ARG=s PACE=1 BARRIER=3\n", "OPES_METAD have no"),
        ("METAD ARG=s SIGMA=1 PACE=1 TARGET=f.dat\n", "METAD with TARGET have no weights"),
        ("METAD ARG=s SIGMA=1 PACE=1 ADAPTIVE=DIFF\n", "METAD with ADAPTIVE have no weights"),
        ("METAD ARG=s SIGMA=1 PACE=1 GRID_RFILE=g\n", "METAD with GRID_RFILE have no weights"),
        ("METAD ARG=s SIGMA=1 PACE=1 WALKERS_N=2\n", "METAD with WALKERS_N have no weights"),
    ],
)
def test_biases_without_weights_are_refused(tmp_path: Path, text: str, match: str) -> None:
    (tmp_path / "p.dat").write_text("s: TORSION ATOMS=1,2,3,4\n" + text)
    with pytest.raises(ValueError, match=match):
        BiasedRun.of(frames_of(GRID, GRID), tmp_path / "p.dat", tmp_path)


def test_one_walker_is_a_run_like_others(tmp_path: Path) -> None:
    (tmp_path / "p.dat").write_text("METAD ARG=s SIGMA=1 PACE=1 walkers_n=1\n")
    assert BiasedRun.of(frames_of(GRID, GRID), tmp_path / "p.dat", tmp_path).growing


def test_missing_hills_are_named(tmp_path: Path) -> None:
    run = metadynamics(tmp_path, n_hills=3)
    (tmp_path / "MYHILLS").unlink()
    with pytest.raises(FileNotFoundError, match="MYHILLS is not there: the file of the METAD"):
        reweight_runs([run])


def test_a_share_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="skip is 1"):
        reweight_runs([metadynamics(tmp_path, n_hills=3)], skip=1)


@pytest.mark.parametrize("temp", [TEMPERATURE, 450.0])
def test_what_grew_everywhere_is_taken_off_the_bias(tmp_path: Path, temp: float) -> None:
    """c(t) of Tiwary and Parrinello, equation 12, by quadrature over the hills laid so far.

    Their gamma is (T + dT)/T, whose dT is (g-1) TEMP.
    """
    run = metadynamics(tmp_path, n_hills=60, n_frames=2, tempering=(FACTOR, temp))
    gamma = 1 + (FACTOR - 1) * temp / TEMPERATURE
    table = np.loadtxt(tmp_path / "MYHILLS", comments="#!")
    deposited = table[:, 3] * (FACTOR - 1) / FACTOR
    for row in (0, 31, 119):
        laid = row // 2
        v = sum((h * hill(c) for h, c in zip(deposited[:laid], table[:laid, 1], strict=True)),
                np.zeros(len(GRID)))  # fmt: skip
        above, below = (np.exp(f * v / KT).sum() for f in (gamma / (gamma - 1), 1 / (gamma - 1)))
        expected = (run.frames.bias[row] - KT * np.log(above / below)) / KT
        assert run.log_weights()[row] == pytest.approx(expected, abs=5e-3)
    assert abs(run.log_weights()[119] - run.frames.bias[119] / KT) > 1


@pytest.mark.parametrize(("action", "gamma"), [("OPES_METAD", 4.0), ("OPES_METAD_EXPLORE", 4.0)])
def test_the_kernels_of_opes_know_what_it_counted_with(
    tmp_path: Path, action: str, gamma: float
) -> None:
    """At its end OPES finds the estimate again that its bias follows from, by its own weights."""
    explore, counted = action == "OPES_METAD_EXPLORE", 450.0
    rows = [f"{i} {c} 0.5 {h} 0" for i, (c, h) in enumerate([(-2, 1), (0.3, 2), (2.2, 0.5)])]
    (tmp_path / "KERNELS").write_text(
        "#! FIELDS time s sigma_s height logweight\n"
        f"#! SET action {action}_kernels\n#! SET biasfactor {gamma}\n#! SET epsilon 0.01\n"
        "#! SET kernel_cutoff 4\n#! SET compression_threshold 1\n" + SETS + "\n".join(rows) + "\n"
    )
    (tmp_path / "plumed.dat").write_text(
        f"s: TORSION ATOMS=1,2,3,4\n{action} ARG=s PACE=1 BARRIER=20 TEMP={counted}\n"
    )
    run = BiasedRun.of(frames_of(GRID, 0 * GRID), tmp_path / "plumed.dat", tmp_path)
    free_energy = run.free_energy_of_bias("s", GRID)
    estimate = read_opes(run.table).log_probability(GRID[:, None])
    kT = GAS_CONSTANT * counted
    bias = kT * (gamma - 1 if explore else 1 - 1 / gamma) * estimate
    sampled = -(free_energy + bias) / KT
    found = sampled if explore else sampled + bias / kT  # EXPLORE estimates what it samples
    assert np.ptp(found - estimate) < 1e-9 * np.ptp(estimate)


def test_hills_that_do_not_temper_count_with_no_temperature(tmp_path: Path) -> None:
    run = metadynamics(tmp_path, n_hills=30, n_frames=1)
    hills = tmp_path / "MYHILLS"
    lines = hills.read_text().splitlines()
    rows = [line if line[0] == "#" else " ".join([*line.split()[:-1], "1"]) for line in lines]
    hills.write_text("\n".join(rows) + "\n")
    found = []
    for temp in (300, 450):
        text = f"s: TORSION ATOMS=1,2,3,4\nMETAD ARG=s PACE=1 TEMP={temp} FILE=MYHILLS\n"
        run.plumed.write_text(text)
        again = BiasedRun.of(run.frames, run.plumed, tmp_path)
        found.append((again.free_energy_of_bias("s", GRID), again.log_weights()))
    np.testing.assert_array_equal(found[0][0], found[1][0])
    np.testing.assert_array_equal(found[0][1], found[1][1])


def test_without_temp_the_bias_counts_with_what_it_was_told(tmp_path: Path) -> None:
    run = metadynamics(tmp_path, n_hills=60, n_frames=2, tempering=(FACTOR, 450.0))
    given = run.log_weights()
    run.plumed.write_text(run.plumed.read_text().replace("TEMP=450 ", ""))
    told = replace(run.frames, bias_temperature=450.0)
    np.testing.assert_array_equal(BiasedRun.of(told, run.plumed, tmp_path).log_weights(), given)
    untold = BiasedRun.of(run.frames, run.plumed, tmp_path).log_weights()
    assert abs(untold - given).max() > 0.1


def test_hills_that_never_get_lower_are_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = metadynamics(tmp_path, n_hills=60)
    with caplog.at_level("WARNING", "openmm_cgan"):
        reweight_runs([run])
        assert "tempered" not in caplog.text
        hills = tmp_path / "MYHILLS"
        hills.write_text(hills.read_text().replace(" 6.0\n", " -1\n"))
        run.plumed.write_text(run.plumed.read_text().replace("BIASFACTOR=6 TEMP=300 ", ""))
        reweight_runs([BiasedRun.of(run.frames, run.plumed, tmp_path)])
    assert "the hills of its METAD are not tempered" in caplog.text


def test_frames_under_a_second_bias_have_no_weights(tmp_path: Path) -> None:
    """They hold the energy of one: the weights were those of it alone."""
    molecule = alanine_dipeptide()
    system = openmm.XmlSerializer.clone(molecule.system)
    phi, psi = "s: TORSION ATOMS=5,7,9,15\n", "u: TORSION ATOMS=7,9,15,17\n"
    (tmp_path / "p.dat").write_text(phi + "RESTRAINT ARG=s AT=-1.4 KAPPA=5\n")
    own = PlumedBias(tmp_path / "p.dat", temperature=TEMPERATURE, directory=tmp_path)
    other = PlumedBias(
        psi + "METAD ARG=u SIGMA=0.3 HEIGHT=1 PACE=10\n", temperature=300, directory=tmp_path
    )
    measured = PlumedBias(psi + "PRINT ARG=u\n", temperature=300, directory=tmp_path)
    integrator = openmm.LangevinMiddleIntegrator(TEMPERATURE, 1, 0.002)
    for bias in (own, measured, other):
        bias.add_to(system)
    simulation = app.Simulation(molecule.topology, system, integrator, REFERENCE)
    simulation.context.setPositions(molecule.positions)
    for bias in (own, measured, other):
        bias.attach(simulation)
    for name, bias in (("both", own), ("seen", measured)):
        simulation.reporters.append(FrameReporter(tmp_path / name, 5, bias))
    simulation.step(50)
    for name in ("both", "seen"):
        frames = read_frames(tmp_path / name)
        assert any("METAD" in force for force in frames.other_biases)
        assert len(frames) == 10
        with pytest.raises(ValueError, match=r"beside p.dat other biases acted.*METAD"):
            BiasedRun.of(frames, tmp_path / "p.dat", tmp_path)
    assert len(read_frames(tmp_path / "both").other_biases) == 1
    other.close()
