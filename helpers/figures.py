"""Maps: data in, matplotlib Figure out. Matrices are drawn as they are stored: row = target, column = source."""

import os
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.image import imread

from .labels import LABELS, SMALL, STYLE, TICKS, TITLE, inches, label_texts, log_ticks, wrapped
from .values import numbers

INFLUENCE = "‖∂h_target\u00a0/\u00a0∂h_source‖²  (dimensionless)"  # no line ends within the formula
RAMP = {  # one hue; what is weak comes close to the paper, in a light theme and in a dark one
    "light": ["f8f4ee", "fde6d2", "fbc79d", "f39c62", "de6a34", "b2420f", "77290a"],
    "dark": ["242125", "40291f", "6b3720", "a04c22", "da6d34", "f9a06a", "ffdabb"],
}
COLOURS = LinearSegmentedColormap.from_list("ramp", [f"#{colour}" for colour in RAMP["light"]])
ROOT = Path(__file__).resolve().parents[1]


@mpl.rc_context(STYLE)
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

    An `Influence` of one layer brings its labels. `log` chooses the colour scale, `limits` its ends
    (default: those of the finite, for `log` positive, values; smaller values take the lowest
    colour). Marks that are hard to tell apart are named (", comma"). Raises `ValueError` when
    labels and values do not fit together.

    >>> heatmap([[1.0, 0.1], [0.2, 1.0]], ["a", "b"], log=True).axes[0].get_xlabel()
    'source'
    """
    if hasattr(values, "tokens") and len(values.sites) != 1:
        raise ValueError(
            f"expected the influence of one layer, got {len(values.sites)}; choose one, as in heatmap("
            "influence.values[0], influence.tokens), or draw all of them with layer_grid(influence)"
        )
    values, rows, columns, names = _labelled(values, rows, columns)
    title = title or "".join(names or "")
    side = max(len(rows), len(columns), 1)
    cell = max(0.14, min(9 / side, 0.3)) if side > 6 else 1.9 / side
    ticks = TICKS if cell >= 0.2 else SMALL
    label = wrapped(label, max(cell * len(rows), 1.4), LABELS)
    title = wrapped(title, cell * len(columns) + 1.4, TITLE)
    width = 1.4 + inches(rows, ticks) + cell * len(columns)
    height = 0.6 + inches(columns, ticks) + cell * len(rows) + 0.2 * title.count("\n")
    figure = Figure(
        figsize=(width, max(height, inches([label], LABELS) + 0.2)), layout="constrained"
    )
    axes = figure.subplots()
    _draw(
        figure,
        [axes],
        values if values.ndim == 3 else values[None],
        rows,
        columns,
        label,
        log,
        limits,
        ticks,
    )
    axes.set(title=title, xlabel=xlabel, ylabel=ylabel)
    return figure


@mpl.rc_context(STYLE)
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

    An `Influence` brings its tokens and its layers' names. As many panels stand side by side as
    stay readable, three at most. Raises `ValueError` when the labels do not fit the values.

    >>> len(layer_grid(np.ones((6, 2, 2)), ["a", "b"]).axes)  # six panels and the colour bar
    7
    """
    values, rows, columns, own_names = _labelled(values, tokens, what="tokens")
    if values.ndim != 3 or not values.size:
        raise ValueError(
            f"expected values [layer, target, source], got {list(values.shape)}; one matrix: heatmap"
        )
    names = label_texts(names or own_names or [f"layer {n}" for n in range(len(values))], "names")
    if len(names) != len(values):
        raise ValueError(f"expected {len(values)} panel names, one per layer, got {len(names)}")
    side = max(len(rows), len(columns))
    cell = max(0.2, 1.3 / side) if side <= 16 else 0.14
    panel = max(cell * len(columns), inches(names, LABELS)) + 0.25
    across = min(3, len(values), max(1, int(12 / panel)))
    down = -(-len(values) // across)
    width = 1.5 + inches(rows, SMALL) + panel * across
    title = wrapped(title, width - 0.2, TITLE)
    height = (
        0.8 + inches(columns, SMALL) + (cell * len(rows) + 0.3) * down + 0.2 * title.count("\n")
    )
    label = wrapped(label, (cell * len(rows) + 0.3) * down, LABELS)
    figure = Figure(
        figsize=(width, max(height, inches([label], LABELS) + 0.2)), layout="constrained"
    )
    panels = np.atleast_1d(figure.subplots(down, across, sharex=True, sharey=True)).ravel()
    _draw(figure, list(panels[: len(values)]), values, rows, columns, label, log, limits, SMALL)
    for number, axes in enumerate(panels):
        axes.set_visible(number < len(values))
        axes.tick_params(labelleft=number % across == 0, labelbottom=number + across >= len(values))
    for axes, name in zip(panels, names, strict=False):
        axes.set_title(name, fontsize=LABELS)
    figure.suptitle(title)
    figure.supxlabel("source")
    figure.supylabel("target")
    return figure


def save_figure(figure: Figure, name: str) -> Figure:
    """Write `figure` as `<name>.png` and return it, to end a cell with.

    The folder is $FIGURES_DIR when it is set, else `figures` of the checkout that holds this
    package, else, when the package is installed without its checkout, `figures` in the working
    directory. A file that shows the same already, but for the rounding of another processor, is
    left as it is. In a notebook the figure gets a text for readers who do not see it: its titles
    and the names of its axes.
    """
    if not isinstance(figure, Figure):
        raise ValueError(f"expected a matplotlib Figure, got {type(figure).__name__}")
    checkout = ROOT if (ROOT / "pyproject.toml").is_file() else Path()
    folder = Path(os.environ.get("FIGURES_DIR") or checkout / "figures")
    folder.mkdir(parents=True, exist_ok=True)
    drawn, file = BytesIO(), folder / f"{name}.png"
    figure.savefig(
        drawn, dpi=120, metadata={"Software": None}
    )  # no version, no date: the same numbers, the same bytes
    drawn.seek(0)
    if not (file.exists() and _same_picture(file, drawn)):
        file.write_bytes(drawn.getvalue())
    return described(figure)


def described(figure: Figure) -> Figure:
    """The same figure; a notebook keeps its texts beside the picture, for readers who do not see it."""
    alt = {"image/png": {"alt": _texts(figure)}}
    figure._repr_mimebundle_ = lambda **_: ({}, alt)  # type: ignore[attr-defined]  # IPython adds the picture
    return figure


def _same_picture(*files: Any) -> bool:
    """Whether two PNGs are equal up to a root mean square of 0.3 of 255; one changed cell of a heat map is above it."""
    one, other = (imread(file)[..., :3] for file in files)
    return one.shape == other.shape and 255 * np.sqrt(np.mean((one - other) ** 2)) <= 0.3


def _texts(figure: Figure) -> str:
    """The figure's titles, axes, colours, lines and what is written in a drawing, in words."""
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
        "Written in it: ": [text.get_text() for axes in panels for text in axes.texts],
    }
    if len(panels) == 1:
        parts[""] += parts.pop("Panels: ")
    said = {start: "; ".join(dict.fromkeys(filter(None, texts))) for start, texts in parts.items()}
    return " ".join(
        ". ".join(start + text.rstrip(".") for start, text in said.items() if text).split()
    )


