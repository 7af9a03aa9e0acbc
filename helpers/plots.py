"""Data in, matplotlib Figure out. Matrices are drawn as they are stored: row = target, column = source."""

import os
import textwrap
import unicodedata
import warnings
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager, get_font
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from .findings import numbers

INFLUENCE = "‖∂h_target\u00a0/\u00a0∂h_source‖²  (dimensionless)"  # no line ends within the formula
COLOURS = "viridis"  # readable with any common colour vision
TITLE, LABELS, TICKS, SMALL = 10, 9, 8, 6.5  # font sizes, points
MARKERS = "osD^vPX*"  # of lines
ROOT = Path(__file__).resolve().parents[1]
MARKS = {",": "comma", ".": "full stop", ":": "colon", ";": "semicolon", "'": "quote", "’": "quote", "`": "backtick"}
MARKS |= {"-": "hyphen", "–": "dash", "·": "dot"}  # marks that are a pixel apart, or next to nothing, as labels


def heatmap(
    values,
    rows: Sequence[str] | None = None,
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

    An `Influence` of one layer brings its labels. `log` chooses the colour scale, `limits` its ends (default: those of
    the finite, for `log` positive, values; smaller values take the lowest colour). Marks that are hard to tell apart
    are named (", comma"). Raises `ValueError` when labels and values do not fit together.

    >>> heatmap([[1.0, 0.1], [0.2, 1.0]], ["a", "b"], log=True).axes[0].get_xlabel()
    'source'
    """
    if _is_influence(values):
        if len(values.layers) != 1:
            raise ValueError(
                f"expected the influence of one layer, got {len(values.layers)}; choose one, as in "
                "heatmap(influence.values[0], influence.tokens), or draw all of them with layer_grid(influence)"
            )
        title = title or values.layers[0]
        own_rows, own_columns = _tokens(values)
        values, rows, columns = values.values[0], own_rows if rows is None else rows, columns or own_columns
    rows, columns = _labels(rows, "rows"), _labels(rows if columns is None else columns, "columns")
    side = max(len(rows), len(columns), 1)
    cell = max(0.14, min(9 / side, 0.3)) if side > 6 else 1.9 / side
    ticks = TICKS if cell >= 0.2 else SMALL
    label = _wrapped(label, max(cell * len(rows), 1.4), LABELS)
    title = _wrapped(title, cell * len(columns) + 1.4, TITLE)
    width = 1.4 + _width(rows, ticks) + cell * len(columns)
    height = 0.6 + _width(columns, ticks) + cell * len(rows) + 0.2 * title.count("\n")
    figure = Figure(figsize=(width, max(height, _width([label], LABELS) + 0.2)), layout="constrained")
    axes = figure.subplots()
    _draw(figure, [axes], [values], rows, columns, label, log, limits, ticks)
    _say(axes.set_title, title, TITLE)
    _say(axes.set_xlabel, xlabel, LABELS)
    _say(axes.set_ylabel, ylabel, LABELS)
    return figure


def layer_grid(
    values,
    tokens: Sequence[str] | None = None,
    names: Sequence[str] | None = None,
    *,
    title: str = "",
    label: str = INFLUENCE,
    log: bool = True,
    limits: tuple[float, float] | None = None,
) -> Figure:
    """One panel per layer on one colour scale: `values` [layer, target, source], `names` one title per panel.

    An `Influence` brings its tokens and its layers' names. As many panels stand side by side as stay readable, three at
    most. Raises `ValueError` when the labels do not fit the values.

    >>> len(layer_grid(np.ones((6, 2, 2)), ["a", "b"]).axes)  # six panels and the colour bar
    7
    """
    columns = tokens
    if _is_influence(values):
        rows, own_columns = _tokens(values)
        tokens, columns = (rows, own_columns) if tokens is None else (tokens, tokens)
        names, values = list(values.layers) if names is None else names, values.values
    values = numbers(values)
    if values.ndim != 3 or not values.size:
        raise ValueError(f"expected values [layer, target, source], got {list(values.shape)}; one matrix: heatmap")
    rows, columns = _labels(tokens, "tokens"), _labels(columns, "tokens")
    names = [f"layer {number}" for number in range(len(values))] if names is None else _labels(names, "names")
    if len(names) != len(values):
        raise ValueError(f"expected {len(values)} panel names, one per layer, got {len(names)}")
    side = max(len(rows), len(columns))
    cell = max(0.2, 1.3 / side) if side <= 16 else 0.14
    panel = max(cell * len(columns), _width(names, LABELS)) + 0.25
    across = min(3, len(values), max(1, int(12 / panel)))
    down = -(-len(values) // across)
    width = 1.5 + _width(rows, SMALL) + panel * across
    title = _wrapped(title, width - 0.2, TITLE)
    height = 0.8 + _width(columns, SMALL) + (cell * len(rows) + 0.3) * down + 0.2 * title.count("\n")
    label = _wrapped(label, (cell * len(rows) + 0.3) * down, LABELS)
    figure = Figure(figsize=(width, max(height, _width([label], LABELS) + 0.2)), layout="constrained")
    panels = np.atleast_1d(figure.subplots(down, across, sharex=True, sharey=True)).ravel()
    _draw(figure, list(panels[: len(values)]), values, rows, columns, label, log, limits, SMALL)
    for number, axes in enumerate(panels):
        axes.set_visible(number < len(values))
        axes.tick_params(labelleft=number % across == 0, labelbottom=number + across >= len(values))
    for axes, name in zip(panels, names, strict=False):
        _say(axes.set_title, name, LABELS)
    _say(figure.suptitle, title, TITLE)
    _say(figure.supxlabel, "source", LABELS)
    _say(figure.supylabel, "target", LABELS)
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
        _log_ticks(axes.xaxis)
    if "y" in log:
        axes.set_yscale("log")
        _log_ticks(axes.yaxis)
    if "x" not in log and not isinstance(x, Mapping) and np.array_equal(x, np.round(x)):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _say(axes.set_title, title, TITLE)
    _say(axes.set_xlabel, xlabel, LABELS)
    _say(axes.set_ylabel, ylabel, LABELS)
    axes.tick_params(labelsize=TICKS)
    axes.grid(alpha=0.3)
    if len(lines) > 1 or reference_label:
        legend = figure.legend(loc="outside right center", fontsize=TICKS, frameon=False)
        _set_fonts(legend.get_texts())
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
        _say(axes.set_title, panel, LABELS)
        axes.tick_params(labelsize=TICKS)
        axes.grid(alpha=0.3)
    for number, axes in enumerate(grid):
        axes.set_visible(number < len(panels))
        if number + across >= len(panels):
            _say(axes.set_xlabel, xlabel, TICKS)
            axes.tick_params(labelbottom=True)
    if log:
        grid[0].set_yscale("log")
        _log_ticks(grid[0].yaxis)
    columns = 4 if sum(map(len, drawn)) < 25 * across else 2
    figure.legend(drawn.values(), drawn, loc="outside lower center", ncols=columns, fontsize=TICKS, frameon=False)
    _say(figure.suptitle, title, TITLE)
    _say(figure.supylabel, ylabel, LABELS)
    return figure


def save_figure(figure: Figure, name: str) -> Figure:
    """Write `figure` as `<name>.png` and return it, to end a cell with.

    The folder is $FIGURES_DIR when it is set, else `figures` of the checkout that holds this package, else, when the
    package is installed without its checkout, `figures` in the working directory. A file that shows the same already,
    but for the rounding of another processor, is left as it is. In a notebook the figure gets a text for readers who
    do not see it: its titles and the names of its axes.
    """
    if not isinstance(figure, Figure):
        raise ValueError(f"expected a matplotlib Figure, got {type(figure).__name__}")
    checkout = ROOT if (ROOT / "pyproject.toml").is_file() else Path()
    folder = Path(os.environ.get("FIGURES_DIR") or checkout / "figures")
    folder.mkdir(parents=True, exist_ok=True)
    drawn, file = BytesIO(), folder / f"{name}.png"
    figure.savefig(drawn, dpi=120, metadata={"Software": None})  # no version, no date: the same numbers, the same bytes
    drawn.seek(0)
    if not (file.exists() and _same_picture(file, drawn)):
        file.write_bytes(drawn.getvalue())
    alt = {"image/png": {"alt": _described(figure)}}
    figure._repr_mimebundle_ = lambda **_: ({}, alt)  # type: ignore[attr-defined]  # IPython adds the picture
    return figure


def _same_picture(*files: Any) -> bool:
    """Whether two PNGs are equal up to a root mean square of 0.3 of 255; one changed cell of a heat map is above it."""
    one, other = (mpl.image.imread(file)[..., :3] for file in files)
    return one.shape == other.shape and 255 * np.sqrt(np.mean((one - other) ** 2)) <= 0.3


def _described(figure: Figure) -> str:
    """The figure's titles, axes, colours and lines in words."""
    bars = [axes for axes in figure.axes if axes.get_label() == "<colorbar>"]
    panels = [axes for axes in figure.axes if axes.get_visible() and axes not in bars]
    legends = [*figure.legends, *(legend for axes in panels if (legend := axes.get_legend()))]
    parts = {
        "": [figure.get_suptitle()],
        "Panels: ": [axes.get_title() for axes in panels],
        "Horizontal: ": [figure.get_supxlabel(), *(axes.get_xlabel() for axes in panels)],
        "Vertical: ": [figure.get_supylabel(), *(axes.get_ylabel() for axes in panels)],
        "Colours: ": [axes.get_ylabel() for axes in bars],
        "Lines: ": [text.get_text() for legend in legends for text in legend.get_texts()],
    }
    if len(panels) == 1:
        parts[""] += parts.pop("Panels: ")
    said = {start: "; ".join(dict.fromkeys(filter(None, texts))) for start, texts in parts.items()}
    return " ".join(". ".join(start + text.rstrip(".") for start, text in said.items() if text).split())


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
    matrices = [numbers(matrix) for matrix in matrices]
    for shape in {matrix.shape for matrix in matrices} - {(len(rows), len(columns))}:
        expected = [len(rows), len(columns)]
        raise ValueError(f"expected values {expected}, one label per row and column, got {list(shape)}")
    norm = _norm(np.stack(matrices), log, limits)
    for axes, matrix in zip(panels, matrices, strict=True):
        shown = np.ma.masked_invalid(np.clip(matrix, norm.vmin if log else -np.inf, None))
        axes.pcolormesh(shown, cmap=COLOURS, norm=norm)
        axes.set(xlim=(0, len(columns)), ylim=(len(rows), 0), aspect="equal")  # the first row on top
        axes.set_xticks(np.arange(len(columns)) + 0.5, columns, rotation=90, fontsize=ticksize)
        axes.set_yticks(np.arange(len(rows)) + 0.5, rows, fontsize=ticksize)
        axes.spines[:].set_visible(False)
        _set_fonts([*axes.get_xticklabels(), *axes.get_yticklabels()])
    aspect = max(20, 5 * figure.get_figheight())  # a bar as thin beside a tall grid
    bar = figure.colorbar(ScalarMappable(norm, COLOURS), ax=list(panels), fraction=0.05, pad=0.02, aspect=aspect)
    bar.set_label(label, fontsize=LABELS)
    if log:
        _log_ticks(bar.ax.yaxis, norm)
    bar.ax.tick_params(labelsize=TICKS)


def _norm(values: np.ndarray, log: bool, limits: tuple[float, float] | None) -> Normalize:
    shown = values[np.isfinite(values) & (values > 0)] if log else values[np.isfinite(values)]
    if not len(shown):
        raise ValueError(f"expected finite{', positive' if log else ''} values to draw, got none")
    if limits is not None and not (len(limits) == 2 and limits[0] < limits[1] and (limits[0] > 0 or not log)):
        raise ValueError(f"expected limits (low, high){' above 0, for log' if log else ''}, got {limits}")
    low, high = limits or (shown.min(), shown.max())
    if log:
        return LogNorm(low, high if high > low else 10 * low, clip=True)
    return Normalize(low, high if high > low else low + 1)


def _log_ticks(axis: Axis, norm: Normalize | None = None) -> None:
    """Decades, or 1-2-5 steps as plain numbers where there are fewer than two; never labels on top of each other."""
    low, high = map(float, sorted(axis.get_data_interval() if norm is None else (norm.vmin or 1, norm.vmax or 1)))
    if high < 100 * low:
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def _is_influence(values: Any) -> bool:
    return hasattr(values, "values") and hasattr(values, "tokens") and hasattr(values, "layers")


def _tokens(influence: Any) -> tuple[list[str], list[str]]:
    """The labels of an influence's rows and columns, where only some targets or sources were measured."""
    every = range(len(influence.tokens))
    chosen = (getattr(influence, name, None) for name in ("targets", "sources"))
    rows, columns = ([influence.tokens[i] for i in (every if part is None else part)] for part in chosen)
    return rows, columns


def _labels(labels: Any, name: str) -> list[str]:
    if labels is None or isinstance(labels, str) or not isinstance(labels, Iterable):
        raise ValueError(f"expected {name}, a list of labels such as sentence.tokens, got {labels!r:.40}")
    return [f"{label} {MARKS[label]}" if label in MARKS else _legible(str(label)) for label in labels]


def _width(texts: Iterable[str], size: float) -> float:
    """About how wide the longest line is, in inches."""
    lines = [line for text in texts for line in str(text).split("\n")]
    em = [sum(1.0 if unicodedata.east_asian_width(letter) in "WF" else 0.61 for letter in line) for line in lines]
    return max(em, default=0) * size / 72


def _wrapped(text: str, width: float, size: float) -> str:
    """The text in lines of at most `width` inches; where its lines are shorter it stays as it is."""
    letters = int(width * 72 / 0.61 / size)
    lines = (
        line if _width([line], size) <= width else textwrap.fill(line, letters, break_long_words=False)
        for line in str(text).split("\n")
    )
    return "\n".join(lines)


def _say(place: Any, text: str, size: float) -> None:
    """Set a title or a label."""
    _set_fonts([place(_legible(text), fontsize=size)])


def _legible(text: str) -> str:
    """The text with a number, such as U+1F600, for each letter that no installed font has."""
    names = {letter: f" U+{ord(letter):X} " for letter in _fonts(text)[1]}
    invisible = {letter: "" for letter in names if unicodedata.category(letter) == "Cf"}  # joiners and the like
    return "".join((names | invisible).get(letter, letter) for letter in text).strip() if names else text


def _set_fonts(texts: Iterable[Text]) -> None:
    """Let each text use an installed font that has its letters where matplotlib's own lacks them; a $ is a $."""
    for text in texts:
        text.set_parse_math(False)
        if families := _fonts(text.get_text())[0]:
            text.set_fontfamily([*mpl.rcParams["font.family"], *families])


def _fonts(text: str) -> tuple[list[str], str]:
    return ([], "") if text.isascii() else _fonts_with("".join(sorted(set(text))))


@lru_cache
def _fonts_with(letters: str) -> tuple[list[str], str]:
    """The families to fall back on for letters that matplotlib's own font lacks, and the letters that none has."""
    families: list[str] = []
    missing = _lacking(mpl.get_data_path() + "/fonts/ttf/DejaVuSans.ttf", letters)
    fonts: list[Any] = [font for font in fontManager.ttflist if "Last Resort" not in font.name]  # has boxes only
    fonts.sort(key=lambda font: ("Sans" not in font.name, font.weight != 400, font.name))
    for font in fonts if missing else ():
        if len(left := _lacking(font.fname, missing)) < len(missing):
            families.append(font.name)
            missing = left
        if not missing:
            break
    if shown := "".join(letter for letter in missing if unicodedata.category(letter) != "Cf"):
        warnings.warn(
            f"no installed font has {shown}, drawn as numbers; install one, such as Noto Sans CJK for Chinese, "
            "Japanese and Korean",
            stacklevel=5,
        )
    return families, missing


def _lacking(file: str, letters: str) -> str:
    try:
        font = get_font(file)
        return "".join(letter for letter in letters if not (letter.isspace() or font.get_char_index(ord(letter))))
    except Exception:  # a font that matplotlib cannot read, such as one of coloured pictures
        return letters
