"""The site, which ``make docs`` builds from these pages, the docstrings and the programs."""

import os
import sys
from importlib.metadata import version as version_of
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # imported for its docstrings, not to be heard

project = "speakerguard"
author = "the speakerguard contributors"
copyright = author
version = release = version_of("speakerguard")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "generated",  # _ext/generated.py: commands, Python API, model cards
]
exclude_patterns = ["_build"]
nitpicky = True
suppress_warnings = ["ref.python"]  # a name that two classes have: of a field, not of a reference

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_inherit_docstrings = False
autodoc_default_options = {"members": True}
add_module_names = False
napoleon_use_ivar = True
napoleon_attr_annotations = False  # the signature says them
maximum_signature_line_length = 88

html_theme = "furo"
html_title = "speakerguard"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sphinx = False
html_copy_source = False
html_theme_options = {"navigation_with_keys": True}
pygments_style = "friendly"
pygments_dark_style = "github-dark"
copybutton_prompt_text = "$ "
