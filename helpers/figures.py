"""Maps: data in, matplotlib Figure out. Row = target, column = source, as matrices are stored."""

import os
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from IPython.display import Image, display
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.legend import Legend
from PIL.Image import Quantize
from PIL.Image import open as open_image

from .labels import LABELS, LETTER, SMALL, TICKS, label_texts, log_ticks, styled, wrapped
from .values import numbers

INFLUENCE = "‖∂h_target\u00a0/\u00a0∂h_source‖²  (dimensionless)"  # no line ends within the formula
RAMP = {  # one hue; what is weak comes close to the paper, in a light theme and in a dark one
    "light": ["f8f4ee", "fde6d2", "fbc79d", "f39c62", "de6a34", "b2420f", "77290a"],
    "dark": ["242125", "40291f", "6b3720", "a04c22", "da6d34", "f9a06a", "ffdabb"],
}
COLOURS = LinearSegmentedColormap.from_list("ramp", [f"#{colour}" for colour in RAMP["light"]])
ROOT = Path(__file__).resolve().parents[1]


@styled
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
    """One matrix: `values` [row, column], by default [target, source] with tokens on both axes.

    An `Influence` of one layer brings its labels. Strong is dark; what is not finite is hatched.
    `log` chooses the colour scale, `limits` its ends (default: those of the finite values; for
    `log` of the positive ones, four decades at most). Smaller values take the lowest colour. Marks
    that are hard to tell apart are named (", comma"). Raises `ValueError` when labels and values do
    not fit together.

    >>> heatmap([[1.0, 0.1], [0.2, 1.0]], ["a", "b"], log=True).axes[0].get_xlabel()
    'source'
    """
    values, rows, columns, names = _labelled(values, rows, columns)
    side = max(len(rows), len(columns), 1)
    cell = max(0.3, 1.9 / side) if side <= 32 else 0.135
    size = (cell * len(columns), cell * len(rows))
    matrices = values if values.ndim == 3 and len(values) == 1 else values[None]
    norm = _norm(values, log, limits)
    figure, (axes,) = _maps(matrices, rows, columns, size, 1, norm, title or "".join(names), label)
    axes.tick_params(labelsize=TICKS if side <= 32 else SMALL)
    axes.set(xlabel=xlabel, ylabel=ylabel)
    return figure


@styled
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
    """One panel per layer on one colour scale: `values` [layer, target, source].

    `names` are the panels' titles. An `Influence` brings its tokens and its layers' names. As many
    panels stand side by side as stay readable, three at most. Raises `ValueError` when the labels
    do not fit the values.

    >>> len(layer_grid(np.ones((6, 2, 2)), ["a", "b"]).axes)  # six panels and the colour bar
    7
    """
    values, rows, columns, own_names = _labelled(values, tokens, what="tokens")
    if values.ndim != 3 or not values.size:
        got = list(values.shape)
        raise ValueError(f"expected values [layer, target, source], got {got}; one matrix: heatmap")
    names = label_texts(names or own_names or [f"layer {n}" for n in range(len(values))], "names")
    if len(names) != len(values):
        raise ValueError(f"expected {len(values)} panel names, one per layer, got {len(names)}")
    side = max(len(rows), len(columns), 1)
    cell = max(0.2, 1.3 / side) if side <= 16 else 0.14
    width = max(cell * len(columns), LETTER * max(map(len, names))) + 0.25
    across = min(3, len(values), max(1, int(12 / width)))
    size = (width, cell * len(rows) + 0.3)
    norm = _norm(values, log, limits)
    figure, panels = _maps(values, rows, columns, size, across, norm, title, label)
    for axes, name in zip(panels, names, strict=True):
        axes.set_title(name, fontsize=LABELS)
        axes.tick_params(labelsize=SMALL)
    figure.supxlabel("source")
    figure.supylabel("target")
    return figure


def save_figure(figure: Figure, name: str, *, dpi: int = 120) -> Figure:
    """Write `figure` as `<name>.png` and return it, to end a cell; "x.svg" or "x.pdf" as such.

    The folder is $FIGURES_DIR when it is set, else `figures` of the checkout that holds this
    package, else, when the package is installed without its checkout, `figures` in the working
    directory. A file that shows the same already, but for the rounding of another processor, is
    left as it is. A notebook shows the figure with twice its pixels, for dense screens, in 256
    colours, and with a text for readers who do not see it: its titles and the names of its axes.
    """
    if not isinstance(figure, Figure):
        raise ValueError(f"expected a matplotlib Figure, got {type(figure).__name__}")
    if not name or Path(name).name != name:
        raise ValueError(f"expected the name of a file in the folder of figures, got {name!r}")
    checkout = ROOT if (ROOT / "pyproject.toml").is_file() else Path()
    folder = Path(os.environ.get("FIGURES_DIR") or checkout / "figures")
    folder.mkdir(parents=True, exist_ok=True)
    if name.endswith((".svg", ".pdf")):
        figure.savefig(folder / name)
        return described(figure)
    drawn, file = BytesIO(), folder / f"{name.removesuffix('.png')}.png"
    # no version, no date: the same numbers, the same bytes
    figure.savefig(drawn, dpi=dpi, metadata={"Software": None})
    drawn.seek(0)
    if not (file.exists() and _same_picture(file, drawn)):
        file.write_bytes(drawn.getvalue())
    return described(figure)


