"""Text in figures: one style, labels that can be told apart, lines that fit, plain ticks."""

import math
import textwrap
import unicodedata
import warnings
from collections.abc import Callable, Iterable
from functools import cache, wraps
from typing import Any, TypeVar

import matplotlib as mpl
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, fontManager, get_font
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

TITLE, LABELS, TICKS, SMALL = 10, 9, 8, 6.5  # font sizes, points
LETTER = 0.07  # about how wide one is, inches
FALLBACK = [  # for letters that DejaVu Sans lacks, where installed
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "PingFang SC",
    "Hiragino Sans GB",
    "Microsoft YaHei",
    "Noto Sans Arabic",
    "Noto Sans Devanagari",
    "Arial Unicode MS",
    "Noto Emoji",
]
STYLE: Any = {
    "font.family": ["DejaVu Sans", *(f for f in FALLBACK if f in fontManager.get_font_names())],
    "text.parse_math": False,  # a $ is a $
    "axes.titlesize": TITLE,
    "axes.labelsize": LABELS,
    "xtick.labelsize": TICKS,
    "ytick.labelsize": TICKS,
    "legend.fontsize": TICKS,
    "legend.frameon": False,
    "figure.titlesize": TITLE,
    "figure.labelsize": LABELS,
    "grid.alpha": 0.3,
}
MARKS = set(",.:;'’`-–·")  # as labels a pixel apart, or next to nothing
RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


Draw = TypeVar("Draw", bound=Callable[..., Figure])


def styled(draw: Draw) -> Draw:
    """Draws in this style; a letter that no font has is its number, and one warning says so."""

    @wraps(draw)
    def drawn(*args: Any, **options: Any) -> Figure:
        with mpl.rc_context(STYLE):
            figure = draw(*args, **options)
        texts = figure.findobj(Text)
        for text in texts:
            text.set_text(legible(text.get_text()))
        if any("U+" in text.get_text() for text in texts):
            warnings.warn(
                "letters that no font has are drawn as numbers, such as U+4E2D; install a font "
                "for them, such as Noto Sans CJK for Chinese, Japanese and Korean",
                stacklevel=2,
            )
        return figure

    return drawn  # type: ignore[return-value]


def legible(text: str) -> str:
    """The text with its number, such as U+4E2D, for a letter that no font has."""
    unseen = {letter for letter in text if not letter.isspace() and ord(letter) not in _drawable()}
    return text.translate({ord(letter): f"U+{ord(letter):04X}" for letter in unseen})


@cache
def _drawable() -> set[int]:
    """The letters of all fonts of the style, by number."""
    charmaps = [get_font(findfont(name)).get_charmap() for name in STYLE["font.family"]]
    return set().union(*charmaps)


def label_texts(labels: Any, name: str) -> list[str]:
    """Labels as text; marks that are hard to tell apart get their names, as in ", comma"."""
    if labels is None or isinstance(labels, str) or not isinstance(labels, Iterable):
        raise ValueError(
            f"expected {name}, a list of labels such as sentence.tokens, got {labels!r:.40}"
        )
    texts = [str(label) for label in labels]
    named = [
        f"{text} {unicodedata.name(text).lower()}" if text in MARKS else text for text in texts
    ]
    return [legible(text) for text in named]


def wrapped(text: str, letters: int) -> str:
    """The text in lines of so many letters, as far as words allow it."""
    lines = str(text).split("\n")
    return "\n".join(textwrap.fill(line, letters, break_long_words=False) for line in lines)


def log_ticks(axis: Axis, low: Any, high: Any) -> None:
    """Decades, or 1-2-5 steps as plain numbers where there are fewer than two."""
    if high < 100 * low:
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    else:
        axis.set_major_formatter(FuncFormatter(_decade))
    axis.set_minor_formatter(NullFormatter())


def _decade(value: float, _position: int) -> str:
    return "10" + str(round(math.log10(value))).translate(RAISED)
