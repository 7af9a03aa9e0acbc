"""Leave of a notebook's widgets their html alone: without a kernel the widget is an error."""

import sys

import nbformat

WIDGET = "application/vnd.jupyter.widget-view+json"


def still(output):
    """This output without its widget, or None when a widget is all that it is."""
    data = output.get("data", {})
    if WIDGET in data and "text/html" not in data:
        return None
    data.pop(WIDGET, None)
    return output


for path in sys.argv[1:]:
    notebook = nbformat.read(path, 4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [output for output in map(still, cell.outputs) if output is not None]
    nbformat.write(notebook, path)
