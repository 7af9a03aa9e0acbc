import itertools
import os
import shutil
import subprocess
import sys
import warnings
from base64 import b64decode
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from IPython.core.formatters import DisplayFormatter
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

import helpers
from helpers import curves, figures, heatmap, layer_grid, layer_influence, save_figure
from helpers.lines import small_multiples


def words(count):
    return [f"unbelievable{i}" if i % 7 == 0 else f"w{i}" for i in range(count)]


def overlaps(figure, axis):
    """Neighbouring tick labels that cover each other, in drawn pixels."""
    FigureCanvasAgg(figure).draw()
    boxes = [
        label.get_window_extent() for label in getattr(figure.axes[0], f"get_{axis}ticklabels")()
    ]
    return [i for i, (a, b) in enumerate(itertools.pairwise(boxes)) if a.overlaps(b)]


def outside(figure):
    """Texts that are cut off at the edge of the figure, in drawn pixels."""
    FigureCanvasAgg(figure).draw()
    whole = figure.get_window_extent()
    ticks = figure.axes[
        -1
    ].get_yticklabels()  # of the colour bar: those beyond its ends are not drawn
    texts = [
        text
        for text in figure.findobj(Text)
        if text.get_text() and text.get_visible() and text not in ticks
    ]
    corners = [
        (text.get_text(), corner) for text in texts for corner in text.get_window_extent().corners()
    ]
    return [text for text, corner in corners if not whole.contains(*corner)]


@pytest.mark.parametrize("count", [1, 2, 3, 13, 40, 64])
def test_every_token_is_labelled_and_readable(count):
    figure = heatmap(
        np.random.default_rng(0).random((count, count)), words(count), title="A title " * 10
    )
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == words(count)
    assert [label.get_text() for label in axes.get_yticklabels()] == words(count)
    assert not overlaps(figure, "x") and not overlaps(figure, "y")
    assert not outside(figure)
    # in a page of 1000 pixels, the smallest label's letters are 8 high
    width = figure.get_figwidth() * 100
    size = (
        min(label.get_fontsize() for label in axes.get_xticklabels())
        * 100
        / 72
        * min(1, 1000 / width)
    )
    assert size >= 8


@pytest.mark.parametrize(("depth", "count"), [(1, 1), (6, 3), (12, 13), (2, 32), (2, 60)])
def test_every_panel_of_a_grid_is_labelled_and_readable(depth, count):
    names = [f"embeddings to layer {number}" for number in range(depth)]
    values = np.random.default_rng(0).random((depth, count, count))
    figure = layer_grid(values, words(count), names, title="A title " * 9)
    assert not outside(figure)
    boxes = [axes.title.get_window_extent() for axes in figure.axes[:depth]]
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
    assert figure.get_figwidth() < 13


def test_marks_are_named():
    """A comma and a full stop are a pixel apart at this size."""
    axes = heatmap(np.ones((4, 4)), ["china", ",", ".", "##,"]).axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == [
        "china",
        ", comma",
        ". full stop",
        "##,",
    ]


def test_letters_that_no_font_has_are_numbers_and_one_warning_says_so():
    tokens = ["a", "\U0010fffd", "\U0010fffcb"]  # for private use: no font has them
    with pytest.warns(UserWarning, match="drawn as numbers, such as U") as told:
        grid = layer_grid(np.ones((2, 3, 3)), tokens, title="\U0010fffb")
        FigureCanvasAgg(grid).draw()
    assert len(told) == 1
    labelled = [label.get_text() for label in grid.axes[0].get_yticklabels()]
    assert labelled == ["a", "U+10FFFD", "U+10FFFCb"] and grid.get_suptitle() == "U+10FFFB"
    with pytest.warns(UserWarning, match="install a font") as told:
        lines = curves([1, 2], {tokens[1]: [1, 2]}, xlabel="x", ylabel="y", title=tokens[2])
        FigureCanvasAgg(lines).draw()
    assert len(told) == 1


@pytest.mark.parametrize("text", ["中国", "مرحبا", "$x$", "😀 naïve\u200d"])
def test_any_script_is_drawn_without_a_warning_of_matplotlib(text):
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        figure = heatmap(np.ones((2, 2)), [text, "b"], title=text)
        FigureCanvasAgg(figure).draw()
    shown = figure.axes[0].get_xticklabels()[0].get_text()
    assert shown == text if not told else "U+" in shown
    assert len(told) <= 1 and not outside(figure)


