"""Data in, matplotlib Figure out. Matrices are drawn as they are stored: row = target, column = source."""

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
TITLE, LABELS, TICKS, SMALL = 10, 9, 8, 6.5  # font sizes, points
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
    cell, ticks = (0.3, TICKS) if len(columns) <= 16 else (0.2, SMALL)
    figure = Figure(figsize=(2.6 + cell * len(columns), 1.5 + cell * len(rows)), layout="constrained")
    axes = figure.subplots()
    _draw(figure, [axes], [values], rows, columns, label, log, limits, ticks)
    axes.set_title(title, fontsize=TITLE, parse_math=False)
    axes.set_xlabel(xlabel, fontsize=LABELS)
    axes.set_ylabel(ylabel, fontsize=LABELS)
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
) -> Figure:
    """One panel per layer on one colour scale: `values` [layer, target, source], `names` one title per panel.

    Raises `ValueError` when the labels do not fit the values.

    >>> len(layer_grid(np.ones((6, 2, 2)), ["a", "b"]).axes)  # six panels and the colour bar
    7
    """
    names = [f"layer {number}" for number in range(len(values))] if names is None else names
    if len(names) != len(values):
        raise ValueError(f"expected {len(values)} panel names, one per layer, got {len(names)}")
    across = min(3, len(values))
    down = -(-len(values) // across)
    side = 0.9 + 0.2 * len(tokens)
    figure = Figure(figsize=(1.2 + side * across, 0.6 + side * down), layout="constrained")
    panels = np.atleast_1d(figure.subplots(down, across, sharex=True, sharey=True)).ravel()
    _draw(figure, list(panels[: len(values)]), values, tokens, tokens, label, log, limits, SMALL)
    for number, axes in enumerate(panels):
        axes.set_visible(number < len(values))
        axes.tick_params(labelleft=number % across == 0, labelbottom=number + across >= len(values))
    for axes, name in zip(panels, names, strict=False):
        axes.set_title(name, fontsize=LABELS)
    figure.suptitle(title, fontsize=TITLE, parse_math=False)
    figure.supxlabel("source", fontsize=LABELS)
    figure.supylabel("target", fontsize=LABELS)
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
    axes.set_title(title, fontsize=TITLE, parse_math=False)
    axes.set_xlabel(xlabel, fontsize=LABELS)
    axes.set_ylabel(ylabel, fontsize=LABELS)
    axes.tick_params(labelsize=TICKS)
    axes.grid(alpha=0.3)
    if len(lines) > 1 or reference_label:
        figure.legend(loc="outside right center", fontsize=TICKS, frameon=False)
    return figure


def save_figure(figure: Figure, name: str) -> Figure:
    """Write `figure` as `figures/<name>.png` (in $FIGURES_DIR when it is set) and return it, to end a cell with.

    The PNG holds no version string or date, so that the same numbers give the same bytes.
    """
    folder = Path(os.environ.get("FIGURES_DIR", FIGURES))
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / f"{name}.png", dpi=120, metadata={"Software": None})
    return figure


def _draw(
    figure: Figure,
    panels: Sequence[Axes],
    matrices,
    rows: Sequence[str],
    columns: Sequence[str],
    label: str,
    log: bool,
    limits: tuple[float, float] | None,
    ticksize: float,
) -> None:
    """One matrix per panel, all on one colour scale with its bar."""
    matrices = [np.asarray(matrix, dtype=float) for matrix in matrices]
    for shape in {matrix.shape for matrix in matrices} - {(len(rows), len(columns))}:
        expected = [len(rows), len(columns)]
        raise ValueError(f"expected values {expected}, one label per row and column, got {list(shape)}")
    norm = _norm(np.stack(matrices), log, limits)
    options = {"cmap": COLOURS, "cbar": False, "square": True, "xticklabels": columns, "yticklabels": rows}
    for axes, matrix in zip(panels, matrices, strict=True):
        sns.heatmap(np.clip(matrix, norm.vmin if log else None, None), ax=axes, norm=norm, **options)
        axes.tick_params(axis="x", labelsize=ticksize, rotation=90)
        axes.tick_params(axis="y", labelsize=ticksize, rotation=0)
        for text in (*axes.get_xticklabels(), *axes.get_yticklabels()):
            text.set_parse_math(False)  # a token may hold a $
    bar = figure.colorbar(ScalarMappable(norm, COLOURS), ax=list(panels), fraction=0.05, pad=0.02)
    bar.set_label(label, fontsize=LABELS)
    bar.ax.tick_params(labelsize=TICKS)


def _norm(values: np.ndarray, log: bool, limits: tuple[float, float] | None) -> Normalize:
    shown = values[np.isfinite(values) & (values > 0)] if log else values[np.isfinite(values)]
    if not len(shown):
        raise ValueError(f"expected finite{', positive' if log else ''} values to draw, got none")
    low, high = limits or (shown.min(), shown.max())
    if log:
        return LogNorm(low, high if high > low else 10 * low, clip=True)
    return Normalize(low, high if high > low else low + 1)


def _log_ticks(axis: Axis) -> None:
    """Decades, or 1-2-5 steps as plain numbers where there are fewer than two; never labels on top of each other."""
    low, high = sorted(axis.get_data_interval())
    if high < 100 * low:
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())
