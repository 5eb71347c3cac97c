"""XML from elsewhere is data: what OpenMM would run as code is refused before OpenMM reads it."""

import openmm
import pytest
from openmm import app

from openmm_cgan.openmm_xml import ALLOW, from_xml
from openmm_cgan.windows.run_files import read_system, write_shared


def harmless(state: openmm.State) -> tuple[float, None]:
    return 0.0, None


def system_with_code() -> openmm.System:
    system = openmm.System()
    system.addParticle(1)
    system.addForce(openmm.PythonForce(harmless))
    return system


def test_a_system_comes_back() -> None:
    system = openmm.System()
    system.addParticle(3.5)
    text = openmm.XmlSerializer.serialize(system)
    assert from_xml(text, openmm.System, "s.xml").getParticleMass(0)._value == 3.5


def test_code_is_refused_unless_it_is_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    text = openmm.XmlSerializer.serialize(system_with_code())
    with pytest.raises(ValueError, match=r"s\.xml holds a PythonForce.*Set OPENMM_CGAN"):
        from_xml(text, openmm.System, "s.xml")
    monkeypatch.setenv(ALLOW, "1")
    assert from_xml(text, openmm.System, "s.xml").getNumForces() == 1


@pytest.mark.parametrize(
    "hidden",
    [
        'type="&#80;ythonForce"',
        "type = 'Pytho&#x6e;Force'",
        'type=>"&#80;ythonForce"',  # OpenMM reads these three as the first
        'type=x"&#80;ythonForce"',
        'type x="&#80;ythonForce"',
        'type="&#x50ythonForce"',
    ],
)
def test_hidden_code_is_refused(hidden: str) -> None:
    text = openmm.XmlSerializer.serialize(system_with_code()).replace('name="PythonForce"', "")
    with pytest.raises(ValueError, match="hides a type"):
        from_xml(text.replace('type="PythonForce"', hidden), openmm.System, "s.xml")


def test_names_and_formulas_with_any_character_are_no_hidden_code() -> None:
    system, text = openmm.System(), "r*step(r<1) & \"a\" 'b'\n\té"
    force = openmm.CustomBondForce("0")
    force.setName(text)
    system.addForce(force)
    found = from_xml(openmm.XmlSerializer.serialize(system), openmm.System, "s.xml")
    assert found.getForce(0).getName() == text


def test_entities_are_refused() -> None:
    text = openmm.XmlSerializer.serialize(system_with_code())
    text = text.replace("?>", '?><!DOCTYPE a [<!ENTITY p "PythonForce">]>', 1)
    with pytest.raises(ValueError, match="hides a type"):
        from_xml(text, openmm.System, "s.xml")


def test_another_object_and_damage_are_said() -> None:
    text = openmm.XmlSerializer.serialize(openmm.VerletIntegrator(0.001))
    with pytest.raises(ValueError, match="is a VerletIntegrator, expected a System"):
        from_xml(text, openmm.System, "s.xml")
    with pytest.raises(ValueError, match="no State in XML, or is damaged"):
        from_xml("nonsense", openmm.State, "s.xml")


def test_windows_of_a_system_with_code_are_refused_before_a_file_is_written(tmp_path) -> None:
    with pytest.raises(ValueError, match="the System holds a PythonForce"):
        write_shared(tmp_path / "new", system_with_code(), app.Topology(), None)
    assert not (tmp_path / "new").exists()
    (tmp_path / "system.xml").write_text(openmm.XmlSerializer.serialize(system_with_code()))
    with pytest.raises(ValueError, match="would run code"):
        read_system(tmp_path)
