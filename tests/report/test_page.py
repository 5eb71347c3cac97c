"""report.html: what it finds, what it says of it, and that nothing of elsewhere acts on it."""

import base64
import hashlib
import json
import re
from html import unescape
from html.parser import HTMLParser

import numpy as np
import pytest
from click.testing import CliRunner

from openmm_cgan.cli import main
from openmm_cgan.collective_variable import CollectiveVariable
from openmm_cgan.free_energy import FreeEnergy, free_energy_profile
from openmm_cgan.report.page import write_report
from openmm_cgan.report.page.blocks import BAD, DOUBT, GOOD
from openmm_cgan.report.page.course import candidates_of
from openmm_cgan.report.page.energies import halves_of
from openmm_cgan.report.page.figures import packed, thinned
from openmm_cgan.report.page.found import find, read_rows
from openmm_cgan.report.page.given_input import LEFT_OUT, LIBPLUMED, NATIVE, fates_of, words_of
from openmm_cgan.report.page.weighed import weigh_run, weigh_windows
from openmm_cgan.report.page.wells import wells_of
from openmm_cgan.report.page.writing import ASSETS, sections_of, verdict_of
from openmm_cgan.windows import read_windows
from tests.cases.written_runs import (
    AT,
    CENTRE,
    INPUT,
    KAPPA,
    KT,
    STIFFNESS,
    write_frames,
    write_run,
    write_window,
)

ATTACK = "<script>alert('it ran')</script><img src=x onerror=alert(1)>"
LIBRARIES = {
    "plotly-cartesian.min.js": "79542150855a52c567260e3137095dbe2b744e6d702a5cabe67da246942fba7a",
    "3Dmol-min.js": "f7cc78921ae72e7623e89cdd111434f58c2efddd2ffda1cd212644b406fb8016",
}


def data_of(page):
    """The numbers that a page holds."""
    text = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    return json.loads(text[1])


def unpacked(record):
    """An array as plotly reads it."""
    return np.frombuffer(base64.b64decode(record["bdata"]), "<f4")


def section(sections, start):
    return next(s for s in sections if s.anchor.startswith(start))


# ---- what is found


def test_runs_windows_models_and_records_are_found(tmp_path):
    write_run(tmp_path / "md", 20)
    for k, at in enumerate((0.9, 1.1)):
        write_window(tmp_path / "w" / f"window-{k}", at, 10)
    (tmp_path / "model.npz").write_bytes(b"")
    found = find(tmp_path)
    assert [run.folder.name for run in found.runs] == ["md"]
    assert [len(w.windows) for w in found.windows] == [2]
    assert [model.name for model in found.models] == ["model.npz"]
    assert [len(w.windows) for w in find(tmp_path / "w" / "window-0").windows] == [1]
    with pytest.raises(FileNotFoundError, match="holds nothing to report on"):
        find(tmp_path / "w" / "window-0" / "frames")
    with pytest.raises(FileNotFoundError, match="is not there"):
        find(tmp_path / "nowhere")


def test_half_a_row_of_a_live_table_is_left_out(tmp_path):
    path = tmp_path / "proposals.csv"
    path.write_text("step,reason\n1,clash\n2,\n3,cla")
    assert read_rows(path) == [{"step": "1", "reason": "clash"}, {"step": "2", "reason": ""}]


def test_candidates_are_counted_by_reason():
    rows = [
        {"candidates": "10", "refused": "cis/trans 1; clash 2"},
        {"candidates": "4", "refused": ""},
        {"candidates": "3", "refused": "clash 3"},
        {"candidates": "", "refused": "no number"},
    ]
    assert candidates_of(rows) == {"cis/trans": 1, "clash": 5, "accepted": 11}


# ---- numbers


