"""Plots of what a run did, as axes of matplotlib and PNG files, drawn without a display.

Angles come in radians and are drawn in degrees, other CVs in their units. Each function returns
its axes, and writes a file where a path is given. `free_energies` draws profiles and surfaces,
`generated` what generators make and how they were trained; `axes` is what the plots share; `page`
is report.html, all that a folder holds.
"""

from openmm_cgan.report.free_energies import Profile, plot_free_energy, plot_surface
from openmm_cgan.report.generated import (
    plot_consistency,
    plot_proposals,
    plot_ramachandran,
    plot_training,
)

__all__ = [
    "Profile",
    "plot_consistency",
    "plot_free_energy",
    "plot_proposals",
    "plot_ramachandran",
    "plot_surface",
    "plot_training",
]
