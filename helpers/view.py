"""An influence to touch: hover, click, see where it goes, by layer, path and head; html alone, without a kernel.

Python puts the numbers into a page; `view.js` draws them, and whatever is selected or coloured happens there.
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
from matplotlib.figure import Figure

from .influence import Influence
from .models import MARKS
from .plots import heatmap

MAX_TOKENS = 64  # what a picture can label
THROUGH = "all"  # the layer that stands for the way through all of them
SPECIAL = re.compile(r"^(\[(CLS|SEP|PAD|MASK)\]|</?s>|<pad>|<mask>)$")
HERE = Path(__file__).parent


@dataclass(frozen=True)
class View:
    """What `view` returns; a notebook shows it. `.page` is one html file as text, `.figure` a picture of the same."""

    state: dict[str, Any]

    @property
    def page(self) -> str:
        # inside a script element no "<" may remain, and with ASCII alone there is no question of encodings
        state = json.dumps(self.state, allow_nan=False).replace("<", "\\u003c")
        title = html.escape(self.state["data"]["title"] or "Influence")
        css, js, page = ((HERE / name).read_text("utf-8") for name in ("view.css", "view.js", "page.html"))
        return Template(page).substitute(title=title, css=css, js=js, state=state)

    @property
    def figure(self) -> Figure:
        """The map of the selected layer, as `heatmap` draws it, for where no script runs."""
        data, settings, layer = self.state["data"], self.state["settings"], self.state["selected"][0]
        seq, depth = len(data["tokens"]), len(data["layers"])
        values = _decoded(data["values"], depth, seq)
        if self.state["through"]:
            values = np.concatenate([values, _decoded(self.state["through"]["values"], 1, seq)])
        kept = [i for i in range(seq) if settings["special"] or i not in data["special"]]
        values = values[:, kept][:, :, kept]
        if not settings["own"]:
            values[:, range(len(kept)), range(len(kept))] = np.nan
        least, most = np.nanmin(values[values > 0], initial=np.inf), np.nanmax(values, initial=0)
        limits = (max(least, most / 1e4), most) if settings["log"] else (0, most)
        where = "through all layers" if layer == THROUGH else data["layers"][layer]
        title = "\n".join(filter(None, [data["title"], where]))
        matrix = values[-1 if layer == THROUGH else layer]
        return heatmap(matrix, [data["tokens"][i] for i in kept], title=title, log=settings["log"], limits=limits)

    def _repr_html_(self) -> str:
        return (
            '<iframe class="bv-frame" title="Influence of words on words" style="width: 100%; height: 40em; border: 0" '
            f'srcdoc="{html.escape(self.page)}">Run all cells to see the view.</iframe>'
        )

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
    direction: str = "sends",
    drawing: str = "map",
    own: bool = False,
    special: bool = True,
    log: bool = True,
    words: bool = False,
    difference: bool = True,
) -> View:
    """A page to touch of an `Influence`, or of any array [layer, target, source] with its `tokens`.

    `paths` and `heads` have one member per layer: `LayerJacobian.paths()` and `.heads()`. Of `through`, a
    `downstream_influence`, the last layer is shown beside the single ones. `second` is the influence in another
    sentence or of another model with as many layers, shown relative to the first on aligned words.

    Selected at first are `layer` (a number, or "all" for `through`), `source` (default: the first word) and `target`
    (default: what the source sends most to). The switches: `direction` "sends" or "receives", `drawing` "map" or
    "lines", `own` position shown, `special` tokens shown, `log` colours, `words` joins word pieces (squared norms add
    up), `difference` shows the second relative to the first. Positions that were not measured are grey.

    Raises `ValueError` for values that do not fit the tokens, are negative or infinite, for more than 64 tokens, and
    for a selection that is not there.

    >>> shown = view(np.ones((2, 3, 3)), ["a", "b", "c"], source=1)
    >>> shown.state["selected"], "<iframe" in shown._repr_html_()
    ([0, 0, 1], True)
    """
    values, stderr, tokens, layers = _measured(influence, tokens)
    settings = dict(direction=direction, drawing=drawing, own=own, special=special, log=log, words=words)
    if direction not in ("sends", "receives") or drawing not in ("map", "lines"):
        raise ValueError(f"expected sends or receives, map or lines, got {direction!r} and {drawing!r}")
    if not {len(part) for part in (paths, heads) if part is not None} <= {len(layers)}:
        raise ValueError(f"expected paths and heads with a member for each of {len(layers)} layers")
    why = {
        str(number): reason(None if paths is None else paths[number], None if heads is None else heads[number])
        for number in range(len(layers) if paths or heads is not None else 0)
    }
    special_ones = [i for i, token in enumerate(tokens) if SPECIAL.match(token)]
    data: dict[str, Any] = {
        "of": "",
        "title": title,
        "call": "view(influence",
        "tokens": tokens,
        "words": _words(tokens),
    }
    data |= {"special": special_ones, "layers": layers, "values": encoded(values), "stderr": encoded(stderr)}
    whole: dict[str, Any] = {}
    matrices: dict[int | str, np.ndarray] = dict(enumerate(values))
    if through is not None:
        found, errors, *_ = _measured(through, tokens)
        whole = {"of": "", "values": encoded(found[-1]), "stderr": encoded(errors if errors is None else errors[-1])}
        matrices[THROUGH] = found[-1]
    if layer not in matrices:
        raise ValueError(f"expected a layer from {list(matrices)}, got {layer!r}; 'all' needs `through`")
    chosen = _chosen(matrices[layer], special_ones, target, source)
    other = {} if second is None else _compared(values, tokens, *_measured(second, None))
    start = {"settings": settings | {"difference": difference}, "selected": [layer, *chosen]}
    parts = {"data": data, "why": {"of": "", "layers": why}, "through": whole, "second": other}
    return View({"live": False, "status": {"state": "ready"}, "initial": start} | start | parts)


def save_page(influence: Influence | View, path: str | Path) -> Path:
    """Write an influence, or what `view` returned, as one html file that needs no network; returns its path.

    >>> import tempfile
    >>> shown = view(np.ones((2, 3, 3)), ["a", "b", "c"])
    >>> save_page(shown, Path(tempfile.mkdtemp()) / "page.html").stat().st_size < 50_000
    True
    """
    path = Path(path)
    path.write_text((influence if isinstance(influence, View) else view(influence)).page, "utf-8")
    return path


def align(first: Sequence[str], second: Sequence[str]) -> list[tuple[int | None, int | None]]:
    """Pairs of positions, None where a token has no partner; equal tokens first, replaced ones in their order.

    >>> align(["a", "b", "c"], ["a", "x", "y", "c"])
    [(0, 0), (1, 1), (None, 2), (2, 3)]
    """
    pairs: list[tuple[int | None, int | None]] = []
    for _, a, a_end, b, b_end in difflib.SequenceMatcher(None, first, second, autojunk=False).get_opcodes():
        for step in range(max(a_end - a, b_end - b)):
            pairs.append((a + step if a + step < a_end else None, b + step if b + step < b_end else None))
    return pairs


def encoded(values: Any) -> str | None:
    """Base64 of little-endian float32, which a browser reads in milliseconds."""
    return None if values is None else base64.b64encode(np.asarray(values, dtype="<f4").tobytes()).decode()


def reason(paths: Mapping[str, Any] | None, heads: Any | None) -> dict[str, Any]:
    """The paths and the heads of one layer, for the browser."""
    return {
        "paths": {name: encoded(part) for name, part in (paths or {}).items()},
        "heads": encoded(heads),
        "count": 0 if heads is None else len(heads),
    }


def check_length(tokens: Sequence[str]) -> None:
    if not 1 <= len(tokens) <= MAX_TOKENS:
        told = f"{len(tokens)} tokens; the view labels up to {MAX_TOKENS}. Shorten it, or use layer_influence."
        raise ValueError(told if tokens else "expected tokens, got none")


def _measured(influence: Any, tokens: Sequence[str] | None) -> tuple[np.ndarray, np.ndarray | None, list, list]:
    """Values and standard errors [layer, seq, seq], NaN at positions that were not measured; tokens; layers' names."""
    if not isinstance(influence, Influence):
        if tokens is None:
            raise ValueError("expected the tokens beside an array [layer, target, source], got none")
        every = list(range(len(tokens)))
        names = [f"layer.{number}" for number in range(len(influence))]
        influence = Influence(torch.as_tensor(influence), None, list(tokens), names, "", every, every)
    check_length(influence.tokens)
    if tokens is not None and list(tokens) != influence.tokens:
        raise ValueError(f"expected the tokens {influence.tokens}, got {list(tokens)}")
    layers, rows, columns = influence.layers, influence.targets, influence.sources
    whole: list[np.ndarray | None] = [None, None]
    for number, part in enumerate((influence.values, influence.stderr)):
        if part is not None:
            if list(part.shape) != (expected := [len(layers), len(rows), len(columns)]):
                raise ValueError(f"expected values [layer, target, source] of {expected}, got {list(part.shape)}")
            array = np.full((len(layers), len(influence.tokens), len(influence.tokens)), np.nan, np.float32)
            array[np.ix_(range(len(layers)), rows, columns)] = part.detach().float().cpu()
            whole[number] = array
    values = whole[0]
    if values is None or np.isinf(values).any() or (values < 0).any():
        raise ValueError("expected squared norms, finite and not negative; use .abs() or .square() on other values")
    return values, whole[1], influence.tokens, [re.sub(r"^.*\.(\d+)$", r"layer \1", site) for site in layers]


