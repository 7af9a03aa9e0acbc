"""An influence to touch: hover, click, see where it goes, by layer, path and head; html alone, without a kernel.

Python puts the numbers into a page; `view.js` draws them, and whatever is selected or coloured
happens there.
"""

import base64
import difflib
import html
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
import torch

from ..result import Influence
from ..words import MARKS

HERE = Path(__file__).parent
MAX_TOKENS = 64  # what a picture can label
SPECIAL = re.compile(r"^(\[(CLS|SEP|PAD|MASK)\]|</?s>|<pad>|<mask>)$")
SWITCHES: dict[str, tuple] = {  # what each may be, the default first
    "direction": ("sends", "receives"),  # what is asked of the selected word
    "drawing": ("map", "lines"),
    "own": (False, True),  # show each position's influence on itself
    "special": (True, False),  # show [CLS], [SEP] and their like
    "log": (True, False),  # logarithmic colours
    "words": (False, True),  # join word pieces; the squared norms of their blocks add up
    "difference": (True, False),  # colours show the second relative to the first
}


@dataclass(frozen=True)
class View:
    """What `view` returns; a notebook shows it, and `.page` is the same as one html file."""

    state: dict[str, Any]

    @property
    def page(self) -> str:
        # inside a script element no "<" may remain, and with ASCII alone there is no question of encodings
        state = json.dumps(self.state, allow_nan=False).replace("<", "\\u003c")
        css, js, page = (
            (HERE / name).read_text("utf-8") for name in ("view.css", "view.js", "page.html")
        )
        title = html.escape(self.state["data"]["title"] or "Influence")
        return Template(page).substitute(title=title, css=css, js=js, state=state)

    def _repr_html_(self) -> str:
        style = 'style="width: 100%; height: 40em; border: 0" title="Influence of words on words"'
        return f'<iframe {style} srcdoc="{html.escape(self.page)}">Run all cells to see the view.</iframe>'

    def __repr__(self) -> str:
        return "View (run this cell to see it)"


def view(
    influence: Influence | Any,
    tokens: Sequence[str] | None = None,
    *,
    paths: Sequence[Mapping[str, Any]] | None = None,
    heads: Sequence[Any] | None = None,
    through: Influence | None = None,
    second: Influence | None = None,
    title: str = "",
    layer: int | str = 0,
    target: int | None = None,
    source: int | None = None,
    **switches: bool | str,
) -> View:
    """A page to touch of an `Influence`, or of any array [layer, target, source] with its `tokens`, 64 at most.

    `paths` and `heads` have a member per layer, `LayerJacobian.paths()` and `.heads()`. The last
    layer of `through`, a `downstream_influence`, is shown beside the single ones. `second` is the
    influence in another sentence or another model, shown relative to the first on aligned words.
    `layer` (or "all", for `through`), `source` (default: the first word) and `target` (default:
    what that sends most to) are selected at first; `switches` are those of `SWITCHES`.

    Positions that were not measured are grey. Raises `ValueError` for values that do not fit the
    tokens or are no squared norms, and for a selection or a switch that is not there.

    >>> shown = view(np.ones((2, 3, 3)), ["a", "b", "c"], source=1, drawing="lines")
    >>> shown.state["selected"], "<iframe" in shown._repr_html_()
    ([0, 0, 1], True)
    """
    for name, value in switches.items():
        if value not in SWITCHES.get(name, ()):
            raise ValueError(f"expected one of {SWITCHES}, got {name}={value!r}")
    values, stderr, tokens, layers = _measured(influence, tokens)
    special = [i for i, token in enumerate(tokens) if SPECIAL.match(token)]
    data: dict[str, Any] = {
        "of": "",
        "title": title,
        "call": "view(influence",
        "tokens": tokens,
        "words": _words(tokens),
    }
    data |= {
        "special": special,
        "layers": layers,
        "values": encoded(values),
        "stderr": encoded(stderr),
    }
    if {len(part) for part in (paths, heads) if part is not None} - {len(layers)}:
        raise ValueError(f"expected paths and heads with a member for each of {len(layers)} layers")
    nothing = [None] * len(layers)
    reasons = map(reason, nothing if paths is None else paths, nothing if heads is None else heads)
    matrices: dict[int | str, np.ndarray] = dict(enumerate(values))
    whole: dict[str, Any] = {}
    if through is not None:
        found, errors, *_ = _measured(through, None)
        matrices["all"] = found[-1]
        whole = {
            "of": "",
            "values": encoded(found[-1]),
            "stderr": encoded(errors if errors is None else errors[-1]),
        }
    if layer not in matrices:
        raise ValueError(
            f"expected one of the layers {list(matrices)}, got {layer!r}; 'all' needs `through`"
        )
    settings = {name: choices[0] for name, choices in SWITCHES.items()} | switches
    start = {
        "settings": settings,
        "selected": [layer, *_chosen(matrices[layer], special, target, source)],
    }
    parts = {
        "data": data,
        "through": whole,
        "why": {"of": "", "layers": {str(i): r for i, r in enumerate(reasons)}},
    }
    parts["second"] = {} if second is None else _compared(values, tokens, *_measured(second, None))
    return View({"live": False, "status": {"state": "ready"}, "initial": start} | start | parts)


