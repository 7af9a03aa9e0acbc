"""Lines with their intervals: data in, matplotlib Figure out. Maps are drawn by `plots`."""

from collections.abc import Mapping

import matplotlib as mpl
import numpy as np
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from .labels import LABELS, TICKS, TITLE, log_ticks, say, set_fonts, wrapped
from .plots import COLOURS
from .values import numbers

MARKERS = "osD^vPX*"  # of lines


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
    ordered: bool = False,
) -> Figure:
    """Lines over `x`: each value of `lines` is y, or (y, low, high) for a line with its interval.

    `x` is one sequence for all lines, or a mapping with one for each. `log` names the logarithmic axes ("", "x", "y" or
    "xy"); `reference` draws a dashed horizontal line; `ordered` gives lines that have an order, such as layers, colours
    from dark to light. Raises `ValueError` for a line that has not one value for each place.

    >>> figure = curves([1, 2], {"a": [1, 2], "b": ([1, 1], [0, 0], [2, 2])}, xlabel="layer", ylabel="share")
    >>> figure.axes[0].get_ylabel()
    'share'
    """
    if log not in ("", "x", "y", "xy"):
        raise ValueError(f"expected log '', 'x', 'y' or 'xy', got {log!r}")
    figure = Figure(figsize=(6.4, 3.8), layout="constrained")
    axes = figure.subplots()
    palette = sns.color_palette("colorblind")
    if ordered:
        palette = mpl.colormaps[COLOURS](np.linspace(0, 0.9, max(len(lines), 1)))
    for number, (name, line) in enumerate(lines.items()):
        y, *interval = (numbers(part) for part in (line if isinstance(line, tuple) else (line,)))
        colour = palette[number % len(palette)]
        if isinstance(x, Mapping) and name not in x:
            raise ValueError(f"expected x for each line, got none for {name!r}")
        places = x[name] if isinstance(x, Mapping) else x
        if wrong := [part.shape for part in (y, *interval) if part.shape != (len(places),)]:
            raise ValueError(f"expected {len(places)} values of {name!r}, one for each x, got {list(wrong[0])}")
        marker = MARKERS[number % len(MARKERS)] if len(places) <= 30 else ""
        axes.plot(places, y, marker=marker, markersize=4, color=colour, label=name)
        if interval:
            axes.fill_between(places, interval[0], interval[1], color=colour, alpha=0.2, linewidth=0)
    if reference is not None:
        axes.axhline(reference, color="0.4", linestyle="--", linewidth=1, label=reference_label or None)
    if "x" in log:
        axes.set_xscale("log")
        log_ticks(axes.xaxis)
    if "y" in log:
        axes.set_yscale("log")
        log_ticks(axes.yaxis)
    if "x" not in log and not isinstance(x, Mapping) and np.array_equal(x, np.round(x)):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    say(axes.set_title, title, TITLE)
    say(axes.set_xlabel, xlabel, LABELS)
    say(axes.set_ylabel, ylabel, LABELS)
    axes.tick_params(labelsize=TICKS)
    axes.grid(alpha=0.3)
    if len(lines) > 1 or reference_label:
        legend = figure.legend(loc="outside right center", fontsize=TICKS, frameon=False)
        set_fonts(legend.get_texts())
    return figure


def small_multiples(
    panels: Mapping[str, Mapping[str, tuple]],
    *,
    xlabel: str,
    ylabel: str,
    title: str = "",
    log: bool = False,
    reference: float | None = None,
    across: int = 4,
) -> Figure:
    """One small panel per entry, on the same axes: each of its lines is (x, y) or (x, y, low, high) with its interval.

    A line has the same colour and marker in every panel that has one of its name. `log` makes y logarithmic,
    `reference` draws a dashed horizontal line.

    >>> panels = {"commas": {"trained": ([1, 2], [1, 2])}, "names": {"trained": ([1, 2], [1, 2], [0, 1], [2, 3])}}
    >>> len(small_multiples(panels, xlabel="depth", ylabel="reach").axes)
    2
    """
    across = min(across, len(panels))
    down = -(-len(panels) // across)
    figure = Figure(figsize=(0.8 + 2.1 * across, 0.9 + 1.8 * down), layout="constrained")
    grid = np.atleast_1d(figure.subplots(down, across, sharex=True, sharey=True)).ravel()
    names = list(dict.fromkeys(name for lines in panels.values() for name in lines))
    palette, drawn = sns.color_palette("colorblind"), {}
    for axes, (panel, lines) in zip(grid, panels.items(), strict=False):
        for name, (x, y, *limits) in lines.items():
            style = {"color": palette[names.index(name) % 10], "marker": MARKERS[names.index(name) % len(MARKERS)]}
            (drawn[name],) = axes.plot(x, y, markersize=3, linewidth=1, label=name, **style)
            if limits:
                axes.fill_between(x, *limits, color=style["color"], alpha=0.2, linewidth=0)
        if reference is not None:
            axes.axhline(reference, color="0.4", linestyle="--", linewidth=1)
        say(axes.set_title, wrapped(panel, 1.9, LABELS), LABELS)
        axes.tick_params(labelsize=TICKS)
        axes.grid(alpha=0.3)
    for number, axes in enumerate(grid):
        axes.set_visible(number < len(panels))
        if number + across >= len(panels):
            say(axes.set_xlabel, xlabel, TICKS)
            axes.tick_params(labelbottom=True)
    if log:
        grid[0].set_yscale("log")
        log_ticks(grid[0].yaxis)
    columns = 4 if sum(map(len, drawn)) < 25 * across else 2
    figure.legend(drawn.values(), drawn, loc="outside lower center", ncols=columns, fontsize=TICKS, frameon=False)
    say(figure.suptitle, title, TITLE)
    say(figure.supylabel, ylabel, LABELS)
    return figure