def test_an_influence_is_just_drawn(tiny, ids):
    found = layer_influence(tiny, ids)
    figure = layer_grid(found)
    assert [axes.get_title() for axes in figure.axes[:2]] == ["encoder.layer.0", "encoder.layer.1"]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == found.tokens
    for number, axes in enumerate(figure.axes[:2]):
        (mesh,) = axes.collections
        drawn = np.clip(found.values[number].numpy(), mesh.get_clim()[0], None)
        assert np.allclose(mesh.get_array(), drawn) and len(np.unique(drawn)) > 2
    one = heatmap(layer_influence(tiny, ids, layers=[1]))
    assert one.get_suptitle() == "encoder.layer.1"
    assert np.array_equal(one.axes[0].collections[0].get_array(), found.values[1])


def test_an_influence_of_chosen_sources_or_targets():
    values = torch.arange(1.0, 7.0).reshape(1, 3, 2)
    found = SimpleNamespace(
        values=values, tokens=["a", "b", "c"], sites=["x"], sources=[2, 0], targets=[0, 1, 2]
    )
    for figure in (heatmap(found), layer_grid(found)):
        assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["c", "a"]
        assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["a", "b", "c"]


def test_rows_are_targets_and_the_first_is_on_top():
    figure = heatmap([[1.0, 2.0], [3.0, 4.0]], ["a", "b"])
    (mesh,) = figure.axes[0].collections
    assert mesh.get_array().ravel().tolist() == [1, 2, 3, 4]
    assert figure.axes[0].yaxis_inverted() and not figure.axes[0].xaxis_inverted()
    assert (figure.axes[0].get_ylabel(), figure.axes[0].get_xlabel()) == ("target", "source")


def test_one_colour_scale_and_one_labelled_bar_per_grid():
    values = np.random.default_rng(0).random((4, 3, 3)) + np.arange(4)[:, None, None]
    figure = layer_grid(values, ["a", "b", "c"], [f"layer {i}" for i in range(4)])
    shown = [axes for axes in figure.axes if axes.collections and axes.get_visible()]
    limits = {tuple(axes.collections[0].get_clim()) for axes in shown if axes.get_title()}
    assert limits == {(values.min(), values.max())}
    assert [axes.get_title() for axes in shown if axes.get_title()] == [
        f"layer {i}" for i in range(4)
    ]
    assert "dimensionless" in figure.axes[-1].get_ylabel()


def test_zero_on_a_logarithmic_scale_takes_the_lowest_colour():
    figure = heatmap([[0.0, 1.0], [10.0, 100.0]], ["a", "b"], log=True)
    (mesh,) = figure.axes[0].collections
    assert mesh.get_array().min() == 1 and mesh.get_clim() == (1, 100)


def test_a_logarithmic_scale_has_four_decades_at_most():
    figure = heatmap([[1e-9, 1.0], [10.0, 100.0]], ["a", "b"], log=True)
    assert figure.axes[0].collections[0].get_clim() == (0.01, 100)


def test_strong_is_dark_and_what_is_missing_is_hatched():
    figure = heatmap([[np.nan, 1.0], [10.0, 100.0]], ["a", "b"], log=True)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    pixels = np.flipud(np.asarray(canvas.buffer_rgba()))[..., :3]  # the first row is at the bottom
    brightness = []
    for column, row in [(1, 0), (0, 1), (1, 1)]:
        x, y = figure.axes[0].transData.transform((column + 0.5, row + 0.5)).round().astype(int)
        cell = pixels[y - 9 : y + 9, x - 9 : x + 9].reshape(-1, 3)
        assert len(np.unique(cell, axis=0)) == 1
        brightness.append(cell[0].mean())
    assert (np.diff(brightness) < -40).all() and brightness[0] > 230
    x, y = figure.axes[0].transData.transform((0.5, 0.5)).round().astype(int)
    assert len(np.unique(pixels[y - 9 : y + 9, x - 9 : x + 9].reshape(-1, 3), axis=0)) > 1


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (
            lambda: heatmap(np.ones((2, 3)), ["a", "b"]),
            r"expected values \[2, 2\], .* got \[2, 3\]",
        ),
        (lambda: heatmap(np.full((1, 1), np.nan), ["a"]), "expected finite values to draw"),
        (
            lambda: heatmap(np.zeros((1, 1)), ["a"], log=True),
            "expected finite, positive values to draw",
        ),
        (
            lambda: layer_grid(np.ones((2, 1, 1)), ["a"], ["one"]),
            "expected 2 panel names, one per layer, got 1",
        ),
        (lambda: layer_grid(np.ones((2, 2, 2)), ["a"]), r"expected values \[1, 1\]"),
    ],
)
def test_values_that_cannot_be_drawn(draw, message):
    with pytest.raises(ValueError, match=message):
        draw()