def _labelled(values, rows, columns=None, what="rows") -> tuple:
    """Values [..., row, column] with their labels; an `Influence` brings its own, and its names."""
    names = None
    if hasattr(values, "tokens"):
        every = range(len(values.tokens))
        sides = (getattr(values, side, every) for side in ("targets", "sources"))
        tokens = dict(enumerate(values.tokens))  # what is no position has a name of its own
        own_rows, own_columns = ([tokens.get(place, place) for place in side] for side in sides)
        rows, columns = rows or own_rows, columns or rows or own_columns
        values, names = values.values, values.sites
    rows, columns = label_texts(rows, what), label_texts(columns or rows, "columns")
    return numbers(values), rows, columns, names


def _draw(
    figure: Figure, panels: Sequence[Axes], values, rows, columns, label, log, limits, ticksize
) -> None:
    """One matrix per panel, all on one colour scale with its bar."""
    expected = [len(rows), len(columns)]
    if [len(panels), *expected] != list(values.shape):
        got = list(values.shape[1:])
        raise ValueError(f"expected values {expected}, one label per row and column, got {got}")
    norm = _norm(values, log, limits)
    for axes, matrix in zip(panels, values, strict=True):
        lowest = norm.vmin if log else -np.inf
        shown = np.ma.masked_invalid(np.clip(matrix, lowest, None))
        axes.pcolormesh(shown, cmap=COLOURS, norm=norm)
        axes.patch.set(hatch="////", edgecolor="0.75")  # seen where a value is missing
        axes.set(
            xlim=(0, len(columns)), ylim=(len(rows), 0), aspect="equal"
        )  # the first row on top
        axes.set_xticks(np.arange(len(columns)) + 0.5, columns, rotation=90, fontsize=ticksize)
        axes.set_yticks(np.arange(len(rows)) + 0.5, rows, fontsize=ticksize)
        axes.spines[:].set_visible(False)
    aspect = max(20, 5 * figure.get_figheight())  # a bar as thin beside a tall grid
    scale = ScalarMappable(norm, COLOURS)
    bar = figure.colorbar(
        scale, ax=list(panels), label=label, fraction=0.05, pad=0.02, aspect=aspect
    )
    if log:
        log_ticks(bar.ax.yaxis, norm.vmin, norm.vmax)


def _norm(values: np.ndarray, log: bool, limits: tuple[float, float] | None) -> Normalize:
    shown = values[np.isfinite(values) & (values > 0)] if log else values[np.isfinite(values)]
    if not len(shown):
        raise ValueError(f"expected finite{', positive' if log else ''} values to draw, got none")
    if limits is not None and not (
        len(limits) == 2 and limits[0] < limits[1] and (limits[0] > 0 or not log)
    ):
        raise ValueError(
            f"expected limits (low, high){' above 0, for log' if log else ''}, got {limits}"
        )
    low, high = limits or (shown.min(), shown.max())
    if log:
        return LogNorm(low, high if high > low else 10 * low, clip=True)
    return Normalize(low, high if high > low else low + 1)