def test_the_profile_of_a_run_is_that_of_its_free_energy(tmp_path):
    """Within four standard errors, which come from the bootstrap, and most within two."""
    write_run(tmp_path / "run", 4000)
    weighed = weigh_run(find(tmp_path / "run").runs[0], "run")
    sections = sections_of(find(tmp_path / "run"))
    shown = next(b for b in section(sections, "energy").blocks if b.kind == "figure")
    curve = next(t for t in shown.traces if t["name"] == "free energy")
    x, found = unpacked(curve["x"]), unpacked(curve["y"])
    error = free_energy_profile(weighed.samples, "d").error
    exact = STIFFNESS / 2 * (x - CENTRE) ** 2
    known = np.isfinite(found) & np.isfinite(error) & (exact < 3 * KT)
    assert known.sum() > 15
    off = (found - exact - np.mean((found - exact)[known]))[known] / error[known]
    assert np.abs(off).max() < 4.5
    assert (np.abs(off) < 2).mean() > 0.8


def test_a_run_whose_temperature_changed_is_shown_at_that_it_began_with(tmp_path):
    values = np.random.default_rng(2).normal(AT, np.sqrt(KT / (STIFFNESS + KAPPA)), 2500)
    bias, drawn = KAPPA / 2 * (values - AT) ** 2, []
    for name, n, hot in (("alone", 2000, {}), ("both", 2500, {2000: 600.0})):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "plumed.dat").write_text(INPUT)
        write_frames(folder, values[:n], bias[:n], temperatures=hot)
        sections = sections_of(find(folder))
        drawn.append(next(b for b in section(sections, "energy").blocks if b.kind == "figure"))
    words = str(section(sections, "course").blocks[0])
    assert "shows those at 300 K. There are others at 600 K" in words
    alone, both = (unpacked(figure.traces[0]["y"]) for figure in drawn)
    np.testing.assert_array_equal(alone, both)


def test_halves_that_agree_within_their_errors_and_such_that_do_not():
    """Half of the time has twice the variance; the difference of two halves four times."""
    x = np.linspace(-1, 1, 41)
    variable, exact, error = CollectiveVariable("x"), 5 * x**2, 0.2 + 0.3 * np.abs(x)

    def profile(energy):
        return FreeEnergy((variable,), (x,), energy, error)

    rng = np.random.default_rng(3)
    ratios = []
    for _ in range(40):
        noisy = [profile(exact + np.sqrt(2) * error * rng.normal(size=41)) for _ in range(2)]
        halves = halves_of(profile(exact), noisy, KT)
        ratios.append(halves.apart / halves.expected)
        assert halves.agree
    # of 41 draws a root mean square, one degree of freedom less for the constant
    assert np.mean(ratios) == pytest.approx(1.0, abs=4 / np.sqrt(2 * 40 * 40))
    tilted = [profile(exact), profile(exact + 4 * x)]
    assert not halves_of(profile(exact), tilted, KT).agree
    shifted = [profile(exact), profile(exact + 7.0)]  # a constant is of no account
    assert halves_of(profile(exact), shifted, KT).apart == pytest.approx(0.0, abs=1e-9)
    assert halves_of(profile(exact), [None, tilted[0]], KT) is None


def test_the_beginning_of_a_growing_bias_is_left_out_of_all_parts(tmp_path):
    text = "d: DISTANCE ATOMS=1,2 NOPBC\nMETAD ARG=d SIGMA=0.1 HEIGHT=0.001 PACE=50 BIASFACTOR=5\n"
    write_run(tmp_path, 1000, text=text)
    rows = "".join(f"{5.0 * k} 1.0 0.1 0.001 5\n" for k in range(1, 20))
    (tmp_path / "HILLS").write_text(f"#! FIELDS time d sigma_d height biasf\n{rows}")
    weighed = weigh_run(find(tmp_path).runs[0], "run")
    frames = find(tmp_path).runs[0].frames.cvs
    np.testing.assert_array_equal(weighed.samples.cvs, frames[200:])
    np.testing.assert_array_equal(weighed.part(0.0, 1.0).cvs, frames[200:])
    np.testing.assert_array_equal(weighed.part(0.5, 1.0).cvs, frames[600:])


