"""Text in figures: one style, labels that can be told apart, lines that fit, plain ticks."""

import math
import textwrap
import unicodedata
from collections.abc import Iterable
from typing import Any

from matplotlib.axis import Axis
from matplotlib.font_manager import fontManager
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

TITLE, LABELS, TICKS, SMALL = 10, 9, 8, 6.5  # font sizes, points
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
MARKS = {
    ",": "comma",
    ".": "full stop",
    ":": "colon",
    ";": "semicolon",
    "'": "quote",
    "’": "quote",
    "`": "backtick",
    "-": "hyphen",
    "–": "dash",
    "·": "dot",
}  # marks that are a pixel apart, or next to nothing, as labels
RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def label_texts(labels: Any, name: str) -> list[str]:
    if labels is None or isinstance(labels, str) or not isinstance(labels, Iterable):
        raise ValueError(
            f"expected {name}, a list of labels such as sentence.tokens, got {labels!r:.40}"
        )
    return [f"{label} {MARKS[label]}" if label in MARKS else str(label) for label in labels]


def inches(texts: Iterable[str], size: float) -> float:
    """About how wide the longest line is, in inches."""

    def em(letter: str) -> float:
        return 1.0 if unicodedata.east_asian_width(letter) in "WF" else 0.61

    lines = [line for text in texts for line in str(text).split("\n")]
    return max((sum(map(em, line)) for line in lines), default=0) * size / 72


def wrapped(text: str, width: float, size: float) -> str:
    """The text in lines of at most `width` inches; where its lines are shorter it stays as it is."""
    letters = int(width * 72 / 0.61 / size)
    lines = (
        line
        if inches([line], size) <= width
        else textwrap.fill(line, letters, break_long_words=False)
        for line in str(text).split("\n")
    )
    return "\n".join(lines)


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
