"""The book: the notebooks as a web site, with their committed outputs (`make book`)."""

import html
import json
import re
from importlib.util import find_spec
from pathlib import Path

import nbformat
from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from helpers import downstream_influence, encode, layer_influence, load_bert, view
from helpers.interactive import KeptStack

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


class ShowSentences(SphinxDirective):
    """`{show-sentences}`: a view of each line's sentence, measured now; chips choose one.

    A line is `sentence | word`, or `sentence / second sentence | word` for a pair.
    """

    has_content = True

    def run(self):
        model, tokenizer = load_bert()
        chips, frames = [], []
        for number, line in enumerate(self.content):
            text, _, word = line.partition(" | ")
            first, _, second = text.partition(" / ")
            sentence = encode(tokenizer, first, second or None)
            shown = shown_sentence(model, sentence, sentence.position(word))
            checked = " checked" if number == 0 else ""
            chips.append(
                f'<input type="radio" name="sentence" id="sentence-{number}"{checked}>'
                f'<label for="sentence-{number}">{html.escape(text)}</label>'
            )
            frames.append(f'<div class="sentence">{shown._repr_html_()}</div>')
        parts = ['<div class="sentences">', *chips, *frames, "</div>"]
        return [nodes.raw("", "\n".join(parts), format="html")]


def shown_sentence(model, sentence, source):
    """The view of a sentence with everything in it: layers, paths, heads, through all layers."""
    stack = KeptStack.of(model, sentence)
    influence = layer_influence(model, stack, progress=without_a_bar)
    jacobians = [stack.jacobian(number) for number in range(len(stack.layers))]
    return view(
        influence,
        paths=[jacobian.paths() for jacobian in jacobians],
        heads=[jacobian.heads() for jacobian in jacobians],
        through=downstream_influence(model, sentence, progress=without_a_bar),
        source=source,
    )


def without_a_bar(steps, desc):
    return steps


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


def fold_setup(app, document, source):
    """Close the cell that imports and loads, the one after the parameters; claims are tagged so."""
    if not (HERE / f"{document}.ipynb").exists():
        return
    notebook = json.loads(source[0])
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    if "parameters" in code[0]["metadata"].get("tags", []):
        code[1]["metadata"].setdefault("tags", []).append("hide-input")
    source[0] = json.dumps(notebook)


ICON = re.compile(r'"?([\w-]+)"?:\[\d+,\d+,\[([^\]]*)\],"\w+",(?:"[^"]*"|\[[^\]]*\])\],?')


def drop_unused_icons(app, error):
    """Of the theme's thousands of icons keep those that a page or one of its scripts names."""
    scripts = Path(app.outdir, "_static/scripts")
    icons = scripts / "fontawesome.js"
    if error or not icons.exists():
        return
    others = [path for path in scripts.glob("*.js") if path != icons]
    pages = [path.read_text("utf-8") for path in [*Path(app.outdir).rglob("*.html"), *others]]
    used = set(re.findall(r"\bfa-([\w-]+)", "".join(pages)))

    def kept(icon):
        names = {icon[1], *re.findall(r'"([\w-]+)"', icon[2])}
        return icon[0] if names & used else ""

    icons.write_text(ICON.sub(kept, icons.read_text("utf-8")), "utf-8")


def setup(app):
    app.connect("source-read", fold_setup)
    app.connect("build-finished", drop_unused_icons)
    app.add_directive("show-sentences", ShowSentences)
    app.connect("doctree-read", describe_figures)
