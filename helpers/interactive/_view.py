"""An influence to touch: hover, click, see where it goes; html alone, without a kernel.

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
from itertools import zip_longest
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
import torch

from ..figures import RAMP
from ..result import Influence
from ..text import joined

HERE = Path(__file__).parent
MAX_TOKENS = 512  # in a page, which shows 64 at a time
SOURCE = "BERT anatomy"  # in the caption of a page that is sent on
SPECIAL = re.compile(r"^(\[(CLS|SEP|PAD|MASK)\]|</?s>|<pad>|<mask>)$")
ENDS = ("[SEP]", "</s>")  # of the first text of a pair
SWITCHES: dict[str, tuple] = {  # what each may be, the default first
    "direction": ("sends", "receives"),  # what is asked of the selected word
    "drawing": ("arcs", "map", "lines"),
    "own": (False, True),  # show each position's influence on itself
    "special": (True, False),  # show [CLS], [SEP] and their like
    "log": (True, False),  # logarithmic colours
    "words": (False, True),  # join word pieces; the squared norms of their blocks add up
    "difference": (True, False),  # show what changes in the second
}


@dataclass(frozen=True)
class View:
    """What `view` returns; a notebook shows it, and `.page` is the same as one html file."""

    state: dict[str, Any]

    @property
    def page(self) -> str:
        # inside a script element no "<" may remain; ASCII alone, whatever the page's encoding
        state = json.dumps(self.state, allow_nan=False).replace("<", "\\u003c")
        css, js, page = (
            (HERE / name).read_text("utf-8") for name in ("view.css", "view.js", "page.html")
        )
        title = html.escape(self.state["data"]["title"] or "Influence")
        return Template(page).substitute(title=title, css=css, js=js, state=state)

    def _repr_html_(self) -> str:
        style = 'style="width: 100%; height: 40em; border: 0" title="Influence of words on words"'
        page = html.escape(self.page)
        return f'<iframe {style} srcdoc="{page}">Run all cells to see the view.</iframe>'

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
    names: Sequence[str] = ("the first", "the second"),
    layers: Sequence[str] | None = None,
    label: str = "",
    title: str = "",
    layer: int | str = 0,
    target: int | None = None,
    source: int | None = None,
    **switches: bool | str,
) -> View:
    """A page to touch of an `Influence`, or of any array [layer, target, source] with its `tokens`.

    Attentions as a model returns them, [1, head, target, source] for each layer, are shown as their
    mean over heads, which the label says.

    `paths` and `heads` have a member per layer, `LayerJacobian.paths()` and `.heads()`. The last
    layer of `through`, a `downstream_influence`, is shown beside the single ones. `second` is the
    influence in another sentence or another model, shown on aligned words and, if it has other
    layers, at the same depth; `names` are what the two are called. `layers` names the layers, and
    `label` says what the numbers of an array are. `layer` (or "all", for `through`), `source`
    (default: the first word) and `target` (default: what that sends most to) are selected at
    first; `switches` are those of `SWITCHES`. Of a long text 64 tokens are shown at a time.

    Positions that were not measured are grey. Raises `ValueError` for values that do not fit the
    tokens or are no squared norms, and for a selection or a switch that is not there.

    >>> shown = view(np.ones((2, 3, 3)), ["a", "b", "c"], source=1, drawing="lines")
    >>> shown.state["selected"], "<iframe" in shown._repr_html_()
    ([0, 0, 1], True)
    """
    for name, value in switches.items():
        if value not in SWITCHES.get(name, ()):
            raise ValueError(f"expected one of {SWITCHES}, got {name}={value!r}")
    given = {"paths": paths, "heads": heads, "through": through, "second": second, "layers": layers}
    call = ["view(influence", *(f"{name}={name}" for name in given if given[name] is not None)]
    call += [f"{name}={text!r}" for name, text in (("title", title), ("label", label)) if text]
    if not isinstance(influence, Influence) and tokens is not None:
        call.insert(1, "tokens")
        influence, label = _over_heads(influence, label)
    values, stderr, tokens, found = _measured(influence, tokens)
    if layers is None:
        layers = found
    if {len(part) for part in (paths, heads, layers) if part is not None} - {len(found)}:
        raise ValueError(
            f"expected paths, heads and layers with a member for each of {len(found)} layers"
        )
    special = [i for i, token in enumerate(tokens) if SPECIAL.match(token)]
    data = {
        "of": "",
        "title": title,
        "call": ", ".join(call),
        "tokens": tokens,
        "words": joined(tokens, raw="tokens" in call),
        "special": special,
        "apart": [i + 1 for i in special[1:-1] if tokens[i] in ENDS and i + 1 not in special],
        "layers": list(layers),
        "values": encoded(values),
        "stderr": encoded(stderr),
        "label": label,
        "ramp": RAMP,
        "how": getattr(influence, "how", {}),
        "source": SOURCE,
    }
    nothing = [None] * len(found)
    all_paths: Sequence = nothing if paths is None else paths
    all_heads: Sequence = nothing if heads is None else heads
    for path, head in zip(all_paths, all_heads, strict=True):
        for name, value in (path or {}).items():
            _check_shape(f"the path {name!r}", value, [len(tokens)] * 2)
        if head is not None:
            _check_shape("heads of a layer", head, [len(head), *[len(tokens)] * 2])
    reasons = map(reason, all_paths, all_heads)
    matrices: dict[int | str, np.ndarray] = dict(enumerate(values))
    whole: dict[str, Any] = {}
    if through is not None:
        last, errors, theirs, _ = _measured(through, None)
        if theirs != tokens:
            raise ValueError(f"expected `through` of the same sentence, got that of {theirs}")
        matrices["all"] = last[-1]
        error = encoded(errors if errors is None else errors[-1])
        whole = {"of": "", "values": encoded(last[-1]), "stderr": error}
    if layer not in matrices:
        raise ValueError(
            f"expected one of the layers {list(matrices)}, got {layer!r}; 'all' needs `through`"
        )
    settings = {name: choices[0] for name, choices in SWITCHES.items()} | switches
    receives = settings["direction"] == "receives"
    chosen = _chosen(matrices[layer], special, target, source, receives)
    start = {"settings": settings, "selected": [layer, *chosen]}
    why = {"of": "", "layers": {str(i): r for i, r in enumerate(reasons)}}
    compared: dict[str, Any] = {}
    if second is not None:
        others, _, theirs, _ = _measured(second, None)
        compared = _compared(values, tokens, others, theirs, names)
    parts = {"data": data, "through": whole, "why": why, "second": compared}
    return View({"live": False, "status": {"state": "ready"}, "initial": start} | start | parts)


def save_page(influence: Any, path: str | Path) -> Path:
    """Write an influence, a view or an explorer as one html file without a network; its path."""
    path = Path(path)
    shown = influence if isinstance(influence, View) else influence.view()
    path.write_text(shown.page, "utf-8")
    return path


def align(first: Sequence[str], second: Sequence[str]) -> dict[int, int]:
    """Positions of `first` and their partners in `second`: equal tokens, then replaced ones.

    >>> align(["a", "b", "c"], ["a", "x", "y", "c"])
    {0: 0, 1: 1, 2: 3}
    """
    return {a: b for a, b in _columns(first, second) if a is not None and b is not None}


def _columns(first: Sequence[str], second: Sequence[str]) -> list[tuple]:
    """The positions of both side by side, None where one of them has nothing."""
    columns: list[tuple] = []
    matcher = difflib.SequenceMatcher(None, first, second, autojunk=False)
    for _, start, end, other_start, other_end in matcher.get_opcodes():
        columns += zip_longest(range(start, end), range(other_start, other_end))
    return columns


def reason(paths: Mapping[str, Any] | None, heads: Any | None) -> dict[str, Any]:
    """The paths [target, source] and heads [head, target, source] of a layer, for the browser."""
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


def _check_shape(what: str, values: Any, expected: list[int]) -> None:
    if list(np.shape(values)) != expected:
        raise ValueError(f"expected {what} to be {expected}, got {list(np.shape(values))}")


def check_length(tokens: Sequence[str], most: int = 64) -> None:
    if not 1 <= len(tokens) <= most:
        told = f"{len(tokens)} tokens; the view labels 1 to {most}. "
        raise ValueError(told + "Shorten it, or use layer_influence.")


def _over_heads(values: Any, label: str) -> tuple[torch.Tensor, str]:
    """An array [layer, target, source]: of one with an axis of heads their mean, and its label."""
    shapes = [None if layer is None else list(np.shape(layer)) for layer in values]
    if not shapes or None in shapes or any(shape != shapes[0] for shape in shapes):
        raise ValueError(
            f"expected layers of one shape, got {shapes}; a model gives attentions with "
            'attn_implementation="eager"'
        )
    stacked = torch.stack([torch.as_tensor(layer) for layer in values])
    if stacked.ndim == 5 and stacked.shape[1] == 1:  # a batch of one sentence
        stacked = stacked[:, 0]
    if stacked.ndim == 4:
        return stacked.mean(1), f"{label or 'attention'} (mean over heads)"
    return stacked, label


def _measured(
    influence: Any, tokens: Sequence[str] | None
) -> tuple[np.ndarray, np.ndarray | None, list, list]:
    """Values and errors [layer, seq, seq], NaN where nothing was measured; tokens; layer names."""
    if not isinstance(influence, Influence):
        if tokens is None:
            raise ValueError(
                "expected the tokens beside an array [layer, target, source], got none"
            )
        every, names = list(range(len(tokens))), [f"layer.{n}" for n in range(len(influence))]
        influence = Influence(torch.as_tensor(influence), None, names, every, every, list(tokens))
    check_length(influence.tokens, MAX_TOKENS)
    places = [list(range(len(influence.sites))), influence.targets, influence.sources]
    if list(influence.values.shape) != (expected := [len(axis) for axis in places]):
        shape = list(influence.values.shape)
        raise ValueError(f"expected values [layer, target, source] of {expected}, got {shape}")
    if named := [place for axis in places for place in axis if isinstance(place, str)]:
        raise ValueError(
            f"expected positions as targets and sources, got {named[:4]}; "
            "heatmap and .to_frame() show what has none"
        )
    values, stderr = np.full((2, len(places[0]), *[len(influence.tokens)] * 2), np.nan, np.float32)
    values[np.ix_(*places)] = influence.values.detach().float().cpu()
    if influence.stderr is not None:
        stderr[np.ix_(*places)] = influence.stderr.float().cpu()
    if np.isinf(values).any() or (values < 0).any():
        raise ValueError(
            "expected squared norms, finite and not negative; use .abs() or .square() on others"
        )
    names = [re.sub(r"^.*\.(\d+)$", r"layer \1", site) for site in influence.sites]
    return values, None if influence.stderr is None else stderr, influence.tokens, names


def _chosen(
    matrix: np.ndarray,
    special: list[int],
    target: int | None,
    source: int | None,
    receives: bool,
) -> list[int]:
    """The target and the source: as given, else the first word and its strongest partner."""
    for position in (target, source):
        if position is not None and position not in range(len(matrix)):
            raise ValueError(
                f"expected a position of the sentence, 0 to {len(matrix) - 1}, got {position!r}"
            )
    word, partner = (target, source) if receives else (source, target)
    lists = matrix if receives else matrix.T  # a row for each position that can be chosen
    if word is None:
        measured = ~np.isnan(lists).all(1)
        word = next((i for i in range(len(matrix)) if i not in special and measured[i]), 0)
    if partner is None:
        others = np.nan_to_num(lists[word], nan=-1)
        others[word] = -1
        partner = int(others.argmax()) if len(others) > 1 else word
    return [word, partner] if receives else [partner, word]


def _compared(
    values: np.ndarray,
    tokens: list[str],
    others: np.ndarray,
    second: list[str],
    names: Sequence[str],
) -> dict[str, Any]:
    """The second one's numbers at the places of the first one's tokens; how the two are related."""
    columns = _columns(tokens, second)
    partners = align(tokens, second)
    pairs = [(tokens[a], second[b]) for a, b in partners.items()]
    equal = [first for first, other in pairs if first == other and not SPECIAL.match(first)]
    if not re.search(r"\w", "".join(equal)):
        note = "The second shares no word with the first: there is nothing to compare."
        return {"of": "", "note": note}
    depth = len(values)
    same_depth = [-(-(n + 1) * len(others) // depth) - 1 for n in range(depth)]
    places, theirs = list(partners), list(partners.values())
    found = np.full_like(values, np.nan)
    found[np.ix_(range(depth), places, places)] = others[np.ix_(same_depth, theirs, theirs)]
    told = [f"'{first}' / '{other}'" for first, other in pairs if first != other][:5]
    note = "Compared with a second one on aligned words; different: "
    note += ", ".join(told) or "only what is added or left out"
    if tokens == second:
        same = len(others) == depth and np.allclose(values, others, rtol=1e-3, equal_nan=True)
        note = "The second is the same"
        note += ": every ratio is 1" if same else " sentence, with other numbers"
    if len(others) != depth:
        note += f"; its {len(others)} layers stand at the same depth beside these {depth}"
    return {
        "of": "",
        "note": note + ".",
        "values": encoded(found),
        "tokens": second,
        "columns": columns,
        "names": list(names),
    }