def save_page(influence: Influence | View, path: str | Path) -> Path:
    """Write an influence, or what `view` returned, as one html file that needs no network; returns its path."""
    path = Path(path)
    path.write_text((influence if isinstance(influence, View) else view(influence)).page, "utf-8")
    return path


def align(first: Sequence[str], second: Sequence[str]) -> dict[int, int]:
    """Positions of `first` and their partners in `second`: equal tokens, then replaced ones in their order.

    >>> align(["a", "b", "c"], ["a", "x", "y", "c"])
    {0: 0, 1: 1, 2: 3}
    """
    blocks = difflib.SequenceMatcher(None, first, second, autojunk=False).get_opcodes()
    return {
        a: b
        for _, *ends in blocks
        for a, b in zip(range(*ends[:2]), range(*ends[2:]), strict=False)
    }


def reason(paths: Mapping[str, Any] | None, heads: Any | None) -> dict[str, Any]:
    """The paths and the heads of one layer, for the browser."""
    count = 0 if heads is None else len(heads)
    return {
        "paths": {k: encoded(v) for k, v in (paths or {}).items()},
        "heads": encoded(heads),
        "count": count,
    }


def encoded(values: Any) -> str | None:
    """Base64 of little-endian float32, which a browser reads in milliseconds."""
    return (
        None if values is None else base64.b64encode(np.asarray(values, "<f4").tobytes()).decode()
    )


def check_length(tokens: Sequence[str]) -> None:
    if not 1 <= len(tokens) <= MAX_TOKENS:
        raise ValueError(
            f"{len(tokens)} tokens; the view labels 1 to {MAX_TOKENS}. Shorten it, or use layer_influence."
        )


