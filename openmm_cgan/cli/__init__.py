"""The command line: `commands` parses, the other files do what is asked for.

`exports` writes tables and configurations, `simulations` runs from files, `run_states` is what such
a run saves and goes on from, `importance` weighs a model's configurations, `shipped` finds the
files of the package, `window_places`, `window_starts` and `window_runs` are umbrella windows from
where they stand to their end, `demo_analysis` and `demo` are the whole job on alanine dipeptide;
`options` are shared by the commands and `given_once`, `driver` is PLUMED's, `reports` leaves
report.html, `tensor_board` the curves of a training.
"""

from openmm_cgan.cli.commands import main

__all__ = [
    "main",
]
