"""Text in figures: labels that can be told apart, lines that fit, letters that an installed font has, plain ticks."""

import textwrap
import unicodedata
import warnings
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import matplotlib as mpl
from matplotlib.axis import Axis
from matplotlib.colors import Normalize
from matplotlib.font_manager import fontManager, get_font
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

TITLE, LABELS, TICKS, SMALL = 10, 9, 8, 6.5  # font sizes, points
MARKS = {",": "comma", ".": "full stop", ":": "colon", ";": "semicolon", "'": "quote", "’": "quote", "`": "backtick"}
MARKS |= {"-": "hyphen", "–": "dash", "·": "dot"}  # marks that are a pixel apart, or next to nothing, as labels


def label_texts(labels: Any, name: str) -> list[str]:
    if labels is None or isinstance(labels, str) or not isinstance(labels, Iterable):
        raise ValueError(f"expected {name}, a list of labels such as sentence.tokens, got {labels!r:.40}")
    return [f"{label} {MARKS[label]}" if label in MARKS else _legible(str(label)) for label in labels]


def inches(texts: Iterable[str], size: float) -> float:
    """About how wide the longest line is, in inches."""
    lines = [line for text in texts for line in str(text).split("\n")]
    em = [sum(1.0 if unicodedata.east_asian_width(letter) in "WF" else 0.61 for letter in line) for line in lines]
    return max(em, default=0) * size / 72


def wrapped(text: str, width: float, size: float) -> str:
    """The text in lines of at most `width` inches; where its lines are shorter it stays as it is."""
    letters = int(width * 72 / 0.61 / size)
    lines = (
        line if inches([line], size) <= width else textwrap.fill(line, letters, break_long_words=False)
        for line in str(text).split("\n")
    )
    return "\n".join(lines)


def say(place: Any, text: str, size: float) -> None:
    """Set a title or a label."""
    set_fonts([place(_legible(text), fontsize=size)])


def log_ticks(axis: Axis, norm: Normalize | None = None) -> None:
    """Decades, or 1-2-5 steps as plain numbers where there are fewer than two; never labels on top of each other."""
    low, high = map(float, sorted(axis.get_data_interval() if norm is None else (norm.vmin or 1, norm.vmax or 1)))
    if high < 100 * low:
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def _legible(text: str) -> str:
    """The text with a number, such as U+1F600, for each letter that no installed font has."""
    names = {letter: f" U+{ord(letter):X} " for letter in _fonts(text)[1]}
    invisible = {letter: "" for letter in names if unicodedata.category(letter) == "Cf"}  # joiners and the like
    return "".join((names | invisible).get(letter, letter) for letter in text).strip() if names else text


def set_fonts(texts: Iterable[Text]) -> None:
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
