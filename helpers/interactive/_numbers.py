"""What Python sends to the browser of an influence, and how two of them stand beside each other."""

import base64
import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..result import Influence
from ..values import whole

MAX_TOKENS = 512  # in a page, which shows 64 at a time
NO_TOKENS = "expected the tokens beside an array [layer, target, source], got none"
SPECIAL = re.compile(r"^(\[(CLS|SEP|PAD|MASK)\]|</?s>|<pad>|<mask>)$")


@dataclass(frozen=True)
class Numbers:
    """Of an influence, [layer, target, source], NaN where nothing was measured."""

    values: np.ndarray
    stderr: np.ndarray | None
    tokens: list[str]
    layers: list[str]

    @classmethod
    def of(cls, influence: Any) -> "Numbers":
        if not isinstance(influence, Influence):
            raise ValueError(NO_TOKENS)
        tokens, sites = influence.tokens, influence.sites
        check_length(tokens, MAX_TOKENS)
        places = [list(range(len(sites))), influence.targets, influence.sources]
        _check_shape("values [layer, target, source] of", influence.values, list(map(len, places)))
        named = [place for axis in places for place in axis if isinstance(place, str)]
        if named:
            raise ValueError(
                f"expected positions as targets and sources, got {named[:4]}; "
                "heatmap and .to_frame() show what has none"
            )

        def placed(measured: Tensor) -> np.ndarray:
            found = np.full((len(sites), len(tokens), len(tokens)), np.nan, np.float32)
            found[np.ix_(*places)] = measured.detach().float().cpu()
            return found

        values = placed(influence.values)
        if np.isinf(values).any() or (values < 0).any():
            raise ValueError(
                "expected squared norms, finite and not negative; use .abs() or .square() on others"
            )
        stderr = None if influence.stderr is None else placed(influence.stderr)
        layers = [re.sub(r"^.*\.(\d+)$", r"layer \1", site) for site in sites]
        return cls(values, stderr, tokens, layers)

    @property
    def special(self) -> list[int]:
        return [i for i, token in enumerate(self.tokens) if SPECIAL.match(token)]

    def end(self) -> dict[str, Any]:
        """The last layer, in which the way through all of them ends."""
        stderr = None if self.stderr is None else self.stderr[-1]
        return {"of": "", "values": encoded(self.values[-1]), "stderr": encoded(stderr)}


def from_array(values: Any, tokens: Sequence[str] | None, label: str) -> tuple[Influence, str]:
    """An array [layer, target, source] and its label; of one with an axis of heads their mean."""
    if tokens is None:
        raise ValueError(NO_TOKENS)
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
        stacked = stacked.mean(1)
        label = f"{label or 'attention'} (mean over heads)"
    layers = [f"layer.{n}" for n in range(len(stacked))]
    every = list(range(len(tokens)))
    return Influence(stacked, None, layers, every, every, list(tokens)), label


def check_length(tokens: Sequence[str], most: int = 64) -> None:
    if not 1 <= len(tokens) <= most:
        told = f"{len(tokens)} tokens; the view labels 1 to {most}. "
        raise ValueError(told + "Shorten it, or use layer_influence.")


def _check_shape(what: str, values: Any, expected: list[int]) -> None:
    if list(np.shape(values)) != expected:
        raise ValueError(f"expected {what} {expected}, got {list(np.shape(values))}")


def encoded(values: Any) -> str | None:
    """Base64 of little-endian float32, which a browser reads in milliseconds."""
    if values is None:
        return None
    return base64.b64encode(np.asarray(values, "<f4").tobytes()).decode()


def reason(paths: Mapping[str, Any] | None, heads: Any | None, seq: int) -> dict[str, Any]:
    """The paths [target, source] and heads [head, target, source] of a layer, for the browser."""
    parts = {}
    for name, value in (paths or {}).items():
        _check_shape(f"the path {name!r} to be", value, [seq, seq])
        parts[name] = encoded(value)
    count = 0 if heads is None else len(heads)
    if heads is not None:
        _check_shape("heads of a layer to be", heads, [count, seq, seq])
    return {"paths": parts, "heads": encoded(heads), "count": count}


def selected(
    matrix: np.ndarray,
    special: list[int],
    target: int | None,
    source: int | None,
    receives: bool = False,
) -> list[int]:
    """The target and the source: as given, else the first word and its strongest partner."""
    if receives:
        source, target = selected(matrix.T, special, source, target)
        return [target, source]
    last = len(matrix) - 1
    if source is None:
        measured = np.flatnonzero(~np.isnan(matrix).all(0))
        source = int(next((i for i in measured if i not in special), 0))
    source = whole(source, "a position of the sentence", 0, last)
    if target is None:
        others = np.nan_to_num(matrix[:, source], nan=-1)
        others[source] = -1
        target = others.argmax()
    return [whole(target, "a position of the sentence", 0, last), source]


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


def compared(first: Numbers, second: Numbers, names: Sequence[str]) -> dict[str, Any]:
    """The second one's numbers at the places of the first one's tokens; how the two are related."""
    partners = align(first.tokens, second.tokens)
    equal, different = "", []
    for place, partner in partners.items():
        token, other = first.tokens[place], second.tokens[partner]
        if token != other:
            different.append(f"'{token}' / '{other}'")
        elif not SPECIAL.match(token):
            equal += token
    if not re.search(r"\w", equal):
        note = "The second shares no word with the first: there is nothing to compare."
        return {"of": "", "note": note}
    depth, layers = len(first.layers), len(second.layers)
    same_depth = [-(-(n + 1) * layers // depth) - 1 for n in range(depth)]
    places, theirs = list(partners), list(partners.values())
    found = np.full_like(first.values, np.nan)
    found[np.ix_(range(depth), places, places)] = second.values[np.ix_(same_depth, theirs, theirs)]
    note = "Compared with a second one on aligned words; different: "
    note += ", ".join(different[:5]) or "only what is added or left out"
    if first.tokens == second.tokens:
        same = np.allclose(first.values, found, rtol=1e-3, equal_nan=True)
        note = "The second is the same"
        note += ": every ratio is 1" if same else " sentence, with other numbers"
    if layers != depth:
        note += f"; its {layers} layers stand at the same depth beside these {depth}"
    return {
        "of": "",
        "note": note + ".",
        "values": encoded(found),
        "tokens": second.tokens,
        "columns": _columns(first.tokens, second.tokens),
        "names": list(names),
    }