def test_a_run_that_drifts_is_not_called_good(tmp_path):
    write_run(tmp_path / "still", 4000)
    write_run(tmp_path / "moved", 4000, drift=0.15)
    still, moved = (verdict_of(sections_of(find(tmp_path / n))) for n in ("still", "moved"))
    assert (still.level, moved.level) == (GOOD, BAD)


def test_windows_that_do_not_overlap_are_said_to(tmp_path):
    for folder, places in (("near", (0.8, 0.9, 1.0)), ("far", (0.2, 1.0, 1.8))):
        for k, at in enumerate(places):
            write_window(tmp_path / folder / f"window-{k}", at, seed=k + 1)
    near, far = (section(sections_of(find(tmp_path / f)), "overlap") for f in ("near", "far"))
    assert [f.level for f in near.findings] == [GOOD]
    assert {f.level for f in far.findings} == {DOUBT, BAD}
    assert verdict_of([near, far]).level == BAD
    weighed = weigh_windows(find(tmp_path / "near").windows[0], "near")
    whole, half = len(weighed.samples.cvs), len(weighed.part(0.0, 0.5).cvs)
    assert half == pytest.approx(whole / 2, rel=0.2)


def test_it_is_said_how_many_frames_of_windows_are_taken(tmp_path, monkeypatch):
    for k, at in enumerate((0.8, 0.9, 1.0)):
        write_window(tmp_path / f"window-{k}", at, seed=k + 1)
    monkeypatch.setattr("openmm_cgan.report.page.weighed.MOST_SAMPLES", 60)
    weighed = weigh_windows(find(tmp_path).windows[0], "few")
    there = sum(len(window.cvs) for window in read_windows(find(tmp_path).windows[0].windows))
    assert len(weighed.samples.cvs) < there
    assert f"{len(weighed.samples.cvs)} of {there:,} frames taken" in weighed.kind
    assert f"{there:,} frames taken" in write_report(tmp_path).read_text()


def test_failed_windows_stand_there_with_their_reason(tmp_path):
    write_window(tmp_path / "window-0", 1.0)
    write_window(tmp_path / "window-1", 1.1, status="failed", error="the start broke")
    [found] = section(sections_of(find(tmp_path)), "windows").findings
    assert found.level == DOUBT
    assert "1 failed" in found.text
    assert "the start broke" in write_report(tmp_path).read_text()


def test_wells_are_parted_at_passes_and_shallow_ones_joined():
    x = np.linspace(-np.pi, np.pi, 72, endpoint=False)
    energy = 10 * (1 + np.cos(2 * x)) + 3 * (x > 0) + 0.3 * np.cos(20 * x)
    wells = wells_of(energy, True, 5.0)
    assert [round(abs(x[w.lowest]), 1) for w in wells] == pytest.approx([1.6, 1.6], abs=0.2)
    assert sorted(b for w in wells for b in w.bins) == list(range(72))
    assert {np.sign(x[b]) for b in wells[0].bins if abs(x[b]) > 0.2 and abs(x[b]) < 2.9} == {-1}
    # over the edge of the period the lowest bins are one well
    assert len(wells_of(np.cos(x), True, 0.5)) == 1
    assert len(wells_of(np.cos(x), False, 0.5)) == 2
    assert [w.lowest for w in wells_of([0.0, np.nan, 1.0], False, 5.0)] == [0, 2]


def test_thinning_keeps_every_peak():
    x = np.arange(200_000.0)
    y = np.random.default_rng(1).normal(size=len(x))
    y[123_456], y[77_777], y[5] = 50.0, -50.0, np.nan
    thin_x, thin_y = thinned(x, y)
    assert len(thin_x) <= 2002
    assert 123_456 in thin_x
    assert 77_777 in thin_x
    assert (thin_x[0], thin_x[-1]) == (0, 199_999)
    assert np.array_equal(thin_y, y[thin_x.astype(int)], equal_nan=True)