def test_curves_keep_the_legend_off_the_data():
    lines = {"a": [1, 2, 3], "b": ([1, 1, 1], [0, 0, 0], [2, 2, 2])}
    figure = curves(
        [1, 2, 3], lines, xlabel="layer", ylabel="share", reference=1.0, reference_label="null"
    )
    FigureCanvasAgg(figure).draw()
    (legend,) = figure.legends
    assert not legend.get_window_extent().overlaps(figure.axes[0].get_window_extent())
    assert [text.get_text() for text in legend.get_texts()] == ["a", "b", "null"]
    assert (
        curves([1, 10], {"a": [1, 2]}, xlabel="x", ylabel="y", log="xy").axes[0].get_xscale()
        == "log"
    )


def test_figures_of_an_installed_package_go_to_the_working_directory(tmp_path, monkeypatch):
    """Beside it stands the checkout, or a folder of all packages, where nothing may be written."""
    monkeypatch.delenv("FIGURES_DIR", raising=False)
    package = Path(helpers.__file__).parent
    assert package.parent == figures.ROOT and (package.parent / "pyproject.toml").is_file()
    shutil.copytree(package, tmp_path / "site-packages" / "helpers")
    (tmp_path / "work").mkdir()
    script = "from helpers import *; save_figure(heatmap([[1]], ['a']), 'one')"
    environment = {
        **os.environ,
        "PYTHONPATH": str(tmp_path / "site-packages"),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path / "work", env=environment, check=True
    )
    assert [path.relative_to(tmp_path) for path in tmp_path.rglob("*.png")] == [
        Path("work/figures/one.png")
    ]


def test_figures_of_a_checkout_go_to_its_folder(tmp_path, monkeypatch):
    monkeypatch.delenv("FIGURES_DIR", raising=False)
    monkeypatch.setattr(figures, "ROOT", tmp_path)
    (tmp_path / "pyproject.toml").touch()
    save_figure(heatmap([[1]], ["a"]), "one")
    assert (tmp_path / "figures" / "one.png").is_file()


def test_saved_bytes_depend_on_the_numbers_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("FIGURES_DIR", str(tmp_path))
    for name, value in (("one", 1.0), ("two", 1.0), ("three", 1.1)):
        figure = heatmap([[value, 2.0], [3.0, 4.0]], ["a", "b"])
        assert save_figure(figure, name) is figure
    one, two, three = ((tmp_path / f"{name}.png").read_bytes() for name in ("one", "two", "three"))
    assert one == two != three


def test_the_ending_of_the_name_says_the_format_and_dpi_the_size(tmp_path, monkeypatch):
    monkeypatch.setenv("FIGURES_DIR", str(tmp_path))
    figure = heatmap([[1.0, 2.0], [3.0, 4.0]], ["a", "b"])
    for name in ("one.svg", "one.pdf", "one.png", "v1.5"):
        assert save_figure(figure, name, dpi=50) is figure
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["one.pdf", "one.png", "one.svg", "v1.5.png"]
    assert (tmp_path / "one.pdf").read_bytes().startswith(b"%PDF")
    assert "<svg" in (tmp_path / "one.svg").read_text("utf-8")
    width = figures.imread(tmp_path / "one.png").shape[1]
    assert width == pytest.approx(50 * figure.get_figwidth(), abs=1)


