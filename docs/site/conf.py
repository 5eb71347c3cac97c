"""Settings of the documentation; build.py lays the pages out and calls Sphinx."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))  # docs/_build/source

from openmm_cgan import __version__

project = "openmm_cgan"
author = "The openmm_cgan developers"
version = release = __version__
extensions = [
    "myst_nb", "numpydoc", "sphinx.ext.autodoc", "sphinx.ext.mathjax", "sphinx_click",
]  # fmt: skip
html_theme = "furo"
html_title = f"openmm_cgan {__version__}"
html_show_sourcelink = False

myst_enable_extensions = ["dollarmath", "deflist"]
myst_heading_anchors = 3
nb_execution_mode = "force"  # every tutorial is run at each build
nb_execution_timeout = 300
nb_execution_raise_on_error = True
nb_execution_show_tb = True
nb_merge_streams = True

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # numpydoc says types, with shapes and units
autoclass_content = "class"
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False
suppress_warnings = ["myst.header"]  # pages that a program makes may begin lower