def _measured(
    influence: Any, tokens: Sequence[str] | None
) -> tuple[np.ndarray, np.ndarray | None, list, list]:
    """Values and standard errors [layer, seq, seq], NaN where nothing was measured; tokens; names of the layers."""
    if not isinstance(influence, Influence):
        if tokens is None:
            raise ValueError(
                "expected the tokens beside an array [layer, target, source], got none"
            )
        every, names = list(range(len(tokens))), [f"layer.{n}" for n in range(len(influence))]
        influence = Influence(torch.as_tensor(influence), None, names, every, every, list(tokens))
    check_length(influence.tokens)
    places = [list(range(len(influence.sites))), influence.targets, influence.sources]
    if list(influence.values.shape) != (expected := [len(axis) for axis in places]):
        raise ValueError(
            f"expected values [layer, target, source] of {expected}, got {list(influence.values.shape)}"
        )
    if any(isinstance(place, str) for axis in places for place in axis):
        raise ValueError(
            f"expected positions as targets and sources, got {[*influence.targets, *influence.sources][:4]}; "
            "heatmap and .to_frame() show what has none"
        )
    values, stderr = np.full((2, len(places[0]), *[len(influence.tokens)] * 2), np.nan, np.float32)
    values[np.ix_(*places)] = influence.values.detach().float().cpu()
    if influence.stderr is not None:
        stderr[np.ix_(*places)] = influence.stderr.float().cpu()
    if np.isinf(values).any() or (values < 0).any():
        raise ValueError(
            "expected squared norms, finite and not negative; use .abs() or .square() on other values"
        )
    names = [re.sub(r"^.*\.(\d+)$", r"layer \1", site) for site in influence.sites]
    return values, None if influence.stderr is None else stderr, influence.tokens, names


def _chosen(
    matrix: np.ndarray, special: list[int], target: int | None, source: int | None
) -> tuple[int, int]:
    """The target and the source that are selected: as given, else the first word and what it sends most to."""
    for position in (target, source):
        if position is not None and position not in range(len(matrix)):
            raise ValueError(
                f"expected a position of the sentence, 0 to {len(matrix) - 1}, got {position!r}"
            )
    if source is None:
        words = (
            i
            for i, column in enumerate(matrix.T)
            if i not in special and not np.isnan(column).all()
        )
        source = next(words, 0)
    others = np.where(
        np.arange(len(matrix)) == source, -1, np.nan_to_num(matrix[:, source], nan=-1)
    )
    return int(others.argmax()) if target is None else target, source


def _compared(
    values: np.ndarray,
    tokens: list[str],
    others: np.ndarray,
    _stderr,
    second: list[str],
    layers: list,
) -> dict:
    """The second one's numbers at the places of the first one's tokens, and in words how the two are related."""
    if len(layers) != len(values):
        raise ValueError(
            f"expected a second influence with {len(values)} layers, got {len(layers)}"
        )
    partners = align(tokens, second)
    equal = [
        tokens[a]
        for a, b in partners.items()
        if tokens[a] == second[b] and not SPECIAL.match(tokens[a])
    ]
    if not re.search(r"\w", "".join(equal)):
        return {
            "of": "",
            "note": "The second shares no word with the first: there is nothing to compare.",
        }
    found, every = np.full_like(values, np.nan), range(len(values))
    places, theirs = list(partners), list(partners.values())
    found[np.ix_(every, places, places)] = others[np.ix_(every, theirs, theirs)]
    told = [
        f"'{tokens[a]}' / '{second[b]}'" for a, b in partners.items() if tokens[a] != second[b]
    ][:5]
    note = "Compared with a second one on aligned words; different: " + (
        ", ".join(told) or "only what is added or left out"
    )
    if tokens == second:
        same = np.allclose(values, others, rtol=1e-3, equal_nan=True)
        note = (
            "The second is the same: every ratio is 1"
            if same
            else "The second is the same sentence, with other numbers"
        )
    return {"of": "", "note": note + ".", "values": encoded(found)}


def _words(tokens: Sequence[str]) -> list[tuple[str, list[int]]]:
    """Words with the positions of their pieces; models mark either the pieces inside a word or the first of a word."""
    first_is_marked = any(token.startswith(("Ġ", "▁")) for token in tokens)
    words: list[tuple[str, list[int]]] = []
    for position, token in enumerate(tokens):
        inner = (
            token[:1].isalnum() and token[0] not in "Ġ▁"
            if first_is_marked
            else token.startswith("##")
        )
        if inner and words and words[-1][0][-1:].isalnum():
            words[-1] = words[-1][0] + MARKS.sub("", token), [*words[-1][1], position]
        else:
            words.append((MARKS.sub("", token) or token, [position]))
    return words
