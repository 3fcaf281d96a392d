"""How Sphinx builds the site: `bash docs.sh`.

The source directory is the root of the repository, so that README.md, CHANGELOG.md and notebooks
are pages from where they stand, and links between files work here as they do there.
"""

import inspect
import pathlib

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.util import logging

import jscg

logger = logging.getLogger(__name__)

project = "jscg"
author = copyright = "The jscg authors"
version = release = jscg.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
]
root_doc = "docs/index"
include_patterns = ["README.md", "CHANGELOG.md", "docs/**.md", "docs/api/**", "notebooks/*.ipynb"]
exclude_patterns = [".*", "docs/_build"]
templates_path = [str(pathlib.Path(__file__).parent / "templates")]

html_theme = "furo"
html_title = f"jscg {version}"
html_additional_pages = {"index": "to_docs.html"}
html_copy_source = False
html_css_files = ["site.css"]
html_math_renderer = "mathml"
html_static_path = ["static"]

myst_enable_extensions = ["amsmath", "dollarmath"]
myst_heading_anchors = 3
nb_merge_streams = True
nb_execution_mode = "off"  # shown as they are stored; .ci/run executes them

autodoc_typehints = "signature"
napoleon_attr_annotations = False  # they stand in the signature
autodoc_member_order = "bysource"
autosummary_ignore_module_all = False  # exactly the names of `__all__`, whichever they are
autosummary_imported_members = True
maximum_signature_line_length = 88

# An estimator shows its options.  What the base class asks of it is told there.
autosummary_context = {
    "estimators": [
        name
        for name in jscg.estimators.__all__
        if inspect.isclass(kind := getattr(jscg.estimators, name))
        and issubclass(kind, jscg.estimators.Estimator)
        and kind is not jscg.estimators.Estimator
    ]
}

nitpicky = True
nitpick_ignore_regex = [
    ("py:.*", r"(collections|functools|jax|numpy|typing|jscg\._.*|jscg\.picture)\..*")
]
# `name` in a docstring is a link where there is such a thing, and code where there is none.
default_role = "py:obj"


def code_where_there_is_no_link(app, env, node, content):
    """Resolves a name in backquotes that is none of ours."""
    return content if node["reftype"] == "obj" else None


def skip(app, what, name, value, skipped, options):
    """Leaves out what only says that a named tuple is one."""
    doc = getattr(value, "__doc__", None) or ""
    return True if doc.startswith("Alias for field number") else None


def write_math(writer, node):
    """MathML, which browsers show without a script, so that pages need no network."""
    block = isinstance(node, nodes.math_block)
    math = tex2mathml(node.astext(), as_block=block)
    writer.body.append(f"<p>{math}</p>" if block else math)
    raise nodes.SkipNode


def check_returns(app, what, name, obj, options, lines):
    """Types are told by annotations; here one is a sentence of Returns up to its first colon."""
    if any(line.startswith(":rtype:") for line in lines):
        logger.warning("%s: no colon in the first sentence of Returns, please", name)


def check_coverage(app, env):
    """Names of `__all__` that no page of the API has."""
    known = env.domains.python_domain.objects
    for module in (jscg, jscg.bounds, jscg.estimators):
        for name in (f"{module.__name__}.{name}" for name in module.__all__):
            if name not in known:
                logger.warning("%s is public, and no page has it", name)


def setup(app):
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", check_returns, priority=900)
    app.connect("env-check-consistency", check_coverage)
    app.connect("missing-reference", code_where_there_is_no_link)
    app.connect("autodoc-skip-member", skip)
    app.add_html_math_renderer("mathml", (write_math, None), (write_math, None))
