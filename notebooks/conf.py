"""The book: the notebooks as a web site, with their committed outputs (`make book`)."""

from importlib.util import find_spec
from pathlib import Path

import nbformat
from docutils import nodes
from sphinx.util.docutils import SphinxDirective

HERE = Path(__file__).parent
MATHJAX = (
    Path(find_spec("sphinx-mathjax-offline").origin).parent / "static/mathjax/tex-svg.js"
)  # one file, no fonts

project, author, language = "BERT anatomy", "BERT anatomy contributors", "en"
extensions = ["myst_nb"]
myst_enable_extensions = ["dollarmath"]
nb_execution_mode = "off"
# the view is alive as html; a widget without its kernel is not
nb_mime_priority_overrides = [
    ("html", "application/vnd.jupyter.widget-view+json", None),
    ("html", "text/html", 5),
]
nb_ipywidgets_js = {}
html_theme, html_title = "sphinx_book_theme", project
html_theme_options = {"show_toc_level": 2, "use_download_button": False, "navbar_persistent": []}
html_context = {"default_mode": "auto"}  # light or dark as the reader's system is
html_static_path, mathjax_path = [str(MATHJAX), "book.css"], MATHJAX.name
html_css_files = ["book.css"]
html_show_copyright = html_show_sphinx = html_use_index = html_copy_source = False
html_show_search_summary = (
    False  # it fetches pages, which a browser refuses to those opened from a folder
)


def outputs(document):
    """What the cells of a notebook show, in order."""
    cells = nbformat.read(HERE / f"{document}.ipynb", 4).cells
    return [output for cell in cells for output in cell.get("outputs", []) if "data" in output]


class ShowView(SphinxDirective):
    """`{show-view} 00_start_here`: the first view that the notebook shows, here."""

    required_arguments = 1

    def run(self):
        self.env.note_dependency(str(HERE / f"{self.arguments[0]}.ipynb"))
        shown = [output.data.get("text/html", "") for output in outputs(self.arguments[0])]
        return [nodes.raw("", next(html for html in shown if "<iframe" in html), format="html")]


def describe_figures(app, tree):
    """Give each figure the text that `save_figure` left beside it."""
    if (HERE / f"{app.env.docname}.ipynb").exists():
        figures = [output for output in outputs(app.env.docname) if "image/png" in output.data]
        images = [
            image
            for image in tree.findall(nodes.image)
            if image.parent.get("mime_type") == "image/png"
        ]
        for figure, image in zip(figures, images, strict=True):
            image["alt"] = figure.metadata.get("image/png", {}).get("alt", "")


def setup(app):
    app.add_directive("show-view", ShowView)
    app.connect("doctree-read", describe_figures)