def test_arrays_arrive_as_they_were():
    values = np.array([[1.5, np.nan], [-2.25, 3e7]])
    record = packed(values)
    assert record["shape"] == "2, 2"
    np.testing.assert_array_equal(unpacked(record), values.ravel())


def test_decisions_are_shown_with_the_value_in_time(tmp_path):
    """The columns are those of an exploration."""
    (tmp_path / "decisions.csv").write_text(
        "number,action,steps,evaluations,seconds,value,error,reason\n"
        "1,run,5000,5000,1.0,,,nothing is known\n"
        "2,windows,9000,14000,3.0,11.5,0.75,the error is largest there\n"
        "3,stop,0,20000,4.0,11.75,inf,not converged: the halves disagree\n"
    )
    [decisions, *_] = sections_of(find(tmp_path))
    [_, course, table] = decisions.blocks
    np.testing.assert_array_equal(unpacked(course.traces[0]["x"]), [14000, 20000])
    np.testing.assert_array_equal(unpacked(course.traces[0]["y"]), [11.5, 11.75])
    np.testing.assert_array_equal(unpacked(course.traces[0]["error_y"]["array"]), [0.75, 0.0])
    assert [row[1] for row in table.rows] == ["run", "windows", "stop"]
    [finding] = decisions.findings
    assert finding.level == DOUBT
    assert "not converged: the halves disagree" in finding.text


# ---- the input


def test_each_statement_is_marked_with_what_took_it(tmp_path):
    text = "d: DISTANCE ATOMS=1,2\nDEBUG LOGACTIVITY STRIDE=2\nRESTRAINT ARG=d AT=1 KAPPA=2\n"
    fates = fates_of(text, tmp_path, "native")
    assert [fates[line][0] for line in (1, 2, 3)] == [NATIVE, LEFT_OUT, NATIVE]
    other = fates_of("d: DISTANCE ATOMS=1,2\ne: DIPOLE GROUP=1,2\n", tmp_path, "kernel")
    assert other[1] == (LIBPLUMED, "native by itself; an input goes to one backend as a whole")
    assert other[2][0] == LIBPLUMED
    assert other[2][1].startswith("not native: DIPOLE")
    assert "use backend" not in other[2][1], "it was"
    asked = fates_of("d: DISTANCE ATOMS=1,2\n", tmp_path, "kernel")
    assert asked[1] == (LIBPLUMED, "it could be native; backend 'kernel' was asked for")


def test_words_of_a_line_are_the_line():
    line = "  m: METAD ARG=d  PACE=5 NLIST # hills <b>"
    words = words_of(line)
    assert "".join(word.text for word in words) == line
    roles = {word.text: word.role for word in words}
    assert roles["m:"] == "label"
    assert roles["METAD"] == "action"
    assert roles["PACE=5"] == roles["NLIST"] == "keyword"
    assert roles["# hills <b>"] == "comment"


# ---- what comes from elsewhere does not act


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """A folder in which every text is an attack."""
    folder = tmp_path_factory.mktemp("page") / "a<img src=x onerror=alert(2)>"
    comment = f"# {ATTACK}\n"
    run = folder / "b<script>alert(3)<"
    run.mkdir(parents=True)
    text = comment + "d: DISTANCE ATOMS=1,2 NOPBC\nRESTRAINT ARG=d AT=1 KAPPA=2\n" + comment
    (run / "plumed.dat").write_text(text)
    (run / "commands.txt").write_text(f"openmm-cgan {ATTACK}\n")
    (run / "run.json").write_text(json.dumps({"seed": ATTACK, ATTACK: ATTACK}))
    write_frames(run, np.linspace(0.5, 1.5, 60), np.zeros(60), text, {20: 5}, f"d{ATTACK[:8]}")
    refused = f"{ATTACK} 2"
    (run / "proposals.csv").write_text(
        f'step,reason,mode,candidates,refused\n5,"{ATTACK}","{ATTACK}",4,"{refused}"\n6,,seed,4,\n'
    )
    write_window(folder / "w" / "window-0", 1.0, 50, status="failed", error=ATTACK)
    write_window(folder / "w" / "window-1", 1.0, 50, origin=ATTACK, centre={ATTACK: 1.0})
    (folder / "decisions.csv").write_text(f'step,why\n1,"{ATTACK}"\n')
    (folder / "summary.json").write_text(json.dumps({"</script>": ATTACK, "delta_f": ATTACK}))
    (folder / "model.npz").write_bytes(b"no model")
    return folder, write_report(folder).read_text()


