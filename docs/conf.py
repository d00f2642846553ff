"""Sphinx's configuration: ``make docs`` builds the site, and a warning is an error."""

import sys
from importlib.metadata import version as installed_version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "_ext"))

project = "FedRSCLIP"
author = "The FedRSCLIP contributors"
project_copyright = author
version = release = installed_version("fedrsclip")

extensions = ["myst_parser", "numpydoc", "sphinx.ext.autodoc", "generated_reference"]
exclude_patterns = ["_build"]

html_theme = "furo"
html_title = f"FedRSCLIP {release}"
html_theme_options = {"top_of_page_buttons": []}
html_copy_source = False

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
myst_links_external_new_tab = False

autodoc_typehints = "none"
numpydoc_show_class_members = False