def described(figure: Figure) -> Figure:
    """The same figure; a notebook shows it sharp, with its texts for readers who do not see it."""

    def show() -> None:
        drawn, packed = BytesIO(), BytesIO()
        figure.savefig(drawn, dpi=2 * figure.dpi, bbox_inches="tight")  # for dense screens
        picture = open_image(drawn).convert("RGB")
        coloured = picture.quantize(256, Quantize.MAXCOVERAGE)  # a third of the bytes
        coloured.save(packed, "png", optimize=True)
        display(Image(packed.getvalue(), width=picture.width // 2, alt=_texts(figure)))

    figure._ipython_display_ = show  # type: ignore[attr-defined]
    return figure


def _same_picture(*files: Any) -> bool:
    """Whether two PNGs differ by a root mean square of at most 0.3 of 255; a cell is more."""
    one, other = (imread(file)[..., :3] for file in files)
    return one.shape == other.shape and 255 * np.sqrt(np.mean((one - other) ** 2)) <= 0.3


def _texts(figure: Figure) -> str:
    """The figure's titles, axes, colours, lines and what is written in a drawing, in words."""
    bars = [axes for axes in figure.axes if axes.get_label() == "<colorbar>"]
    panels = [axes for axes in figure.axes if axes.get_visible() and axes not in bars]
    legends = figure.findobj(Legend)
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
    said = []
    for start, texts in parts.items():
        once = dict.fromkeys(filter(None, texts))
        if once:
            said.append(start + "; ".join(once).rstrip("."))
    return " ".join(". ".join(said).split())


def _labelled(values, rows, columns=None, what="rows") -> tuple:
    """Values [..., row, column] with their labels; an `Influence` brings its own, and its names."""
    names: Sequence[str] = ()
    if hasattr(values, "tokens"):
        every = range(len(values.tokens))
        tokens = dict(enumerate(values.tokens))  # what is no position has a name of its own
        targets = [tokens.get(place, place) for place in getattr(values, "targets", every)]
        sources = [tokens.get(place, place) for place in getattr(values, "sources", every)]
        rows, columns = rows or targets, columns or rows or sources
        values, names = values.values, values.sites
    rows = label_texts(rows, what)
    return numbers(values), rows, label_texts(columns or rows, "columns"), names


def _maps(
    values: np.ndarray,
    rows: Sequence[str],
    columns: Sequence[str],
    size: tuple[float, float],
    across: int,
    norm: Normalize,
    title: str,
    label: str,
) -> tuple[Figure, list[Axes]]:
    """Panels of this size in inches, so many side by side, and the bar of their one scale."""
    expected, got = [len(rows), len(columns)], list(values.shape[1:])
    if expected != got:
        raise ValueError(
            f"expected values {expected}, one label per row and column, got {got}; a layer of an "
            "influence: influence.values[0], all of them: layer_grid(influence)"
        )
    down = -(-len(values) // across)
    width = 1.4 + LETTER * max(map(len, rows)) + size[0] * across
    height = 0.8 + LETTER * max(map(len, columns)) + size[1] * down
    title = wrapped(title, int((width - 0.2) / LETTER))
    figure = Figure((width, height + 0.2 * title.count("\n")), layout="constrained")
    figure.suptitle(title)
    grid = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False).ravel()
    panels = list(grid[: len(values)])
    for axes in grid[len(values) :]:
        axes.set_visible(False)
    for number, (axes, matrix) in enumerate(zip(panels, values, strict=True)):
        shown = np.ma.masked_invalid(np.clip(matrix, norm.vmin, None))
        axes.pcolormesh(shown, cmap=COLOURS, norm=norm)
        axes.patch.set(hatch="////", edgecolor="0.75")  # seen where a value is missing
        axes.set(aspect="equal", ylim=(len(rows), 0))  # the first row on top
        axes.set_xticks(np.arange(len(columns)) + 0.5, columns, rotation=90)
        axes.set_yticks(np.arange(len(rows)) + 0.5, rows)
        axes.spines[:].set_visible(False)
        axes.tick_params(labelbottom=number + across >= len(values))  # where none stands below
    bar = figure.colorbar(
        ScalarMappable(norm, COLOURS),
        ax=panels,
        label=wrapped(label, int(max(size[1] * down, 1.4) / LETTER)),
        fraction=0.05,
        pad=0.02,
        aspect=max(20, 5 * height),  # as thin beside a tall grid
    )
    if isinstance(norm, LogNorm):
        log_ticks(bar.ax.yaxis, norm.vmin, norm.vmax)
    return figure, panels


def _norm(values: np.ndarray, log: bool, limits: tuple[float, float] | None) -> Normalize:
    shown = values[np.isfinite(values)]
    if log:
        shown = shown[shown > 0]
    if not len(shown):
        raise ValueError(f"expected finite{', positive' if log else ''} values to draw, got none")
    low, high = shown.min(), shown.max()
    if log:
        low = max(low, high / 1e4)  # four decades at most, as in the view
    if limits:
        low, high = limits
        if not (low < high and (low > 0 or not log)):
            above = " above 0, for log" if log else ""
            raise ValueError(f"expected limits (low, high){above}, got {limits}")
    if low == high:  # all values are equal
        high = 10 * low if log else low + 1
    return LogNorm(low, high, clip=True) if log else Normalize(low, high)
