# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""The documentation site:  make docs, then open docs/_build/html/index.html"""

import dataclasses
import re
import sys
from pathlib import Path

from transformers import PreTrainedConfig


sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import hf_autoencoders


project = "hf_autoencoders"
author = "The hf_autoencoders team"
project_copyright = "2026 The hf_autoencoders team"
version = release = hf_autoencoders.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
exclude_patterns = ["_build"]
myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 3
nb_execution_mode = "cache"  # a notebook runs again when its text changes; `make clean` empties the cache
nb_execution_timeout = 900
nb_execution_raise_on_error = True
nb_merge_streams = True
nb_output_stderr = "remove"  # warnings of other libraries, with paths of the machine that built the page

napoleon_use_ivar = True  # fields of a result are listed once, by autodoc
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True, "show-inheritance": True}
# What transformers gives every model and config is documented there.
autodoc_inherit_docstrings = False

html_theme = "furo"
html_title = f"hf_autoencoders {version}"
html_static_path = ["_static"]
html_css_files = ["site.css"]


def short_signature(app, what, name, thing, options, signature, returns):
    """Of a config: its fields and their defaults, without the dozen of every transformers config.

    Elsewhere a default without a name, `<factory>`, becomes `...`: Sphinx shows a signature that it cannot read raw.
    """
    if what != "class" or not issubclass(thing, PreTrainedConfig):
        return (re.sub(r"= <.*?>(?=[,)])", "= ...", signature), returns) if signature else None
    inherited = {field.name for field in dataclasses.fields(PreTrainedConfig)}
    fields = [field for field in dataclasses.fields(thing) if field.init and field.name not in inherited]
    return f"({', '.join(f'{field.name}={getattr(thing, field.name)!r}' for field in fields)})", returns


def setup(app):
    app.connect("autodoc-process-signature", short_signature)
