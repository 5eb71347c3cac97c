"""report.html: one page that opens offline, of what a folder holds.

`found` looks for runs, windows and models; `weighed` weighs their frames, `wells` finds the wells
of profiles; `given_input`, `energies`, `course`, `models` and `records` make sections of them, of
the `blocks` of a page and the `figures` of plotly; `writing` puts them on the page, and a verdict.
`assets` are the page's template, style and script, and the two libraries that it carries.
"""

from openmm_cgan.report.page.writing import write_report

__all__ = ["write_report"]
