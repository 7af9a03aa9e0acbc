import inspect
import subprocess
import sys

import nbformat
import pytest
import transformers
from nbclient import NotebookClient
from transformers.models.bert import modeling_bert

from helpers import show_source


@pytest.mark.parametrize(
    "obj", [modeling_bert.BertLayer, modeling_bert.BertLayer.forward, modeling_bert]
)
def test_source_is_the_installed_text(obj):
    source = show_source(obj)
    assert source.code == inspect.getsource(obj)
    assert source.file == "transformers/models/bert/modeling_bert.py"
    lines = inspect.getsource(modeling_bert).splitlines(keepends=True)
    assert "".join(lines[source.line - 1 :]).startswith(source.code)
    assert source.version == transformers.__version__
    assert (
        f"transformers {transformers.__version__}, {source.file}, line {source.line}"
        in source._repr_markdown_()
    )


@pytest.mark.parametrize("obj", [len, 3, "text"])
def test_without_python_source(obj):
    with pytest.raises(TypeError, match="expected a class, function or module with Python source"):
        show_source(obj)


OWN = """import transformers
from helpers import show_source
from transformers.models.bert.modeling_bert import BertLayer

class Mine(BertLayer):
    a = 1

    def forward(self, hidden):
        return hidden

def twice(x):
    return 2 * x
"""
CLASS = OWN[OWN.index("class Mine") : OWN.index("\ndef twice")].rstrip() + "\n"


def test_source_of_ones_own_script(tmp_path):
    script = tmp_path / "mine.py"
    script.write_text(OWN + "print(show_source(Mine), end='')\nprint(show_source(twice))")
    shown = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, check=True
    ).stdout
    assert (
        shown
        == f"# __main__, mine.py, line 5\n{CLASS}# __main__, mine.py, line 11\n" + OWN[-31:] + "\n"
    )


def test_source_of_ones_own_notebook():
    cells = [
        "%matplotlib inline\n" + OWN,
        "try:\n    show_source(Mine)\nexcept TypeError as error:\n    print(error)",
        "show_source(Mine.forward)",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    NotebookClient(notebook, kernel_name="python3").execute()
    assert "a class in a notebook's cell, one of its functions" in notebook.cells[1].outputs[0].text
    shown = notebook.cells[2].outputs[0].data["text/markdown"]
    assert shown.startswith(
        "```python\n# __main__, a notebook's cell, line 9\n    def forward(self, hidden):\n"
    )


def test_source_of_a_package_without_a_version(tmp_path, monkeypatch):
    (tmp_path / "plainpackage.py").write_text("def f():\n    return 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    import plainpackage

    assert (
        str(show_source(plainpackage.f))
        == "# plainpackage, plainpackage.py, line 1\ndef f():\n    return 1\n"
    )
    assert show_source(inspect.getsource).file == "inspect.py"  # of the standard library
