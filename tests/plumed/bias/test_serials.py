"""PDB files whose serials count TER lines: OpenMM writes them, PLUMED takes serials for places."""

import logging

import numpy as np
import pytest
from openmm import app, unit

from openmm_cgan.plumed.bias import PlumedBias
from openmm_cgan.testsystems import alanine_dipeptide, torsion
from openmm_cgan.topology_records import topology_of, topology_record

INPUT = "MOLINFO STRUCTURE=two.pdb\nphi: TORSION ATOMS=@phi-B2\nRESTRAINT ARG=phi AT=-1 KAPPA=50\n"


@pytest.fixture(scope="module")
def two():
    """Two dipeptides, and their positions [nm]."""
    one = alanine_dipeptide("C7eq")
    other = alanine_dipeptide("C7ax")
    modeller = app.Modeller(one.topology, one.positions * unit.nanometer)
    modeller.add(other.topology, (other.positions + 3.0) * unit.nanometer)
    for chain, name in zip(modeller.topology.chains(), "AB", strict=True):
        chain.id = name
    return modeller.topology, np.concatenate([one.positions, other.positions + 3.0])


def test_serials_that_count_ter_lines_are_said(two, tmp_path, caplog) -> None:
    topology, positions = two
    with (tmp_path / "two.pdb").open("w") as file:
        app.PDBFile.writeFile(topology, 10 * positions, file, keepIds=True)
    with caplog.at_level(logging.WARNING, "openmm_cgan"):
        bias = PlumedBias(INPUT, topology, directory=tmp_path)
    [told] = [record.getMessage() for record in caplog.records]
    assert "<input>:1" in told
    assert "two.pdb are others in the topology: serial" in told
    assert "TER" in told
    right = torsion(positions, (26, 28, 30, 36))  # C of ACE, N, CA, C of the second
    assert abs(bias.cv_values(positions)[0] - right) > 0.01  # as the program plumed has it


def test_files_that_count_atoms_are_right_and_silent(two, tmp_path, caplog) -> None:
    topology, positions = two
    with (tmp_path / "all.pdb").open("w") as file:
        app.PDBFile.writeFile(topology, 10 * positions, file, keepIds=True)
    lines = [line for line in (tmp_path / "all.pdb").read_text().splitlines()
             if line.startswith(("ATOM", "HETATM"))]  # fmt: skip
    counted = [f"{line[:6]}{n:5d}{line[11:]}\n" for n, line in enumerate(lines, start=1)]
    (tmp_path / "two.pdb").write_text("".join(counted) + "END\n")
    with caplog.at_level(logging.WARNING, "openmm_cgan"):
        bias = PlumedBias(INPUT, topology, directory=tmp_path)
    assert not caplog.records
    right = torsion(positions, (26, 28, 30, 36))
    assert bias.cv_values(positions)[0] == pytest.approx(right, abs=1e-6)
    heavy = topology_of(topology_record(topology))
    for atom in heavy.atoms():
        if atom.element.symbol == "H":
            atom.element = app.Element.getBySymbol("D")
    with caplog.at_level(logging.WARNING, "openmm_cgan"):
        PlumedBias(INPUT, heavy, directory=tmp_path)
    assert not caplog.records, "deuterium may be called HA"
    last = counted[-1].replace("   44", "   99")
    (tmp_path / "two.pdb").write_text("".join([*counted[:-1], last]))
    with caplog.at_level(logging.WARNING, "openmm_cgan"):
        PlumedBias(INPUT, topology, directory=tmp_path)
    assert "serial 99 is" in caplog.text