class Tags(HTMLParser):
    """The elements of a page, with the names of their attributes."""

    def __init__(self, text):
        super().__init__()
        self.found = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, [name for name, _ in attrs]))


def test_texts_are_escaped_and_shown(hostile):
    _, page = hostile
    tags = Tags(page).found
    assert "img" not in {tag for tag, _ in tags}
    assert [tag for tag, _ in tags].count("script") == 3  # the data, plotly and our own
    assert not [name for _, names in tags for name in names if name.startswith("on")]
    outside = re.sub(r"<script[^>]*>.*?</script>", "", page, flags=re.DOTALL)
    assert unescape(outside).count(ATTACK) >= 6
    data_of(page)  # no text has ended the element of the data


def test_only_our_own_scripts_may_run(hostile):
    _, page = hostile
    [policy] = re.findall(r'Content-Security-Policy" content="([^"]*)"', page)
    policy = unescape(policy)
    allowed = set(re.findall(r"'sha256-([^']*)'", policy))
    assert "unsafe" not in policy.split("script-src")[1].split(";")[0]
    assert "default-src 'none'" in policy
    scripts = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    sums = {base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in scripts}
    assert len(scripts) == 2
    assert sums == allowed


def test_plotly_gets_no_tags(hostile):
    _, page = hostile

    def strings(value):
        if isinstance(value, dict):
            for key, inner in value.items():
                if key != "customdata":  # is compared, never shown
                    yield from strings(inner)
        elif isinstance(value, list):
            for inner in value:
                yield from strings(inner)
        elif isinstance(value, str):
            yield value

    texts = list(strings(data_of(page)["figures"]))
    assert not [text for text in texts if "<" in text]
    assert [text for text in texts if "&lt;script" in text]


def test_a_damaged_part_hides_no_other(hostile):
    folder, page = hostile
    assert "Left out:" in page
    sections = sections_of(find(folder))
    assert "model.npz" in section(sections, "training").left_out
    assert section(sections, "course").blocks
    assert section(sections, "windows").blocks


def test_links_lead_somewhere(hostile):
    _, page = hostile
    ids = re.findall(r' id="([^"]*)"', page)
    assert len(ids) == len(set(ids))
    links = re.findall(r'href="#([^"]*)"', page)
    assert len(links) > 10
    assert set(links) <= set(ids)


# ---- the file and the command


def test_libraries_are_those_of_their_packages():
    for name, expected in LIBRARIES.items():
        assert hashlib.sha256((ASSETS / name).read_bytes()).hexdigest() == expected, name


def test_the_command_writes_the_page_whole_and_says_where(tmp_path):
    write_run(tmp_path / "run", 200)
    done = CliRunner().invoke(main, ["report", str(tmp_path / "run")])
    assert done.exit_code == 0, done.output
    page = tmp_path / "run" / "report.html"
    assert str(page) in done.output
    assert page.stat().st_size < 5e6
    assert 'id="library-3dmol"' not in page.read_text()  # no structures: it is not carried
    assert not list((tmp_path / "run").glob(".*.part"))
    other = tmp_path / "b.html"
    assert write_report(tmp_path / "run", other, refresh=30) == other
    assert '<meta http-equiv="refresh" content="30">' in other.read_text()
    nothing = CliRunner().invoke(main, ["report", str(tmp_path / "run" / "frames")])
    assert nothing.exit_code == 1
    assert "holds nothing to report on" in nothing.output
