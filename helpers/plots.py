"""Data in, matplotlib Figure out. Matrices are drawn as they are stored: row = target, column = source."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

INFLUENCE = "‖∂h_target / ∂h_source‖²  (dimensionless)"
COLOURS = "viridis"  # readable with any common colour vision
STYLE = {"titlesize": 10, "labelsize": 9, "ticksize": 8}
FIGURES = Path(__file__).resolve().parents[1] / "figures"


def heatmap(
    values,
    rows: Sequence[str],
    columns: Sequence[str] | None = None,
    *,
    title: str = "",
    label: str = INFLUENCE,
    log: bool = False,
    limits: tuple[float, float] | None = None,
    xlabel: str = "source",
    ylabel: str = "target",
) -> Figure:
    """One matrix with token labels: `values` [row, column], by default [target, source] with the tokens on both axes.

    `log` chooses the colour scale, `limits` its ends (default: those of the finite, for
    `log` positive, values; smaller values take the lowest colour). Raises `ValueError` when labels and values do not
    fit together.

    >>> heatmap([[1.0, 0.1], [0.2, 1.0]], ["a", "b"], log=True).axes[0].get_xlabel()
    'source'
    """
    columns = rows if columns is None else columns
    values = _matrix(values, len(rows), len(columns))
    cell = 0.3 if len(columns) <= 16 else 0.2
    figure = Figure(figsize=(2.6 + cell * len(columns), 1.5 + cell * len(rows)), layout="constrained")
    axes = figure.subplots()
    norm = _norm(values, log, limits)
    _draw(axes, values, rows, columns, norm, small=len(columns) > 16)
    axes.set_title(title, fontsize=STYLE["titlesize"], parse_math=False)
    axes.set_xlabel(xlabel, fontsize=STYLE["labelsize"])
    axes.set_ylabel(ylabel, fontsize=STYLE["labelsize"])
    _colour_bar(figure, [axes], norm, label)
    return figure


def layer_grid(
    values,
    tokens: Sequence[str],
    names: Sequence[str] | None = None,
    *,
    title: str = "",
    label: str = INFLUENCE,
    log: bool = True,
    limits: tuple[float, float] | None = None,
    columns: int = 3,
) -> Figure:
    """One panel per layer on one colour scale: `values` [layer, target, source], `names` one title per panel.

    Raises `ValueError` when the labels do not fit the values.

    >>> len(layer_grid(np.ones((6, 2, 2)), ["a", "b"]).axes)  # six panels and the colour bar
    7
    """
    stacked = np.stack([_matrix(matrix, len(tokens), len(tokens)) for matrix in np.asarray(values)])
    names = [f"layer {number}" for number in range(len(stacked))] if names is None else names
    if len(names) != len(stacked):
        raise ValueError(f"expected {len(stacked)} panel names, one per layer, got {len(names)}")
    columns = min(columns, len(stacked))
    lines = -(-len(stacked) // columns)
    side = 0.9 + 0.2 * len(tokens)
    figure = Figure(figsize=(1.2 + side * columns, 0.6 + side * lines), layout="constrained")
    panels = np.atleast_1d(figure.subplots(lines, columns, sharex=True, sharey=True)).ravel()
    norm = _norm(stacked, log, limits)
    for number, axes in enumerate(panels):
        if number >= len(stacked):
            axes.set_visible(False)
            continue
        _draw(axes, stacked[number], tokens, tokens, norm, small=True)
        axes.set_title(names[number], fontsize=STYLE["labelsize"])
        axes.tick_params(labelleft=number % columns == 0, labelbottom=number + columns >= len(stacked))
    figure.suptitle(title, fontsize=STYLE["titlesize"], parse_math=False)
    figure.supxlabel("source", fontsize=STYLE["labelsize"])
    figure.supylabel("target", fontsize=STYLE["labelsize"])
    _colour_bar(figure, list(panels[: len(stacked)]), norm, label)
    return figure


def curves(
    x,
    lines: Mapping[str, object],
    *,
    xlabel: str,
    ylabel: str,
    title: str = "",
    log: str = "",
    reference: float | None = None,
    reference_label: str = "",
) -> Figure:
    """Lines over `x`: each value of `lines` is y, or (y, low, high) for a line with its interval.

    `x` is one sequence for all lines, or a mapping with one for each.

    `log` names the logarithmic axes ("", "x", "y" or "xy"); `reference` draws a dashed horizontal line.

    >>> figure = curves([1, 2], {"a": [1, 2], "b": ([1, 1], [0, 0], [2, 2])}, xlabel="layer", ylabel="share")
    >>> figure.axes[0].get_ylabel()
    'share'
    """
    figure = Figure(figsize=(6.4, 3.8), layout="constrained")
    axes = figure.subplots()
    palette, markers = sns.color_palette("colorblind"), "osD^vPX*"
    for number, (name, line) in enumerate(lines.items()):
        y, *interval = line if isinstance(line, tuple) else (line,)
        colour = palette[number % len(palette)]
        places = x[name] if isinstance(x, Mapping) else x
        marker = markers[number % len(markers)] if len(places) <= 30 else ""
        axes.plot(places, y, marker=marker, markersize=4, color=colour, label=name)
        if interval:
            axes.fill_between(places, *interval, color=colour, alpha=0.2, linewidth=0)
    if reference is not None:
        axes.axhline(reference, color="0.4", linestyle="--", linewidth=1, label=reference_label or None)
    if "x" in log:
        axes.set_xscale("log")
        _log_ticks(axes.xaxis)
    if "y" in log:
        axes.set_yscale("log")
        _log_ticks(axes.yaxis)
    if "x" not in log and not isinstance(x, Mapping) and np.array_equal(x, np.round(x)):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_title(title, fontsize=STYLE["titlesize"], parse_math=False)
    axes.set_xlabel(xlabel, fontsize=STYLE["labelsize"])
    axes.set_ylabel(ylabel, fontsize=STYLE["labelsize"])
    axes.tick_params(labelsize=STYLE["ticksize"])
    axes.grid(alpha=0.3)
    if len(lines) > 1 or reference_label:
        figure.legend(loc="outside right center", fontsize=STYLE["ticksize"], frameon=False)
    return figure


def save_figure(figure: Figure, name: str) -> Figure:
    """Write `figure` as `figures/<name>.png` (in $FIGURES_DIR when it is set) and return it, to end a cell with.

    The PNG holds no version string or date, so that the same numbers give the same bytes.
    """
    folder = Path(os.environ.get("FIGURES_DIR", FIGURES))
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / f"{name}.png", dpi=120, metadata={"Software": None})
    return figure


def _matrix(values, rows: int, columns: int) -> np.ndarray:
    values = np.asarray(values, dtype=float)
    if values.shape != (rows, columns):
        raise ValueError(f"expected values [{rows}, {columns}], one label per row and column, got {list(values.shape)}")
    return values


def _norm(values: np.ndarray, log: bool, limits: tuple[float, float] | None) -> Normalize:
    shown = values[np.isfinite(values) & (values > 0)] if log else values[np.isfinite(values)]
    if not len(shown):
        raise ValueError(f"expected finite{', positive' if log else ''} values to draw, got none")
    low, high = limits or (shown.min(), shown.max())
    if log:
        return LogNorm(low, high if high > low else 10 * low, clip=True)
    return Normalize(low, high if high > low else low + 1)


def _draw(
    axes: Axes,
    values: np.ndarray,
    rows: Sequence[str],
    columns: Sequence[str],
    norm: Normalize,
    small: bool,
) -> None:
    if isinstance(norm, LogNorm):
        values = np.clip(values, norm.vmin, None)
    sns.heatmap(
        values,
        ax=axes,
        norm=norm,
        cmap=COLOURS,
        cbar=False,
        square=True,
        xticklabels=list(columns),
        yticklabels=list(rows),
    )
    size = 6.5 if small else STYLE["ticksize"]
    axes.tick_params(axis="x", labelsize=size, rotation=90)
    axes.tick_params(axis="y", labelsize=size, rotation=0)
    for label in (*axes.get_xticklabels(), *axes.get_yticklabels()):
        label.set_parse_math(False)  # a token may hold a $


def _log_ticks(axis: Axis) -> None:
    """Decades, or 1-2-5 steps as plain numbers where there are fewer than two; never labels on top of each other."""
    low, high = sorted(axis.get_data_interval())
    if high < 100 * low:
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def _colour_bar(figure: Figure, axes: list[Axes], norm: Normalize, label: str) -> None:
    bar = figure.colorbar(ScalarMappable(norm, COLOURS), ax=axes, fraction=0.05, pad=0.02)
    bar.set_label(label, fontsize=STYLE["labelsize"])
    bar.ax.tick_params(labelsize=STYLE["ticksize"])
