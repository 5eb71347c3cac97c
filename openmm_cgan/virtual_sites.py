"""Copies of a System's particles, whatever its virtual sites are."""

from __future__ import annotations

import re
from typing import Any

import openmm

# OpenMM's Python tells the numbers of these; a SymmetrySite comes back from a System as a bare
# VirtualSite, which the System's XML alone describes.
TOLD = (
    openmm.TwoParticleAverageSite,
    openmm.ThreeParticleAverageSite,
    openmm.OutOfPlaneSite,
    openmm.LocalCoordinatesSite,
)
FORCES = re.compile("<Forces>.*</Forces>", re.DOTALL)


def system_without_forces(system: openmm.System) -> openmm.System:
    """Copy particles, virtual sites, constraints and box of a System.

    Raises
    ------
    ValueError
        As `require_copied`.
    """
    if _untold_sites(system):
        return _by_xml(system)
    made = openmm.System()
    made.setDefaultPeriodicBoxVectors(*system.getDefaultPeriodicBoxVectors())
    for particle in range(system.getNumParticles()):
        made.addParticle(system.getParticleMass(particle))
    for particle in range(system.getNumParticles()):
        if system.isVirtualSite(particle):
            made.setVirtualSite(particle, _copied(system.getVirtualSite(particle)))
    for constraint in range(system.getNumConstraints()):
        made.addConstraint(*system.getConstraintParameters(constraint))
    return made


def require_copied(system: openmm.System) -> None:
    """Refuse a System of which there can be no copy.

    Raises
    ------
    ValueError
        If it has a virtual site that only its XML tells of, and a force that can not be written.
    """
    if _untold_sites(system):
        _by_xml(system)


def _copied(site: Any) -> Any:
    particles = [site.getParticle(i) for i in range(site.getNumParticles())]
    if isinstance(site, openmm.TwoParticleAverageSite | openmm.ThreeParticleAverageSite):
        return type(site)(*particles, *(site.getWeight(i) for i in range(len(particles))))
    if isinstance(site, openmm.OutOfPlaneSite):
        weights = site.getWeight12(), site.getWeight13(), site.getWeightCross()
        return openmm.OutOfPlaneSite(*particles, *weights)
    assert isinstance(site, openmm.LocalCoordinatesSite), "one of TOLD"
    weights = site.getOriginWeights(), site.getXWeights(), site.getYWeights()
    return openmm.LocalCoordinatesSite(particles, *weights, site.getLocalPosition())


def _untold_sites(system: openmm.System) -> list[int]:
    sites = filter(system.isVirtualSite, range(system.getNumParticles()))
    return [site for site in sites if not isinstance(system.getVirtualSite(site), TOLD)]


def _by_xml(system: openmm.System) -> openmm.System:
    try:
        text = openmm.XmlSerializer.serialize(system)
    except openmm.OpenMMException as error:
        raise ValueError(
            f"the virtual site {_untold_sites(system)[0]} (a SymmetrySite, or another of which "
            "OpenMM's Python tells nothing) is copied by the XML of the whole System, in which a "
            f"force can not be written: {error} Leave out the one or the other; or have the "
            "function of the PythonForce at the top of a module"
        ) from None
    return openmm.XmlSerializer.deserialize(FORCES.sub("<Forces/>", text))
