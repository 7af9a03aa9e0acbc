import itertools

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from helpers import curves, heatmap, layer_grid, save_figure


def words(count):
    return [f"unbelievable{i}" if i % 7 == 0 else f"w{i}" for i in range(count)]


def overlaps(figure, axis):
    """Neighbouring tick labels that cover each other, in drawn pixels."""
    FigureCanvasAgg(figure).draw()
    boxes = [label.get_window_extent() for label in getattr(figure.axes[0], f"get_{axis}ticklabels")()]
    return [i for i, (a, b) in enumerate(itertools.pairwise(boxes)) if a.overlaps(b)]


@pytest.mark.parametrize("count", [1, 2, 13, 40])
def test_every_token_is_labelled_and_readable(count):
    figure = heatmap(np.random.default_rng(0).random((count, count)), words(count), title="A title")
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == words(count)
    assert [label.get_text() for label in axes.get_yticklabels()] == words(count)
    assert not overlaps(figure, "x") and not overlaps(figure, "y")
    inside = figure.get_window_extent()
    for label in [*axes.get_xticklabels(), *axes.get_yticklabels(), axes.title, axes.xaxis.label]:
        box = label.get_window_extent()
        assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= inside.x1 and box.y1 <= inside.y1, label
    assert min(label.get_fontsize() for label in axes.get_xticklabels()) >= 6


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
    assert [axes.get_title() for axes in shown if axes.get_title()] == [f"layer {i}" for i in range(4)]
    assert "dimensionless" in figure.axes[-1].get_ylabel()


def test_zero_on_a_logarithmic_scale_takes_the_lowest_colour():
    figure = heatmap([[0.0, 1.0], [10.0, 100.0]], ["a", "b"], log=True)
    (mesh,) = figure.axes[0].collections
    assert mesh.get_array().min() == 1 and mesh.get_clim() == (1, 100)


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: heatmap(np.ones((2, 3)), ["a", "b"]), r"expected values \[2, 2\], .* got \[2, 3\]"),
        (lambda: heatmap(np.full((1, 1), np.nan), ["a"]), "expected finite values to draw"),
        (lambda: heatmap(np.zeros((1, 1)), ["a"], log=True), "expected finite, positive values to draw"),
        (lambda: layer_grid(np.ones((2, 1, 1)), ["a"], ["one"]), "expected 2 panel names, one per layer, got 1"),
        (lambda: layer_grid(np.ones((2, 2, 2)), ["a"]), r"expected values \[1, 1\]"),
    ],
)
def test_values_that_cannot_be_drawn(draw, message):
    with pytest.raises(ValueError, match=message):
        draw()


def test_curves_keep_the_legend_off_the_data():
    lines = {"a": [1, 2, 3], "b": ([1, 1, 1], [0, 0, 0], [2, 2, 2])}
    figure = curves([1, 2, 3], lines, xlabel="layer", ylabel="share", reference=1.0, reference_label="null")
    FigureCanvasAgg(figure).draw()
    (legend,) = figure.legends
    assert not legend.get_window_extent().overlaps(figure.axes[0].get_window_extent())
    assert [text.get_text() for text in legend.get_texts()] == ["a", "b", "null"]
    assert curves([1, 10], {"a": [1, 2]}, xlabel="x", ylabel="y", log="xy").axes[0].get_xscale() == "log"


def test_saved_bytes_depend_on_the_numbers_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("FIGURES_DIR", str(tmp_path))
    for name, value in (("one", 1.0), ("two", 1.0), ("three", 1.1)):
        figure = heatmap([[value, 2.0], [3.0, 4.0]], ["a", "b"])
        assert save_figure(figure, name) is figure
    one, two, three = ((tmp_path / f"{name}.png").read_bytes() for name in ("one", "two", "three"))
    assert one == two != three
