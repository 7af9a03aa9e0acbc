"""An influence to touch: hover, click, see where it goes; html alone, without a kernel.

Python puts the numbers into a page; `view.js` draws them, and whatever is selected or coloured
happens there.
"""

import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

from ..figures import RAMP
from ..result import Influence
from ..text import joined
from ..values import whole
from ._numbers import Numbers, compared, encoded, from_array, reason, selected

HERE = Path(__file__).parent
SOURCE = "BERT anatomy"  # in the caption of a page that is sent on
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

    >>> shown = view([[[1.0, 2.0], [3.0, 4.0]]], ["a", "b"], source=1, drawing="lines")
    >>> shown.state["selected"], "<iframe" in shown._repr_html_()
    ([0, 0, 1], True)
    """
    settings = settings_of(switches)
    given = {"paths": paths, "heads": heads, "through": through, "second": second, "layers": layers}
    call = [f"{name}={name}" for name, value in given.items() if value is not None]
    call += [f"{name}={text!r}" for name, text in (("title", title), ("label", label)) if text]
    raw = not isinstance(influence, Influence)
    if raw:
        call.insert(0, "tokens")
        influence, label = from_array(influence, tokens, label)
    shown = Numbers.of(influence)
    if layers is None:
        layers = shown.layers
    data = _described(shown, raw) | {
        "title": title,
        "call": ", ".join(["view(influence", *call]),
        "layers": list(_each("layers", layers, len(shown.layers))),
        "label": label,
        "how": influence.how,
    }
    way = None if through is None else _way(through, shown.tokens)
    if way and layer == "all":
        matrix = way.values[-1]
    else:
        layer = whole(layer, "a layer", 0, len(shown.layers) - 1, "; 'all' needs `through`")
        matrix = shown.values[layer]
    pair = selected(matrix, shown.special, target, source, settings["direction"] == "receives")
    start = {"settings": settings, "selected": [layer, *pair]}
    parts = {
        "data": data,
        "through": way.end() if way else {},
        "why": {"of": "", "layers": _reasons(shown, paths, heads)},
        "second": {} if second is None else compared(shown, Numbers.of(second), names),
    }
    return View({"live": False, "status": {"state": "ready"}, "initial": start} | start | parts)


def settings_of(switches: Mapping[str, Any]) -> dict[str, Any]:
    """All switches, these among them."""
    for name, value in switches.items():
        if value not in SWITCHES.get(name, ()):
            raise ValueError(f"expected one of {SWITCHES}, got {name}={value!r}")
    return {name: choices[0] for name, choices in SWITCHES.items()} | dict(switches)


def save_page(influence: Any, path: str | Path) -> Path:
    """Write an influence, a view or an explorer as one html file without a network; its path."""
    path = Path(path)
    shown = influence if isinstance(influence, View) else influence.view()
    path.write_text(shown.page, "utf-8")
    return path


def _described(shown: Numbers, raw: bool) -> dict[str, Any]:
    """The numbers and their words."""
    special = shown.special
    ends = [i for i in special[1:-1] if shown.tokens[i] in ENDS]
    return {
        "of": "",
        "tokens": shown.tokens,
        "words": joined(shown.tokens, raw=raw),
        "special": special,
        "apart": [i + 1 for i in ends if i + 1 not in special],  # the second text of a pair
        "values": encoded(shown.values),
        "stderr": encoded(shown.stderr),
        "ramp": RAMP,
        "source": SOURCE,
    }


def _each(what: str, members: Sequence | None, depth: int) -> Sequence:
    """A member for each layer; None where there is nothing."""
    if members is None:
        return [None] * depth
    if len(members) != depth:
        raise ValueError(f"expected {what} with a member for each of {depth} layers")
    return members


def _reasons(shown: Numbers, paths: Sequence | None, heads: Sequence | None) -> dict[str, Any]:
    depth, seq = len(shown.layers), len(shown.tokens)
    paths, heads = _each("paths", paths, depth), _each("heads", heads, depth)
    return {str(layer): reason(paths[layer], heads[layer], seq) for layer in range(depth)}


def _way(through: Influence, tokens: list[str]) -> Numbers:
    way = Numbers.of(through)
    if way.tokens != tokens:
        raise ValueError(f"expected `through` of the same sentence, got that of {way.tokens}")
    return way
