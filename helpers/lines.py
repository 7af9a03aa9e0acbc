"""Lines with their intervals: data in, matplotlib Figure out. Maps are drawn by `figures`."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from .labels import log_ticks, styled, wrapped
from .values import numbers

MARKERS = "osD^vPX*"  # of lines


@styled
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

    `x` is one sequence for all lines, or a mapping with one for each. `log` names the logarithmic
    axes ("", "x", "y" or "xy"); `reference` draws a dashed horizontal line. Raises `ValueError` for
    a line that has not one value for each place.

    >>> lines = {"a": [1, 2], "b": ([1, 1], [0, 0], [2, 2])}
    >>> figure = curves([1, 2], lines, xlabel="layer", ylabel="share")
    >>> figure.axes[0].get_ylabel()
    'share'
    """
    if log not in ("", "x", "y", "xy"):
        raise ValueError(f"expected log '', 'x', 'y' or 'xy', got {log!r}")
    figure = Figure(figsize=(6.4, 3.8), layout="constrained")
    axes = figure.subplots()
    palette = sns.color_palette("colorblind")
    every_x = x if isinstance(x, Mapping) else dict.fromkeys(lines, x)
    for number, (name, line) in enumerate(lines.items()):
        if name not in every_x:
            raise ValueError(f"expected x for each line, got none for {name!r}")
        places = every_x[name]
        parts = [numbers(part) for part in (line if isinstance(line, tuple) else [line])]
        for part in parts:
            if part.shape != (len(places),):
                wanted = f"{len(places)} values of {name!r}, one for each x"
                raise ValueError(f"expected {wanted}, got {list(part.shape)}")
        colour = palette[number % len(palette)]
        marker = MARKERS[number % len(MARKERS)] if len(places) <= 30 else ""
        axes.plot(places, parts[0], marker=marker, markersize=4, color=colour, label=name)
        if len(parts) > 1:
            low, high = parts[1:]
            axes.fill_between(places, low, high, color=colour, alpha=0.2, linewidth=0)
    if reference is not None:
        label = reference_label or None
        axes.axhline(reference, color="0.4", linestyle="--", linewidth=1, label=label)
    axes.set(title=title, xlabel=xlabel, ylabel=ylabel)
    axes.grid()
    if "x" in log:
        axes.set_xscale("log")
        log_ticks(axes.xaxis, *axes.xaxis.get_data_interval())
    elif all(np.array_equal(places, np.round(places)) for places in every_x.values()):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if "y" in log:
        axes.set_yscale("log")
        log_ticks(axes.yaxis, *axes.yaxis.get_data_interval())
    if len(lines) > 1 or reference_label:
        figure.legend(loc="outside right center")
    return figure


@styled
def small_multiples(
    data: pd.DataFrame,
    *,
    xlabel: str,
    ylabel: str,
    title: str = "",
    log: bool = False,
    reference: float | None = None,
    across: int = 4,
) -> Figure:
    """One small panel for each `panel` of a frame, on the same axes, with a line for each `line`.

    The other columns are `x`, `y`, `low` and `high`, the interval (NaN: none). A panel without any
    y says so. `log` makes y logarithmic, `reference` draws a dashed horizontal line.

    >>> rows = {"panel": ["commas", "names"], "line": "a", "x": 1, "y": 1, "low": 0, "high": 2}
    >>> len(small_multiples(pd.DataFrame(rows), xlabel="depth", ylabel="reach").axes)
    2
    """
    data = data.assign(panel=[wrapped(panel, 24) for panel in data.panel])
    grid = sns.FacetGrid(
        data,
        col="panel",
        col_wrap=min(across, data.panel.nunique()),
        hue="line",
        hue_kws={"marker": MARKERS * 2},
        palette="colorblind",
        height=2.2,
        aspect=1,
        despine=False,
    )
    grid.map(_line_and_band, "x", "y", "low", "high")
    grid.set_titles("{col_name}").set_axis_labels(xlabel, "")
    for panel, axes in grid.axes_dict.items():
        axes.grid()
        if data.y[data.panel == panel].isna().all():
            axes.text(0.5, 0.75, "no value", ha="center", transform=axes.transAxes)
        if reference is not None:  # grid.refline would draw it once more for the legend
            axes.axhline(reference, color="0.4", linestyle="--", linewidth=1)
    if log:
        grid.set(yscale="log")
        log_ticks(axes.yaxis, data.y.min(), data.y.max())
    figure, drawn = grid.figure, grid._legend_data
    figure.set_layout_engine("constrained")
    columns = 4 if sum(map(len, drawn)) < 25 * across else 2
    figure.legend(drawn.values(), drawn, loc="outside lower center", ncols=columns)
    figure.suptitle(title)
    figure.supylabel(ylabel)
    plt.close(figure)  # else a notebook shows it twice
    return figure


def _line_and_band(x, y, low, high, **style) -> None:
    plt.plot(x, y, markersize=3, linewidth=1, **style)
    plt.fill_between(x, low, high, color=style["color"], alpha=0.2, linewidth=0)