def _chosen(matrix: np.ndarray, special: list[int], target: int | None, source: int | None) -> tuple[int, int]:
    """The target and the source that are selected: as given, else the first word and what it sends most to."""
    for position in (target, source):
        if position is not None and position not in range(len(matrix)):
            raise ValueError(f"expected a position of the sentence, 0 to {len(matrix) - 1}, got {position!r}")
    if source is None:
        words = [i for i in range(len(matrix)) if i not in special and not np.isnan(matrix[:, i]).all()]
        source = words[0] if words else 0
    if target is None:
        others = np.where(np.arange(len(matrix)) == source, -1, np.nan_to_num(matrix[:, source], nan=-1))
        target = int(others.argmax())
    return target, source


def _compared(
    values: np.ndarray, tokens: list[str], others: np.ndarray, _stderr, second: list[str], layers: list
) -> dict:
    """The second one's numbers at the places of the first one's tokens, and in words how the two are related."""
    if len(layers) != len(values):
        raise ValueError(f"expected a second influence with {len(values)} layers, got {len(layers)}")
    pairs = [(a, b) for a, b in align(tokens, second) if a is not None and b is not None]
    equal = [a for a, b in pairs if tokens[a] == second[b]]
    if not any(re.search(r"\w", tokens[a]) and not SPECIAL.match(tokens[a]) for a in equal):
        return {"of": "", "note": "The second shares no word with the first: there is nothing to compare."}
    (mine, theirs), every = zip(*pairs, strict=True), range(len(values))
    found = np.full_like(values, np.nan)
    found[np.ix_(every, mine, mine)] = others[np.ix_(every, theirs, theirs)]
    told = "Compared with a second one on aligned words."
    if tokens == second:
        same = np.allclose(values, others, rtol=1e-3, equal_nan=True)
        told = "The second is the same: every ratio is 1." if same else "The same sentence with other numbers."
    if different := [f"'{tokens[a]}' / '{second[b]}'" for a, b in pairs if tokens[a] != second[b]]:
        told += f" Different: {', '.join(different[:4])}{', …' if len(different) > 4 else '.'}"
    if alone := len(tokens) + len(second) - 2 * len(pairs):
        told += f" Without a partner: {alone}."
    return {"of": "", "note": told, "values": encoded(found)}


def _decoded(text: str, *shape: int) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), "<f4").reshape(shape[0], shape[1], shape[1])


def _words(tokens: Sequence[str]) -> list[tuple[str, list[int]]]:
    """Words with the positions of their pieces; models mark either the pieces inside a word or the first of a word."""
    first_is_marked = any(token.startswith(("Ġ", "▁")) for token in tokens)
    words: list[tuple[str, list[int]]] = []
    for position, token in enumerate(tokens):
        inner = token[:1].isalnum() and token[0] not in "Ġ▁" if first_is_marked else token.startswith("##")
        if inner and words and words[-1][0][-1].isalnum():
            words[-1] = words[-1][0] + MARKS.sub("", token), [*words[-1][1], position]
        else:
            words.append((MARKS.sub("", token) or token, [position]))
    return words
