"""The knobs of 02, 05 and 10 are turned as a reader turns them: another value, another picture."""

from io import BytesIO
from pathlib import Path

import nbformat
import numpy as np
import pytest
from IPython.core.interactiveshell import InteractiveShell
from matplotlib.image import imread

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
KNOBS = {  # the notebook, and what a reader may choose with each of its knobs
    "02_inside_bertlayer": {"which_layer": 2, "which_head": 5},
    "05_noise_injection": {"token": 1, "size": 1.0, "layer": 3, "draws": 20},
    "10_how_small_is_small": {"size": 1.0},
}


@pytest.fixture(scope="module", params=KNOBS)
def turned(request, tmp_path_factory):
    """The names of a notebook after its cells ran, up to the one that shows the knobs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FIGURES_DIR", str(tmp_path_factory.mktemp("figures")))
        shell = InteractiveShell.instance()
        shell.reset(new_session=False)
        for cell in nbformat.read(NOTEBOOKS / f"{request.param}.ipynb", as_version=4).cells:
            if cell.cell_type == "code" and not cell.source.startswith("%%"):
                shell.run_cell(cell.source.replace("%matplotlib inline", "")).raise_error()
                if "widgets.VBox(" in cell.source:
                    break
        yield KNOBS[request.param], shell.user_ns


def test_every_knob_redraws_the_picture(turned):
    values, names = turned
    picture = names["picture"]
    for name, value in values.items():
        before = picture.value
        assert names[name].value != value
        names[name].value = value
        assert picture.value != before, name
    assert np.ptp(imread(BytesIO(picture.value))[..., :3]) > 0.5  # there is something in it


def test_a_knob_turned_back_gives_the_first_picture_again(turned):
    values, names = turned
    name, other = next(iter(values.items()))
    names[name].value = 0  # the test above may have run before, in this process or in another
    now, first = names[name].value, names["picture"].value
    names[name].value = other
    assert names["picture"].value != first
    names[name].value = now
    assert names["picture"].value == first