def test_a_figure_that_shows_the_same_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("FIGURES_DIR", str(tmp_path))
    values = np.random.default_rng(0).uniform(0.1, 1, (6, 6))
    file = tmp_path / "one.png"

    def bytes_after(values, rows="abcdef"):
        save_figure(heatmap(values, list(rows), limits=(0.1, 1)), "one")
        return file.read_bytes()

    first = bytes_after(values)
    other = first + b" "  # the same picture, other bytes
    file.write_bytes(other)
    assert bytes_after(values * (1 + 1e-6)) == other
    changed = values.copy()
    changed[2, 3] = 1.1 - changed[2, 3]
    second = bytes_after(changed)
    assert second not in (first, other), "one cell is another one"
    assert bytes_after(np.ones((12, 12)), "abcdefghijkl") != second, "another size"


def test_a_saved_figure_says_what_it_shows(tmp_path, monkeypatch):
    monkeypatch.setenv("FIGURES_DIR", str(tmp_path))
    grid = layer_grid(np.ones((2, 2, 2)), ["a", "b"], title="Two\nlayers", label="share")
    lines = curves(
        [1, 2], {"up": [1, 2], "down": [2, 1]}, xlabel="layer", ylabel="error", title="Both"
    )
    lines.axes[0].text(1, 1, "both\nmeet")
    texts = [
        "Two layers. Panels: layer 0; layer 1. Horizontal: source. Vertical: target. "
        "Colours: share",
        "Both. Horizontal: layer. Vertical: error. Lines: up; down. Written in it: both meet",
    ]
    for figure, text in zip([grid, lines], texts, strict=True):
        _, metadata = shown(save_figure(figure, "one"), monkeypatch)
        assert metadata["image/png"]["alt"] == text


def shown(figure, monkeypatch):
    """Data and metadata of the picture that a notebook displays for a figure."""
    outputs = []
    monkeypatch.setattr(figures, "display", outputs.append)
    assert DisplayFormatter().format(figure) == ({}, {}), "it is displayed, and not once more"
    (picture,) = outputs
    return picture._repr_mimebundle_()


def test_a_notebook_shows_a_figure_sharp_on_a_dense_screen_and_small(tmp_path, monkeypatch):
    """Twice the pixels at the same width, in colours near to the true ones and in fewer bytes."""
    monkeypatch.setenv("FIGURES_DIR", str(tmp_path))
    values = np.random.default_rng(0).random((6, 9, 9))
    same = [save_figure(layer_grid(values, words(9)), "one") for _ in range(2)]
    data, metadata = shown(same[0], monkeypatch)
    packed = BytesIO(b64decode(data["image/png"]))
    files = [tmp_path / "exact.png", tmp_path / "small.png"]
    for file, dpi in zip(files, (200, 100), strict=True):
        same[1].savefig(file, dpi=dpi, bbox_inches="tight")
    assert len(packed.getvalue()) < files[1].stat().st_size
    exact, small = map(plt.imread, files)
    sharp = plt.imread(packed)
    assert metadata["image/png"]["width"] == pytest.approx(small.shape[1], abs=1)
    assert sharp.shape[:2] == exact.shape[:2]
    # to the eye the same colours
    assert np.abs(sharp[..., :3] - exact[..., :3]).max() < 8 / 255


def test_small_multiples_share_axes_colours_and_one_legend():
    nan = float("nan")
    rows = [
        ("first", "a", [1.0, 2.0, 3.0], nan, nan),
        ("first", "b", [3.0, 2.0, 1.0], [2.0, 1.0, 0.5], [4.0, 3.0, 2.0]),
        ("second", "b", [3.0, 2.0, 1.0], nan, nan),
        ("too few", "a", nan, nan, nan),
    ]
    names = ("panel", "line", "y", "low", "high")
    data = pd.concat(
        [pd.DataFrame(dict(zip(names, row, strict=True)) | {"x": [1, 2, 3]}) for row in rows]
    )
    figure = small_multiples(
        data, xlabel="depth", ylabel="reach", title="t", log=True, reference=1.0, across=2
    )
    first, second, third = figure.axes
    assert [axes.get_title() for axes in (first, second, third)] == ["first", "second", "too few"]
    assert first.lines[1].get_color() == second.lines[0].get_color() != first.lines[0].get_color()
    assert len(first.collections) == 2 and first.get_yscale() == third.get_yscale() == "log"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a", "b"]
    assert (first.get_xlabel(), second.get_xlabel(), third.get_xlabel()) == ("", "depth", "depth")
    assert second.lines[-1].get_linestyle() == "--" and figure.get_supylabel() == "reach"
    assert [text.get_text() for text in third.texts] == ["no value"] and not second.texts
